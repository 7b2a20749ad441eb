"""The DMA engine's channel to DRAM: first come, first served by the time of the request (contract, section 5.5)."""

from __future__ import annotations

import heapq
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

import simpy

from accelsim.arch import Arch
from accelsim.event.recorder import Recorder
from accelsim.event.rows import OpenRows
from accelsim.event.traffic import Moved

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
    env: simpy.Environment, arch: Arch, recorder: Recorder, bases: Mapping[str, int], busy: int
) -> tuple[Channel, Channel]:
    """Return the channels that loads and stores use: one for each direction, or the same one for both.

    Args:
        env: the simulation.
        arch: the machine.
        recorder: what the channels report to.
        bases: first bytes of operands in DRAM, for the row model.
        busy: cycles for which the channel of loads still works for the layer before.
    """
    loads = Channel(env, arch, recorder, OpenRows(arch, bases), busy)
    if arch.dram_channel == "shared":
        return loads, loads
    return loads, Channel(env, arch, recorder, OpenRows(arch, bases), 0)


class Channel:
    """A channel that is busy for the beats of a command; its data is complete one DRAM latency later."""

    def __init__(self, env: simpy.Environment, arch: Arch, recorder: Recorder, rows: OpenRows, busy: int) -> None:
        self._env, self._arch, self._recorder, self._rows = env, arch, recorder, rows
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
        env = self._env
        yield env.timeout(busy)
        while True:
            while not self._queue:
                self._kick = env.event()
                yield self._kick
            while self._shared and env.peek() == env.now:  # what else happens in this cycle may ask as well
                yield env.timeout(0)
            request = heapq.heappop(self._queue)
            start = int(env.now)
            misses = self._rows.missed(request.moved)
            self._recorder.events["dram_row_misses"] += misses
            beats = -(-request.moved.burst_bytes // self._arch.dram_bytes_per_cycle)
            yield env.timeout(beats + misses * self._arch.dram_row_miss)
            self._record(request, start)
            request.free.succeed()
            env.process(self._deliver(request.complete))

    def _record(self, request: _Request, start: int) -> None:
        engine, command = ("load", "store")[request.kind], request.what
        now, moved = int(self._env.now), request.moved
        self._recorder.busy(engine, command.what, start, now, block=command.block, chunk=command.chunk, moved=moved)

    def _deliver(self, complete: simpy.Event) -> Process:
        yield self._env.timeout(self._arch.dram_latency)
        complete.succeed(int(self._env.now))
