"""The controller of the register-level array: one command per cycle, decided from what the hardware can see.

It knows no start times: tiles wait until weights are pushed, rows are committed, drains have shifted out or the array
is empty. The rules are those of the timing contract, sections 3 and 4; the formulas of section 4 are not used.
"""

from __future__ import annotations

from accelsim.kernels.jit import kernel
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
    Cycle,
    Tile,
)


@kernel
def issue(spec, tiles, registers, cycle):
    """Decide this cycle's command, write it to line[0] and count the class of the cycle (contract, section 4.3)."""
    control, command = registers.control, registers.line[0]
    command[:] = 0
    if spec.dataflow == OS:
        reason = _issue_output(spec, tiles, control, command, cycle)
    else:
        reason = _issue_stationary(spec, tiles, control, registers.pending, command, cycle)
    registers.classes[reason] += 1
    if command[Command.FLAGS] & WEN:
        control[Control.IN_FLIGHT] += 1


@kernel
def all_issued(tiles, control):
    """Say whether every tile has been streamed and every drain shifted."""
    return control[Control.STREAM_TILE] >= tiles.shape[0] and control[Control.DRAIN_LEFT] == 0


# ----------------------------------------------------------------------------------------------------------- WS and IS


@kernel
def _issue_stationary(spec, tiles, control, pending, command, cycle):
    """One cycle of WS or IS; returns its class."""
    streamed_before = control[Control.STREAM_TILE]
    tile = streamed_before
    streaming = _started(control) or _may_stream(spec, tiles, control, pending, cycle)
    if streaming and _gathered(control, Control.GATHERED, _stream_cycles(spec, tiles[tile])):
        _stream_step(spec, tiles[tile], control, pending, command, cycle)
    pushing = control[Control.NEXT_PUSH_STEP] + control[Control.PUSH_GATHERED] > 0
    pushing = pushing or _may_push(spec, tiles, control, streamed_before, cycle)
    if pushing and _gathered(control, Control.PUSH_GATHERED, _push_cycles(spec, tiles, control)):
        _push_step(spec, tiles, control, command)
    if streaming:
        return Cycle.STREAM
    if pushing:
        return Cycle.PUSH
    if tile >= tiles.shape[0]:
        return Cycle.TAIL
    if control[Control.PUSHED] <= tile:
        if spec.flush and tile > 0 and not _empty(spec, control):
            return Cycle.FLUSH
        return Cycle.WAIT_W if cycle < tiles[tile, Tile.READY_W] else Cycle.UNEXPLAINED
    if not _committed_in_time(spec, tiles[tile], pending, cycle):
        return Cycle.HAZARD
    return Cycle.WAIT_X if cycle < tiles[tile, Tile.READY_X] else Cycle.UNEXPLAINED


@kernel
def _started(control):
    """Say whether the stream of a tile is under way."""
    return control[Control.STREAM_STEP] + control[Control.GATHERED] > 0


@kernel
def _gathered(control, counter, cycles):
    """Count one cycle of gathering; the step is issued in the last one, when all of its operands are there."""
    control[counter] += 1
    if control[counter] < cycles:
        return False
    control[counter] = 0
    return True


@kernel
def _cycles_of(spec, lanes):
    """Cycles in which the activations of one step are gathered (contract, section 4.5)."""
    return 1 if spec.gather_words == 0 else (lanes + spec.gather_words - 1) // spec.gather_words


@kernel
def _stream_cycles(spec, tile):
    """Cycles of one step of the stream: it gathers Kt lanes on WS, the rows of the tile on OS, weights on IS."""
    if spec.dataflow == IS:
        return 1
    return _cycles_of(spec, tile[Tile.ROWS] if spec.dataflow == OS else tile[Tile.DEPTH])


@kernel
def _push_cycles(spec, tiles, control):
    """Cycles of one step of a push: activations, gathered, on IS."""
    return _cycles_of(spec, tiles[control[Control.NEXT_PUSH], Tile.COLUMNS]) if spec.dataflow == IS else 1


@kernel
def _may_stream(spec, tiles, control, pending, cycle):
    """A tile may start when its weights are in, its accumulators will be committed and its operands are there."""
    tile = control[Control.STREAM_TILE]
    if tile >= tiles.shape[0] or control[Control.PUSHED] <= tile or cycle < tiles[tile, Tile.READY_X]:
        return False
    return _committed_in_time(spec, tiles[tile], pending, cycle)


@kernel
def _committed_in_time(spec, tile, pending, cycle):
    """Say whether every row that a tile would read, starting now, is committed in the cycle before or earlier.

    Column 0 commits a row at the end of cycle t + 1 + R; the other columns follow in step with its address.
    """
    steps = _stream_cycles(spec, tile)
    for row in range(0 if tile[Tile.OPENS] else tile[Tile.ROWS]):
        issued = pending[tile[Tile.BANK], row] - 1
        if issued >= 0 and cycle + steps * (row + 1) - 1 < issued + 1 + spec.rows + 1:
            return False
    return True


@kernel
def _may_push(spec, tiles, control, streamed_before, cycle):
    """A push may start when nothing uses the registers that it fills, and the weights are there.

    The other half of a double buffer is free once the tile before has started, the only half once it has ended.
    """
    tile = control[Control.NEXT_PUSH]
    if tile >= tiles.shape[0] or cycle < tiles[tile, Tile.READY_W]:
        return False
    if tile == 0:
        return True
    if spec.flush:
        return streamed_before >= tile and _empty(spec, control)
    if spec.double_buffer:
        return control[Control.STREAM_TILE] + (1 if _started(control) else 0) >= tile
    return streamed_before >= tile


@kernel
def _empty(spec, control):
    """Say whether everything that was issued has left the array."""
    return control[Control.IN_FLIGHT] == 0


@kernel
def _stream_step(spec, tile, control, pending, command, cycle):
    """Issue the next row of the stream; its accumulator is pending until column 0 commits it."""
    half = CSEL if spec.double_buffer and control[Control.STREAM_TILE] % 2 else 0
    command[Command.FLAGS] |= MAC | WEN | half | (FIRST if tile[Tile.OPENS] else 0) | (FIN if tile[Tile.CLOSES] else 0)
    command[Command.TILE], command[Command.STEP] = control[Control.STREAM_TILE], control[Control.STREAM_STEP]
    pending[tile[Tile.BANK], control[Control.STREAM_STEP]] = 1 + cycle
    control[Control.STREAM_STEP] += 1
    if control[Control.STREAM_STEP] == tile[Tile.ROWS]:
        control[Control.STREAM_TILE] += 1
        control[Control.STREAM_STEP] = 0


@kernel
def _push_step(spec, tiles, control, command):
    """Issue the next row of the stationary operand, the deepest one first."""
    tile = control[Control.NEXT_PUSH]
    half = PSEL if spec.double_buffer and tile % 2 else 0
    command[Command.FLAGS] |= PUSH | half
    command[Command.PUSH_TILE], command[Command.PUSH_STEP] = tile, control[Control.NEXT_PUSH_STEP]
    control[Control.NEXT_PUSH_STEP] += 1
    if control[Control.NEXT_PUSH_STEP] == (spec.rows if spec.full_load else tiles[tile, Tile.DEPTH]):
        control[Control.NEXT_PUSH] += 1
        control[Control.NEXT_PUSH_STEP] = 0
        control[Control.PUSHED] += 1


# ------------------------------------------------------------------------------------------------------------------ OS


@kernel
def _issue_output(spec, tiles, control, command, cycle):
    """One cycle of OS; returns its class."""
    tile, left = control[Control.STREAM_TILE], control[Control.DRAIN_LEFT]
    flags = 0
    streaming = _started(control) or _may_open(spec, tiles, control, cycle)
    if streaming and _gathered(control, Control.GATHERED, _stream_cycles(spec, tiles[tile])):
        flags |= MAC
        flags |= FIRST if control[Control.STREAM_STEP] == 0 else 0
        flags |= LAST if control[Control.STREAM_STEP] == tiles[tile, Tile.DEPTH] - 1 else 0
        command[Command.TILE], command[Command.STEP] = tile, control[Control.STREAM_STEP]
        control[Control.STREAM_STEP] += 1
    if left > 0 and not flags & FIRST:  # they share the wire v
        flags |= SHIFT | WEN | FIN
        command[Command.DRAIN_TILE], command[Command.DRAIN_STEP] = control[Control.DRAINING], spec.rows - left
        control[Control.DRAIN_LEFT] -= 1
    if flags & LAST:
        control[Control.DRAINING], control[Control.DRAIN_LEFT] = tile, spec.rows
        control[Control.STREAM_TILE] += 1
        control[Control.STREAM_STEP] = 0
    command[Command.FLAGS] = flags
    if streaming:
        return Cycle.STREAM
    if flags & SHIFT:
        return Cycle.SHIFT
    if tile >= tiles.shape[0]:
        return Cycle.TAIL
    if spec.flush and tile > 0 and not _empty(spec, control):
        return Cycle.FLUSH
    return Cycle.WAIT_X if cycle < tiles[tile, Tile.READY_X] else Cycle.UNEXPLAINED


@kernel
def _may_open(spec, tiles, control, cycle):
    """A tile may start when its operands are there and its last step will not overwrite sums that are still draining.

    Until its last step, which can shift as well, and without its first one, which cannot, K - 1 drain steps fit.
    """
    tile = control[Control.STREAM_TILE]
    if tile >= tiles.shape[0] or cycle < tiles[tile, Tile.READY_X]:
        return False
    if tile == 0:
        return True
    if spec.flush:
        return control[Control.DRAIN_LEFT] == 0 and _empty(spec, control)
    if spec.drain_overlap:
        return control[Control.DRAIN_LEFT] <= tiles[tile, Tile.DEPTH] * _stream_cycles(spec, tiles[tile]) - 1
    return control[Control.DRAIN_LEFT] == 0
