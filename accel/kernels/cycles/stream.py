"""The timing contract as a recurrence: layers without the array on LOAD, VECTOR and STORE (sections 5.1, 5.3, 5.7)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from accelsim.kernels.cycles.specs import Cycle, Event
from accelsim.kernels.cycles.transfers import MISSES, ROW_BYTES, closed_rows, touch_rows
from accelsim.kernels.jit import kernel

# Fields of Queue.state: blocks loaded, computed and stored; when LOAD and STORE are free; whether the prefetch for a
# later layer is under way and when it is complete.
LOADED, COMPUTED, STORED, LOAD_FREE, STORE_FREE, FETCHED, FETCH_DONE = range(7)

NEVER = np.int64(1) << np.int64(62)


class Queue(NamedTuple):
    """Everything that changes while a layer without the array runs: int64 arrays.

    channel: when the channel of loads (and of stores, if shared) and the private channel of stores are free; arrived,
    computed, stored: cycles by block.
    """

    state: np.ndarray
    channel: np.ndarray
    arrived: np.ndarray
    computed: np.ndarray
    stored: np.ndarray
    load_rows: np.ndarray
    store_rows: np.ndarray


@kernel
def stream_timeline(spec, boundary, reads, writes, classes, events, left):
    """Run a vector or DMA layer through LOAD, VECTOR and STORE; returns its cycles.

    Work and bytes are spread evenly over the blocks, the first ones taking the remainder.

    Args:
        spec: StreamSpec.
        boundary: BoundarySpec.
        reads: int64[entries, 2], first byte and bytes in whole bursts of what is loaded, for the row model.
        writes: the same of what is stored.
        classes: int64[14], filled.
        events: int64[18], filled.
        left: int64[2], filled; see contraction_timeline.
    """
    queue = _open(spec, boundary)
    state, busy, finished = queue.state, np.int64(0), np.int64(0)
    for block in range(spec.blocks):
        _serve(spec, boundary, queue, reads, writes, block + 1, block - spec.output_buffers + 1, False, events)
        free = queue.stored[block - spec.output_buffers] if block >= spec.output_buffers else 0
        loaded = max(queue.arrived[block], busy)
        start = max(loaded, free)
        blocked = max(busy, free)
        by_load = max(start - blocked, 0)
        classes[Cycle.WAIT_LOAD] += by_load
        classes[Cycle.WAIT_STORE] += start - busy - by_load
        work = _share(spec.lane_operations, spec.blocks, block)
        cycles = (work + spec.lanes - 1) // spec.lanes + spec.latency if work > 0 else 0
        classes[Cycle.VECTOR] += cycles
        busy = start + cycles
        queue.computed[block] = busy
        state[COMPUTED] += 1
    _serve(spec, boundary, queue, reads, writes, spec.blocks, spec.blocks, True, events)
    for block in range(spec.blocks):
        finished = max(finished, queue.stored[block])  # the last blocks may have nothing to store
    classes[Cycle.STORE] += finished - busy
    left[0] = max(state[LOAD_FREE] - finished, 0) if boundary.fetch_bytes > 0 else 0
    left[1] = max(state[FETCH_DONE] - finished, 0) if boundary.fetch_bytes > 0 else -1
    return finished


@kernel
def _open(spec, boundary):
    """Return the queue at cycle 0 of a layer."""
    state, channel = np.zeros(7, np.int64), np.zeros(2, np.int64)
    state[LOAD_FREE] = channel[0] = boundary.busy
    state[FETCHED] = 0 if boundary.fetch_bytes > 0 else 1
    load_rows = closed_rows(spec.row_bytes, spec.banks)
    return Queue(
        state,
        channel,
        np.zeros(spec.blocks, np.int64),
        np.zeros(spec.blocks, np.int64),
        np.zeros(spec.blocks, np.int64),
        load_rows,
        load_rows if spec.shared_channel else closed_rows(spec.row_bytes, spec.banks),
    )


@kernel
def _serve(spec, boundary, queue, reads, writes, loads, stores, ending, events):
    """Serve commands in the order of their requests until some blocks are loaded and stored (contract 5.5).

    Whatever may be requested before the command that is waited for is known by then; see kernels/cycles/flow.py.
    """
    state = queue.state
    while state[LOADED] < loads or state[STORED] < stores or (ending and not state[FETCHED]):
        load = _load_request(spec, boundary, queue)
        store = NEVER
        if state[STORED] < state[COMPUTED]:
            store = max(queue.computed[state[STORED]], state[STORE_FREE])
        if load == NEVER and store == NEVER:
            raise RuntimeError("the DMA channel has nothing to serve")
        if load <= store:
            _serve_load(spec, boundary, queue, reads, load, events)
        else:
            _serve_store(spec, queue, writes, store, events)


@kernel
def _load_request(spec, boundary, queue):
    """Return when the next load is requested, NEVER while that is not known or there is none."""
    state = queue.state
    block = state[LOADED]
    if block < spec.blocks:
        before = block - spec.operand_buffers
        if before >= state[COMPUTED]:
            return NEVER
        return max(state[LOAD_FREE], queue.computed[before] if before >= 0 else 0)
    return NEVER if state[FETCHED] else state[LOAD_FREE]


@kernel
def _serve_load(spec, boundary, queue, reads, time, events):
    """Load one block, or the weights that a later layer starts with."""
    state, rows = queue.state, queue.load_rows
    misses = rows[MISSES]
    if state[LOADED] == spec.blocks:
        if rows[ROW_BYTES] > 0:
            touch_rows(rows, boundary.fetch_address, boundary.fetch_bytes)
        state[LOAD_FREE] = _occupy(spec, queue, 0, time, boundary.fetch_bytes, rows, misses, events)
        state[FETCHED], state[FETCH_DONE] = 1, state[LOAD_FREE] + spec.dram_latency
        return
    block = state[LOADED]
    moved = _share(spec.read_bytes, spec.blocks, block)
    state[LOAD_FREE] = queue.arrived[block] = time
    if moved > 0:
        _touch_share(rows, reads, spec.read_bytes, spec.blocks, block)
        state[LOAD_FREE] = _occupy(spec, queue, 0, time, moved, rows, misses, events)
        queue.arrived[block] = state[LOAD_FREE] + spec.dram_latency
    state[LOADED] += 1


@kernel
def _serve_store(spec, queue, writes, time, events):
    """Store one block; without bytes it is stored when STORE comes to it."""
    state, rows = queue.state, queue.store_rows
    misses, block = rows[MISSES], state[STORED]
    moved = _share(spec.write_bytes, spec.blocks, block)
    state[STORE_FREE] = queue.stored[block] = time
    if moved > 0:
        _touch_share(rows, writes, spec.write_bytes, spec.blocks, block)
        index = 0 if spec.shared_channel else 1
        state[STORE_FREE] = _occupy(spec, queue, index, time, moved, rows, misses, events)
        queue.stored[block] = state[STORE_FREE] + spec.dram_latency
    state[STORED] += 1


@kernel
def _occupy(spec, queue, index, time, moved, rows, misses, events):
    """Pass bytes through a channel from a time on; returns when the channel is free again."""
    missed = rows[MISSES] - misses
    events[Event.DRAM_ROW_MISSES] += missed
    beats = (moved + spec.bytes_per_cycle - 1) // spec.bytes_per_cycle + missed * spec.row_miss
    queue.channel[index] = max(queue.channel[index], time) + beats
    return queue.channel[index]


@kernel
def _touch_share(rows, entries, total, parts, index):
    """Open the rows of one block's share of the entries, which follow each other in the order of the work."""
    if rows[ROW_BYTES] <= 0:
        return
    begin = total // parts * index + min(index, total % parts)
    end = begin + _share(total, parts, index)
    low = np.int64(0)
    for entry in range(len(entries)):
        high = low + entries[entry, 1]
        first, last = max(begin, low), min(end, high)
        if first < last:
            touch_rows(rows, entries[entry, 0] + first - low, last - first)
        low = high


@kernel
def _share(total, parts, index):
    """Return the share of part `index` when a total is spread evenly over parts."""
    return total // parts + (1 if index < total % parts else 0)
