"""The MAC array register by register: every PE, every edge and every accumulator bank, cycle by cycle.

Written from the timing contract, sections 2 and 3; it shares nothing with the recurrence. One tick is one clock: all
reads see the registers as the cycle began, so PEs are visited from the far corner to the near one, then the edges are
read, and the memories are written last.
"""

from __future__ import annotations

import numpy as np

from accelsim.kernels.jit import kernel
from accelsim.kernels.numerics import clamp, wrap
from accelsim.kernels.registers.sequencer import all_issued, issue
from accelsim.kernels.registers.specs import (
    CSEL,
    FIN,
    FIRST,
    IS,
    LAST,
    MAC,
    OS,
    PSEL,
    PUSH,
    SHIFT,
    WEN,
    Command,
    Control,
    Event,
    Tile,
)


@kernel
def run(spec, operands, registers, cycle, limit):
    """Tick until all results are committed; returns the cycle after the last commit, or -1 beyond the limit."""
    while cycle < limit:
        tick(spec, operands, registers, cycle)
        cycle += 1
        if finished(operands, registers):
            return registers.control[Control.LAST_COMMIT] + 1
    return np.int64(-1)


@kernel
def finished(operands, registers):
    """Say whether nothing is left to issue and nothing is on its way."""
    return all_issued(operands.tiles, registers.control) and registers.control[Control.IN_FLIGHT] == 0


@kernel
def tick(spec, operands, registers, cycle):
    """Advance by one clock.

    Args:
        spec: StepperSpec.
        operands: Operands.
        registers: Registers, as the cycle begins; updated to what they hold as it ends.
        cycle: number of this cycle; 0 is that of the first issue.
    """
    line = registers.line
    for age in range(line.shape[0] - 1, 0, -1):
        line[age] = line[age - 1]
    issue(spec, operands.tiles, registers, cycle)
    registers.leaving[:] = registers.token[spec.rows]
    registers.leaving_v[:] = registers.v[spec.rows]
    if spec.dataflow == OS:
        _clock_output(spec, registers)
    else:
        _clock_stationary(spec, registers)
    _read_left_edge(spec, operands, registers)
    _read_sums(spec, operands, registers)
    _read_weights(spec, operands, registers)
    _write_back(spec, operands.tiles, registers, cycle)


# ----------------------------------------------------------------------------------------------------------------- PEs


@kernel
def _clock_stationary(spec, registers):
    """WS and IS: v <- N(v_in + w[csel] a), and a link of the push chain into w[psel]."""
    token, v, a, a_on = registers.token, registers.v, registers.a, registers.a_on
    w, w_on, held, held_on = registers.w, registers.w_on, registers.held, registers.held_on
    macs = np.int64(0)
    for row in range(spec.rows - 1, -1, -1):
        for column in range(spec.cols - 1, -1, -1):
            flags = token[row, column]
            if flags & MAC:
                half = 1 if flags & CSEL else 0
                v[row + 1, column] = _add(v[row, column], held[half, row, column] * a[row, column], spec)
                macs += a_on[row, column] & held_on[half, row, column]
            if flags & PUSH:
                half = 1 if flags & PSEL else 0
                w[row + 1, column], w_on[row + 1, column] = held[half, row, column], held_on[half, row, column]
                held[half, row, column], held_on[half, row, column] = w[row, column], w_on[row, column]
            a[row, column + 1], a_on[row, column + 1] = a[row, column], a_on[row, column]
            token[row + 1, column] = flags
    registers.events[Event.MACS] += macs


@kernel
def _clock_output(spec, registers):
    """OS: acc <- N((first ? v_in : acc) + w_in a); `last` moves acc into o, `shift` moves o down.

    When both come at once, the old o leaves and the new sum stays. With `first` the bias goes on to the row below.
    """
    token, v, a, a_on = registers.token, registers.v, registers.a, registers.a_on
    w, w_on, acc, o = registers.w, registers.w_on, registers.acc, registers.o
    macs = np.int64(0)
    for row in range(spec.rows - 1, -1, -1):
        for column in range(spec.cols - 1, -1, -1):
            flags = token[row, column]
            if flags & SHIFT:
                v[row + 1, column] = o[row, column]
                o[row, column] = v[row, column]
            if flags & MAC:
                start = acc[row, column]
                if flags & FIRST:
                    start = v[row, column]
                    v[row + 1, column] = start
                acc[row, column] = _add(start, w[row, column] * a[row, column], spec)
                if flags & LAST:
                    o[row, column] = acc[row, column]
                w[row + 1, column], w_on[row + 1, column] = w[row, column], w_on[row, column]
                macs += a_on[row, column] & w_on[row, column]
            a[row, column + 1], a_on[row, column + 1] = a[row, column], a_on[row, column]
            token[row + 1, column] = flags
    registers.events[Event.MACS] += macs


# ------------------------------------------------------------------------------------------- memories along the edges


@kernel
def _read_left_edge(spec, operands, registers):
    """Read the streamed operand of every row; a command reaches row r when it is r cycles old."""
    registers.a[:, 0] = 0
    registers.a_on[:, 0] = 0
    for row in range(spec.rows):
        command = registers.line[row]
        tile = operands.tiles[command[Command.TILE]]
        lanes = tile[Tile.ROWS] if spec.dataflow == OS else tile[Tile.DEPTH]
        if not command[Command.FLAGS] & MAC or row >= lanes:
            continue  # a masked lane multiplies by 0
        if spec.dataflow == OS:
            registers.a[row, 0] = operands.streamed[tile[Tile.ROW] + row, command[Command.STEP]]
        else:
            registers.a[row, 0] = operands.streamed[tile[Tile.ROW] + command[Command.STEP], tile[Tile.K0] + row]
        registers.a_on[row, 0] = 1
        registers.events[Event.STREAMED_READS] += 1


@kernel
def _read_sums(spec, operands, registers):
    """Read what enters every column from above: the bias, narrowed as it is loaded, or the sum so far.

    A command reaches column c, and so the address of its bank, when it is c cycles old; with it goes its token.
    """
    for column in range(spec.cols):
        command = registers.line[column]
        flags, tile = command[Command.FLAGS], operands.tiles[command[Command.TILE]]
        registers.token[0, column], registers.v[0, column] = flags, 0
        if not flags & MAC or column >= tile[Tile.COLUMNS]:
            continue
        if flags & FIRST:
            at = tile[Tile.ROW] + command[Command.STEP] if spec.dataflow == IS else tile[Tile.COLUMN] + column
            registers.v[0, column] = _narrow(operands.bias[at], spec)
            registers.events[Event.BIAS_READS] += 1
        elif spec.dataflow != OS:
            registers.v[0, column] = registers.bank[tile[Tile.BANK], command[Command.STEP], column]
            registers.events[Event.ACC_READS] += 1


@kernel
def _read_weights(spec, operands, registers):
    """Read the operand that enters every column from above: streamed on OS, else pushed, the deepest row first."""
    for column in range(spec.cols):
        registers.w[0, column] = registers.w_on[0, column] = 0
        command = registers.line[column]
        if spec.dataflow == OS:
            wanted, tile, k = MAC, operands.tiles[command[Command.TILE]], command[Command.STEP]
        else:
            wanted, tile = PUSH, operands.tiles[command[Command.PUSH_TILE]]
            k = (spec.rows if spec.full_load else tile[Tile.DEPTH]) - 1 - command[Command.PUSH_STEP]
        if command[Command.FLAGS] & wanted and column < tile[Tile.COLUMNS] and k < tile[Tile.DEPTH]:
            registers.w[0, column] = operands.stationary[tile[Tile.K0] + k, tile[Tile.COLUMN] + column]
            registers.w_on[0, column] = 1
            registers.events[Event.STATIONARY_READS] += 1


@kernel
def _write_back(spec, tiles, registers, cycle):
    """Commit what left the last row of every column one cycle ago."""
    for column in range(spec.cols):
        command, flags = registers.line[spec.rows + 1 + column], registers.leaving[column]
        if flags != command[Command.FLAGS]:
            registers.events[Event.STRAYS] += 1  # the token and its address have lost each other
        if not flags & WEN:
            continue
        registers.control[Control.IN_FLIGHT] -= 1 if column == spec.cols - 1 else 0
        registers.control[Control.LAST_COMMIT] = cycle
        value = registers.leaving_v[column]
        if spec.dataflow == OS:
            tile, row = tiles[command[Command.DRAIN_TILE]], spec.rows - 1 - command[Command.DRAIN_STEP]
        else:
            tile, row = tiles[command[Command.TILE]], command[Command.STEP]
            registers.bank[tile[Tile.BANK], row, column] = value
            if column == 0:
                registers.pending[tile[Tile.BANK], row] = 0
        if column >= tile[Tile.COLUMNS] or row >= tile[Tile.ROWS]:
            continue
        registers.events[Event.ACC_WRITES] += 1
        if flags & FIN:
            registers.result[tile[Tile.ROW] + row, tile[Tile.COLUMN] + column] = value


# ----------------------------------------------------------------------------------------------------------- numerics


@kernel
def _narrow(value, spec):
    """N() of section 2, of a value that fits 64 bits."""
    if spec.acc_bits >= 64:
        return value
    lowest = -(np.int64(1) << np.int64(spec.acc_bits - 1))
    highest = -lowest - np.int64(1)
    if spec.saturate:
        return clamp(value, lowest, highest)
    return wrap(value, lowest, (highest << np.int64(1)) | np.int64(1))


@kernel
def _add(total, product, spec):
    """Return N(total + product), the sum formed exactly; in 64 bits an overflow shows in the signs."""
    value = total + product
    if spec.acc_bits >= 64 and spec.saturate and (total < 0) == (product < 0) and (value < 0) != (total < 0):
        return np.int64(-(2**63)) if total < 0 else np.int64(2**63 - 1)
    return _narrow(value, spec)
