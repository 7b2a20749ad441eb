"""What all layers have in common: channels, and what is loaded across the boundary of two layers (contract, 5.6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import simpy

from accelsim.machine.arch import Arch
from accelsim.timing.boundary import Boundary, Surroundings
from accelsim.timing.event.channel import LOAD, Command, Process, open_channels
from accelsim.timing.event.recorder import Recorder
from accelsim.timing.event.traffic import first_weights


@dataclass(frozen=True)
class Setting:
    """A layer's machine, where the layer stands, what it finds at its cycle 0, and who writes down what happens."""

    arch: Arch
    around: Surroundings
    found: Boundary
    recorder: Recorder


class LayerModel:
    """Channels of one layer, and the command that LOAD issues behind those of the layer.

    left: what the layer leaves to the next one, once it has run. Times are cycles since the start of the layer.
    """

    def __init__(self, setting: Setting, bases: Mapping[str, int] | None) -> None:
        """Open the channels.

        Args:
            setting: the layer's surroundings.
            bases: first byte in DRAM by name of an operand; None without a row model.
        """
        self.env, self.arch, self.recorder = simpy.Environment(), setting.arch, setting.recorder
        self.found, self.left = setting.found, Boundary()
        self._prefetch, self._prefetched = setting.around.prefetch, self.env.event()
        if bases is not None and self._prefetch is not None:
            bases = {**bases, "prefetch": self._prefetch.address}
        channels = open_channels(self.env, self.arch, self.recorder, bases, busy=self.found.busy)
        self.load_channel, self.store_channel = channels

    def _end_command_before(self) -> Process:
        """LOAD: first ends the command that it issued in the layer before."""
        if self.found.busy:
            yield self.env.timeout(self.found.busy)

    def _load_ahead(self, last_issue: simpy.Event | None) -> Process:
        """LOAD: behind its own commands the one for the next layer.

        Args:
            last_issue: the issue end of the last chunk; None in a layer without the array, whose weight scratchpad is
                free.
        """
        fetch = self._prefetch
        if fetch is None:
            return
        if fetch.waits and last_issue is not None:
            yield last_issue
        moved = first_weights(fetch.work, fetch.plan, self.arch.dram_burst)
        yield from self.load_channel.move(moved, LOAD, Command("prefetch", 0), self._prefetched)

    def _leave(self) -> int:
        """Let the command for the next layer arrive; returns the cycles of this one, which ends now."""
        end = int(self.env.now)
        if self._prefetch is not None:
            arrived = int(self.env.run(until=self._prefetched))
            self.left = Boundary(max(0, arrived - self.arch.dram_latency - end), max(0, arrived - end))
        return end
