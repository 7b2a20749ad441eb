"""Reductions, chains, affine maps and interpolation between quantisers: on the machine, equal to onnxruntime."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import pytest

import accelsim
from accelsim.graph.load.constraints import OPERATORS
from tests.differential.harness import run_on_machine
from tests.strategies import Builder, Case, Draw, Quantisation, Shape, broadcast_pair
from tests.tiers import examples

SEED = 61_001
WIDE = ("uint8", "int8", "uint16", "int16")


def target_of(draw: Draw, source: Quantisation, gain: float = 1.0) -> Quantisation:
    """Draw an output quantisation; with ties its scale is the input's times a power of two, beside or exactly."""
    scale = float(source.scale) * gain
    factor = 2.0 ** draw.integer(-1, 2) if draw.ties else float(draw.rng.uniform(0.5, 3))
    return Quantisation(source.dtype, draw.beside(scale * factor), draw.zero_point(source.dtype))


def reduction(draw: Draw, kind: str, *, middle: bool = False) -> Case:
    """ReduceSum and ReduceMean over last or first axes, by attribute or constant, with rows that start anywhere."""
    opset = draw.choice([11, 13, 18]) if not middle else 18
    build = Builder(draw, opset)
    source = draw.activation()
    rank = draw.integer(1, 4) if not middle else 3
    shape = tuple(draw.integers(1, 9, rank))
    if draw.chance(30):
        shape = (*shape[:-1], draw.integer(10, 150))
    first = draw.integer(0, rank - 1)
    axes = list(range(first, rank)) if draw.chance(60) or shape[-1] == 1 else list(range(first + 1))
    if len(axes) < rank and axes[0] == 0 and int(np.prod(shape[axes[-1] + 1 :])) == 1:
        axes = list(range(rank))
    if middle:
        shape, axes = (draw.integer(2, 4), draw.integer(3, 9), draw.integer(3, 9)), [1]
    inputs, attribute = [build.activation(shape, source)], None
    if opset >= 18 or (opset == 13 and kind == "ReduceSum"):
        inputs.append(build.constant(axes, np.int64))
    else:
        attribute = axes
    real = build.node(kind, inputs, axes=attribute, keepdims=draw.integer(0, 1))
    count = int(np.prod([shape[axis] for axis in axes]))
    return build.finish(real, target_of(draw, source, count**0.5 if kind == "ReduceSum" else 1.0))


def extreme(draw: Draw, kind: str) -> Case:
    """ReduceMax and ReduceMin over any axes; 16 bits as well."""
    build, code = Builder(draw), draw.activation(draw.dtype(*WIDE))
    shape = draw.shape(draw.integer(1, 4), 6)
    axes = sorted({draw.integer(0, len(shape) - 1) for _ in range(draw.integer(1, 3))})
    inputs = [build.activation(shape, code), build.constant(axes, np.int64)]
    return build.finish(build.node(kind, inputs, keepdims=draw.integer(0, 1)), code)


def index_of(draw: Draw, kind: str) -> Case:
    """ArgMax and ArgMin; few different codes, so that the first and the last index differ."""
    build, code = Builder(draw), draw.activation()
    shape = draw.shape(draw.integer(1, 4), 7)
    lowest = int(np.iinfo(code.dtype).min)
    codes = build.input(draw.rng.integers(lowest, lowest + 4, shape).astype(code.dtype))
    real = build.dequantise(codes, code)
    axis = draw.integer(-len(shape), len(shape) - 1)
    name = build.node(kind, [real], axis=axis, keepdims=draw.integer(0, 1), select_last_index=draw.integer(0, 1))
    build.output(name, np.int64)
    return build.case()


def prelu(draw: Draw) -> Case:
    """A slope per channel, for all, or quantised."""
    build, source = Builder(draw), draw.activation(draw.dtype(*WIDE))
    shape = draw.shape(4, 6)
    slope_shape = draw.choice([(shape[1], 1, 1), (1,), (1, shape[1], 1, 1)])
    if draw.chance():
        slope = build.constant(draw.rng.normal(size=slope_shape) * 0.3, np.float32)
    else:
        code = draw.activation(np.dtype(np.int8), 0.005)
        slope = build.dequantise(build.constant(draw.codes(slope_shape, code.dtype)), code)
    return build.finish(build.node("PRelu", [build.activation(shape, source), slope]), target_of(draw, source))


def power(draw: Draw) -> Case:
    """A constant exponent that is not the cube."""
    build, source = Builder(draw), draw.activation(draw.dtype(*WIDE))
    exponent = build.constant(draw.choice([2.0, 0.5, 1.7, -1.0, 0.3, 1.0]), np.float32)
    return build.finish(build.node("Pow", [build.activation(draw.shape(3), source), exponent]), target_of(draw, source))


def chain(draw: Draw, kind: str) -> Case:
    """Three to five operands with scales of their own, one of them perhaps a float constant."""
    build, source = Builder(draw), draw.activation(draw.dtype(*WIDE))
    shape, _ = broadcast_pair(draw)
    reals = [build.activation(shape, target_of(draw, source)) for _ in range(draw.integer(3, 5))]
    if draw.chance(30):
        reals.append(build.constant(draw.rng.normal(size=shape[-1:]), np.float32))
    return build.finish(build.node(kind, reals), target_of(draw, source))


def batch_normalisation(draw: Draw) -> Case:
    """Constant parameters, any epsilon; images of every rank."""
    build, source = Builder(draw), draw.activation(draw.dtype(*WIDE))
    shape = draw.shape(draw.integer(2, 5), 6)
    channels = shape[1]
    parameters = [draw.rng.normal(size=channels) for _ in range(3)] + [draw.rng.uniform(0.01, 4, channels)]
    if draw.ties:
        parameters = [2.0 ** np.round(np.log2(np.abs(values) + 0.1)) for values in parameters]
    names = [build.constant(values, np.float32) for values in parameters]
    epsilon = draw.choice([None, 1e-3, 0.0])
    real = build.node("BatchNormalization", [build.activation(shape, source), *names], epsilon=epsilon)
    return build.finish(real, target_of(draw, source))


LINEAR = ["half_pixel", "asymmetric", "pytorch_half_pixel", "align_corners", "half_pixel_symmetric"]


def linear_resize(draw: Draw) -> Case:
    """Bilinear, [B, C, H, W], [B, H, W, C] or [H, W], up and down, in every coordinate transformation."""
    build, source = Builder(draw), draw.activation(draw.dtype(*WIDE))
    spatial = draw.integers(2, 9, 2)
    sizes = [draw.integer(1, 20) for _ in spatial]
    sizes[0] = spatial[0] * 2 if sizes[0] == spatial[0] else sizes[0]
    layout = draw.choice(["first", "last", "plain"])
    images, channels = draw.integer(1, 2), draw.integer(1, 4)
    shape: Shape = {
        "first": (images, channels, *spatial),
        "last": (images, *spatial, channels),
        "plain": tuple(spatial),
    }[layout]
    target = {"first": (images, channels, *sizes), "last": (images, *sizes, channels), "plain": tuple(sizes)}[layout]
    inputs = [build.activation(shape, source), "", "", build.constant(target, np.int64)]
    real = build.node("Resize", inputs, mode="linear", coordinate_transformation_mode=draw.choice(LINEAR))
    return build.finish(real, target_of(draw, source) if draw.chance() else source)


def wide_concat(draw: Draw) -> Case:
    """Concat of 16-bit codes with scales of their own."""
    build, dtype = Builder(draw), draw.dtype("uint16", "int16")
    target, shape = draw.activation(dtype), draw.shape(3, 5)
    reals = [build.activation(shape, target_of(draw, target)) for _ in range(2)] + [build.activation(shape, target)]
    return build.finish(build.node("Concat", reals, axis=draw.integer(-3, 2)), target)


def wide_max_pool(draw: Draw) -> Case:
    """MaxPool of 16-bit codes."""
    build, code = Builder(draw), draw.activation(draw.dtype("uint16", "int16"))
    real = build.activation((1, 3, *draw.integers(4, 8, 2)), code)
    attributes = {"kernel_shape": [2, 3], "strides": draw.integers(1, 2, 2), "pads": [0, 1, 1, 1]}
    return build.finish(build.node("MaxPool", [real], **attributes), code)


def arithmetic(draw: Draw) -> Case:
    """Float operations in a row between the quantisers."""
    build, source = Builder(draw), draw.activation()
    shape = draw.shape(3, 6)
    real = build.node("Sub", [build.activation(shape, source), build.activation(shape[-1:], source)])
    real = build.node("Mul", [real, real])
    real = build.node(draw.choice(["Sqrt", "Abs", "Neg"]), [real])
    real = build.node("Add", [real, build.constant(draw.rng.uniform(0.1, 1, shape[-1:]), np.float32)])
    real = build.node("Div", [build.node("Reciprocal", [real]), build.constant(draw.scale(), np.float32)])
    return build.finish(real, target_of(draw, source, 30.0))


GENERATORS: dict[str, tuple[str, Callable[[Draw], Case]]] = {
    **{kind: (kind, lambda draw, kind=kind: reduction(draw, kind)) for kind in ("ReduceSum", "ReduceMean")},
    **{kind: (kind, lambda draw, kind=kind: extreme(draw, kind)) for kind in ("ReduceMax", "ReduceMin")},
    **{kind: (kind, lambda draw, kind=kind: index_of(draw, kind)) for kind in ("ArgMax", "ArgMin")},
    **{f"{kind} chain": (kind, lambda draw, kind=kind: chain(draw, kind)) for kind in ("Max", "Min", "Sum")},
    "PRelu": ("PRelu", prelu),
    "Pow": ("Pow", power),
    "BatchNormalization": ("BatchNormalization", batch_normalisation),
    "Resize": ("Resize", linear_resize),
    "Concat": ("Concat", wide_concat),
    "MaxPool": ("MaxPool", wide_max_pool),
    "arithmetic": ("Reciprocal", arithmetic),
}


@pytest.mark.parametrize("name", GENERATORS)
@examples(4, 24)
def test_vector_operators_are_exact_on_the_machine(name: str, count: int) -> None:
    """Drawn models of each operator equal onnxruntime and need no host operator."""
    kernel, generate = GENERATORS[name]
    seen = set()
    for index in range(count):
        draw = Draw((SEED, index, zlib.crc32(name.encode())), ties=index % 2 == 1)
        seen |= {layer.op for layer in run_on_machine(generate(draw), (name, index)).layers}
    assert kernel in seen


FURTHER_TABLES = ["Sinh", "Asinh", "Acosh", "Atanh", "Tan", "Sign", "ThresholdedRelu", "Shrink"]


@pytest.mark.parametrize("kind", FURTHER_TABLES)
def test_further_functions_become_tables(kind: str) -> None:
    """Functions whose float kernel gives the same bits at every position."""
    for index in range(6):
        draw = Draw((SEED, 1, index, zlib.crc32(kind.encode())), ties=index % 2 == 1)
        build, source = Builder(draw), draw.activation(draw.dtype(*WIDE), 0.01)
        real = build.node(kind, [build.activation(draw.shape(3, 9), source)])
        run_on_machine(build.finish(real, target_of(draw, source)), (kind, index))


POSITION_DEPENDENT = ["Log", "Softplus", "Elu", "Selu", "Sin", "Cos", "Atan"]


@pytest.mark.parametrize("kind", POSITION_DEPENDENT)
def test_functions_that_depend_on_the_position_stay_with_onnxruntime(kind: str) -> None:
    """They are exact because onnxruntime computes them, and they say so."""
    draw = Draw((SEED, 2, zlib.crc32(kind.encode())), ties=True)
    build, source = Builder(draw), draw.activation()
    case = build.finish(build.node(kind, [build.activation((3, 7), source)]), target_of(draw, source))
    result = accelsim.run(accelsim.load(case.model), None, case.inputs)
    assert result.check.verdict == "exact"
    assert [layer.op for layer in result.layers if layer.computed_by == "onnxruntime"] == [kind]


def test_sums_over_middle_axes_stay_with_onnxruntime() -> None:
    """Their order of additions is that of a matrix product, so they run there, priced on the vector unit."""
    for index in range(4):
        case = reduction(Draw((SEED, 3, index), ties=True), "ReduceMean", middle=True)
        result = accelsim.run(accelsim.load(case.model), None, case.inputs)
        assert result.check.verdict == "exact"
        (layer,) = (layer for layer in result.layers if layer.op == "ReduceMean")
        assert (layer.computed_by, layer.placement) == ("onnxruntime", "vector")
        assert layer.energy_pj["vector"] > 0


def test_every_drawn_operator_is_in_the_table_of_operators() -> None:
    """What runs on the machine is listed, operator by operator."""
    listed = {kernel for row in OPERATORS for kernel in row.kernel.split(", ")}
    assert {kernel for kernel, _ in GENERATORS.values()} | set(FURTHER_TABLES) <= listed
