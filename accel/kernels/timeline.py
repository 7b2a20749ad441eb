"""The timing contract as a recurrence: array tiles, DMA loads, requantiser and stores of one layer, exact.

All times are cycles since the start of the layer. The classes partition the cycles of the layer; their meaning is
section 4.3 of the contract, extended by what follows the array's tail (exposed requantisation and stores).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from accelsim.kernels.jit import kernel

WS, OS, IS = 0, 1, 2

# Indices of the cycle classes and of the event counters that the kernels fill.
CLASSES = (
    "stream", "push", "shift", "flush", "wait_w", "hazard", "wait_x_load", "wait_x_bank", "tail",
    "requant", "vector", "wait_load", "wait_store", "store",
)  # fmt: skip
(
    STREAM,
    PUSH,
    SHIFT,
    FLUSH,
    WAIT_W,
    HAZARD,
    WAIT_LOAD,
    WAIT_BANK,
    TAIL,
    REQUANT,
    VECTOR,
    LOAD,
    BLOCKED,
    STORE,
) = range(14)

EVENTS = (
    "tiles", "macs", "activation_reads", "weight_reads", "bias_reads", "acc_reads", "acc_writes", "requant_elements",
    "operand_register_writes", "sum_register_writes", "weight_register_writes",
    "activation_fill_bytes", "weight_fill_bytes", "dram_read_bytes", "dram_write_bytes", "useful_read_bytes",
    "useful_write_bytes",
)  # fmt: skip
(
    TILES, MACS,
    X_READS, W_READS, BIAS_READS, ACC_READS, ACC_WRITES, REQUANTISED, A_REGISTERS, V_REGISTERS, W_REGISTERS,
    X_FILL, W_FILL, DRAM_READ, DRAM_WRITE, USEFUL_READ, USEFUL_WRITE,
) = range(17)  # fmt: skip


class ArraySpec(NamedTuple):
    """The machine as the recurrence sees it (timing contract, section 9); flags are 0 or 1."""

    rows: int
    cols: int
    dataflow: int
    double_buffer: int
    drain_overlap: int
    flush: int
    full_load: int
    gather_words: int
    acc_banks: int
    operand_buffers: int
    output_buffers: int
    requant_lanes: int
    requant_latency: int
    bytes_per_cycle: int
    dram_latency: int
    burst: int


class LoopSpec(NamedTuple):
    """One contraction and its blocking: m, k, n per group; sizes of blocks; how operands lie in memory.

    block_m, block_n: extents of one output block (for OS several tiles of R rows); chunk_k: depth of one operand load;
    pack: groups per tile; resident: the operand of the inner loop stays in its scratchpad for the whole group; image:
    the first operand is a feature map [images, channels, height, width] gathered by im2col, else rows of k elements.
    """

    m: int
    k: int
    n: int
    groups: int
    pack: int
    block_m: int
    block_n: int
    chunk_k: int
    resident: int
    image: int
    height: int
    width: int
    out_height: int
    out_width: int
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    dilation_h: int
    dilation_w: int
    pad_top: int
    pad_left: int
    dynamic_second: int
    output_bytes: int
    parameter_bytes: int


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
def image_span(loop, first, last):
    """Return the contiguous span [start, stop) of a plane that output pixels first..last-1 of one image need.

    The first and the last input row are cut to the columns needed, unless a pad hides them: then the clipped row serves
    other output rows as well and is taken whole.
    """
    row0 = first // loop.out_width * loop.stride_h - loop.pad_top
    row1 = (last - 1) // loop.out_width * loop.stride_h - loop.pad_top + loop.dilation_h * (loop.kernel_h - 1)
    column0 = first % loop.out_width * loop.stride_w - loop.pad_left
    column1 = (last - 1) % loop.out_width * loop.stride_w - loop.pad_left + loop.dilation_w * (loop.kernel_w - 1)
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
        length = k1 - k0
        address = (group * loop.m + m0) * loop.k + k0
        if length == loop.k:
            return burst_bytes(address, 1, 0, (m1 - m0) * length, burst), (m1 - m0) * length
        return burst_bytes(address, m1 - m0, loop.k, length, burst), (m1 - m0) * length
    taps = loop.kernel_h * loop.kernel_w
    depth = loop.k // taps
    channel0, channel1 = (0, depth * packed) if packed > 1 else (k0 // taps, (k1 + taps - 1) // taps)
    plane, pixels = loop.height * loop.width, loop.out_height * loop.out_width
    moved = useful = 0
    for image in range(m0 // pixels, (m1 - 1) // pixels + 1):
        start, stop = image_span(loop, max(m0 - image * pixels, 0), min(m1 - image * pixels, pixels))
        channels = loop.groups * depth
        base = (image * channels + group * depth + channel0) * plane + start
        count = channel1 - channel0
        if stop - start == plane:
            moved += burst_bytes(base, 1, 0, count * plane, burst)
        else:
            moved += burst_bytes(base, count, plane, stop - start, burst)
        useful += count * (stop - start)
    return moved, useful


@kernel
def second_operand_load(loop, group, packed, n0, n1, k0, k1, burst):
    """Return (bytes moved in bursts, useful bytes) of loading the second operand; weights lie packed tile by tile."""
    columns = (n1 - n0) * packed
    if loop.dynamic_second:
        address = (group * loop.k + k0) * loop.n + n0
        return burst_bytes(address, k1 - k0, loop.n, n1 - n0, burst), (k1 - k0) * (n1 - n0)
    size = (k1 - k0) * columns + (columns * loop.parameter_bytes if k0 == 0 else 0)
    return burst_bytes(0, 1, 0, size, burst), size


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
            moved += burst_bytes(base, columns, pixels * size, (stop - start) * size, burst)
        return moved, useful
    base = ((group * loop.m + m0) * loop.n + n0) * size
    if columns == loop.n:
        return burst_bytes(base, 1, 0, rows * columns * size, burst), useful
    return burst_bytes(base, rows, loop.n * size, columns * size, burst), useful


@kernel
def stationary_step(machine, state, depth, columns, steps, ready_w, ready_x, bank, accumulates, classes):
    """Advance WS/IS by one tile (contract 4.1); state = [S, Mt, started]; returns the start S of its stream."""
    previous, length, started = state[0], state[1], state[2]
    issue_end = previous + length if started else 0
    if machine.flush:
        base = issue_end + machine.rows + machine.cols
    elif machine.double_buffer:
        base = previous
    else:
        base = issue_end
    if not started:
        base = 0
    push = machine.rows if machine.full_load else depth
    if machine.dataflow == IS and machine.gather_words > 0:
        push *= (columns + machine.gather_words - 1) // machine.gather_words
    start_push = max(base, ready_w)
    hazard = previous + machine.rows + 2 if started and accumulates and not machine.flush else 0
    wait_x = max(ready_x, bank)
    start = max(max(issue_end, start_push + push), max(hazard, wait_x))
    time = issue_end
    if machine.flush and started:
        stop = min(max(base, time), start)
        classes[FLUSH] += stop - time
        time = stop
    stop = min(max(start_push, time), start)
    classes[WAIT_W] += stop - time
    time = stop
    stop = min(max(start_push + push, time), start)
    classes[PUSH] += stop - time
    time = stop
    stop = min(max(hazard, time), start)
    classes[HAZARD] += stop - time
    time = stop
    classes[WAIT_BANK if bank > ready_x else WAIT_LOAD] += start - time
    classes[STREAM] += steps
    state[0], state[1], state[2] = start, steps, 1
    return start


@kernel
def output_step(machine, state, steps, ready_x, bank, first, classes):
    """Advance OS by `steps` of one tile (contract 4.2); state = [S, steps, started]; returns the start S.

    `first` marks the first steps of a tile, which wait for the drain of the tile before it.
    """
    issue_end = state[0] + state[1] if state[2] else 0
    drained = issue_end
    if first and state[2]:
        if machine.flush:
            gap = 2 * machine.rows + machine.cols
        elif machine.drain_overlap:
            gap = max(0, machine.rows + 1 - state[3])
        else:
            gap = machine.rows
        drained += gap
    start = max(drained, max(ready_x, bank))
    time = issue_end
    if first and state[2]:
        stop = min(time + machine.rows, start)
        classes[SHIFT] += stop - time
        time = stop
        if machine.flush:
            stop = min(max(drained, time), start)
            classes[FLUSH] += stop - time
            time = stop
    classes[WAIT_BANK if bank > ready_x else WAIT_LOAD] += start - time
    classes[STREAM] += steps
    state[3] = steps if first else state[3] + steps
    state[0], state[1], state[2] = start, steps, 1
    return start


@kernel
def contraction_timeline(machine, loop, classes, events):
    """Run one contraction through LOAD, ARRAY, REQUANT and STORE; returns its cycles.

    Loop order (contract 4.4): groups, column blocks (n for WS and OS, m for IS), stream blocks, k chunks, k folds.
    Tokens: operand buffers per chunk, accumulator banks and output buffers per output block (contract 5.1); the load
    channel is busy for the beats of a command and its data is complete one DRAM latency later (contract 5.5).

    Args:
        machine: ArraySpec.
        loop: LoopSpec.
        classes: int64[14], filled.
        events: int64[17], filled.
    """
    outer_n = machine.dataflow != IS
    extent_outer, block_outer = (loop.n, loop.block_n) if outer_n else (loop.m, loop.block_m)
    extent_inner, block_inner = (loop.m, loop.block_m) if outer_n else (loop.n, loop.block_n)
    state = np.zeros(4, np.int64)
    chunk_end = np.zeros(machine.operand_buffers, np.int64)
    bank_free = np.zeros(machine.acc_banks, np.int64)
    buffer_free = np.zeros(machine.output_buffers, np.int64)
    load_channel = store_channel = requant_end = array_end = stored = np.int64(0)
    chunk = block = 0
    single_chunk = loop.chunk_k >= loop.k
    for group in range(0, loop.groups, loop.pack):
        packed = min(loop.pack, loop.groups - group)
        for outer in range(0, extent_outer, block_outer):
            outer_end = min(outer + block_outer, extent_outer)
            for inner in range(0, extent_inner, block_inner):
                inner_end = min(inner + block_inner, extent_inner)
                n0, n1, m0, m1 = (
                    (outer, outer_end, inner, inner_end) if outer_n else (inner, inner_end, outer, outer_end)
                )
                bank = bank_free[block % machine.acc_banks]
                for k0 in range(0, loop.k, loop.chunk_k):
                    k1 = min(k0 + loop.chunk_k, loop.k)
                    need_outer = inner == 0 or not single_chunk
                    need_inner = outer == 0 or not loop.resident
                    need_first, need_second = (need_inner, need_outer) if outer_n else (need_outer, need_inner)
                    ready_first = ready_second = np.int64(0)
                    channel = max(load_channel, chunk_end[chunk % machine.operand_buffers])
                    for turn in range(2):
                        second = (turn == 0) == outer_n
                        if second and need_second:
                            moved, useful = second_operand_load(loop, group, packed, n0, n1, k0, k1, machine.burst)
                            events[W_FILL] += useful
                        elif not second and need_first:
                            moved, useful = first_operand_load(loop, group, packed, m0, m1, k0, k1, machine.burst)
                            events[X_FILL] += useful
                        else:
                            continue
                        channel += (moved + machine.bytes_per_cycle - 1) // machine.bytes_per_cycle
                        load_channel = channel
                        events[DRAM_READ] += moved
                        events[USEFUL_READ] += useful
                        if second:
                            ready_second = channel + machine.dram_latency
                        else:
                            ready_first = channel + machine.dram_latency
                    wait = bank if k0 == 0 else 0
                    end = _array_chunk(
                        machine,
                        loop,
                        state,
                        packed,
                        m1 - m0,
                        n1 - n0,
                        k0,
                        k1,
                        ready_first,
                        ready_second,
                        wait,
                        classes,
                        events,
                    )
                    chunk_end[chunk % machine.operand_buffers] = end
                    chunk += 1
                drain = machine.rows if machine.dataflow == OS else 0
                array_end = state[0] + state[1] + drain + machine.rows + machine.cols
                overlap = 1 if machine.dataflow == OS and machine.drain_overlap and not machine.flush else 0
                rows, columns = m1 - m0, (n1 - n0) * packed
                lanes = (columns + machine.requant_lanes - 1) // machine.requant_lanes
                slot = block % machine.output_buffers
                start = max(max(requant_end, array_end + overlap), buffer_free[slot])
                requant_end = start + rows * lanes + machine.requant_latency
                bank_free[block % machine.acc_banks] = requant_end
                moved, useful = block_store(loop, group, packed, m0, m1, n0, n1, machine.burst)
                beats = (moved + machine.bytes_per_cycle - 1) // machine.bytes_per_cycle
                store_channel = max(store_channel, requant_end) + beats
                stored = store_channel + machine.dram_latency
                buffer_free[slot] = stored
                events[DRAM_WRITE] += moved
                events[USEFUL_WRITE] += useful
                events[REQUANTISED] += rows * columns
                block += 1
    if machine.dataflow == OS:
        classes[SHIFT] += machine.rows
    classes[TAIL] += machine.rows + machine.cols
    classes[REQUANT] += max(requant_end - array_end, 0)
    classes[STORE] += stored - max(requant_end, array_end)
    return stored


@kernel
def _array_chunk(machine, loop, state, packed, rows, columns, k0, k1, ready_first, ready_second, bank, classes, events):
    """Issue the tiles of one k chunk of one output block; returns the cycle after the last issued step."""
    depth_total, width = (k1 - k0) * packed, columns * packed
    events[MACS] += rows * columns * (k1 - k0) * packed
    if machine.dataflow == OS:
        ready = max(ready_first, ready_second)
        for row in range(0, rows, machine.rows):
            height = min(machine.rows, rows - row)
            gather = 1 if machine.gather_words <= 0 else (height + machine.gather_words - 1) // machine.gather_words
            output_step(machine, state, depth_total * gather, ready, bank, k0 == 0, classes)
            _count_output_stationary(machine, events, height, columns, k1 - k0, packed, k0 == 0)
            ready, bank = np.int64(0), np.int64(0)
        return state[0] + state[1]
    if machine.dataflow == WS:
        streamed, held, ready_w, ready_x = rows, width, ready_second, ready_first
    else:
        streamed, held, ready_w, ready_x = width, rows, ready_first, ready_second
    for fold in range(0, depth_total, machine.rows):
        depth = min(machine.rows, depth_total - fold)
        steps = streamed
        if machine.dataflow == WS and machine.gather_words > 0:
            steps *= (depth + machine.gather_words - 1) // machine.gather_words
        first = k0 == 0 and fold == 0
        stationary_step(machine, state, depth, held, steps, ready_w, ready_x, bank, not first, classes)
        ready_w, ready_x, bank = np.int64(0), np.int64(0), np.int64(0)
        _count_stationary(machine, events, streamed, depth, held, packed, first)
    return state[0] + state[1]


@kernel
def _count_stationary(machine, events, streamed, depth, held, packed, first):
    """Count the events of one WS/IS tile (contract, section 6); off-diagonal zeros of packed groups cost nothing."""
    stationary = depth * held // packed
    events[TILES] += 1
    if machine.dataflow == WS:
        events[X_READS] += streamed * depth
        events[W_READS] += stationary
    else:
        events[W_READS] += streamed * depth // packed
        events[X_READS] += stationary * packed
    outputs = streamed * held
    events[BIAS_READS if first else ACC_READS] += outputs
    events[ACC_WRITES] += outputs
    events[A_REGISTERS] += streamed * stationary
    events[V_REGISTERS] += streamed * machine.rows * held
    events[W_REGISTERS] += held * depth * (depth + 1) // 2


@kernel
def _count_output_stationary(machine, events, rows, columns, depth, packed, first):
    """Count the events of one OS tile, or of a k chunk of it (contract, section 6)."""
    macs = rows * columns * depth * packed
    events[X_READS] += rows * depth * packed
    events[W_READS] += depth * columns * packed
    events[A_REGISTERS] += 2 * macs
    events[V_REGISTERS] += macs
    if first:
        width = columns * packed
        events[TILES] += 1
        events[BIAS_READS] += width
        events[ACC_WRITES] += rows * width
        events[V_REGISTERS] += width * machine.rows * (machine.rows + 1) // 2


class StreamSpec(NamedTuple):
    """A layer without the array: blocks that are loaded, processed and stored; bytes already rounded to bursts."""

    blocks: int
    read_bytes: int
    write_bytes: int
    lane_operations: int
    lanes: int
    latency: int
    operand_buffers: int
    output_buffers: int
    bytes_per_cycle: int
    dram_latency: int


@kernel
def stream_timeline(spec, classes):
    """Run a vector or DMA layer through LOAD, VECTOR and STORE; returns its cycles (contract, sections 5.1 and 5.3).

    Work and bytes are spread evenly over the blocks, the first ones taking the remainder.
    """
    loaded_free = np.zeros(spec.operand_buffers, np.int64)
    buffer_free = np.zeros(spec.output_buffers, np.int64)
    load_channel = store_channel = busy = stored = np.int64(0)
    for block in range(spec.blocks):
        read = _share(spec.read_bytes, spec.blocks, block)
        write = _share(spec.write_bytes, spec.blocks, block)
        work = _share(spec.lane_operations, spec.blocks, block)
        slot, target = block % spec.operand_buffers, block % spec.output_buffers
        load_channel = max(load_channel, loaded_free[slot]) + (read + spec.bytes_per_cycle - 1) // spec.bytes_per_cycle
        loaded = load_channel + spec.dram_latency if read > 0 else busy
        start = max(busy, max(loaded, buffer_free[target]))
        blocked = max(busy, buffer_free[target])
        by_load = max(start - blocked, 0)
        classes[LOAD] += by_load
        classes[BLOCKED] += start - busy - by_load
        cycles = (work + spec.lanes - 1) // spec.lanes + spec.latency if work > 0 else 0
        classes[VECTOR] += cycles
        busy = start + cycles
        loaded_free[slot] = busy
        beats = (write + spec.bytes_per_cycle - 1) // spec.bytes_per_cycle
        store_channel = max(store_channel, busy) + beats
        stored = store_channel + spec.dram_latency if write > 0 else busy
        buffer_free[target] = stored
    classes[STORE] += stored - busy
    return stored


@kernel
def _share(total, parts, index):
    """Return the share of part `index` when a total is spread evenly over parts."""
    return total // parts + (1 if index < total % parts else 0)
