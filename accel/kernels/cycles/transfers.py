"""What DMA commands move: the segments of operands and outputs in memory, rounded to whole bursts (contract, 5.5)."""

from __future__ import annotations

import numpy as np

from accelsim.kernels.jit import kernel


@kernel
def burst_bytes(address, count, stride, length, burst):
    """Return the bytes moved for `count` segments of `length` bytes, `stride` apart, rounded to whole bursts.

    Contract, section 5.5. The rounding depends on the address modulo the burst only, so it is summed over one period.
    """
    if length <= 0 or count <= 0:
        return 0
    if stride % burst == 0:
        return count * (((address % burst) + length + burst - 1) // burst) * burst
    period = burst
    while period > 1 and (stride * (period // 2)) % burst == 0 and period % 2 == 0:
        period //= 2
    total = 0
    for index in range(min(period, count)):
        repeats = (count - index - 1) // period + 1
        offset = (address + index * stride) % burst
        total += repeats * ((offset + length + burst - 1) // burst) * burst
    return total


# Fields of the state of a channel's open rows; the open row of each bank follows.
ROW_BYTES, BANKS, MISSES, OPEN = range(4)


@kernel
def closed_rows(row_bytes, banks):
    """Return the state of a channel with no row open; row_bytes 0: no row model."""
    rows = np.full(OPEN + banks, -1, np.int64)
    rows[ROW_BYTES], rows[BANKS], rows[MISSES] = row_bytes, banks, 0
    return rows


@kernel
def touch_rows(rows, address, length):
    """Open the rows of one segment in order, counting those that were not open (contract, section 5.5)."""
    if length <= 0:
        return
    for row in range(address // rows[ROW_BYTES], (address + length - 1) // rows[ROW_BYTES] + 1):
        bank = OPEN + row % rows[BANKS]
        if rows[bank] != row:
            rows[bank] = row
            rows[MISSES] += 1


@kernel
def merged_bytes(address, count, stride, length, burst, rows):
    """Return `burst_bytes` of segments of which adjacent ones are moved as one, and open their rows."""
    if stride == length:
        count, stride, length = 1, 0, count * length
    if rows[ROW_BYTES] > 0:
        for index in range(count):
            touch_rows(rows, address + index * stride, length)
    return burst_bytes(address, count, stride, length, burst)


@kernel
def image_span(loop, first, last):
    """Return the contiguous span [start, stop) of a plane that output pixels first..last-1 of one image need.

    The first and the last input row are cut to the columns needed, unless a pad hides them: then the clipped row serves
    other output rows as well and is taken whole. Positions are in the map with its inserted zeros until they are turned
    into pixels in memory; where the first or last row needed is an inserted one, the next pixel row inside is taken
    whole.
    """
    row0 = first // loop.out_width * loop.stride_h - loop.pad_top
    row1 = (last - 1) // loop.out_width * loop.stride_h - loop.pad_top + loop.dilation_h * (loop.kernel_h - 1)
    column0 = first % loop.out_width * loop.stride_w - loop.pad_left
    column1 = (last - 1) % loop.out_width * loop.stride_w - loop.pad_left + loop.dilation_w * (loop.kernel_w - 1)
    column0 = 0 if row0 % loop.insert_h else -(-column0 // loop.insert_w)
    column1 = loop.width - 1 if row1 % loop.insert_h else column1 // loop.insert_w
    row0, row1 = -(-row0 // loop.insert_h), row1 // loop.insert_h
    if row0 < 0:
        row0, column0 = 0, 0
    if row1 >= loop.height:
        row1, column1 = loop.height - 1, loop.width - 1
    start = min(row0, loop.height - 1) * loop.width + min(max(column0, 0), loop.width - 1)
    stop = max(row1, 0) * loop.width + min(max(column1, 0), loop.width - 1) + 1
    return start, max(stop, start + 1)


@kernel
def packed_span(first, last, bits):
    """Return (first byte, length) of the bytes that hold elements first..last-1 of a row of elements of some bits."""
    start = first * bits // 8
    return start, (last * bits + 7) // 8 - start


@kernel
def first_operand_load(loop, base_address, group, packed, m0, m1, k0, k1, burst, rows):
    """Return (bytes moved in bursts, useful bytes) of loading rows m0..m1-1 and depth k0..k1-1 of the first operand."""
    bits = loop.first_bits if loop.first_bits else 8 * loop.input_bytes
    if not loop.image:
        row = (loop.k * bits + 7) // 8
        offset, length = packed_span(k0, k1, bits)
        address = base_address + (group * loop.m + m0) * row + offset
        return merged_bytes(address, m1 - m0, row, length, burst, rows), (m1 - m0) * length
    taps = loop.kernel_h * loop.kernel_w
    depth = loop.k // taps
    channel0, channel1 = (0, depth * packed) if packed > 1 else (k0 // taps, (k1 + taps - 1) // taps)
    plane, pixels = (loop.height * loop.width * bits + 7) // 8, loop.out_height * loop.out_width
    moved = useful = 0
    for image in range(m0 // pixels, (m1 - 1) // pixels + 1):
        start, stop = image_span(loop, max(m0 - image * pixels, 0), min(m1 - image * pixels, pixels))
        channels = loop.groups * depth
        offset, length = packed_span(start, stop, bits)
        base, count = (image * channels + group * depth + channel0) * plane + offset, channel1 - channel0
        moved += merged_bytes(base_address + base, count, plane, length, burst, rows)
        useful += count * length
    return moved, useful


@kernel
def second_operand_load(loop, address, group, packed, n0, n1, k0, k1, burst, rows):
    """Return (bytes moved in bursts, useful bytes) of loading the second operand; weights lie packed tile by tile.

    address: of the tile of weights, or of the whole second activation.
    """
    columns = (n1 - n0) * packed
    if loop.dynamic_second == 2:  # column by column: one row per n
        row = (loop.k * loop.second_bits + 7) // 8
        offset, length = packed_span(k0, k1, loop.second_bits)
        start = address + (group * loop.n + n0) * row + offset
        return merged_bytes(start, n1 - n0, row, length, burst, rows), (n1 - n0) * length
    if loop.dynamic_second:
        bits = loop.second_bits if loop.second_bits else 8 * loop.input_bytes
        row = (loop.n * bits + 7) // 8
        offset, length = packed_span(n0, n1, bits)
        start = address + (group * loop.k + k0) * row + offset
        return merged_bytes(start, k1 - k0, row, length, burst, rows), (k1 - k0) * length
    size = ((k1 - k0) * columns * loop.weight_bits + 7) // 8
    size += columns * loop.parameter_bytes if k0 == 0 else 0
    return merged_bytes(address, 1, 0, size, burst, rows), size


@kernel
def block_store(loop, base_address, group, packed, m0, m1, n0, n1, burst, rows):
    """Return (bytes moved in bursts, useful bytes) of storing one output block."""
    columns, height = (n1 - n0) * packed, m1 - m0
    bits = loop.output_bits if loop.output_bits else 8 * loop.output_bytes
    if loop.image:
        pixels, channels = loop.out_height * loop.out_width, loop.groups * loop.n
        plane, moved, useful = (pixels * bits + 7) // 8, 0, 0
        for image in range(m0 // pixels, (m1 - 1) // pixels + 1):
            offset, length = packed_span(max(m0 - image * pixels, 0), min(m1 - image * pixels, pixels), bits)
            base = (image * channels + group * loop.n + n0) * plane + offset
            moved += merged_bytes(base_address + base, columns, plane, length, burst, rows)
            useful += columns * length
        return moved, useful
    row = (loop.n * bits + 7) // 8
    offset, length = packed_span(n0, n0 + columns, bits)
    start = base_address + (group * loop.m + m0) * row + offset
    return merged_bytes(start, height, row, length, burst, rows), height * length
