"""What DMA commands move: the segments of operands and outputs in memory, rounded to whole bursts (contract, 5.5)."""

from __future__ import annotations

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


@kernel
def merged_bytes(address, count, stride, length, burst):
    """Return `burst_bytes` of segments of which adjacent ones are moved as one."""
    if stride == length:
        return burst_bytes(address, 1, 0, count * length, burst)
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
def first_operand_load(loop, group, packed, m0, m1, k0, k1, burst):
    """Return (bytes moved in bursts, useful bytes) of loading rows m0..m1-1 and depth k0..k1-1 of the first operand."""
    if not loop.image:
        length = (k1 - k0) * loop.input_bytes
        address = ((group * loop.m + m0) * loop.k + k0) * loop.input_bytes
        return merged_bytes(address, m1 - m0, loop.k * loop.input_bytes, length, burst), (m1 - m0) * length
    taps = loop.kernel_h * loop.kernel_w
    depth = loop.k // taps
    channel0, channel1 = (0, depth * packed) if packed > 1 else (k0 // taps, (k1 + taps - 1) // taps)
    plane, pixels = loop.height * loop.width, loop.out_height * loop.out_width
    moved = useful = 0
    for image in range(m0 // pixels, (m1 - 1) // pixels + 1):
        start, stop = image_span(loop, max(m0 - image * pixels, 0), min(m1 - image * pixels, pixels))
        channels = loop.groups * depth
        base = ((image * channels + group * depth + channel0) * plane + start) * loop.input_bytes
        count, length = channel1 - channel0, (stop - start) * loop.input_bytes
        moved += merged_bytes(base, count, plane * loop.input_bytes, length, burst)
        useful += count * length
    return moved, useful


@kernel
def second_operand_load(loop, group, packed, n0, n1, k0, k1, burst):
    """Return (bytes moved in bursts, useful bytes) of loading the second operand; weights lie packed tile by tile."""
    columns = (n1 - n0) * packed
    if loop.dynamic_second:
        address = ((group * loop.k + k0) * loop.n + n0) * loop.input_bytes
        length = (n1 - n0) * loop.input_bytes
        return merged_bytes(address, k1 - k0, loop.n * loop.input_bytes, length, burst), (k1 - k0) * length
    size = ((k1 - k0) * columns * loop.weight_bits + 7) // 8
    size += columns * loop.parameter_bytes if k0 == 0 else 0
    return merged_bytes(0, 1, 0, size, burst), size


@kernel
def block_store(loop, group, packed, m0, m1, n0, n1, burst):
    """Return (bytes moved in bursts, useful bytes) of storing one output block."""
    columns, rows, size = (n1 - n0) * packed, m1 - m0, loop.output_bytes
    useful = rows * columns * size
    if loop.image:
        pixels, channels = loop.out_height * loop.out_width, loop.groups * loop.n
        moved = 0
        for image in range(m0 // pixels, (m1 - 1) // pixels + 1):
            start, stop = max(m0 - image * pixels, 0), min(m1 - image * pixels, pixels)
            base = ((image * channels + group * loop.n + n0) * pixels + start) * size
            moved += merged_bytes(base, columns, pixels * size, (stop - start) * size, burst)
        return moved, useful
    base = ((group * loop.m + m0) * loop.n + n0) * size
    return merged_bytes(base, rows, loop.n * size, columns * size, burst), useful
