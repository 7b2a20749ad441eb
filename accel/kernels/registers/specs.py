"""What the register-level stepper is made of: its parameters, its registers by name, and the fields of its commands."""

from __future__ import annotations

from typing import Any, NamedTuple

WS, OS, IS = 0, 1, 2

# Bits of a step token (timing contract, section 3).
MAC, CSEL, PUSH, PSEL, FIRST, LAST, SHIFT, WEN, FIN = (1 << bit for bit in range(9))

# Columns of the tile table: extents of one tile, and the cycles from which its operands are there.
FIELDS = ("row", "rows", "k", "depth", "column", "columns", "opens", "closes", "bank", "ready_w", "ready_x")
ROW, ROWS, K0, DEPTH, COLUMN, COLUMNS, OPENS, CLOSES, BANK, READY_W, READY_X = range(11)

# Fields of a command: the token, and the addresses that the edges of the array need.
FLAGS, TILE, STEP, PUSH_TILE, PUSH_STEP, DRAIN_TILE, DRAIN_STEP = range(7)

# State of the sequencer.
(
    STREAM_TILE,
    STREAM_STEP,
    NEXT_PUSH,
    NEXT_PUSH_STEP,
    PUSHED,
    DRAINING,
    DRAIN_LEFT,
    IN_FLIGHT,
    LAST_COMMIT,
    GATHERED,
    PUSH_GATHERED,
) = range(11)

CLASSES = ("stream", "push", "shift", "flush", "wait_w", "hazard", "wait_x", "tail", "unexplained")
(
    STREAM_CLASS,
    PUSH_CLASS,
    SHIFT_CLASS,
    FLUSH_CLASS,
    WAIT_W_CLASS,
    HAZARD_CLASS,
    WAIT_X_CLASS,
    TAIL_CLASS,
    UNEXPLAINED,
) = range(9)

EVENTS = ("macs", "streamed_reads", "stationary_reads", "bias_reads", "acc_reads", "acc_writes", "strays")
MACS, STREAMED_READS, STATIONARY_READS, BIAS_READS, ACC_READS, ACC_WRITES, STRAYS = range(7)


class StepperSpec(NamedTuple):
    """The array as the stepper sees it (timing contract, section 9); flags are 0 or 1, gather_words 0 is all."""

    rows: int
    cols: int
    dataflow: int
    double_buffer: int
    drain_overlap: int
    flush: int
    full_load: int
    acc_bits: int
    saturate: int
    gather_words: int


class Operands(NamedTuple):
    """What lies in the memories around the array: int64[S, K], int64[K, H] and int64 biases, by column or by row.

    WS: S = M, H = N; IS: S = N, H = M; OS: S = M, H = N. tiles is int64[tiles, 11], see FIELDS.
    """

    streamed: Any
    stationary: Any
    bias: Any
    tiles: Any


class Registers(NamedTuple):
    """Every register and memory; int64.

    Wires between PEs carry one register each, named after the PE that reads it: token, v, w, w_on [R + 1, C] go down,
    a, a_on [R, C + 1] go east. Index 0 is the edge of the array, filled by the memories; what PE(r, c) writes stands at
    r + 1 or c + 1. *_on: the operand belongs to the tile.
    held, held_on: w0 and w1 of the PEs, [2, R, C]; acc, o: the PEs' sums and drain registers [R, C].
    leaving, leaving_v: token and v that left the last row as this cycle began [C].
    line: the last R + C + 1 commands [R + C + 1, 7], newest first; it carries the addresses along the edges.
    bank: accumulators [banks, rows, C]; pending: for rows that column 0 still has to commit, 1 + the cycle in which
    they were issued, else 0 [banks, rows].
    result: final accumulators [S, H], where the requantiser would read them.
    """

    token: Any
    v: Any
    w: Any
    w_on: Any
    a: Any
    a_on: Any
    held: Any
    held_on: Any
    acc: Any
    o: Any
    leaving: Any
    leaving_v: Any
    line: Any
    bank: Any
    pending: Any
    control: Any
    classes: Any
    events: Any
    result: Any
