"""Loops that reduce or blend dequantised codes in float32, in the order in which onnxruntime adds on x86-64."""

from __future__ import annotations

import numpy as np

from accelsim.kernels.jit import kernel
from accelsim.kernels.numerics import dequantise, quantise


@kernel
def fold_vectors(reals, head, vectors):
    """Sum whole vectors of four floats from `head` on: two accumulators in turn, then lanes 0+2 and 1+3."""
    even, odd = reals[head : head + 4].copy(), reals[head + 4 : head + 8].copy()
    paired = vectors - vectors % 2
    for vector in range(2, paired):
        into = odd if vector % 2 else even
        for lane in range(4):
            into[lane] = np.float32(into[lane] + reals[head + 4 * vector + lane])
    for lane in range(4):
        if vectors > 1:
            even[lane] = np.float32(even[lane] + odd[lane])
        if vectors > paired and vectors > 1:
            even[lane] = np.float32(even[lane] + reals[head + 4 * paired + lane])
    return np.float32(np.float32(even[0] + even[2]) + np.float32(even[1] + even[3]))


@kernel
def row_sum(reals, offset):
    """Sum float32[R] as Eigen's vectorised redux does with vectors of four floats (SSE).

    Elements before the first address divisible by 16 bytes (`offset`: position of the row in its aligned tensor) and
    behind the last whole vector are added one by one at the end. Source: Eigen, Core/Redux.h, redux_impl with
    LinearVectorizedTraversal and NoUnrolling.
    """
    size = reals.size
    head = min((-offset) % 4, size)
    vectors = (size - head) // 4
    if vectors == 0:
        total = reals[0]
        for i in range(1, size):
            total = np.float32(total + reals[i])
        return total
    total = fold_vectors(reals, head, vectors)
    for i in range(head):
        total = np.float32(total + reals[i])
    for i in range(head + 4 * vectors, size):
        total = np.float32(total + reals[i])
    return total


@kernel
def reduce_rows(codes, scale, zero_point, divisor, out_scale, out_zero, lowest, highest, out):
    """Reduce codes[K, R] along R into out[K]; the sum is divided by the divisor (1 for sums) and quantised."""
    reals = np.empty(codes.shape[1], np.float32)
    for k in range(codes.shape[0]):
        for i in range(reals.size):
            reals[i] = dequantise(codes[k, i], scale, zero_point)
        total = row_sum(reals, k * reals.size)
        out[k] = quantise(np.float32(total / divisor), out_scale, out_zero, lowest, highest)


@kernel
def reduce_columns(codes, scale, zero_point, divisor, out_scale, out_zero, lowest, highest, out):
    """Reduce codes[R, K] along R into out[K], one row after the other."""
    for k in range(codes.shape[1]):
        total = dequantise(codes[0, k], scale, zero_point)
        for r in range(1, codes.shape[0]):
            total = np.float32(total + dequantise(codes[r, k], scale, zero_point))
        out[k] = quantise(np.float32(total / divisor), out_scale, out_zero, lowest, highest)


@kernel
def affine_channels(planes, factor, offset, scale, zero_point, out_scale, out_zero, lowest, highest, out):
    """Multiply and add per channel of planes[B, C, N]: two roundings, then quantise."""
    for b in range(planes.shape[0]):
        for c in range(planes.shape[1]):
            for i in range(planes.shape[2]):
                value = np.float32(dequantise(planes[b, c, i], scale, zero_point) * factor[c])
                value = np.float32(value + offset[c])
                out[b, c, i] = quantise(value, out_scale, out_zero, lowest, highest)


@kernel
def blend(planes, rows, columns, scale, zero_point, out_scale, out_zero, lowest, highest, out):
    """Bilinear interpolation of planes[P, H, W, D] into out[P, OH, OW, D].

    rows, columns: (first index, second index, weight of the first, weight of the second). Four products of two weights
    and a pixel, added from left to right (onnxruntime, core/providers/cpu/tensor/upsample.h, UpsampleBilinear).
    """
    for p in range(out.shape[0]):
        for i in range(out.shape[1]):
            top, bottom, top_weight, bottom_weight = rows[0][i], rows[1][i], rows[2][i], rows[3][i]
            for j in range(out.shape[2]):
                left, right = columns[0][j], columns[1][j]
                w11 = np.float32(columns[2][j] * top_weight)
                w21 = np.float32(columns[3][j] * top_weight)
                w12 = np.float32(columns[2][j] * bottom_weight)
                w22 = np.float32(columns[3][j] * bottom_weight)
                for d in range(out.shape[3]):
                    value = np.float32(w11 * dequantise(planes[p, top, left, d], scale, zero_point))
                    part = np.float32(w21 * dequantise(planes[p, top, right, d], scale, zero_point))
                    value = np.float32(value + part)
                    part = np.float32(w12 * dequantise(planes[p, bottom, left, d], scale, zero_point))
                    value = np.float32(value + part)
                    part = np.float32(w22 * dequantise(planes[p, bottom, right, d], scale, zero_point))
                    value = np.float32(value + part)
                    out[p, i, j, d] = quantise(value, out_scale, out_zero, lowest, highest)
