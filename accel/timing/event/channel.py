"""The DMA engine's channel to DRAM: first come, first served by the time of the request (contract, section 5.5)."""

from __future__ import annotations

import heapq
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

import simpy

from accelsim.machine.arch import Arch
from accelsim.timing.event.recorder import Recorder
from accelsim.timing.event.rows import OpenRows
from accelsim.timing.event.traffic import Moved

Process = Generator[Any, Any, None]

LOAD, STORE = 0, 1  # of requests at the same time the load comes first


@dataclass(frozen=True)
class Command:
    """What a command belongs to, for the recorder: operand or result, output block, chunk of the block."""

    what: str
    block: int
    chunk: int = 0


@dataclass(frozen=True, order=True)
class _Request:
    """A command that waits for the channel, ordered as it is served."""

    time: int
    kind: int
    number: int
    moved: Moved = field(compare=False)
    what: Command = field(compare=False)
    free: simpy.Event = field(compare=False)
    complete: simpy.Event = field(compare=False)


def open_channels(
    env: simpy.Environment, arch: Arch, recorder: Recorder, bases: Mapping[str, int] | None, *, busy: int = 0
) -> tuple[Channel, Channel]:
    """Return the channels that loads and stores use: one for each direction, or the same one for both.

    Args:
        env: the simulation.
        arch: the machine.
        recorder: what the channels report to.
        bases: first byte in DRAM by name of an operand; None without a row model.
        busy: cycles for which the channel of the loads still moves what the layer before asked for.
    """
    loads = Channel(env, arch, recorder, bases, busy=busy)
    return loads, loads if arch.dram_channel == "shared" else Channel(env, arch, recorder, bases)


class Channel:
    """A channel that is busy for a command's beats and the rows it opens; data is complete one DRAM latency later."""

    def __init__(
        self,
        env: simpy.Environment,
        arch: Arch,
        recorder: Recorder,
        bases: Mapping[str, int] | None = None,
        *,
        busy: int = 0,
    ) -> None:
        self._env, self._arch, self._recorder = env, arch, recorder
        self._rows = None if bases is None else OpenRows(arch, bases)
        self._shared = arch.dram_channel == "shared"
        self._queue: list[_Request] = []
        self._kick = env.event()
        self._count = 0
        env.process(self._serve(busy))

    def move(self, moved: Moved, kind: int, what: Command, complete: simpy.Event) -> Process:
        """Pass one command through the channel; ends when the channel is free again.

        Args:
            moved: its bytes.
            kind: LOAD or STORE.
            what: whose bytes they are, for the recorder.
            complete: succeeds when the data has arrived.
        """
        if not moved.burst_bytes:
            complete.succeed(self._env.now)
            return
        self._count += 1
        request = _Request(int(self._env.now), kind, self._count, moved, what, self._env.event(), complete)
        heapq.heappush(self._queue, request)
        if not self._kick.triggered:
            self._kick.succeed()
        yield request.free

    def _serve(self, busy: int) -> Process:
        env, arch = self._env, self._arch
        if busy:
            yield env.timeout(busy)
        while True:
            while not self._queue:
                self._kick = env.event()
                yield self._kick
            while self._shared and env.peek() == env.now:  # what else happens in this cycle may ask as well
                yield env.timeout(0)
            request = heapq.heappop(self._queue)
            start, misses = int(env.now), 0
            if self._rows is not None:
                misses = self._rows.misses(request.moved.segments)
            beats = -(-request.moved.burst_bytes // arch.dram_bytes_per_cycle)
            yield env.timeout(beats + misses * arch.dram_row_miss)
            self._record(request, start, misses)
            request.free.succeed()
            env.process(self._deliver(request.complete))

    def _record(self, request: _Request, start: int, misses: int) -> None:
        engine, command = ("load", "store")[request.kind], request.what
        self._recorder.events["dram_row_misses"] += misses
        self._recorder.busy(
            engine,
            command.what,
            start,
            int(self._env.now),
            block=command.block,
            chunk=command.chunk,
            moved=request.moved,
            row_misses=misses,
        )

    def _deliver(self, complete: simpy.Event) -> Process:
        yield self._env.timeout(self._arch.dram_latency)
        complete.succeed(int(self._env.now))
