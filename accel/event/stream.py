"""One layer without the array on LOAD, VECTOR and STORE (contract, sections 5.1, 5.3 and 5.7)."""

from __future__ import annotations

import simpy

from accelsim.arch import Arch
from accelsim.event.channel import LOAD, STORE, Command, Process, open_channels
from accelsim.event.recorder import Recorder
from accelsim.event.traffic import Moved
from accelsim.work import StreamWork

Segments = tuple[tuple[int, int], ...]


class StreamModel:
    """The engines of one vector or DMA layer, whose work and bytes are spread evenly over its blocks."""

    def __init__(self, arch: Arch, work: StreamWork, blocks: int, recorder: Recorder, *, shared_channel: bool) -> None:
        env = simpy.Environment()
        self.env, self.arch, self.work, self.blocks, self.recorder = env, arch, work, blocks, recorder
        self.load_channel, self.store_channel = open_channels(env, arch, recorder, shared=shared_channel)
        self.read, self.written = self._bursts(work.reads), self._bursts(work.writes)
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
        return int(self.env.now)

    def traffic(self) -> tuple[tuple[str, int], ...]:
        """Return the bytes moved, by name of the event."""
        useful = [sum(count * size for count, size in part) for part in (self.work.reads, self.work.writes)]
        names = ("dram_read_bytes", "dram_write_bytes", "useful_read_bytes", "useful_write_bytes")
        return tuple(zip(names, (self.read, self.written, *useful), strict=True))

    def _bursts(self, segments: Segments) -> int:
        """Bytes of segments that each start on a burst."""
        return sum(count * -(-size // self.arch.dram_burst) * self.arch.dram_burst for count, size in segments)

    def _share(self, total: int, number: int) -> int:
        """Share of one block; the first ones take the remainder."""
        return total // self.blocks + (number < total % self.blocks)

    def _load(self) -> Process:
        for number in range(self.blocks):
            yield self.tokens.get(1)
            self.recorder.level("operand_buffers", int(self.env.now), 1)
            moved = Moved(self._share(self.read, number))
            yield from self.load_channel.move(moved, LOAD, Command("operands", number), self.loaded[number])

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
            moved = Moved(self._share(self.written, number))
            yield from self.store_channel.move(moved, STORE, Command("outputs", number), self.stored[number])
