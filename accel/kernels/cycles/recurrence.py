"""The timing contract as a recurrence: LOAD, ARRAY, REQUANT and STORE of one layer on the array.

All times are cycles since the start of the layer. The classes partition the cycles of the layer; their meaning is
section 4.3 of the contract, extended by what follows the array's tail (exposed requantisation and stores).
"""

from __future__ import annotations

import numpy as np

from accelsim.kernels.cycles.array import issue_chunk, output_step, stationary_step
from accelsim.kernels.cycles.flow import (
    BANK_RING,
    BLOCKS,
    CHUNKS,
    COMPLETE,
    DEPTHS,
    DONE,
    END_RING,
    FETCH_DONE,
    FINAL,
    GROUP,
    ISSUED,
    LOAD_FREE,
    M0,
    M1,
    N0,
    N1,
    PACKED,
    REQUANT_FREE,
    STORE_END,
    block_at,
    chunk_place,
    chunk_ranges,
    count_prefetched,
    open_flow,
    ready_at,
    requantise,
    serve,
)  # fmt: skip
from accelsim.kernels.cycles.specs import (
    CLASSES,
    EVENTS,
    IS,
    OS,
    WS,
    ArraySpec,
    BoundarySpec,
    Cycle,
    Event,
    LoopSpec,
    StreamSpec,
)
from accelsim.kernels.cycles.stream import stream_timeline
from accelsim.kernels.cycles.transfers import burst_bytes, closed_rows, image_span
from accelsim.kernels.jit import kernel

__all__ = [
    "CLASSES", "EVENTS", "IS", "OS", "WS", "ArraySpec", "BoundarySpec", "Event", "LoopSpec", "StreamSpec",
    "burst_bytes", "contraction_timeline", "image_span", "output_step", "stationary_step", "stream_timeline",
]  # fmt: skip


@kernel
def contraction_timeline(machine, loop, boundary, offsets, classes, events, left):
    """Run one contraction through LOAD, ARRAY, REQUANT and STORE; returns its cycles.

    Loop order (contract 4.4): groups, outer blocks, inner blocks, k chunks, k folds. Tokens: operand buffers per
    chunk, accumulator banks and output buffers per output block (contract 5.1).

    Args:
        machine: ArraySpec.
        loop: LoopSpec.
        boundary: BoundarySpec.
        offsets: int64[groups, column blocks, chunks of depth], first bytes of the tiles of weights, for the row model.
        classes: int64[14], filled.
        events: int64[18], filled.
        left: int64[2], filled: cycles for which LOAD still is busy behind the layer's end, and until the prefetched
            weights are complete.
    """
    flow = open_flow(machine, loop, boundary)
    count_prefetched(machine, loop, boundary, flow, events)
    load_rows = closed_rows(machine.row_bytes, machine.banks)
    store_rows = load_rows if machine.shared_channel else closed_rows(machine.row_bytes, machine.banks)
    state = np.zeros(4, np.int64)
    for number in range(flow[CHUNKS]):
        group, outer, inner, depth = chunk_place(loop, flow, number)
        packed, m0, m1, n0, n1, k0, k1 = chunk_ranges(loop, group, outer, inner, depth)
        bank = np.int64(0)
        if depth == 0:
            bank = _bank_free(machine, loop, boundary, flow, load_rows, store_rows, offsets, events)
        serve(machine, loop, boundary, flow, load_rows, store_rows, offsets, number + 1, 0, False, events)
        ready = ready_at(machine, flow, number, False)
        opening = issue_chunk(
            machine, loop, state, packed, m1 - m0, n1 - n0, k0, k1, flow[ready], flow[ready + 1], bank, classes, events
        )
        flow[ready] = flow[ready + 1] = 0
        if depth == 0 and flow[BLOCKS] > 0:
            _settle(machine, flow, opening)
        issue_end = state[0] + state[1]
        flow[flow[END_RING] + number % machine.operand_buffers] = issue_end
        flow[ISSUED] += 1
        if depth == flow[DEPTHS] - 1:
            drain = machine.rows if machine.dataflow == OS else 0
            complete = issue_end + drain + machine.rows + machine.cols
            block = block_at(flow, flow[BLOCKS])
            flow[block + GROUP], flow[block + PACKED] = group, packed
            flow[block + M0], flow[block + M1], flow[block + N0], flow[block + N1] = m0, m1, n0, n1
            flow[block + COMPLETE], flow[block + FINAL] = complete, machine.dataflow != OS
            flow[BLOCKS] += 1
    _settle(machine, flow, np.int64(-1))
    serve(machine, loop, boundary, flow, load_rows, store_rows, offsets, flow[CHUNKS], flow[BLOCKS], True, events)
    _close(machine, flow, classes)
    end = flow[STORE_END]
    left[0] = max(flow[LOAD_FREE] - end, 0) if boundary.fetch_bytes > 0 else 0
    left[1] = max(flow[FETCH_DONE] - end, 0) if boundary.fetch_bytes > 0 else -1
    return end


@kernel
def _bank_free(machine, loop, boundary, flow, load_rows, store_rows, offsets, events):
    """Return from when on the next block has an accumulator bank: Q of the block that had it before."""
    number = flow[BLOCKS]
    if number < machine.acc_banks:
        return np.int64(0)
    if machine.acc_banks == 1:  # the only bank: its block is finished before the next one starts
        _settle(machine, flow, np.int64(-1))
    before = number - machine.acc_banks
    serve(
        machine,
        loop,
        boundary,
        flow,
        load_rows,
        store_rows,
        offsets,
        0,
        before - machine.output_buffers + 1,
        False,
        events,
    )
    requantise(machine, loop, flow)
    if flow[DONE] <= before:
        raise RuntimeError("a block waits for a bank that is never freed")
    return flow[flow[BANK_RING] + before % machine.acc_banks]


@kernel
def _settle(machine, flow, opening):
    """Complete the block issued last, whose drain the next tile may interrupt.

    `opening` is the first step of the tile after the block, or -1: in the middle of an OS drain it takes a slot of
    the wire v, and the block is complete one cycle later (contract 3).
    """
    block = block_at(flow, flow[BLOCKS] - 1)
    if not flow[block + FINAL] and 0 <= opening < flow[block + COMPLETE] - machine.rows - machine.cols:
        flow[block + COMPLETE] += 1
    flow[block + FINAL] = 1


@kernel
def _close(machine, flow, classes):
    """Attribute what follows the last step: drain and tail of the array, requantiser, stores."""
    array_end = flow[block_at(flow, flow[BLOCKS] - 1) + COMPLETE]
    if machine.dataflow == OS:
        classes[Cycle.SHIFT] += machine.rows
    classes[Cycle.TAIL] += machine.rows + machine.cols
    finished = max(flow[REQUANT_FREE], array_end)
    classes[Cycle.REQUANT] += finished - array_end
    classes[Cycle.STORE] += flow[STORE_END] - finished
