"""One layer without the array on LOAD, VECTOR and STORE (contract, sections 5.1, 5.3 and 5.7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import simpy

from accelsim.arch import Arch
from accelsim.boundary import Boundary, Surroundings
from accelsim.event.channel import LOAD, STORE, Command, Process, open_channels
from accelsim.event.prefetch import left_behind, prefetched
from accelsim.event.recorder import Recorder
from accelsim.event.traffic import Moved, Segments
from accelsim.plan import StreamPlan
from accelsim.work import StreamWork

Runs = tuple[tuple[int, int], ...]
Entry = TypeVar("Entry")


def _split(entries: Sequence[Entry], kept: tuple[bool, ...]) -> tuple[tuple[Entry, ...], tuple[Entry, ...]]:
    """Return the entries that are moved, and those that are kept on chip."""
    flags = kept or (False,) * len(entries)
    pairs = list(zip(entries, flags, strict=True))
    return tuple(entry for entry, flag in pairs if not flag), tuple(entry for entry, flag in pairs if flag)


class StreamModel:
    """The engines of one vector or DMA layer, whose work and bytes are spread evenly over its blocks."""

    def __init__(
        self,
        arch: Arch,
        work: StreamWork,
        plan: StreamPlan,
        recorder: Recorder,
        around: Surroundings,
        found: Boundary,
    ) -> None:
        env = simpy.Environment()
        self.env, self.arch, self.work, self.recorder = env, arch, work, recorder
        self.blocks, self.fetch, self.found = plan.blocks, around.prefetch, found
        self.load_channel, self.store_channel = open_channels(env, arch, recorder, {}, found.busy)
        self.fetched, self.fetch_left = env.event(), 0
        self.reads, self.kept_reads = _split(work.reads, plan.kept_reads)
        self.writes, self.kept_writes = _split(work.writes, plan.kept_writes)
        self.read, self.written = self._bursts(self.reads), self._bursts(self.writes)
        self.places: dict[str, list[tuple[int, int]]] = {"read": [], "write": []}
        if around.addresses is not None:
            for name, runs, starts, kept in (
                ("read", self.reads, around.addresses.reads, plan.kept_reads),
                ("write", self.writes, around.addresses.writes, plan.kept_writes),
            ):
                moved = _split(starts, kept)[0]
                sizes = (self._bursts((run,)) for run in runs)
                self.places[name] = list(zip(moved, sizes, strict=True))
        self.tokens = simpy.Container(env, capacity=arch.operand_buffers, init=arch.operand_buffers)
        self.loaded = [env.event() for _ in range(self.blocks)]
        self.computed = [env.event() for _ in range(self.blocks)]
        self.stored = [env.event() for _ in range(self.blocks)]

    def run(self) -> tuple[int, Boundary]:
        """Run the layer to its end; returns its cycles, and what it leaves to the next layer."""
        for process in (self._load(), self._compute(), self._store()):
            self.env.process(process)
        self.env.run(until=simpy.AllOf(self.env, self.stored))
        end = int(self.env.now)
        self.recorder.spend("store", int(self.computed[-1].value), end)
        for stored in self.stored:
            self.recorder.level("output_buffers", int(stored.value), -1)
        if self.fetch is None:
            return end, Boundary()
        complete = int(self.env.run(until=self.fetched))
        return end, left_behind(end, self.fetch_left, complete)

    def traffic(self) -> tuple[tuple[str, int], ...]:
        """Return the bytes moved, by name of the event."""
        moved = [sum(count * size for count, size in part) for part in (self.reads, self.writes)]
        names = ("dram_read_bytes", "dram_write_bytes", "useful_read_bytes", "useful_write_bytes")
        kept = [sum(count * size for count, size in part) for part in (self.kept_reads, self.kept_writes)]
        others = (
            ("kept_read_bytes", kept[0]),
            ("kept_write_bytes", kept[1]),
            ("dram_row_misses", int(self.recorder.events["dram_row_misses"])),
        )
        counted = zip(names, (self.read, self.written, *moved), strict=True)
        return (*counted, *(pair for pair in others if pair[1]))

    def _moved(self, direction: str, total: int, number: int) -> Moved:
        """Return one block's share of the bytes of one direction, and where they lie."""
        begin = sum(self._share(total, before) for before in range(number)) if self.places[direction] else 0
        size, low, segments = self._share(total, number), 0, []
        for start, extent in self.places[direction]:
            first, last = max(begin, low), min(begin + size, low + extent)
            if first < last:
                segments.append(Segments("", start + first - low, last - first, 1, 0))
            low += extent
        return Moved(size, 0, tuple(segments))

    def _bursts(self, segments: Runs) -> int:
        """Bytes of segments that each start on a burst."""
        return sum(count * -(-size // self.arch.dram_burst) * self.arch.dram_burst for count, size in segments)

    def _share(self, total: int, number: int) -> int:
        """Share of one block; the first ones take the remainder."""
        return total // self.blocks + (number < total % self.blocks)

    def _load(self) -> Process:
        yield self.env.timeout(self.found.busy)
        for number in range(self.blocks):
            yield self.tokens.get(1)
            self.recorder.level("operand_buffers", int(self.env.now), 1)
            moved = self._moved("read", self.read, number)
            yield from self.load_channel.move(moved, LOAD, Command("operands", number), self.loaded[number])
        if self.fetch is not None:
            moved = prefetched(self.fetch, self.arch.dram_burst)
            yield from self.load_channel.move(moved, LOAD, Command("prefetch", 0), self.fetched)
            self.fetch_left = int(self.env.now)

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
            moved = self._moved("write", self.written, number)
            yield from self.store_channel.move(moved, STORE, Command("outputs", number), self.stored[number])
