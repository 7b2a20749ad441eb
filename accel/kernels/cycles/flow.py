"""LOAD, REQUANT and STORE of one contraction: commands on the DMA channel in the order of their requests.

The recurrence walks chunks and blocks in program order, while the channel serves commands in the order of time
(contract 5.5). Commands are therefore served when something waits for them: a chunk for its loads, a block for the
bank that an earlier store frees. Until then every command that may be requested earlier is known, because a command of
a later chunk or block is requested after the chunk that waits has been issued.
"""

from __future__ import annotations

import numpy as np

from accelsim.kernels.cycles.specs import IS, Event
from accelsim.kernels.cycles.transfers import (
    MISSES,
    block_store,
    closed_rows,
    first_operand_load,
    second_operand_load,
    touch_rows,
)
from accelsim.kernels.jit import kernel

# Fields of a flow, one array, so that no call pays for references to several. Loads: next command (chunk, part of it),
# cycle from which LOAD is free, chunks issued and in all, blocks of the outer and inner loop, chunks of depth, whether
# the prefetch is under way and when it is complete. Stores: blocks issued, requantised and stored, when REQUANT and
# STORE are free, the last store's end. The channel of loads (of stores, too, if shared), and that of stores. Then the
# first fields of the rings: operands ready, ends of chunks, banks and buffers free, blocks that are not stored.
(
    NEXT, PART, LOAD_FREE, ISSUED, CHUNKS, OUTER, INNER, DEPTHS, FETCHED, FETCH_DONE,
    BLOCKS, DONE, STORED, REQUANT_FREE, STORE_FREE, STORE_END, CHANNEL, STORE_CHANNEL,
    READY_RING, END_RING, BANK_RING, BUFFER_RING, BLOCK_RING, BLOCK_SLOTS, RINGS,
) = range(25)  # fmt: skip

# Fields of a block that is not stored yet; final: nothing can delay its completion any more.
GROUP, PACKED, M0, M1, N0, N1, COMPLETE, FINAL, READY = range(9)

NEVER = np.int64(1) << np.int64(62)


@kernel
def open_flow(machine, loop, boundary):
    """Return the flow at cycle 0 of a layer, int64[...]."""
    slots = machine.acc_banks + machine.output_buffers + 2
    size = RINGS + 2 * (machine.operand_buffers + 1) + machine.operand_buffers
    size += machine.acc_banks + machine.output_buffers + 9 * slots
    flow = np.zeros(size, np.int64)
    flow[READY_RING] = RINGS
    flow[END_RING] = flow[READY_RING] + 2 * (machine.operand_buffers + 1)
    flow[BANK_RING] = flow[END_RING] + machine.operand_buffers
    flow[BUFFER_RING] = flow[BANK_RING] + machine.acc_banks
    flow[BLOCK_RING] = flow[BUFFER_RING] + machine.output_buffers
    flow[BLOCK_SLOTS] = slots
    extent_outer, block_outer = (loop.n, loop.block_n) if loop.outer_n else (loop.m, loop.block_m)
    extent_inner, block_inner = (loop.m, loop.block_m) if loop.outer_n else (loop.n, loop.block_n)
    flow[OUTER] = -(-extent_outer // block_outer)
    flow[INNER] = -(-extent_inner // block_inner)
    flow[DEPTHS] = -(-loop.k // loop.chunk_k)
    flow[CHUNKS] = -(-loop.groups // loop.pack) * flow[OUTER] * flow[INNER] * flow[DEPTHS]
    flow[LOAD_FREE] = flow[CHANNEL] = boundary.busy
    flow[FETCHED] = 0 if boundary.fetch_bytes > 0 else 1
    if boundary.weights_ready >= 0:
        flow[ready_at(machine, flow, 0, True)] = boundary.weights_ready
    return flow


@kernel
def ready_at(machine, flow, chunk, second):
    """Return the field from which on an operand of a chunk is complete."""
    return flow[READY_RING] + 2 * (chunk % (machine.operand_buffers + 1)) + (1 if second else 0)


@kernel
def block_at(flow, number):
    """Return the first field of a block that is not stored."""
    return flow[BLOCK_RING] + 9 * (number % flow[BLOCK_SLOTS])


@kernel
def chunk_place(loop, flow, number):
    """Return (group, outer block, inner block, chunk of depth) of a chunk, in the order of contract 4.4."""
    depth = number % flow[DEPTHS]
    block = number // flow[DEPTHS]
    inner = block % flow[INNER]
    outer = block // flow[INNER] % flow[OUTER]
    group = block // (flow[INNER] * flow[OUTER]) * loop.pack
    return group, outer, inner, depth


@kernel
def chunk_ranges(loop, group, outer, inner, depth):
    """Return (groups packed, m0, m1, n0, n1, k0, k1) of a chunk."""
    row, column = (inner, outer) if loop.outer_n else (outer, inner)
    m0, n0, k0 = row * loop.block_m, column * loop.block_n, depth * loop.chunk_k
    packed = min(loop.pack, loop.groups - group)
    return (
        packed, m0, min(m0 + loop.block_m, loop.m), n0, min(n0 + loop.block_n, loop.n),
        k0, min(k0 + loop.chunk_k, loop.k),
    )  # fmt: skip


@kernel
def _is_loaded(loop, boundary, flow, number, second):
    """Tell whether a chunk loads an operand, or finds it in its scratchpad (contract 5.7, 5.8 and 5.9)."""
    _, outer, inner, depth = chunk_place(loop, flow, number)
    if not second:
        if loop.kept_first:
            return False
        if loop.preload:
            return outer == 0 and inner == 0 and depth == 0
    elif (number == 0 and boundary.weights_ready >= 0) or (loop.weight_bits == 0 and not loop.dynamic_second):
        return False
    if bool(second) == bool(loop.outer_n):
        return inner == 0 or flow[DEPTHS] > 1
    return outer == 0 or not loop.resident


@kernel
def _seek_load(machine, loop, boundary, flow):
    """Step over loads that are not needed; a chunk's stationary operand comes first."""
    while flow[NEXT] < flow[CHUNKS]:
        second = (flow[PART] == 0) == (machine.dataflow != IS)
        if _is_loaded(loop, boundary, flow, flow[NEXT], second):
            return
        flow[PART] += 1
        if flow[PART] == 2:
            flow[PART] = 0
            flow[NEXT] += 1


@kernel
def _load_request(machine, boundary, flow):
    """Return when the next load is requested, NEVER while that is not known or there is none."""
    if flow[NEXT] < flow[CHUNKS]:
        if flow[NEXT] - machine.operand_buffers >= flow[ISSUED]:
            return NEVER
        return max(flow[LOAD_FREE], flow[flow[END_RING] + flow[NEXT] % machine.operand_buffers])
    if flow[FETCHED]:
        return NEVER
    if not boundary.fetch_waits:
        return flow[LOAD_FREE]
    if flow[ISSUED] < flow[CHUNKS]:
        return NEVER
    return max(flow[LOAD_FREE], flow[flow[END_RING] + (flow[CHUNKS] - 1) % machine.operand_buffers])


@kernel
def _requant_cycles(machine, loop, flow, block):
    """Return the cycles that requantising a block takes (contract 5.2); on IS the bank has a row per n."""
    rows = flow[block + M1] - flow[block + M0]
    columns = (flow[block + N1] - flow[block + N0] + loop.row_sums) * flow[block + PACKED]
    if machine.dataflow == IS:
        rows, columns = columns, rows
    return rows * (-(-columns // machine.requant_lanes)) + machine.requant_latency


@kernel
def requantise(machine, loop, flow):
    """Requantise every block whose completion and output buffer are known (contract 5.1: Q_i)."""
    buffers = machine.output_buffers
    while flow[DONE] < flow[BLOCKS] and flow[STORED] > flow[DONE] - buffers:
        block = block_at(flow, flow[DONE])
        if not flow[block + FINAL]:
            return
        start = max(max(flow[REQUANT_FREE], flow[block + COMPLETE]), flow[flow[BUFFER_RING] + flow[DONE] % buffers])
        flow[REQUANT_FREE] = start + _requant_cycles(machine, loop, flow, block)
        flow[block + READY] = flow[REQUANT_FREE]
        flow[flow[BANK_RING] + flow[DONE] % machine.acc_banks] = flow[REQUANT_FREE]
        flow[DONE] += 1


@kernel
def _store_request(machine, loop, flow):
    """Return when the next store is requested, NEVER while its block is not issued.

    The completion of a block whose drain the next tile may still interrupt is taken without that one cycle: where
    this time is earlier than a load that is requested, that tile starts behind the drain.
    """
    requantise(machine, loop, flow)
    number = flow[STORED]
    if number >= flow[BLOCKS]:
        return NEVER
    block = block_at(flow, number)
    ready = flow[block + READY]
    if number >= flow[DONE]:
        start = max(
            max(flow[REQUANT_FREE], flow[block + COMPLETE]), flow[flow[BUFFER_RING] + number % machine.output_buffers]
        )
        ready = start + _requant_cycles(machine, loop, flow, block)
    return max(ready, flow[STORE_FREE])


@kernel
def _occupy(machine, flow, store, time, moved, rows, misses, events):
    """Pass bytes through a channel from a time on; returns when the channel is free again."""
    index = STORE_CHANNEL if store and not machine.shared_channel else CHANNEL
    missed = rows[MISSES] - misses
    beats = -(-moved // machine.bytes_per_cycle) + missed * machine.row_miss
    flow[index] = max(flow[index], time) + beats
    events[Event.DRAM_ROW_MISSES] += missed
    return flow[index]


@kernel
def _serve_load(machine, loop, boundary, flow, rows, offsets, time, events):
    """Load one operand of a chunk, or the weights that a later layer starts with."""
    misses = rows[MISSES]
    if flow[NEXT] == flow[CHUNKS]:
        if machine.row_bytes > 0:
            touch_rows(rows, boundary.fetch_address, boundary.fetch_bytes)
        flow[LOAD_FREE] = _occupy(machine, flow, False, time, boundary.fetch_bytes, rows, misses, events)
        flow[FETCHED], flow[FETCH_DONE] = 1, flow[LOAD_FREE] + machine.dram_latency
        return
    number = flow[NEXT]
    second = (flow[PART] == 0) == (machine.dataflow != IS)
    moved = _load_bytes(machine, loop, boundary, flow, offsets, number, second, rows, events)
    flow[LOAD_FREE] = _occupy(machine, flow, False, time, moved, rows, misses, events)
    flow[ready_at(machine, flow, number, second)] = flow[LOAD_FREE] + machine.dram_latency
    flow[PART] += 1
    if flow[PART] == 2:
        flow[PART] = 0
        flow[NEXT] += 1


@kernel
def _load_bytes(machine, loop, boundary, flow, offsets, number, second, rows, events):
    """Count what one operand of a chunk moves, in whole bursts."""
    group, outer, inner, depth = chunk_place(loop, flow, number)
    packed, m0, m1, n0, n1, k0, k1 = chunk_ranges(loop, group, outer, inner, depth)
    if second:
        address = boundary.second_base
        if machine.row_bytes > 0 and not loop.dynamic_second:
            address += offsets[group // loop.pack, n0 // loop.block_n, depth]
        moved, useful = second_operand_load(loop, address, group, packed, n0, n1, k0, k1, machine.burst, rows)
        events[Event.WEIGHT_FILL_BYTES] += useful
    else:
        if loop.preload:
            m0, m1, k0, k1 = 0, loop.m, 0, loop.k
        moved, useful = first_operand_load(
            loop, boundary.first_base, group, packed, m0, m1, k0, k1, machine.burst, rows
        )
        events[Event.ACTIVATION_FILL_BYTES] += useful
    events[Event.DRAM_READ_BYTES] += moved
    events[Event.USEFUL_READ_BYTES] += useful
    return moved


@kernel
def count_prefetched(machine, loop, boundary, flow, events):
    """Count the weights that the layer before has loaded: bytes belong to the layer that uses them."""
    if boundary.weights_ready < 0:
        return
    rows = closed_rows(0, 1)
    offsets = np.zeros((1, 1, 1), np.int64)
    _load_bytes(machine, loop, boundary, flow, offsets, 0, True, rows, events)


@kernel
def _serve_store(machine, loop, boundary, flow, rows, time, events):
    """Store the next block (contract 5.1: St_i); a result that is kept on chip is there when it is requantised."""
    number = flow[STORED]
    block = block_at(flow, number)
    flow[block + FINAL] = 1
    requantise(machine, loop, flow)
    group, packed = flow[block + GROUP], flow[block + PACKED]
    events[Event.REQUANT_ELEMENTS] += (
        (flow[block + M1] - flow[block + M0]) * (flow[block + N1] - flow[block + N0]) * packed
    )
    flow[STORE_FREE] = flow[STORE_END] = time
    if not loop.kept_output:
        misses = rows[MISSES]
        moved, useful = block_store(
            loop,
            boundary.output_base,
            group,
            packed,
            flow[block + M0],
            flow[block + M1],
            flow[block + N0],
            flow[block + N1],
            machine.burst,
            rows,
        )
        flow[STORE_FREE] = _occupy(machine, flow, True, time, moved, rows, misses, events)
        flow[STORE_END] = flow[STORE_FREE] + machine.dram_latency
        events[Event.DRAM_WRITE_BYTES] += moved
        events[Event.USEFUL_WRITE_BYTES] += useful
    flow[flow[BUFFER_RING] + number % machine.output_buffers] = flow[STORE_END]
    flow[STORED] += 1


@kernel
def serve(machine, loop, boundary, flow, load_rows, store_rows, offsets, chunks, blocks, ending, events):
    """Serve commands in the order of their requests until some loads and stores are done.

    Args:
        machine: ArraySpec.
        loop: LoopSpec.
        boundary: BoundarySpec.
        flow: int64[...], see open_flow; updated.
        load_rows: state of the open rows of the channel of loads.
        store_rows: that of the channel of stores, the same one if shared.
        offsets: int64[groups, column blocks, chunks of depth], first bytes of the tiles of weights.
        chunks: serve the loads of all chunks before this one.
        blocks: serve the stores of all blocks before this one.
        ending: serve the prefetch as well.
        events: int64[18], updated.
    """
    while True:
        if flow[NEXT] >= chunks and flow[STORED] >= blocks and not ending:
            return
        _seek_load(machine, loop, boundary, flow)
        load_due = flow[NEXT] < chunks or (ending and not flow[FETCHED])
        if not load_due and flow[STORED] >= blocks:
            return
        load, store = _load_request(machine, boundary, flow), _store_request(machine, loop, flow)
        if load == NEVER and store == NEVER:
            raise RuntimeError("the DMA channel has nothing to serve")
        if load <= store:
            _serve_load(machine, loop, boundary, flow, load_rows, offsets, load, events)
        else:
            _serve_store(machine, loop, boundary, flow, store_rows, store, events)
