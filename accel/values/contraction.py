"""Convolutions and matrix products on bias-initialised accumulators of any width, exactly.

Routes, cheapest proof first: (1) a bound from the weights alone shows that no partial sum leaves int32, so sums are
kept in int32; otherwise in int64. The exact run records the extremes of all partial sums in the normative k order.
(2) Extremes inside the accumulator's range prove that narrowing never changes anything: the exact sums are the
answer. (3) Otherwise the layer is run again in the narrow accumulator, step by step (timing contract, section 2).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.kernels.values.accumulate import (
    accumulate_exact,
    accumulate_narrow,
    convolve_exact,
    convolve_narrow,
    subtract_row_sums,
)
from accelsim.operators import CodeFormat, Convolution, MatrixMultiply, Weights
from accelsim.operators.zero_points import uses_row_sums
from accelsim.values.accumulators import AccumulatorFormat, AccumulatorUse, Tally
from accelsim.values.epilogue import apply_epilogue
from accelsim.values.images import padded_images
from accelsim.values.ranges import raw_weights

IntArray = NDArray[np.generic]
Operand = NDArray[np.signedinteger[Any]]

_PATCH_BYTES = 1 << 19  # a block of gathered patches should stay in the L2 cache
_LONGEST_BLOCK = 2048


def _initial_bias(weights: Weights, zero_point: int, zp_mode: str) -> NDArray[np.int64]:
    """Return what the accumulators start from: b, or b - z_x * sum(W) when the zero point is folded."""
    bias = weights.bias.astype(np.int64)
    if zp_mode == "fold":
        bias = bias - zero_point * weights.values.sum(axis=1, dtype=np.int64)
    return bias


def reach(weights: Weights, bias: NDArray[np.int64], largest_operand: int) -> NDArray[np.int64]:
    """Return what no partial sum of a column exceeds in magnitude: |b| + sum |w| * max |x|.

    Args:
        weights: int16 or int32 [N, K].
        bias: int64[N], what the accumulators start from.
        largest_operand: max |x|.
    """
    values = weights.values
    rows = max(1, _PATCH_BYTES // max(values.shape[1] * values.itemsize, 1))  # a block at a time, to bound memory
    sums = [np.abs(values[row : row + rows]).sum(axis=1, dtype=np.int64) for row in range(0, len(values), rows)]
    absolute: NDArray[np.int64] = np.concatenate([np.zeros(0, np.int64), *sums])
    return np.abs(bias) + absolute * largest_operand


def _fits_int32(weights: Weights, bias: NDArray[np.int64], largest_operand: int) -> bool:
    """Prove from the constants that no partial sum leaves int32."""
    return bool(reach(weights, bias, largest_operand).max(initial=0) < 2**31)


def _operand(codes: IntArray, zero_point: int, zp_mode: str) -> tuple[Operand, int]:
    """Return codes as the signed operands that enter the array (one bit wider), and the value that padding feeds."""
    wide: Operand = codes.astype(np.int16) if codes.dtype.itemsize == 1 else codes.astype(np.int32)
    return (wide, zero_point) if zp_mode == "fold" else (wide - wide.dtype.type(zero_point), 0)


def _largest(operand: CodeFormat, zp_mode: str) -> int:
    """Return the largest magnitude of an operand that enters the array."""
    shift = 0 if zp_mode == "fold" else operand.zero_point
    return max(abs(operand.lowest - shift), abs(operand.highest - shift))


def _narrow_to_epilogue(acc: IntArray, accumulator: AccumulatorFormat) -> IntArray:
    """Leave int32 results as they are; wider ones stay int64 for the requantiser."""
    return acc.astype(np.int32) if accumulator.bits <= 32 and acc.dtype == np.int64 else acc


def convolve(
    codes: IntArray, op: Convolution, out_shape: tuple[int, ...], accumulator: AccumulatorFormat
) -> tuple[IntArray, AccumulatorUse]:
    """Execute a quantised convolution.

    Args:
        codes: uint8 or int8 [B, C, H, W], [B, C, W] for a 1-D or [B, C, D, H, W] for a 3-D convolution.
        op: weights, geometry and epilogue.
        out_shape: shape of the output, same rank as the input.
        accumulator: width and behaviour of the accumulators.

    Returns:
        The output (dtype of the epilogue) and what the accumulators went through.
    """
    zero_point = op.input.zero_point
    operand, pad_value = _operand(codes, zero_point, accumulator.zp_mode)
    bias = _initial_bias(op.weights, zero_point, accumulator.zp_mode)
    summed = op
    if uses_row_sums(op.weights, accumulator.weight_zero_point):
        codes_of_weights, bias = raw_weights(op.weights, bias, op.groups)
        summed = replace(op, weights=codes_of_weights)
    pixels = int(np.prod(out_shape[-2:])) if codes.ndim > 3 else out_shape[-1]
    exact = np.int32 if _fits_int32(summed.weights, bias, _largest(op.input, accumulator.zp_mode)) else np.int64
    tally = Tally.empty()
    outputs = []
    for image in padded_images(operand, op, out_shape, pad_value):
        acc = _convolve_image(image, summed, bias, pixels, out_shape[-1], exact, accumulator, tally)
        if summed is not op:
            acc = _without_zero_points(acc, op.weights, op.groups, accumulator, tally)
        outputs.append(apply_epilogue(acc, op.epilogue))
    return _assemble_images(outputs, out_shape), tally.use(accumulator)


def _assemble_images(outputs: list[IntArray], out_shape: tuple[int, ...]) -> IntArray:
    """Join images [N, M] to [B, N, ...]; those of a 3-D convolution are slices [B, OD] of the output."""
    if len(out_shape) != 5:
        return np.stack(outputs).reshape(out_shape)
    batch, filters, slices, *plane = out_shape
    joined = np.stack(outputs).reshape(batch, slices, filters, *plane)
    return np.ascontiguousarray(joined.swapaxes(1, 2))


def _without_zero_points(
    acc: IntArray, weights: Weights, groups: int, accumulator: AccumulatorFormat, tally: Tally
) -> IntArray:
    """Return A - z_w * S of raw sums [N + groups, M], narrowed once (contract, section 2)."""
    columns = weights.values.shape[0]
    zero_points = np.ascontiguousarray(np.broadcast_to(weights.zero_points.astype(np.int64), (columns,)))
    out = np.empty((columns, acc.shape[1]), np.int64)
    saturate = accumulator.overflow == "saturate"
    tally.overflows += int(subtract_row_sums(acc, zero_points, groups, accumulator.bits, saturate, out, tally.extremes))
    return _narrow_to_epilogue(out, accumulator)


def _convolve_image(
    image: Operand,
    op: Convolution,
    bias: NDArray[np.int64],
    pixels: int,
    output_width: int,
    exact: type[np.signedinteger],
    accumulator: AccumulatorFormat,
    tally: Tally,
) -> IntArray:
    """Convolve one padded image; returns accumulators [N, M]."""
    shape = op.geometry
    weights = op.weights.values
    depth = max(weights.shape[1], 1)
    block = max(64, min(_LONGEST_BLOCK, _PATCH_BYTES // (2 * depth)))
    window = (op.groups, shape.kernel, shape.strides, shape.dilations, output_width, block)
    acc = np.repeat(bias.astype(exact)[:, None], pixels, axis=1)
    seen = Tally.empty()
    convolve_exact(image, weights, acc, *window, seen.extremes)
    tally.extremes[0] = min(tally.extremes[0], seen.extremes[0])
    tally.extremes[1] = max(tally.extremes[1], seen.extremes[1])
    if not seen.inside(accumulator):
        acc = np.repeat(bias[:, None], pixels, axis=1)
        saturate = accumulator.overflow == "saturate"
        tally.overflows += int(convolve_narrow(image, weights, acc, *window, accumulator.bits, saturate))
    return _narrow_to_epilogue(acc, accumulator)


def accumulate(
    stationary: Operand,
    streamed: Operand,
    start: NDArray[np.int64],
    accumulator: AccumulatorFormat,
    *,
    fits_int32: bool = False,
) -> tuple[IntArray, AccumulatorUse]:
    """Accumulate one matrix product in bias-initialised accumulators.

    Args:
        stationary: int16[rows, K].
        streamed: int16[K, lanes].
        start: int64[rows, lanes], the bias of every accumulator.
        accumulator: width and behaviour of the accumulators.
        fits_int32: the caller has proved that no exact partial sum leaves int32.

    Returns:
        Accumulators int32 or int64 [rows, lanes] and what they went through.
    """
    tally = Tally.empty()
    acc: IntArray = start.astype(np.int32 if fits_int32 else np.int64)
    accumulate_exact(stationary, streamed, acc, tally.extremes)
    if not tally.inside(accumulator):
        acc = start.copy()
        tally.overflows = int(
            accumulate_narrow(stationary, streamed, acc, accumulator.bits, accumulator.overflow == "saturate")
        )
    return acc, tally.use(accumulator)


def multiply(
    first: IntArray,
    second: IntArray | None,
    op: MatrixMultiply,
    out_shape: tuple[int, ...],
    accumulator: AccumulatorFormat,
) -> tuple[IntArray, AccumulatorUse]:
    """Execute a quantised matrix product with broadcasting over leading axes.

    Args:
        first: codes [..., M, K] ([..., K, M] when transposed), or [K].
        second: codes [..., K, N] or [K], or None when the weights are constant.
        op: weights, formats and epilogue.
        out_shape: shape of the output.
        accumulator: width and behaviour of the accumulators.
    """
    first = first if first.ndim > 1 else first[None, :]
    left, _ = _operand(
        first.swapaxes(-1, -2) if op.transpose_first else first, op.input.zero_point, accumulator.zp_mode
    )
    if op.weights is not None:
        return _multiply_constant(left, op, op.weights, out_shape, accumulator)
    if second is None or op.second is None:
        raise ValueError("a matrix product without constant weights needs a second operand and its format")
    second = second if second.ndim > 1 else second[:, None]
    return _multiply_dynamic(left, second, op, op.second, out_shape, accumulator)


def _multiply_constant(
    left: Operand,
    op: MatrixMultiply,
    weights: Weights,
    out_shape: tuple[int, ...],
    accumulator: AccumulatorFormat,
) -> tuple[IntArray, AccumulatorUse]:
    """Multiply by constant weights: all leading axes are rows of one product."""
    depth = weights.values.shape[1]
    rows = left.reshape(-1, depth)
    bias = _initial_bias(weights, op.input.zero_point, accumulator.zp_mode)
    summed = weights
    if uses_row_sums(weights, accumulator.weight_zero_point):
        summed, bias = raw_weights(weights, bias, 1)
    start = np.repeat(bias[:, None], rows.shape[0], axis=1)
    fits = _fits_int32(summed, bias, _largest(op.input, accumulator.zp_mode))
    if rows.shape[0] >= 16:
        streamed = np.ascontiguousarray(rows.T)
        acc, use = accumulate(summed.values, streamed, start, accumulator, fits_int32=fits)
    else:
        acc, use = _few_rows(rows, summed, start, accumulator, fits_int32=fits)
    if summed is not weights:
        tally = Tally.empty()
        tally.add(use)
        acc = _without_zero_points(acc, weights, 1, accumulator, tally)
        use = tally.use(accumulator)
    result = apply_epilogue(_narrow_to_epilogue(acc, accumulator), op.epilogue)
    return np.ascontiguousarray(result.T).reshape(out_shape), use


def _few_rows(
    rows: Operand, weights: Weights, start: NDArray[np.int64], accumulator: AccumulatorFormat, *, fits_int32: bool
) -> tuple[IntArray, AccumulatorUse]:
    """Multiply few rows: the lanes are output features, so that the inner loop stays long.

    Weights are transposed block by block, so that no second copy of all of them is made.
    """
    tally, parts = Tally.empty(), []
    stationary = np.ascontiguousarray(rows)
    for first in range(0, weights.values.shape[0], _LONGEST_BLOCK):
        block = slice(first, first + _LONGEST_BLOCK)
        streamed: Operand = np.ascontiguousarray(weights.values[block].T)
        begin = np.ascontiguousarray(start[block].T)
        acc, use = accumulate(stationary, streamed, begin, accumulator, fits_int32=fits_int32)
        tally.add(use)
        parts.append(acc.T)
    return np.ascontiguousarray(np.concatenate(parts)), tally.use(accumulator)


def _multiply_dynamic(
    left: Operand,
    second: IntArray,
    op: MatrixMultiply,
    code: CodeFormat,
    out_shape: tuple[int, ...],
    accumulator: AccumulatorFormat,
) -> tuple[IntArray, AccumulatorUse]:
    """Multiply two activations, matrix by matrix; both zero points are subtracted from the operands."""
    shift = left.dtype.type(op.input.zero_point if accumulator.zp_mode == "fold" else 0)
    rows, columns, depth = left.shape[-2], second.shape[-1], left.shape[-1]
    leading = np.broadcast_shapes(left.shape[:-2], second.shape[:-2])
    lefts = np.broadcast_to(left - shift, (*leading, rows, depth)).reshape(-1, rows, depth)
    right, _ = _operand(second, code.zero_point, "subtract")
    rights = np.broadcast_to(right, (*leading, depth, columns)).reshape(-1, depth, columns)
    bound = depth * _largest(op.input, "subtract") * _largest(code, "subtract")
    tally = Tally.empty()
    outputs = []
    for a, b in zip(lefts, rights, strict=True):
        start = np.zeros((columns, rows), np.int64)
        stationary, streamed = np.ascontiguousarray(b.T), np.ascontiguousarray(a.T)
        acc, use = accumulate(stationary, streamed, start, accumulator, fits_int32=bound < 2**31)
        tally.add(use)
        outputs.append(apply_epilogue(_narrow_to_epilogue(acc, accumulator), op.epilogue).T)
    return np.stack(outputs).reshape(out_shape), tally.use(accumulator)
