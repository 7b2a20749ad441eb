"""Random models of one operator that moves data, and of quantisers at the borders of a graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from tests.differential.registry import operator
from tests.strategies import Builder, Case, Draw, Shape

# ---- data movement


def moved(draw: Draw, kind: str, shape: Shape, extra: Callable[[Builder], list[str]] | None, **attributes: Any) -> Case:
    """Q/DQ around an operator that copies elements; `extra` adds its constant inputs."""
    build, code = Builder(draw), draw.activation()
    inputs = [build.activation(shape, code)] + (extra(build) if extra else [])
    return build.finish(build.node(kind, inputs, **attributes), code)


@operator("reshape", "Reshape")
def reshape(draw: Draw) -> Case:
    """Reshape with a kept and a computed dimension."""
    shape = draw.shape(3)
    target = draw.choice([[0, -1], [-1], [shape[2], -1, shape[0]], [0, 0, -1, 1]])
    return moved(draw, "Reshape", shape, lambda build: [build.constant(target, np.int64)])


@operator("flatten", "Flatten", "none")
def flatten(draw: Draw) -> Case:
    """Flatten from any axis."""
    return moved(draw, "Flatten", draw.shape(4, 4), None, axis=draw.integer(-3, 3))


@operator("squeeze", "Squeeze", "none")
def squeeze(draw: Draw) -> Case:
    """Squeeze of chosen axes."""
    shape = (draw.integer(2, 5), 1, draw.integer(2, 5), 1)
    axes = draw.choice([[1], [3], [1, 3], [-1]])
    return moved(draw, "Squeeze", shape, lambda build: [build.constant(axes, np.int64)])


@operator("unsqueeze", "Unsqueeze", "none")
def unsqueeze(draw: Draw) -> Case:
    """Unsqueeze at chosen axes."""
    axes = draw.choice([[0], [1, 3], [-1]])
    return moved(draw, "Unsqueeze", draw.shape(3), lambda build: [build.constant(axes, np.int64)])


@operator("transpose", "Transpose")
def transpose(draw: Draw) -> Case:
    """Transpose by any permutation that moves something, or the default one."""
    rank = draw.integer(2, 4)
    permutation = draw.choice([None, [int(axis) for axis in np.roll(range(rank), draw.integer(1, rank - 1))]])
    return moved(draw, "Transpose", tuple(draw.integers(2, 6, rank)), None, perm=permutation)


@operator("slice", "Slice")
def slices(draw: Draw) -> Case:
    """Slice of two axes with steps in both directions and ends beyond the tensor."""
    shape = tuple(draw.integers(4, 8, 3))
    axes = draw.choice([[0, 2], [1, 2], [-1, 0]])
    ranges = [draw.choice([(1, 3, 1), (0, 99, 2), (-1, -99, -1), (-2, 0, -1), (-3, 99, 1)]) for _ in axes]
    starts, ends, steps = zip(*ranges, strict=True)
    return moved(
        draw,
        "Slice",
        shape,
        lambda build: [build.constant(list(values), np.int64) for values in (starts, ends, axes, steps)],
    )


@operator("gather", "Gather")
def gather(draw: Draw) -> Case:
    """Gather along any axis by constant indices of rank 0 to 2, negative ones included."""
    shape = draw.shape(3)
    axis = draw.integer(-3, 2)
    picked = draw.rng.integers(-shape[axis], shape[axis], draw.choice([(), (3,), (2, 2)]))
    return moved(draw, "Gather", shape, lambda build: [build.constant(picked, np.int64)], axis=axis)


@operator("split", "Split")
def split(draw: Draw) -> Case:
    """Split into two or three uneven pieces, each quantised again."""
    build, code = Builder(draw), draw.activation()
    shape, axis = list(draw.shape(3)), draw.integer(-3, 2)
    sizes = draw.integers(1, 4, draw.integer(2, 3))
    shape[axis] = sum(sizes)
    inputs = [build.activation(tuple(shape), code), build.constant(sizes, np.int64)]
    for piece in build.nodes_of("Split", inputs, len(sizes), axis=axis):
        build.output(build.quantise(piece, code), code.dtype)
    return build.case()


@operator("pad", "Pad")
def pad(draw: Draw) -> Case:
    """Pad with zero or a constant, on all axes or on chosen ones."""
    shape, value = draw.shape(3), draw.choice([None, 0.0, 0.3])
    axes = draw.choice([None, [2, 0], [-1]])
    widths = draw.integers(0, 2, 2 * len(axes or shape))
    widths[0] = 1

    def constants(build: Builder) -> list[str]:
        names = [build.constant(widths, np.int64)]
        names.append("" if value is None else build.constant(value, np.float32))
        return names if axes is None else [*names, build.constant(axes, np.int64)]

    return moved(draw, "Pad", shape, constants)


@operator("resize", "Resize", "vector")
def resize(draw: Draw) -> Case:
    """Resize to the nearest pixel; short runs pass through the lanes. All its modes: test_rearrangements.py."""
    scales = [1.0, 1.0, *draw.choice([(2.0, 2.0), (1.5, 3.0)])]
    shape = (1, draw.integer(1, 3), *draw.integers(2, 5, 2))
    return moved(draw, "Resize", shape, lambda build: ["", build.constant(scales, np.float32)], mode="nearest")


# ---- quantisers at the borders


@operator("quantise_border", "QuantizeLinear")
def quantise_border(draw: Draw) -> Case:
    """QuantizeLinear of a graph input to 8 or 16 bits; inputs on and beside ties and far outside of the range."""
    build, code = Builder(draw), draw.activation(draw.dtype("uint8", "int8", "uint16", "int16"))
    steps = draw.rng.integers(-200, 200, draw.shape(2, 20)) + draw.choice([0.0, 0.5])
    reals = (steps * float(code.scale) * draw.choice([1.0, 1.0, 300.0])).astype(np.float32)
    build.output(build.quantise(build.input(reals), code), code.dtype)
    return build.case()


@operator("dequantise_border", "DequantizeLinear")
def dequantise_border(draw: Draw) -> Case:
    """DequantizeLinear of a graph input of 8, 16 or 32 bits."""
    build, dtype = Builder(draw), draw.dtype("uint8", "int8", "uint16", "int16", "int32")
    code = draw.activation(dtype)
    if dtype == np.int32:
        code = replace(code, zero_point=0)
    build.output(build.dequantise(build.codes(draw.shape(2, 20), code), code))
    return build.case()


@operator("sixteen_bit_round_trip", "Reshape")
def sixteen_bit_round_trip(draw: Draw) -> Case:
    """Data movement between 16-bit codes."""
    build, code = Builder(draw), draw.activation(draw.dtype("uint16", "int16"))
    shape = build.constant([-1], np.int64)
    return build.finish(build.node("Reshape", [build.activation(draw.shape(3), code), shape]), code)
