"""One layer without the array on LOAD, VECTOR and STORE (contract, sections 5.1, 5.3 and 5.7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import simpy

from accelsim.program.plan import StreamPlan
from accelsim.program.work import StreamWork
from accelsim.timing.event.channel import LOAD, STORE, Command, Process
from accelsim.timing.event.layer import LayerModel, Setting
from accelsim.timing.event.traffic import Moved, Segments

Entries = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class _Direction:
    """Bytes that a layer moves in one direction, and those of entries that stay on chip."""

    operand: str
    extents: tuple[int, ...]
    """Bytes of each entry in whole bursts."""
    bases: tuple[int, ...]
    """Their first bytes in DRAM, empty without a row model."""
    useful: int
    kept: int

    @property
    def total(self) -> int:
        """Bytes in whole bursts."""
        return sum(self.extents)

    def part(self, low: int, high: int) -> Moved:
        """Return bytes low..high-1 of all entries laid one after the other."""
        found, begin = [], 0
        for base, extent in zip(self.bases, self.extents, strict=False):
            first, last = max(low, begin), min(high, begin + extent)
            if first < last:
                found.append(Segments(self.operand, base + first - begin, last - first, 1, 0))
            begin += extent
        return Moved(high - low, segments=tuple(found))


def _direction(
    operand: str, entries: Entries, kept: Sequence[bool], bases: Sequence[int] | None, burst: int
) -> _Direction:
    """Sort entries, whose segments each start on a burst, into moved and kept ones; no flags: all are moved."""
    flags = kept or (False,) * len(entries)
    moved = [place for place, flag in enumerate(flags) if not flag]
    sizes = [count * size for count, size in entries]
    bursts = [count * -(-size // burst) * burst for count, size in entries]
    useful = sum(sizes[place] for place in moved)
    places = () if bases is None else tuple(bases[place] for place in moved)
    return _Direction(operand, tuple(bursts[place] for place in moved), places, useful, sum(sizes) - useful)


class StreamModel(LayerModel):
    """The engines of one vector or DMA layer, whose work and bytes are spread evenly over its blocks."""

    def __init__(self, setting: Setting, work: StreamWork, plan: StreamPlan) -> None:
        rows, where = setting.arch.dram_row_bytes > 0, setting.around.addresses
        super().__init__(setting, {"read": 0, "written": 0} if rows else None)
        env, arch, blocks = self.env, self.arch, plan.blocks
        self.work, self.blocks = work, blocks
        reads, writes = (where.reads, where.writes) if rows and where is not None else (None, None)
        self.read = _direction("read", work.reads, plan.kept_reads, reads, arch.dram_burst)
        self.written = _direction("written", work.writes, plan.kept_writes, writes, arch.dram_burst)
        self.tokens = simpy.Container(env, capacity=arch.operand_buffers, init=arch.operand_buffers)
        self.loaded = [env.event() for _ in range(blocks)]
        self.computed = [env.event() for _ in range(blocks)]
        self.stored = [env.event() for _ in range(blocks)]

    def run(self) -> int:
        """Run the layer to its end; returns its cycles."""
        for process in (self._load(), self._compute(), self._store()):
            self.env.process(process)
        self.env.run(until=simpy.AllOf(self.env, self.stored))
        self.recorder.spend("store", int(self.computed[-1].value), int(self.env.now))
        for stored in self.stored:
            self.recorder.level("output_buffers", int(stored.value), -1)
        return self._leave()

    def traffic(self) -> tuple[tuple[str, int], ...]:
        """Return the bytes moved, those that stayed on chip and the rows opened, by name of the event."""
        read, written = self.read, self.written
        moved = (
            ("dram_read_bytes", read.total),
            ("dram_write_bytes", written.total),
            ("useful_read_bytes", read.useful),
            ("useful_write_bytes", written.useful),
        )
        rare = (
            ("kept_read_bytes", read.kept),
            ("kept_write_bytes", written.kept),
            ("dram_row_misses", self.recorder.events["dram_row_misses"]),
        )
        return *moved, *((name, count) for name, count in rare if count)

    def _share(self, total: int, number: int) -> int:
        """Share of one block; the first ones take the remainder."""
        return total // self.blocks + (number < total % self.blocks)

    def _moved(self, direction: _Direction, number: int) -> Moved:
        """Return what a block moves in one direction."""
        each, remainder = divmod(direction.total, self.blocks)
        low = number * each + min(number, remainder)
        return direction.part(low, low + self._share(direction.total, number))

    def _load(self) -> Process:
        yield from self._end_command_before()
        for number in range(self.blocks):
            yield self.tokens.get(1)
            self.recorder.level("operand_buffers", int(self.env.now), 1)
            moved = self._moved(self.read, number)
            yield from self.load_channel.move(moved, LOAD, Command("operands", number), self.loaded[number])
        yield from self._load_ahead(None)

    def _compute(self) -> Process:
        env, arch = self.env, self.arch
        for number in range(self.blocks):
            begin = int(env.now)
            freed = 0
            if number >= arch.output_buffers:
                freed = yield self.stored[number - arch.output_buffers]
            yield self.loaded[number]
            start = int(env.now)
            self.recorder.idle(begin, start, (("wait_store", begin, freed),), "wait_load")
            operations = self._share(self.work.lane_operations, number)
            if operations:
                yield env.timeout(-(-operations // arch.vector_lanes) + arch.vector_latency)
            self.recorder.spend("vector", start, int(env.now))
            self.recorder.busy("vector", "block", start, int(env.now), block=number)
            self.recorder.level("output_buffers", start, 1)
            self.recorder.level("operand_buffers", int(env.now), -1)
            self.tokens.put(1)
            self.computed[number].succeed(int(env.now))

    def _store(self) -> Process:
        for number in range(self.blocks):
            yield self.computed[number]
            moved = self._moved(self.written, number)
            yield from self.store_channel.move(moved, STORE, Command("outputs", number), self.stored[number])
