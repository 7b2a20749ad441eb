"""The DMA engine's channel to DRAM: first come, first served by the time of the request (contract, section 5.5)."""

from __future__ import annotations

import heapq
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import simpy

from accelsim.arch import Arch
from accelsim.event.recorder import Recorder
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


def open_channels(env: simpy.Environment, arch: Arch, recorder: Recorder, *, shared: bool) -> tuple[Channel, Channel]:
    """Return the channels that loads and stores use: one for each direction, or the same one for both.

    Args:
        env: the simulation.
        arch: the machine.
        recorder: what the channels report to.
        shared: one channel serves both directions.
    """
    channels = [
        Channel(env, arch.dram_bytes_per_cycle, arch.dram_latency, recorder, shared=shared)
        for _ in range(1 if shared else 2)
    ]
    return channels[0], channels[-1]


class Channel:
    """A channel that is busy for the beats of a command; its data is complete one DRAM latency later."""

    def __init__(
        self, env: simpy.Environment, bytes_per_cycle: int, latency: int, recorder: Recorder, *, shared: bool
    ) -> None:
        self._env = env
        self._bytes_per_cycle = bytes_per_cycle
        self._latency = latency
        self._recorder = recorder
        self._shared = shared
        self._queue: list[_Request] = []
        self._kick = env.event()
        self._count = 0
        env.process(self._serve())

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

    def _serve(self) -> Process:
        env = self._env
        while True:
            while not self._queue:
                self._kick = env.event()
                yield self._kick
            while self._shared and env.peek() == env.now:  # what else happens in this cycle may ask as well
                yield env.timeout(0)
            request = heapq.heappop(self._queue)
            start = int(env.now)
            yield env.timeout(-(-request.moved.burst_bytes // self._bytes_per_cycle))
            self._record(request, start)
            request.free.succeed()
            env.process(self._deliver(request.complete))

    def _record(self, request: _Request, start: int) -> None:
        engine, command = ("load", "store")[request.kind], request.what
        now, moved = int(self._env.now), request.moved
        self._recorder.busy(engine, command.what, start, now, block=command.block, chunk=command.chunk, moved=moved)

    def _deliver(self, complete: simpy.Event) -> Process:
        yield self._env.timeout(self._latency)
        complete.succeed(int(self._env.now))
