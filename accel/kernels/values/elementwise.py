"""Loops of the requantiser and the vector unit; each output is one short expression in the order of its formula.

Codes are uint8 or int8, `lowest` and `highest` the range of the output code, everything float is float32, but for the
quotients of `softmax_rows_in_double`.
"""

from __future__ import annotations

import numpy as np

from accelsim.kernels.jit import kernel
from accelsim.kernels.numerics import (
    clamp,
    clamp_then_round,
    dequantise,
    fused_multiply_add,
    quantise,
    round_add_clamp,
    round_then_clamp,
    saturated_sum,
    scale_fixed,
)


@kernel
def requantise_rows(acc, multiplier, zero_point, lowest, highest, out):
    """Requantise acc[N, M] with multiplier float32[N], one per row, into out[N, M]."""
    for n in range(acc.shape[0]):
        factor = multiplier[n]
        sums, codes = acc[n], out[n]
        for m in range(acc.shape[1]):
            scaled = np.float32(np.float32(sums[m]) * factor)
            codes[m] = clamp_then_round(scaled, zero_point, lowest, highest)


@kernel
def requantise_rows_fixed(acc, mantissa, shift, zero_point, lowest, highest, out):
    """Requantise acc[N, M] in integers, with mantissa int32[N] and shift int32[N], one per row, into out[N, M]."""
    for n in range(acc.shape[0]):
        factor, exponent = mantissa[n], shift[n]
        sums, codes = acc[n], out[n]
        for m in range(acc.shape[1]):
            codes[m] = clamp(scale_fixed(sums[m], factor, exponent) + zero_point, lowest, highest)


@kernel
def add_codes_fixed(a, b, zero_a, zero_b, headroom, mantissa, shift, zero_point, lowest, highest, out):
    """Add flat arrays of codes in integers: each scaled with `headroom` bits below the point, then the sum.

    mantissa, shift: int32[3], for a, for b and for their sum.
    """
    for i in range(out.size):
        first = scale_fixed((np.int64(a[i]) - zero_a) << np.int64(headroom), mantissa[0], shift[0])
        second = scale_fixed((np.int64(b[i]) - zero_b) << np.int64(headroom), mantissa[1], shift[1])
        out[i] = clamp(scale_fixed(first + second, mantissa[2], shift[2]) + zero_point, lowest, highest)


@kernel
def multiply_codes_fixed(a, b, zero_a, zero_b, mantissa, shift, zero_point, lowest, highest, out):
    """Multiply flat arrays of codes in integers: exact product, scaled by mantissa and shift."""
    for i in range(out.size):
        product = (np.int64(a[i]) - zero_a) * (np.int64(b[i]) - zero_b)
        out[i] = clamp(scale_fixed(product, mantissa, shift) + zero_point, lowest, highest)


@kernel
def add_codes(a, b, zero_a, zero_b, ratio_a, ratio_b, zero_point, lowest, highest, out):
    """QLinearAdd on flat arrays of equal length: two fused multiply-adds on raw codes, zero points in one offset."""
    inner_zero = np.float32(ratio_b * np.float32(zero_b))
    offset = np.float32(np.float32(zero_point) - fused_multiply_add(ratio_a, np.float32(zero_a), inner_zero))
    for i in range(out.size):
        inner = fused_multiply_add(np.float32(b[i]), ratio_b, offset)
        value = fused_multiply_add(np.float32(a[i]), ratio_a, inner)
        out[i] = round_then_clamp(value, lowest, highest)


@kernel
def multiply_codes(a, b, zero_a, zero_b, ratio, zero_point, lowest, highest, out):
    """QLinearMul on flat arrays of equal length: exact product, multiply, add the zero point, round."""
    for i in range(out.size):
        product = np.int32((np.int32(a[i]) - zero_a) * (np.int32(b[i]) - zero_b))
        value = np.float32(np.float32(np.float32(product) * ratio) + np.float32(zero_point))
        out[i] = round_then_clamp(value, lowest, highest)


@kernel
def average_pool(planes, window, strides, pads, scale, zero_point, out_scale, out_zero, lowest, highest, whole, out):
    """QLinearAveragePool of planes[P, H, W] into out[P, OH, OW].

    The sum over the window is sequential in float32, row-major, over the pixels inside the image; `whole` divides by
    the full window instead of by the pixels inside.
    """
    height, width = planes.shape[1], planes.shape[2]
    for p in range(planes.shape[0]):
        for i in range(out.shape[1]):
            for j in range(out.shape[2]):
                top, left = i * strides[0] - pads[0], j * strides[1] - pads[1]
                first_row, last_row = max(top, 0), min(top + window[0], height)
                first_column, last_column = max(left, 0), min(left + window[1], width)
                total = np.float32(0)
                for row in range(first_row, last_row):
                    for column in range(first_column, last_column):
                        total = np.float32(total + dequantise(planes[p, row, column], scale, zero_point))
                inside = (last_row - first_row) * (last_column - first_column)
                count = window[0] * window[1] if whole else inside
                mean = np.float32(total / np.float32(count))
                value = np.float32(np.float32(mean / out_scale) + np.float32(out_zero))
                out[p, i, j] = round_then_clamp(value, lowest, highest)


@kernel
def max_pool(planes, window, strides, dilations, pads, lowest, out):
    """Maximum of codes over windows of planes[P, H, W]; padding counts as the lowest code."""
    height, width = planes.shape[1], planes.shape[2]
    for p in range(planes.shape[0]):
        for i in range(out.shape[1]):
            for j in range(out.shape[2]):
                best = np.int32(lowest)
                for a in range(window[0]):
                    row = i * strides[0] - pads[0] + a * dilations[0]
                    if row < 0 or row >= height:
                        continue
                    for b in range(window[1]):
                        column = j * strides[1] - pads[1] + b * dilations[1]
                        if 0 <= column < width:
                            best = max(best, np.int32(planes[p, row, column]))
                out[p, i, j] = best


@kernel
def shifted_sum(row, exponentials):
    """Return what aligns the largest code of a row with the end of the table, and the sequential float32 sum."""
    largest = np.int32(row[0])
    for i in range(row.size):
        largest = max(largest, np.int32(row[i]))
    shift = 255 - largest
    total = np.float32(0)
    for i in range(row.size):
        total = np.float32(total + exponentials[np.int32(row[i]) + shift])
    return shift, total


@kernel
def softmax_rows(codes, exponentials, inverse_scale, zero_point, lowest, highest, out):
    """QLinearSoftmax of codes[rows, n], quotients in float32: one product, one division, through int32.

    With lowest 0 and highest 255 only the low byte of a sum below 0 is kept, whatever the type of out.
    """
    for r in range(codes.shape[0]):
        row = codes[r]
        shift, total = shifted_sum(row, exponentials)
        for i in range(row.size):
            value = np.float32(np.float32(exponentials[np.int32(row[i]) + shift] * inverse_scale) / total)
            out[r, i] = saturated_sum(value, zero_point, lowest, highest)


@kernel
def softmax_rows_in_double(codes, exponentials, inverse_scale, zero_point, lowest, highest, out):
    """QLinearSoftmax of codes[rows, n], quotients in float64: the product does not overflow, the code is clamped."""
    for r in range(codes.shape[0]):
        row = codes[r]
        shift, total = shifted_sum(row, exponentials)
        for i in range(row.size):
            product = np.float64(exponentials[np.int32(row[i]) + shift]) * np.float64(inverse_scale)
            out[r, i] = round_add_clamp(product / np.float64(total), zero_point, lowest, highest)


@kernel
def quantise_all(values, scale, zero_point, lowest, highest, out):
    """QuantizeLinear of a flat float32 array into out."""
    for i in range(values.size):
        out[i] = quantise(values[i], scale, zero_point, lowest, highest)


@kernel
def dequantise_all(codes, scale, zero_point, out):
    """DequantizeLinear of a flat array of codes into float32 out."""
    for i in range(codes.size):
        out[i] = dequantise(codes[i], scale, zero_point)
