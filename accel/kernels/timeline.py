"""The timing contract as a recurrence: LOAD, ARRAY, REQUANT and STORE of one layer, and layers without the array.

All times are cycles since the start of the layer. The classes partition the cycles of the layer; their meaning is
section 4.3 of the contract, extended by what follows the array's tail (exposed requantisation and stores).
"""

from __future__ import annotations

import numpy as np

from accelsim.kernels.array import issue_chunk, output_step, stationary_step
from accelsim.kernels.jit import kernel
from accelsim.kernels.specs import (
    BLOCKED,
    CLASSES,
    DRAM_READ,
    DRAM_WRITE,
    EVENTS,
    IS,
    LOAD,
    OS,
    REQUANT,
    REQUANTISED,
    SHIFT,
    STORE,
    TAIL,
    USEFUL_READ,
    USEFUL_WRITE,
    VECTOR,
    W_FILL,
    WS,
    X_FILL,
    ArraySpec,
    LoopSpec,
    StreamSpec,
)
from accelsim.kernels.transfers import (
    block_store,
    burst_bytes,
    first_operand_load,
    image_span,
    second_operand_load,
)

__all__ = [
    "CLASSES", "EVENTS", "IS", "OS", "WS", "ArraySpec", "LoopSpec", "StreamSpec", "burst_bytes", "contraction_timeline",
    "image_span", "output_step", "stationary_step", "stream_timeline",
]  # fmt: skip

# Fields of the block that waits for the requantiser, and of the engines behind the array.
_PENDING, _GROUP, _PACKED, _M0, _M1, _N0, _N1, _END = range(8)
_REQUANT_END, _STORE_CHANNEL, _STORED, _ARRAY_END, _NUMBER = range(5)


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
    single_chunk = loop.chunk_k >= loop.k
    state = np.zeros(4, np.int64)
    chunk_end = np.zeros(machine.operand_buffers, np.int64)
    bank_free = np.zeros(machine.acc_banks, np.int64)
    buffer_free = np.zeros(machine.output_buffers, np.int64)
    pending, engines = np.zeros(8, np.int64), np.zeros(5, np.int64)
    ready, load_channel = np.zeros(2, np.int64), np.zeros(1, np.int64)
    chunk = block = 0
    for group in range(0, loop.groups, loop.pack):
        packed = min(loop.pack, loop.groups - group)
        for outer in range(0, extent_outer, block_outer):
            outer_end = min(outer + block_outer, extent_outer)
            for inner in range(0, extent_inner, block_inner):
                inner_end = min(inner + block_inner, extent_inner)
                n0, n1, m0, m1 = (
                    (outer, outer_end, inner, inner_end) if outer_n else (inner, inner_end, outer, outer_end)
                )
                if machine.acc_banks == 1:  # the only bank: its block is finished before the next one starts
                    _finish_block(machine, loop, pending, engines, np.int64(-1), bank_free, buffer_free, events)
                bank = bank_free[block % machine.acc_banks]
                for k0 in range(0, loop.k, loop.chunk_k):
                    k1 = min(k0 + loop.chunk_k, loop.k)
                    need_outer = inner == 0 or not single_chunk
                    if loop.preload:
                        need_outer = outer == 0 and inner == 0 and k0 == 0
                    need_inner = outer == 0 or not loop.resident
                    slot = chunk % machine.operand_buffers
                    ready[:] = 0
                    for second in (outer_n, not outer_n):  # the stationary operand first
                        if need_outer if second == outer_n else need_inner:
                            where = (group, packed, m0, m1, n0, n1, k0, k1)
                            if loop.preload and not second:
                                where = (group, packed, 0, loop.m, n0, n1, 0, loop.k)
                            _load(machine, loop, second, where, chunk_end[slot], load_channel, ready, events)
                    wait = bank if k0 == 0 else 0
                    opening = issue_chunk(
                        machine, loop, state, packed, m1 - m0, n1 - n0, k0, k1,
                        ready[0], ready[1], wait, classes, events,
                    )  # fmt: skip
                    if k0 == 0:
                        _finish_block(machine, loop, pending, engines, opening, bank_free, buffer_free, events)
                    chunk_end[slot] = state[0] + state[1]
                    chunk += 1
                pending[:] = (1, group, packed, m0, m1, n0, n1, state[0] + state[1])
                block += 1
    _finish_block(machine, loop, pending, engines, np.int64(-1), bank_free, buffer_free, events)
    if machine.dataflow == OS:
        classes[SHIFT] += machine.rows
    classes[TAIL] += machine.rows + machine.cols
    finished = max(engines[_REQUANT_END], engines[_ARRAY_END])
    classes[REQUANT] += finished - engines[_ARRAY_END]
    classes[STORE] += engines[_STORED] - finished
    return engines[_STORED]


@kernel
def _load(machine, loop, second, where, free, load_channel, ready, events):
    """Load one operand of a chunk; ready[0] is the first operand's completion, ready[1] the second's."""
    group, packed, m0, m1, n0, n1, k0, k1 = where
    if second:
        moved, useful = second_operand_load(loop, group, packed, n0, n1, k0, k1, machine.burst)
        events[W_FILL] += useful
    else:
        moved, useful = first_operand_load(loop, group, packed, m0, m1, k0, k1, machine.burst)
        events[X_FILL] += useful
    beats = (moved + machine.bytes_per_cycle - 1) // machine.bytes_per_cycle
    load_channel[0] = max(load_channel[0], free) + beats
    ready[1 if second else 0] = load_channel[0] + machine.dram_latency
    events[DRAM_READ] += moved
    events[USEFUL_READ] += useful


@kernel
def _finish_block(machine, loop, pending, engines, next_start, bank_free, buffer_free, events):
    """Requantise and store the block that waits for it, if any (contract 5.1: Q_i and St_i).

    `next_start` is the first step of the tile after the block, or -1: in the middle of an OS drain it takes a slot of
    the wire v, and the block is complete one cycle later (contract 3).
    """
    if not pending[_PENDING]:
        return
    group, packed, m0, m1, n0, n1 = (
        pending[_GROUP],
        pending[_PACKED],
        pending[_M0],
        pending[_M1],
        pending[_N0],
        pending[_N1],
    )
    complete = pending[_END] + machine.rows + machine.cols
    if machine.dataflow == OS:
        complete += machine.rows
        if 0 <= next_start < pending[_END] + machine.rows:
            complete += 1
    rows, columns = m1 - m0, (n1 - n0 + loop.row_sums) * packed
    bank_rows, bank_columns = (columns, rows) if machine.dataflow == IS else (rows, columns)
    lanes = (bank_columns + machine.requant_lanes - 1) // machine.requant_lanes
    number = engines[_NUMBER]
    slot = number % machine.output_buffers
    start = max(max(engines[_REQUANT_END], complete), buffer_free[slot])
    engines[_REQUANT_END] = start + bank_rows * lanes + machine.requant_latency
    bank_free[number % machine.acc_banks] = engines[_REQUANT_END]
    moved, useful = block_store(loop, group, packed, m0, m1, n0, n1, machine.burst)
    beats = (moved + machine.bytes_per_cycle - 1) // machine.bytes_per_cycle
    engines[_STORE_CHANNEL] = max(engines[_STORE_CHANNEL], engines[_REQUANT_END]) + beats
    engines[_STORED] = engines[_STORE_CHANNEL] + machine.dram_latency
    buffer_free[slot] = engines[_STORED]
    engines[_ARRAY_END] = complete
    engines[_NUMBER] += 1
    events[DRAM_WRITE] += moved
    events[USEFUL_WRITE] += useful
    events[REQUANTISED] += rows * (n1 - n0) * packed
    pending[_PENDING] = 0


@kernel
def stream_timeline(spec, classes):
    """Run a vector or DMA layer through LOAD, VECTOR and STORE; returns its cycles (contract, sections 5.1 and 5.3).

    Work and bytes are spread evenly over the blocks, the first ones taking the remainder.
    """
    loaded_free = np.zeros(spec.operand_buffers, np.int64)
    buffer_free = np.zeros(spec.output_buffers, np.int64)
    load_channel = store_channel = busy = finished = np.int64(0)
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
        stored = store_channel + (spec.dram_latency if write > 0 else 0)
        buffer_free[target] = stored
        finished = max(finished, stored)  # the last blocks may have nothing to store
    classes[STORE] += finished - busy
    return finished


@kernel
def _share(total, parts, index):
    """Return the share of part `index` when a total is spread evenly over parts."""
    return total // parts + (1 if index < total % parts else 0)
