"""What the register-level stepper is made of: its parameters, its registers by name, and the fields of its commands."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

WS, OS, IS = 0, 1, 2

# Bits of a step token (timing contract, section 3).
MAC, CSEL, PUSH, PSEL, FIRST, LAST, SHIFT, WEN, FIN = (1 << bit for bit in range(9))


class Tile(IntEnum):
    """Columns of the tile table: extents of one tile, and the cycles from which its operands are there."""

    ROW = 0
    ROWS = 1
    K0 = 2
    DEPTH = 3
    COLUMN = 4
    COLUMNS = 5
    OPENS = 6
    CLOSES = 7
    BANK = 8
    READY_W = 9
    READY_X = 10


class Command(IntEnum):
    """Fields of a command: the token, and the addresses that the edges of the array need."""

    FLAGS = 0
    TILE = 1
    STEP = 2
    PUSH_TILE = 3
    PUSH_STEP = 4
    DRAIN_TILE = 5
    DRAIN_STEP = 6


class Control(IntEnum):
    """State of the sequencer."""

    STREAM_TILE = 0
    STREAM_STEP = 1
    NEXT_PUSH = 2
    NEXT_PUSH_STEP = 3
    PUSHED = 4
    DRAINING = 5
    DRAIN_LEFT = 6
    IN_FLIGHT = 7
    LAST_COMMIT = 8
    GATHERED = 9
    PUSH_GATHERED = 10


class Cycle(IntEnum):
    """Where the cycles of a class are counted; the name is the key of the class."""

    STREAM = 0
    PUSH = 1
    SHIFT = 2
    FLUSH = 3
    WAIT_W = 4
    HAZARD = 5
    WAIT_X = 6
    TAIL = 7
    UNEXPLAINED = 8


class Event(IntEnum):
    """Where an event is counted."""

    MACS = 0
    STREAMED_READS = 1
    STATIONARY_READS = 2
    BIAS_READS = 3
    ACC_READS = 4
    ACC_WRITES = 5
    STRAYS = 6


CLASSES = tuple(kind.name.lower() for kind in Cycle)


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

    WS: S = M, H = N; IS: S = N, H = M; OS: S = M, H = N. tiles is int64[tiles, 11], see Tile.
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
    line: the last R + C + 1 commands [R + C + 1, 7], newest first, see Command; it carries the addresses along the
    edges.
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
