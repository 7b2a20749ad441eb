"""Zero operands the slow way: every multiply-accumulate of a contraction one after the other, in Python integers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim import operators as ops
from accelsim.machine.arch import Arch
from accelsim.program.layers import Layer
from accelsim.program.plan import ContractionPlan
from accelsim.program.work import ContractionWork

Array = NDArray[Any]


def busy(layer: Layer, inputs: tuple[Array, ...], arch: Arch) -> tuple[int, int]:
    """Return the multiply-accumulates of a layer without a zero operand, and all of them.

    Args:
        layer: a contraction whose quantisation is constant.
        inputs: its inputs.
        arch: the machine.
    """
    pairs = _convolution if isinstance(layer.operator, ops.Convolution) else _product
    without = total = 0
    for x, w in pairs(layer, inputs, arch):
        total += 1
        without += x != 0 and w != 0
    return without, total


def _columns(layer: Layer, weights: ops.Weights, group: int) -> list[list[int]]:
    """Return the columns that a group of the array multiplies, [K] each: weights, and ones per block for row sums."""
    assert isinstance(layer.work, ContractionWork)
    assert isinstance(layer.plan, ContractionPlan)
    values = weights.values.astype(int)
    depth = values.shape[1]
    if layer.work.row_sums:
        values = values + np.broadcast_to(weights.zero_points, (values.shape[0],))[:, None]
    first = group * layer.work.n
    columns = values[first : first + layer.work.n].tolist()
    if layer.work.row_sums:
        columns += [[1] * depth for _ in range(0, layer.work.n, layer.plan.block_n)]
    return columns


def _place(at: int, tap: int, size: int, window: tuple[int, int, int, int]) -> int | None:
    """Return the pixel under a tap along one axis: -1 in the padding, None where a zero was inserted.

    Beside inserted zeros, padding is no more than they are.
    """
    stride, dilation, pad, step = window
    place = at * stride + tap * dilation - pad
    inside = 0 <= place <= (size - 1) * step
    if step == 1:
        return place if inside else -1
    return place // step if inside and place % step == 0 else None


def _convolution(layer: Layer, inputs: tuple[Array, ...], arch: Arch) -> Iterator[tuple[int, int]]:
    operator = layer.operator
    assert isinstance(operator, ops.Convolution)
    shape, zero = operator.geometry, operator.input.zero_point
    depth = operator.depth or ops.DepthWindow(1)
    codes = inputs[0].astype(int)
    while codes.ndim < 5:  # [B, C, D, H, W]
        codes = codes[:, :, None]
    outputs = layer.output_types[0].shape
    sizes = (1,) * (5 - len(outputs)) + outputs[2:]
    per_group = codes.shape[1] // operator.groups
    axes = [
        (depth.stride, depth.dilation, depth.pads[0], 1),
        *zip(shape.strides, shape.dilations, shape.pads[:2], shape.insertion, strict=True),
    ]
    shift = 0 if arch.zp_mode == "fold" else zero
    for group in range(operator.groups):
        columns = _columns(layer, operator.weights, group)
        for image, *at in np.ndindex(codes.shape[0], *sizes):
            taps = product(range(per_group), range(depth.kernel), *map(range, shape.kernel))
            for k, (channel, *tap) in enumerate(taps):
                places = [_place(*part) for part in zip(at, tap, codes.shape[2:], axes, strict=True)]
                if None in places:
                    continue
                outside = -1 in places
                x = zero if outside else int(codes[(image, group * per_group + channel, *places)])
                yield from ((x - shift, column[k]) for column in columns)


def _product(layer: Layer, inputs: tuple[Array, ...], arch: Arch) -> Iterator[tuple[int, int]]:
    operator = layer.operator
    assert isinstance(operator, ops.MatrixMultiply)
    first = inputs[0].astype(int)
    first = first if first.ndim > 1 else first[None]
    left = first.swapaxes(-1, -2) if operator.transpose_first else first
    if operator.weights is not None:
        shift = 0 if arch.zp_mode == "fold" else operator.input.zero_point
        columns = _columns(layer, operator.weights, 0)
        for row in left.reshape(-1, left.shape[-1]).tolist():
            yield from ((x - shift, w) for column in columns for x, w in zip(row, column, strict=True))
        return
    second = inputs[1].astype(int)
    right = second if second.ndim > 1 else second[:, None]
    leading = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    zeros = operator.input.zero_point, operator.second.zero_point if operator.second else 0
    for index in np.ndindex(*leading):
        a = np.broadcast_to(left, leading + left.shape[-2:])[index]
        b = np.broadcast_to(right, leading + right.shape[-2:])[index]
        for m, n, k in np.ndindex(a.shape[0], b.shape[1], a.shape[1]):
            yield int(a[m, k]) - zeros[0], int(b[k, n]) - zeros[1]
