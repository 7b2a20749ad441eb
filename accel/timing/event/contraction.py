"""One contraction on LOAD, PUSH, ARRAY, REQUANT and STORE, held together by tokens and banks (contract, 4 and 5.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import simpy

from accelsim.timing.event.channel import LOAD, STORE, Command, Process
from accelsim.timing.event.commands import Block, Chunk, Tile
from accelsim.timing.event.layer import LayerModel, Setting
from accelsim.timing.event.traffic import Moved


@dataclass
class _ChunkState:
    """Events of one chunk of a block: both operands complete, its last step issued."""

    number: int
    first: simpy.Event
    second: simpy.Event
    issued: simpy.Event


@dataclass
class _TileState:
    """Events of one tile of a block: its stationary operand pushed, its first step."""

    number: int
    pushed: simpy.Event
    started: simpy.Event
    push_start: int = 0


@dataclass
class _BlockState:
    """Events of one output block: all sums committed, requantised, stored."""

    committed: simpy.Event
    requantised: simpy.Event
    stored: simpy.Event
    end: int = 0
    tiles: list[_TileState] = field(default_factory=list)


def _asked(chunk: Chunk, state: _ChunkState, received: simpy.Event | None) -> list[Moved]:
    """Return what LOAD has to ask the channel for."""
    pairs = ((chunk.first, state.first), (chunk.second, state.second))
    return [moved for moved, complete in pairs if moved is not None and complete is not received]


class ContractionModel(LayerModel):
    """The engines of one layer; times are cycles since its start."""

    def __init__(self, setting: Setting, blocks: Sequence[Block]) -> None:
        where, bases = setting.around.addresses, None
        if setting.arch.dram_row_bytes and where is not None:
            bases = {"first": where.reads[0], "second": where.reads[1], "output": where.writes[0]}
        super().__init__(setting, bases)
        env, arch = self.env, self.arch
        self.blocks = blocks
        self.tokens = simpy.Container(env, capacity=arch.operand_buffers, init=arch.operand_buffers)
        self.states = [_BlockState(env.event(), env.event(), env.event()) for _ in blocks]
        self.chunks = [
            [_ChunkState(number, env.event(), env.event(), env.event()) for number in range(len(block.chunks))]
            for block in blocks
        ]
        for chunk, chunk_state in self._chunks():
            for moved, complete in ((chunk.first, chunk_state.first), (chunk.second, chunk_state.second)):
                if moved is None:  # an operand that is in its scratchpad already
                    complete.succeed(0)
        for state, block in zip(self.states, blocks, strict=True):
            count = sum(len(chunk.tiles) for chunk in block.chunks)
            state.tiles = [_TileState(number, env.event(), env.event()) for number in range(count)]
        self._opened = -1

    def run(self) -> int:
        """Run the layer to its end; returns its cycles."""
        stationary = self.arch.dataflow != "os"
        processes = [self._load(), self._issue() if stationary else self._issue_output()]
        processes += [self._push()] if stationary else []
        for process in (*processes, self._requantise(), self._store()):
            self.env.process(process)
        if self.found.weights_ready is not None:
            self.env.process(self._receive(self.found.weights_ready))
        self.env.run(until=self.states[-1].stored)
        self._close()
        return self._leave()

    # ------------------------------------------------------------------------------------------------------- loading

    def _load(self) -> Process:
        """LOAD: the stationary operand of a chunk first; a chunk takes one set of operand buffers.

        What the layer before has loaded counts here, but is no command.
        """
        weights_first = self.arch.dataflow != "is"
        received = self.chunks[0][0].second if self.found.weights_ready is not None else None
        ahead = self._load_ahead(self.chunks[-1][-1].issued)
        remaining = sum(len(_asked(*pair, received)) for pair in self._chunks())
        yield from self._end_command_before()
        if not remaining:
            self.env.process(ahead)
        for number, (block, states) in enumerate(zip(self.blocks, self.chunks, strict=True)):
            for chunk, state in zip(block.chunks, states, strict=True):
                yield self.tokens.get(1)
                self.recorder.level("operand_buffers", int(self.env.now), 1)
                loads = [(chunk.first, state.first, "activations"), (chunk.second, state.second, "weights")]
                for moved, complete, name in reversed(loads) if weights_first else loads:
                    if moved is not None:
                        self._count_load(name, moved)
                        command = Command(name, number, state.number)
                        if complete is not received:
                            yield from self.load_channel.move(moved, LOAD, command, complete)
                            remaining -= 1
                            if not remaining:  # later chunks find everything in their scratchpads
                                self.env.process(ahead)

    def _receive(self, ready: int) -> Process:
        """Complete the weights of the first chunk, which the layer before has asked for."""
        yield self.env.timeout(ready)
        self.chunks[0][0].second.succeed(ready)

    def _chunks(self) -> Iterator[tuple[Chunk, _ChunkState]]:
        """Yield all chunks with their events, in order."""
        for block, states in zip(self.blocks, self.chunks, strict=True):
            yield from zip(block.chunks, states, strict=True)

    def _count_load(self, name: str, moved: Moved) -> None:
        events = self.recorder.events
        fill = "activation_fill_bytes" if name == "activations" else "weight_fill_bytes"
        events[fill] += moved.useful_bytes
        events["dram_read_bytes"] += moved.burst_bytes
        events["useful_read_bytes"] += moved.useful_bytes

    # ------------------------------------------------------------------ the array, weight and input stationary

    def _walk(self) -> list[tuple[int, Chunk, _ChunkState, Tile, _TileState, bool]]:
        """Return all tiles in order: block, chunk, tile, and whether the tile is the last one of its chunk."""
        steps = []
        for number, (block, states) in enumerate(zip(self.blocks, self.chunks, strict=True)):
            tiles = iter(self.states[number].tiles)
            for chunk, state in zip(block.chunks, states, strict=True):
                for index, tile in enumerate(chunk.tiles):
                    last = index == len(chunk.tiles) - 1
                    steps.append((number, chunk, state, tile, next(tiles), last))
        return steps

    def _push(self) -> Process:
        """PUSH: shifts stationary operands into the array, beside the stream of the tile before if doubly buffered."""
        env, arch = self.env, self.arch
        before: tuple[_TileState, Tile] | None = None
        for number, _, chunk_state, tile, state, _ in self._walk():
            if before is not None:
                started = yield before[0].started
                base = started
                if arch.flush_between_tiles:
                    base += before[1].steps + arch.rows + arch.cols
                elif not arch.weight_double_buffer:
                    base += before[1].steps
                if base > env.now:
                    yield env.timeout(base - env.now)
            yield chunk_state.first if arch.dataflow == "is" else chunk_state.second
            state.push_start = int(env.now)
            yield env.timeout(tile.push)
            self._busy("push", number, chunk_state, state, state.push_start)
            state.pushed.succeed(int(env.now))
            before = state, tile

    def _issue(self) -> Process:
        """ARRAY: streams each tile when its operand is pushed, its rows are there and its bank is free."""
        env, arch = self.env, self.arch
        previous = issue_end = -1
        for number, _, chunk_state, tile, state, last in self._walk():
            hazard = 0
            if previous >= 0 and tile.folds and not arch.flush_between_tiles:  # every row behind its own last commit
                hazard = previous + arch.rows + 2 + max(0, issue_end - previous - tile.steps)
            flushed = issue_end + arch.rows + arch.cols if previous >= 0 and arch.flush_between_tiles else 0
            issue_end = max(issue_end, 0)
            bank = self._bank(number, chunk_state)
            streamed = chunk_state.second if arch.dataflow == "is" else chunk_state.first
            pushed = yield state.pushed
            ready = yield streamed
            banked = 0
            if bank is not None:
                banked = yield bank
            if hazard > env.now:
                yield env.timeout(hazard - env.now)
            start = int(env.now)
            reasons = (
                ("push", state.push_start, pushed),
                ("flush", issue_end, flushed),
                ("wait_w", issue_end, state.push_start),
                ("hazard", issue_end, hazard),
            )
            self.recorder.idle(issue_end, start, reasons, "wait_x_bank" if banked > ready else "wait_x_load")
            state.started.succeed(start)
            yield env.timeout(tile.steps)
            issue_end, previous = int(env.now), start
            self._streamed(number, chunk_state, state, start)
            self._count_stationary(tile, self.blocks[number].packed)
            if last:
                self._chunk_done(number, chunk_state)

    def _bank(self, number: int, state: _ChunkState) -> simpy.Event | None:
        """Return the event that frees the accumulator bank of a block, for the tiles of its first chunk."""
        opening = state is self.chunks[number][0]
        return (
            self.states[number - self.arch.acc_banks].requantised if opening and number >= self.arch.acc_banks else None
        )

    def _streamed(self, number: int, chunk: _ChunkState, tile: _TileState, start: int) -> None:
        """Record a streamed tile; the first one of a block takes an accumulator bank."""
        self.recorder.spend("stream", start, int(self.env.now))
        self._busy("array", number, chunk, tile, start)
        if tile.number == 0:
            self.recorder.level("acc_banks", start, 1)

    def _busy(self, engine: str, number: int, chunk: _ChunkState, tile: _TileState, start: int) -> None:
        now = int(self.env.now)
        self.recorder.busy(engine, "tile", start, now, block=number, chunk=chunk.number, tile=tile.number)

    def _chunk_done(self, number: int, state: _ChunkState) -> None:
        """Give the operand buffers back; after the last chunk the block drains to its commit."""
        state.issued.succeed(int(self.env.now))
        self.recorder.level("operand_buffers", int(self.env.now), -1)
        self.tokens.put(1)
        if state is self.chunks[number][-1]:
            self.states[number].end = int(self.env.now)
            self.env.process(self._commit(number))

    def _commit(self, number: int) -> Process:
        """Let the last step pass through the array; on OS the sums are shifted out first.

        A first step of the next tile in the middle of the drain takes one slot of the wire v (contract, 3).
        """
        env, arch = self.env, self.arch
        end = int(env.now)
        delay = arch.rows + arch.cols
        if arch.dataflow == "os":
            yield env.timeout(arch.rows)
            delay += 1 if end <= self._opened < end + arch.rows else 0
        yield env.timeout(delay)
        self.states[number].committed.succeed(int(env.now))

    # -------------------------------------------------------------------------- the array, output stationary

    def _issue_output(self) -> Process:
        """ARRAY on OS: streams a tile, or a part of one; its sums drain while the next tile streams."""
        env, arch = self.env, self.arch
        issue_end, drain, begun = 0, 0, False
        for number, _, chunk_state, tile, state, last in self._walk():
            free = issue_end
            if tile.opens and begun:
                drain = arch.rows
                free += self._gap(tile)
            bank = self._bank(number, chunk_state)
            ready = max((yield chunk_state.first), (yield chunk_state.second))
            banked = 0
            if bank is not None:
                banked = yield bank
            if free > env.now:
                yield env.timeout(free - env.now)
            start = int(env.now)
            shifts = min(drain, start - issue_end)
            reasons = (("shift", issue_end, issue_end + shifts), ("flush", issue_end, free * arch.flush_between_tiles))
            self.recorder.idle(issue_end, start, reasons, "wait_x_bank" if banked > ready else "wait_x_load")
            drain = max(0, drain - shifts - (tile.steps - 1 if tile.opens else tile.steps))
            if tile.opens:
                self._opened = (
                    start + arch.gather_cycles(tile.extents[0]) - 1
                )  # a gathered step issues in its last slot
            yield env.timeout(tile.steps)
            issue_end, begun = int(env.now), True
            self._streamed(number, chunk_state, state, start)
            self._count_output(tile, self.blocks[number].packed)
            if last:
                self._chunk_done(number, chunk_state)

    def _gap(self, tile: Tile) -> int:
        """Cycles between two OS tiles (contract, 4.2): the drain registers must be free before the last step."""
        arch = self.arch
        if arch.flush_between_tiles:
            return 2 * arch.rows + arch.cols
        return max(0, arch.rows + 1 - tile.depth) if arch.drain_overlap else arch.rows

    # ------------------------------------------------------------------------------------------ behind the array

    def _requantise(self) -> Process:
        """REQUANT: a block at a time, row by row of its bank, into an output buffer (contract, 5.2)."""
        env, arch = self.env, self.arch
        for number, (block, state) in enumerate(zip(self.blocks, self.states, strict=True)):
            yield state.committed
            if number >= arch.output_buffers:
                yield self.states[number - arch.output_buffers].stored
            start = int(env.now)
            yield env.timeout(block.bank_rows * -(-block.bank_columns // arch.requantiser_lanes) + arch.requant_latency)
            self.recorder.busy("requant", "block", start, int(env.now), block=number)
            self.recorder.level("output_buffers", start, 1)
            self.recorder.level("acc_banks", int(env.now), -1)
            self.recorder.events["requant_elements"] += block.elements
            state.requantised.succeed(int(env.now))

    def _store(self) -> Process:
        """STORE: blocks in order."""
        for number, (block, state) in enumerate(zip(self.blocks, self.states, strict=True)):
            yield state.requantised
            self.recorder.events["dram_write_bytes"] += block.store.burst_bytes
            self.recorder.events["useful_write_bytes"] += block.store.useful_bytes
            yield from self.store_channel.move(block.store, STORE, Command("outputs", number), state.stored)

    def _close(self) -> None:
        """Attribute what follows the last step: drain and tail of the array, requantiser, stores."""
        arch, last, spend = self.arch, self.states[-1], self.recorder.spend
        committed, requantised = int(last.committed.value), int(last.requantised.value)
        drained = last.end + (arch.rows if arch.dataflow == "os" else 0)
        spend("shift", last.end, drained)
        spend("tail", drained, drained + arch.rows + arch.cols)
        spend("requant", committed, requantised)
        spend("store", requantised, int(self.env.now))
        for state in self.states:
            self.recorder.level("output_buffers", int(state.stored.value), -1)

    # ---------------------------------------------------------------------------------------------------- events

    def _count_stationary(self, tile: Tile, packed: int) -> None:
        """Count what happens in a WS or IS tile (contract, 6); zeros beside packed groups cost nothing."""
        events, (streamed, depth, held) = self.recorder.events, tile.extents
        stationary, outputs = depth * held // packed, streamed * held
        events["tiles"] += 1
        events["macs"] += streamed * stationary
        if self.arch.dataflow == "ws":
            events["activation_reads"] += streamed * depth
            events["weight_reads"] += stationary
        else:
            events["activation_reads"] += stationary * packed
            events["weight_reads"] += streamed * depth // packed
        events["bias_reads" if tile.opens else "acc_reads"] += outputs
        events["acc_writes"] += outputs
        events["operand_register_writes"] += streamed * stationary
        events["sum_register_writes"] += streamed * self.arch.rows * held
        events["weight_register_writes"] += held * depth * (depth + 1) // 2

    def _count_output(self, tile: Tile, packed: int) -> None:
        """Count what happens in an OS tile, or a part of one (contract, 6)."""
        events, (rows, depth, columns) = self.recorder.events, tile.extents
        macs = rows * depth * columns // packed
        events["macs"] += macs
        events["activation_reads"] += rows * depth
        events["weight_reads"] += depth * columns // packed
        events["operand_register_writes"] += 2 * macs
        events["sum_register_writes"] += macs
        if tile.opens:
            height = self.arch.rows
            events["tiles"] += 1
            events["bias_reads"] += columns
            events["acc_writes"] += rows * columns
            events["sum_register_writes"] += columns * height * (height + 1) // 2
