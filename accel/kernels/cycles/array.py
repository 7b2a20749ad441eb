"""The MAC array at its issue port: when each tile starts, and the class of every cycle (contract, section 4)."""

from __future__ import annotations

import numpy as np

from accelsim.kernels.cycles.specs import IS, OS, WS, Cycle, Event
from accelsim.kernels.jit import kernel


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
    hazard = np.int64(0)
    if started and accumulates and not machine.flush:
        # A fold that gathers fewer lanes runs faster than the one before, and must not catch up with its last row.
        hazard = previous + machine.rows + 2 + max(0, length - steps)
    wait_x = max(ready_x, bank)
    start = max(max(issue_end, start_push + push), max(hazard, wait_x))
    time = issue_end
    if machine.flush and started:
        stop = min(max(base, time), start)
        classes[Cycle.FLUSH] += stop - time
        time = stop
    stop = min(max(start_push, time), start)
    classes[Cycle.WAIT_W] += stop - time
    time = stop
    stop = min(max(start_push + push, time), start)
    classes[Cycle.PUSH] += stop - time
    time = stop
    stop = min(max(hazard, time), start)
    classes[Cycle.HAZARD] += stop - time
    time = stop
    classes[Cycle.WAIT_X_BANK if bank > ready_x else Cycle.WAIT_X_LOAD] += start - time
    classes[Cycle.STREAM] += steps
    state[0], state[1], state[2] = start, steps, 1
    return start


@kernel
def output_step(machine, state, steps, ready_x, bank, opens, whole, classes):
    """Advance OS by `steps` of one tile (contract 4.2); state = [S, steps, started, drain]; returns the start S.

    Args:
        machine: ArraySpec.
        state: int64[4], updated; `drain` is how many shift steps of the tile before are still to be issued.
        steps: steps of this tile, or of one k chunk of it.
        ready_x: cycle from which the operands are there.
        bank: cycle from which the accumulator bank is free.
        opens: these are the first steps of the tile; they wait for the drain of the tile before it.
        whole: steps of the whole tile, whose last one overwrites the drain registers.
        classes: int64[14], updated.
    """
    issue_end = state[0] + state[1]
    free = issue_end
    if opens and state[2]:
        state[3] = machine.rows
        if machine.flush:
            free += 2 * machine.rows + machine.cols
        elif machine.drain_overlap:
            free += max(0, machine.rows + 1 - whole)
        else:
            free += machine.rows
    start = max(free, max(ready_x, bank))
    shifts = min(state[3], start - issue_end)
    classes[Cycle.SHIFT] += shifts
    time = issue_end + shifts
    if machine.flush:
        stop = min(max(free, time), start)
        classes[Cycle.FLUSH] += stop - time
        time = stop
    classes[Cycle.WAIT_X_BANK if bank > ready_x else Cycle.WAIT_X_LOAD] += start - time
    classes[Cycle.STREAM] += steps
    # A first step cannot shift as well: both use the wire v.
    state[3] = max(0, state[3] - shifts - (steps - 1 if opens else steps))
    state[0], state[1], state[2] = start, steps, 1
    return start


@kernel
def issue_chunk(machine, loop, state, packed, rows, columns, k0, k1, ready_first, ready_second, bank, classes, events):
    """Issue the tiles of one k chunk of one output block; returns the slot in which the first step is issued."""
    columns += loop.row_sums
    depth_total, width = (k1 - k0) * packed, columns * packed
    events[Event.MACS] += rows * columns * (k1 - k0) * packed
    opening = np.int64(-1)
    if machine.dataflow == OS:
        ready = max(ready_first, ready_second)
        for row in range(0, rows, machine.rows):
            height = min(machine.rows, rows - row)
            gather = 1 if machine.gather_words <= 0 else (height + machine.gather_words - 1) // machine.gather_words
            whole = loop.k * packed * gather
            start = output_step(machine, state, depth_total * gather, ready, bank, k0 == 0, whole, classes)
            _count_output_stationary(machine, events, height, columns, k1 - k0, packed, k0 == 0)
            opening = start + gather - 1 if opening < 0 else opening
        return opening
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
        start = stationary_step(machine, state, depth, held, steps, ready_w, ready_x, bank, not first, classes)
        _count_stationary(machine, events, streamed, depth, held, packed, first)
        opening = start if opening < 0 else opening
    return opening


@kernel
def _count_stationary(machine, events, streamed, depth, held, packed, first):
    """Count the events of one WS/IS tile (contract, section 6); off-diagonal zeros of packed groups cost nothing."""
    stationary = depth * held // packed
    events[Event.TILES] += 1
    if machine.dataflow == WS:
        events[Event.ACTIVATION_READS] += streamed * depth
        events[Event.WEIGHT_READS] += stationary
    else:
        events[Event.WEIGHT_READS] += streamed * depth // packed
        events[Event.ACTIVATION_READS] += stationary * packed
    outputs = streamed * held
    events[Event.BIAS_READS if first else Event.ACC_READS] += outputs
    events[Event.ACC_WRITES] += outputs
    events[Event.OPERAND_REGISTER_WRITES] += streamed * stationary
    events[Event.SUM_REGISTER_WRITES] += streamed * machine.rows * held
    events[Event.WEIGHT_REGISTER_WRITES] += held * depth * (depth + 1) // 2


@kernel
def _count_output_stationary(machine, events, rows, columns, depth, packed, first):
    """Count the events of one OS tile, or of a k chunk of it (contract, section 6)."""
    macs = rows * columns * depth * packed
    events[Event.ACTIVATION_READS] += rows * depth * packed
    events[Event.WEIGHT_READS] += depth * columns * packed
    events[Event.OPERAND_REGISTER_WRITES] += 2 * macs
    events[Event.SUM_REGISTER_WRITES] += macs
    if first:
        width = columns * packed
        events[Event.TILES] += 1
        events[Event.BIAS_READS] += width
        events[Event.ACC_WRITES] += rows * width
        events[Event.SUM_REGISTER_WRITES] += width * machine.rows * (machine.rows + 1) // 2
