"""Operators that copy elements, on codes and on other types, against onnxruntime in every element."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import accelsim
from accelsim.graph.load.constraints import OPERATORS
from tests.differential.harness import run_on_machine
from tests.strategies import MICROSOFT, Builder, Case, Draw, Quantisation, Shape
from tests.tiers import examples, few

SEED = 60_001
WIDE = ("uint8", "int8", "uint16", "int16")

Constants = Callable[[Builder], list[str]]


def moved(draw: Draw, kind: str, shape: Shape, extra: Constants, opset: int = 21, **attributes: Any) -> Case:
    """Build an operator that copies: between quantisers of one scale, or on codes, reals or integers directly."""
    build = Builder(draw, opset)
    form = draw.choice(["group", "codes", "floats", *(["int32"] if kind != "DepthToSpace" else [])])
    if form == "group":
        code = draw.activation(draw.dtype(*WIDE) if opset >= 21 and kind != "DepthToSpace" else None)
        return build.finish(build.node(kind, [build.activation(shape, code), *extra(build)], **attributes), code)
    dtype = np.dtype({"codes": draw.choice(["uint8", "int8"]), "floats": "float32", "int32": "int32"}[form])
    array = draw.rng.integers(-100, 100, shape).astype(dtype)
    name = build.node(kind, [build.input(array), *extra(build)], **attributes)
    build.output(name, dtype)
    code = draw.activation()  # a model without any quantiser is refused
    build.output(build.quantise(build.input(np.zeros(3, np.float32)), code), code.dtype)
    return build.case()


def resize_sizes(draw: Draw, shape: Shape, axes: list[int]) -> tuple[list[float], list[int]]:
    """Draw scales, and sizes, of the axes that are resized."""
    scales = [
        float(np.float32(draw.choice([2.0, 0.5, 1.5, 3.0, 1.0, 1 / 3, float(draw.rng.uniform(0.3, 3.2))])))
        for _ in axes
    ]
    scales = [max(scale, 1.01 / shape[axis]) for scale, axis in zip(scales, axes, strict=True)]
    return scales, [draw.integer(1, 3 * shape[axis]) for axis in axes]


COORDINATES = [
    "half_pixel",
    "asymmetric",
    "pytorch_half_pixel",
    "tf_half_pixel_for_nn",
    "align_corners",
    "tf_crop_and_resize",
    "half_pixel_symmetric",
]


@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("coordinates", few(COORDINATES, 2))
@examples(8, 24)
def test_nearest_resize_reads_the_same_pixels(coordinates: str, rounding: str, count: int) -> None:
    """Every coordinate transformation and rounding, by scales or sizes, on all axes or on some."""
    for index in range(count):
        draw = Draw((SEED, index, zlib.crc32(f"{coordinates}{rounding}".encode())), ties=index % 2 == 1)
        opset = draw.choice([11, 13, 18, 21]) if coordinates != "half_pixel_symmetric" else draw.choice([19, 21])
        rank = draw.integer(1, 5)
        shape = tuple(draw.integers(1, 9, rank)) if rank < 4 else (1, 2, *draw.integers(1, 9, rank - 2))
        axes = list(range(rank))
        if opset >= 18 and draw.chance(30):
            axes = sorted(int(axis) for axis in draw.rng.choice(rank, draw.integer(1, rank), replace=False))
        scales, sizes = resize_sizes(draw, shape, axes)
        by_size = draw.chance()
        region = [*draw.rng.uniform(-0.2, 0.4, len(axes)), *draw.rng.uniform(0.6, 1.3, len(axes))]

        def extra(build: Builder) -> list[str]:
            none = build.constant([], np.float32) if opset < 13 else ""  # noqa: B023
            names = [build.constant(region, np.float32) if coordinates == "tf_crop_and_resize" else none]  # noqa: B023
            if by_size:  # noqa: B023
                return [*names, none, build.constant(sizes, np.int64)]  # noqa: B023
            return [*names, build.constant(scales, np.float32)]  # noqa: B023

        case = moved(
            draw,
            "Resize",
            shape,
            extra,
            opset,
            mode="nearest",
            coordinate_transformation_mode=coordinates,
            nearest_mode=rounding,
            extrapolation_value=7.0 if coordinates == "tf_crop_and_resize" else None,
            axes=axes if len(axes) < rank else None,
        )
        run_on_machine(case, (coordinates, rounding, index, shape, scales, sizes, by_size, axes, opset))


@examples(8, 24)
def test_resize_of_opset_10(count: int) -> None:
    """Resize before coordinate transformations: up by truncation, down by rounding up."""
    for index in range(count):
        draw = Draw((SEED, 1, index), ties=False)
        shape = tuple(draw.integers(1, 8, 4))
        scales, _ = resize_sizes(draw, shape, [2, 3])
        given = np.array([1.0, 1.0, *scales], np.float32)
        case = moved(draw, "Resize", shape, lambda build, given=given: [build.constant(given)], 10, mode="nearest")
        run_on_machine(case, (index, shape, scales))


def expand(draw: Draw) -> Case:
    """Expand by broadcasting, with axes in front."""
    shape = tuple(draw.choice([1, 1, 3, 5]) for _ in range(draw.integer(1, 3)))
    target = [size if size > 1 else draw.integer(1, 4) for size in shape]
    target = [*draw.integers(1, 3, draw.integer(0, 2)), *target]
    return moved(draw, "Expand", shape, lambda build: [build.constant(target, np.int64)])


def tile(draw: Draw) -> Case:
    """Tile every axis some times."""
    shape = draw.shape(draw.integer(1, 4), 5)
    return moved(draw, "Tile", shape, lambda build: [build.constant(draw.integers(1, 3, len(shape)), np.int64)])


def depth_to_space(draw: Draw) -> Case:
    """Both orders of blocks."""
    block, depth = draw.integer(1, 3), draw.integer(1, 3)
    shape = (draw.integer(1, 2), block * block * depth, *draw.integers(1, 4, 2))
    return moved(draw, "DepthToSpace", shape, lambda _: [], blocksize=block, mode=draw.choice(["DCR", "CRD", None]))


def space_to_depth(draw: Draw) -> Case:
    """Blocks of pixels to channels; onnxruntime has a kernel for floats, so codes come in groups."""
    block, code, build = draw.integer(1, 3), draw.activation(), Builder(draw)
    shape = (draw.integer(1, 2), draw.integer(1, 3), block * draw.integer(1, 3), block * draw.integer(1, 3))
    return build.finish(build.node("SpaceToDepth", [build.activation(shape, code)], blocksize=block), code)


def padding(draw: Draw) -> Case:
    """Pad with elements of the tensor."""
    shape, mode = tuple(draw.integers(3, 6, 3)), draw.choice(["edge", "reflect", "wrap"])
    widths = draw.integers(0, 2, 6)
    return moved(draw, "Pad", shape, lambda build: [build.constant(widths, np.int64)], mode=mode)


def gather_elements(draw: Draw) -> Case:
    """One constant index per element, negative ones included."""
    shape = draw.shape(3, 6)
    axis = draw.integer(-3, 2)
    target = [draw.integer(1, size) for size in shape]
    target[axis] = draw.integer(1, 7)
    picked = draw.rng.integers(-shape[axis], shape[axis], target)
    return moved(draw, "GatherElements", shape, lambda build: [build.constant(picked, np.int64)], axis=axis)


def nd_indices(draw: Draw, shape: Shape, batch: int) -> np.ndarray:
    """Draw index tuples for GatherND."""
    depth = draw.integer(1, len(shape) - batch)
    outer = (*shape[:batch], *draw.shape(draw.integer(1, 2), 3))
    parts = [draw.rng.integers(-shape[batch + part], shape[batch + part], outer) for part in range(depth)]
    return np.stack(parts, axis=-1)


def gather_nd(draw: Draw) -> Case:
    """Slices by constant tuples of indices, with batch dimensions."""
    shape, batch = draw.shape(draw.integer(2, 4), 5), draw.integer(0, 1)
    picked = nd_indices(draw, shape, batch)
    return moved(draw, "GatherND", shape, lambda build: [build.constant(picked, np.int64)], batch_dims=batch)


def computed(draw: Draw, kind: str) -> Case:
    """Indices that are fed at run time, into codes that are fed or constant."""
    build, code = Builder(draw), draw.activation()
    shape, axis = draw.shape(3, 6), draw.integer(0, 2)
    if kind == "GatherND":
        axis = 0
        picked = nd_indices(draw, shape, 0)
    elif kind == "GatherElements":
        target = [draw.integer(1, size) for size in shape]
        picked = draw.rng.integers(-shape[axis], shape[axis], target)
    else:
        picked = draw.rng.integers(-shape[axis], shape[axis], draw.shape(2, 4))
    data = build.constant(draw.codes(shape, code.dtype)) if draw.chance() else build.codes(shape, code)
    indices = build.input(picked.astype(draw.choice([np.int32, np.int64]) if kind != "GatherND" else np.int64))
    codes = build.node(kind, [data, indices], axis=axis if kind != "GatherND" else None)
    build.output(build.dequantise(codes, code))
    return build.case()


def where(draw: Draw) -> Case:
    """Q/DQ around Where: the condition is fed, scales are equal to the output's or not."""
    build, dtype = Builder(draw), draw.dtype(*WIDE)
    target = draw.activation(dtype)
    shape = draw.shape(3, 5)
    sides = []
    for _ in range(2):
        scale = draw.beside(float(target.scale) * 2.0 ** draw.choice([-1, 0, 1])) if draw.ties else draw.scale()
        other = Quantisation(dtype, scale, draw.zero_point(dtype))
        part = draw.choice([shape, shape, shape[1:], (1, *shape[1:])])
        sides.append(build.activation(part, target if draw.chance(40) else other))
    condition = build.input(draw.rng.integers(0, 2, draw.choice([shape, shape[2:], (shape[0], 1, 1)])).astype(bool))
    return build.finish(build.node("Where", [condition, *sides]), target)


def where_of_integers(draw: Draw) -> Case:
    """Where without quantisers around it."""
    build, shape, code = Builder(draw), draw.shape(2, 5), draw.activation()
    dtype = draw.choice(["int64", "float32", "uint8"])
    sides = [build.input(draw.rng.integers(0, 99, shape).astype(dtype)) for _ in range(2)]
    build.output(build.node("Where", [build.input(draw.rng.integers(0, 2, shape).astype(bool)), *sides]), dtype)
    build.output(build.quantise(build.input(np.zeros(2, np.float32)), code), code.dtype)
    return build.case()


def written_where(draw: Draw) -> Case:
    """A QLinearWhere in the file."""
    build, codes = Builder(draw), [draw.activation(np.dtype(draw.choice(["uint8", "int8"])))]
    codes += [draw.activation(codes[0].dtype) for _ in range(2)]
    shape = draw.shape(3, 5)
    inputs = [build.input(draw.rng.integers(0, 2, shape).astype(bool))]
    for code in codes[:2]:
        inputs += [build.codes(shape, code), *build.parameters(code)]
    result = build.node("QLinearWhere", [*inputs, *build.parameters(codes[2])], MICROSOFT)
    build.output(result, codes[2].dtype, 3)
    return build.case()


GENERATORS: dict[str, tuple[str, Callable[[Draw], Case]]] = {
    "expand": ("Expand", expand),
    "tile": ("Tile", tile),
    "depth_to_space": ("DepthToSpace", depth_to_space),
    "space_to_depth": ("SpaceToDepth", space_to_depth),
    "pad": ("Pad", padding),
    "gather_elements": ("GatherElements", gather_elements),
    "gather_nd": ("GatherND", gather_nd),
    "gather_computed": ("Gather", lambda draw: computed(draw, "Gather")),
    "gather_elements_computed": ("GatherElements", lambda draw: computed(draw, "GatherElements")),
    "gather_nd_computed": ("GatherND", lambda draw: computed(draw, "GatherND")),
    "where": ("Where", where),
    "where_of_integers": ("Where", where_of_integers),
    "written_where": ("QLinearWhere", written_where),
}


@pytest.mark.parametrize("name", GENERATORS)
@examples(8, 24)
def test_copies_are_exact_on_the_machine(name: str, count: int) -> None:
    """Drawn models of each operator equal onnxruntime and need no host operator."""
    kernel, generate = GENERATORS[name]
    seen = set()
    for index in range(count):
        draw = Draw((SEED, 2, index, zlib.crc32(name.encode())), ties=index % 2 == 1)
        seen |= {layer.op for layer in run_on_machine(generate(draw), (name, index)).layers}
    assert kernel in seen


def test_every_drawn_copy_is_in_the_table_of_operators() -> None:
    """What runs on the machine is listed, operator by operator."""
    listed = {kernel for row in OPERATORS for kernel in row.kernel.split(", ")}
    assert {kernel for kernel, _ in GENERATORS.values()} | {"Resize"} <= listed


def test_an_index_out_of_range_is_one_sentence() -> None:
    """A computed index beyond the axis is an error of accelsim, with and without the reference."""
    draw = Draw((SEED, 3), ties=False)
    build, code = Builder(draw), draw.activation()
    codes = build.node("Gather", [build.codes((4, 3), code), build.input(np.array([9]))], axis=0)
    build.output(build.dequantise(codes, code))
    case = build.case()
    for check in (True, False):
        with pytest.raises(accelsim.AccelSimError, match=r"ind(ex|ices)"):
            accelsim.run(accelsim.load(case.model), None, case.inputs, check=check)
