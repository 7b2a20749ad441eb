"""VCD waveforms: a busy wire per engine, what it works on, buffers in use, the class of each cycle."""

from __future__ import annotations

from typing import IO, Any

from vcd import VCDWriter

from accelsim.errors import printable
from accelsim.machine.arch import Arch
from accelsim.timing.event.recorder import BUFFERS, ENGINES
from accelsim.timing.scene import Activity, Budget, Scene, rates
from accelsim.traces.clock import Clock

Changes = dict[int, dict[str, str | int | float]]

_ROOT = "accelerator"


class WaveWriter:
    """Writes one file, layer by layer, so that no more than one layer is in memory."""

    def __init__(self, file: IO[str], title: str, arch: Arch, scene: Scene, budget: Budget) -> None:
        self._arch, self._scene, self._budget, self._clock = arch, scene, budget, Clock(arch.clock_ghz)
        begin = self._clock.stamp(scene.first)
        self._writer = VCDWriter(
            file,
            timescale=f"1 {self._clock.unit}",
            date="",  # equal runs write equal files
            comment=_one_line(f"{title}; {self._clock}"),
            init_timestamp=begin,
        )
        self._variables: dict[str, Any] = {}
        self._changes: Changes = {}
        add = self._register
        add("layer", "name", "string", None, "")
        add("layer", "number", "integer", 32, "x")
        add("issue", "cycle_class", "string", None, "")
        for engine in ENGINES:
            add(engine, "busy", "wire", 1, 0)
            add(engine, "block", "integer", 32, "x")
        for engine in ("push", "array"):
            add(engine, "tile", "integer", 32, "x")
        for buffer in BUFFERS:
            add("buffers", buffer, "integer", 8, 0)
        for engine in ("load", "store"):
            add(engine, "bytes_per_cycle", "real", 64, 0.0)

    def _register(self, scope: str, name: str, kind: str, size: int | None, initial: str | int | float) -> None:
        variable = self._writer.register_var(f"{_ROOT}.{scope}", name, kind, size=size, init=initial)
        self._variables[f"{scope}.{name}"] = variable

    def layer(self, activity: Activity) -> None:
        """Write the changes of one layer in the order of time; of several in one cycle the last one stays.

        Those of its last cycle are kept for the next layer, which may begin there.
        """
        placed, change = activity.placed, self._change
        change(activity.start, "layer.name", _one_word(placed.layer.name))
        change(activity.start, "layer.number", placed.number)
        for phase in activity.phases:
            change(phase.start, "issue.cycle_class", phase.what)
        for part in activity.intervals:  # by time, so that an engine that goes on overwrites the end before
            change(part.end, f"{part.engine}.busy", 0)
            change(part.start, f"{part.engine}.busy", 1)
            change(part.start, f"{part.engine}.block", part.block)
            if f"{part.engine}.tile" in self._variables:
                change(part.start, f"{part.engine}.tile", part.tile)
        for samples in activity.samples:
            for cycle, number in samples.points:
                change(cycle, f"buffers.{samples.buffer}", number)
        for engine in ("load", "store"):
            for cycle, rate in rates(activity, self._arch, engine):
                change(cycle, f"{engine}.bytes_per_cycle", rate)
        self._write(activity.end)
        change(activity.end, "layer.name", "")
        change(activity.end, "layer.number", "x")
        change(activity.end, "issue.cycle_class", "")

    def close(self) -> None:
        """Write the end of the window."""
        self._write(self._scene.last + 1)
        self._writer.close(self._clock.stamp(self._scene.last))

    def _change(self, cycle: int, name: str, value: str | int | float) -> None:
        """Note a change."""
        self._changes.setdefault(cycle, {})[name] = value

    def _write(self, until: int) -> None:
        """Write the changes before a cycle."""
        for cycle in sorted(cycle for cycle in self._changes if cycle < until):
            noted = self._changes.pop(cycle)
            self._budget.take(len(noted))
            for name, value in noted.items():
                self._writer.change(self._variables[name], self._clock.stamp(cycle), value)


def _one_line(text: str) -> str:
    """Return a text that cannot end the comment it stands in."""
    return printable(text, 400).replace("$", "?")


def _one_word(text: str) -> str:
    """Return a name as a VCD string: printable ASCII without blanks."""
    return "".join(character if "!" <= character <= "~" else "_" for character in text) or "_"
