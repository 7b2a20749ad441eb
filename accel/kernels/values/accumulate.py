"""Bias-initialised accumulators: exact sums with their extremes, and the narrow accumulator step by step.

Shapes: `stationary` int16[rows, K] and `streamed` int16[K, lanes] meet in `acc`[rows, lanes], which comes in holding
the bias and leaves holding A = bias + sum_k stationary[row, k] * streamed[k, lane]. The loop over lanes is innermost
so that LLVM turns it into vector instructions; k ascends as the timing contract (section 2) demands.
"""

from __future__ import annotations

import numpy as np

from accelsim.kernels.jit import kernel
from accelsim.kernels.numerics import clamp, wrap


@kernel
def accumulate_exact(stationary, streamed, acc, extremes):
    """Add all products exactly and record the lowest and highest value any accumulator took on the way.

    Args:
        stationary: int16[rows, K].
        streamed: int16[K, lanes].
        acc: int32 or int64 [rows, lanes]; the caller has proved that no partial sum leaves the dtype.
        extremes: int64[2], lowest and highest value so far, updated in place (the bias counts).
    """
    rows, depth = stationary.shape
    lanes = acc.shape[1]
    low = np.empty(lanes, acc.dtype)
    high = np.empty(lanes, acc.dtype)
    cast = acc.dtype.type
    for row in range(rows):
        sums = acc[row]
        for lane in range(lanes):
            low[lane] = sums[lane]
            high[lane] = sums[lane]
        for k in range(depth):
            factor = cast(stationary[row, k])
            values = streamed[k]
            for lane in range(lanes):
                total = cast(sums[lane] + cast(factor * cast(values[lane])))
                sums[lane] = total
                low[lane] = min(low[lane], total)
                high[lane] = max(high[lane], total)
        for lane in range(lanes):
            extremes[0] = min(extremes[0], np.int64(low[lane]))
            extremes[1] = max(extremes[1], np.int64(high[lane]))


@kernel
def accumulate_narrow(stationary, streamed, acc, bits, saturate):
    """Accumulate in a register of `bits` (8..63): narrow after the bias and after every product, in k order.

    Args:
        stationary: int16[rows, K].
        streamed: int16[K, lanes].
        acc: int64[rows, lanes], the bias on entry, the narrowed result on exit.
        bits: width of the accumulator.
        saturate: True to saturate, False to wrap.

    Returns:
        How many times narrowing changed a value (loading the bias included).
    """
    rows, depth = stationary.shape
    lanes = acc.shape[1]
    lowest = -(np.int64(1) << np.int64(bits - 1))
    highest = -lowest - np.int64(1)
    mask = (highest << np.int64(1)) | np.int64(1)
    events = np.int64(0)
    for row in range(rows):
        sums = acc[row]
        for lane in range(lanes):
            narrowed = clamp(sums[lane], lowest, highest) if saturate else wrap(sums[lane], lowest, mask)
            events += np.int64(narrowed != sums[lane])
            sums[lane] = narrowed
        for k in range(depth):
            factor = np.int64(stationary[row, k])
            values = streamed[k]
            for lane in range(lanes):
                total = sums[lane] + factor * np.int64(values[lane])
                narrowed = clamp(total, lowest, highest) if saturate else wrap(total, lowest, mask)
                events += np.int64(narrowed != total)
                sums[lane] = narrowed
    return events


@kernel
def gather_patches(image, kernel_size, strides, dilations, output_width, first, patches):
    """Implicit im2col: fill patches[k, lane] for consecutive output pixels, k in (channel, kh, kw) order.

    Args:
        image: int16[C, H, W], already padded.
        kernel_size: (kernel height, kernel width).
        strides: (vertical, horizontal).
        dilations: (vertical, horizontal).
        output_width: width of the output, in pixels.
        first: index of the first output pixel, row-major.
        patches: int16[C * kernel height * kernel width, lanes], filled in place.
    """
    lanes = patches.shape[1]
    k = 0
    for channel in range(image.shape[0]):
        plane = image[channel]
        for kernel_row in range(kernel_size[0]):
            for kernel_column in range(kernel_size[1]):
                target = patches[k]
                k += 1
                lane = 0
                while lane < lanes:
                    row, column = divmod(first + lane, output_width)
                    run = min(lanes - lane, output_width - column)
                    source = plane[row * strides[0] + kernel_row * dilations[0]]
                    start = column * strides[1] + kernel_column * dilations[1]
                    if strides[1] == 1:
                        for step in range(run):
                            target[lane + step] = source[start + step]
                    else:
                        for step in range(run):
                            target[lane + step] = source[start + step * strides[1]]
                    lane += run


@kernel
def convolve_exact(image, weights, acc, groups, kernel_size, strides, dilations, output_width, block, extremes):
    """Convolve one padded image with exact accumulators, block by block of output pixels.

    Blocks are copied into contiguous tiles, because LLVM vectorises only loops whose stride it knows.

    Args:
        image: int16[C, H, W], padded.
        weights: int16[N, K] with K = C / groups * kernel height * kernel width.
        acc: int32 or int64 [N, M], holding the bias on entry.
        groups: number of channel groups.
        kernel_size: (kernel height, kernel width); strides, dilations: likewise.
        strides: see kernel_size.
        dilations: see kernel_size.
        output_width: width of the output, in pixels.
        block: output pixels per block.
        extremes: int64[2], updated in place.
    """
    pixels = acc.shape[1]
    channels = image.shape[0] // groups
    filters = weights.shape[0] // groups
    for first in range(0, pixels, block):
        lanes = min(block, pixels - first)
        patches = np.empty((weights.shape[1], lanes), image.dtype)
        tile = np.empty((filters, lanes), acc.dtype)
        for group in range(groups):
            part = image[group * channels : (group + 1) * channels]
            gather_patches(part, kernel_size, strides, dilations, output_width, first, patches)
            n = group * filters
            tile[:] = acc[n : n + filters, first : first + lanes]
            accumulate_exact(weights[n : n + filters], patches, tile, extremes)
            acc[n : n + filters, first : first + lanes] = tile


@kernel
def convolve_narrow(image, weights, acc, groups, kernel_size, strides, dilations, output_width, block, bits, saturate):
    """Convolve like `convolve_exact`, but in accumulators of `bits`; returns the number of overflow events."""
    pixels = acc.shape[1]
    channels = image.shape[0] // groups
    filters = weights.shape[0] // groups
    events = np.int64(0)
    for first in range(0, pixels, block):
        lanes = min(block, pixels - first)
        patches = np.empty((weights.shape[1], lanes), image.dtype)
        tile = np.empty((filters, lanes), acc.dtype)
        for group in range(groups):
            part = image[group * channels : (group + 1) * channels]
            gather_patches(part, kernel_size, strides, dilations, output_width, first, patches)
            n = group * filters
            tile[:] = acc[n : n + filters, first : first + lanes]
            events += accumulate_narrow(weights[n : n + filters], patches, tile, bits, saturate)
            acc[n : n + filters, first : first + lanes] = tile
    return events


@kernel
def subtract_row_sums(acc, zero_points, groups, bits, saturate, out, extremes):
    """Subtract z_w * S from raw accumulators and narrow once, as the requantiser does where weights keep their codes.

    Args:
        acc: int32 or int64 [N + groups, M]: per group its rows of raw sums A, then one row of sums S of activations.
        zero_points: int64[N].
        groups: number of channel groups.
        bits: width of the accumulators, 8..64.
        saturate: True to saturate, False to wrap.
        out: int64[N, M], filled with N(A - z_w * S).
        extremes: int64[2], lowest and highest exact difference, updated in place.

    Returns:
        How many times narrowing changed a value.
    """
    filters = zero_points.size // groups
    lowest = -(np.int64(1) << np.int64(bits - 1))
    highest = -lowest - np.int64(1)
    mask = (highest << np.int64(1)) | np.int64(1)
    events = np.int64(0)
    for n in range(zero_points.size):
        group = n // filters
        sums, shares = acc[n + group], acc[(group + 1) * (filters + 1) - 1]
        for m in range(acc.shape[1]):
            total = np.int64(sums[m]) - zero_points[n] * np.int64(shares[m])
            extremes[0] = min(extremes[0], total)
            extremes[1] = max(extremes[1], total)
            narrowed = clamp(total, lowest, highest) if saturate else wrap(total, lowest, mask)
            events += np.int64(narrowed != total)
            out[n, m] = narrowed
    return events
