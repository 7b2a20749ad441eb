"""Layers of a program on one axis of cycles: which of them a view shows, and what their engines did in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from accelsim.arch import Arch
from accelsim.boundary import NOTHING_FOUND, Boundary, Surroundings, surroundings, takes_time
from accelsim.errors import ResourceLimitError, UsageError, printable
from accelsim.event.recorder import BUFFERS, Interval, LevelChange
from accelsim.event.run import LayerTrace, trace_layer
from accelsim.program import Layer, Program
from accelsim.timing import LayerTiming, time_program

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class View:
    """What of a run is shown: layers whose name contains a text, cycles first..last-1; None shows all."""

    layer: str | None = None
    first: int | None = None
    last: int | None = None


@dataclass(frozen=True, eq=False)
class Placed:
    """A layer of the run with its cycles start..end-1 and its timing.

    number: its place in the program; around, found: see event.run.trace_layer.
    """

    number: int
    layer: Layer
    start: int
    end: int
    timing: LayerTiming
    around: Surroundings
    found: Boundary


@dataclass(frozen=True, eq=False)
class Scene:
    """The layers that a view shows, in order, and the cycles first..last-1 of a run of `total` cycles."""

    layers: tuple[Placed, ...]
    first: int
    last: int
    total: int

    def covers(self, placed: Placed) -> bool:
        """Tell whether a layer is shown from its start to its end."""
        return self.first <= placed.start and placed.end <= self.last


@dataclass(frozen=True)
class Samples:
    """How many buffers of a kind are in use: (cycle, number) wherever that changes; capacity: how many there are."""

    buffer: str
    capacity: int
    points: tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Activity:
    """What happened in the visible part of a layer, in cycles of the run.

    intervals: by engine and time; phases: the classes of cycles, which follow each other without a gap.
    """

    placed: Placed
    start: int
    end: int
    intervals: tuple[Interval, ...]
    phases: tuple[Interval, ...]
    samples: tuple[Samples, ...]


def set_scene(model_name: str, program: Program, arch: Arch, view: View) -> Scene:
    """Choose the layers that a view shows.

    Layers follow each other without overlap (contract, 5.6), so the recurrence, which equals the event model, says
    where each of them starts without running those that are not shown.

    Args:
        model_name: for messages.
        program: the layers.
        arch: the machine.
        view: what to show.

    Raises:
        UsageError: no layer has the text in its name, or the window is empty or outside of the run.
    """
    timings, arounds, founds = time_program(program, arch), surroundings(program, arch), [NOTHING_FOUND]
    for layer, timing in zip(program.layers, timings, strict=True):
        founds.append(timing.left if takes_time(layer) else founds[-1])
    ends = list(accumulate(timing.cycles for timing in timings))
    total = ends[-1] if ends else 0
    first, last = _window(view, total)
    parts = zip(program.layers, timings, ends, arounds, founds, strict=False)
    placed = [
        Placed(number, layer, end - timing.cycles, end, timing, around, found)
        for number, (layer, timing, end, around, found) in enumerate(parts)
    ]
    named = [part for part in placed if view.layer is None or view.layer in part.layer.name]
    if not named:
        wanted = printable(str(view.layer))
        raise UsageError(f"no layer of {model_name} has '{wanted}' in its name: leave --layer out")
    shown = [part for part in named if part.start < last and part.end > first and part.timing.cycles]
    if not shown:
        begin, end = named[0].start, named[-1].end
        raise UsageError(
            f"nothing happens in cycles {first:,} to {last:,} of the chosen layers, which take cycles {begin:,} to "
            f"{end:,}: change --from, --until or --layer"
        )
    if view.layer is not None:
        first, last = max(first, shown[0].start), min(last, shown[-1].end)
    return Scene(tuple(shown), first, last, total)


def _window(view: View, total: int) -> tuple[int, int]:
    """Return the cycles first..last-1 of a view."""
    first = 0 if view.first is None else view.first
    last = total if view.last is None else min(view.last, total)
    if first < 0 or last <= first:
        raise UsageError(
            f"the window from cycle {first:,} until {last:,} is empty: --from must be smaller than --until, and the "
            f"run has {total:,} cycles"
        )
    return first, last


def run_scene(
    scene: Scene, arch: Arch, *, segments: bool = False, progress: Progress | None = None
) -> Iterator[tuple[Placed, LayerTrace]]:
    """Yield the layers of a scene with what the event model recorded of them, one at a time.

    Args:
        scene: the layers to run.
        arch: the machine.
        segments: also record where the bytes of each DMA command lie.
        progress: called with (layer name, number of the layer, count of layers) after each layer.
    """
    for number, placed in enumerate(scene.layers):
        layer = placed.layer
        yield placed, trace_layer(layer.work, layer.plan, arch, placed.around, placed.found, segments=segments)
        if progress is not None:
            progress(layer.name, number + 1, len(scene.layers))


def visible(scene: Scene, arch: Arch, placed: Placed, trace: LayerTrace) -> Activity:
    """Return what a scene shows of a layer, cut at the edges of its window.

    Args:
        scene: the window.
        arch: the machine, which says how many buffers there are.
        placed: the layer.
        trace: what the event model recorded of it.
    """
    first, last = max(scene.first, placed.start), min(scene.last, placed.end)
    intervals = sorted(_cut(trace.intervals, placed.start, first, last), key=lambda part: (part.start, part.end))
    phases = _joined(_cut(trace.phases, placed.start, first, last))
    samples = tuple(_samples(name, arch, trace.levels, placed.start, first, last) for name in BUFFERS)
    return Activity(placed, first, last, tuple(intervals), phases, samples)


def _cut(intervals: Sequence[Interval], offset: int, first: int, last: int) -> list[Interval]:
    """Shift intervals by an offset and keep what lies in cycles first..last-1."""
    kept = []
    for part in intervals:
        start, end = max(part.start + offset, first), min(part.end + offset, last)
        if start < end:
            kept.append(replace(part, start=start, end=end))
    return kept


def _joined(phases: Sequence[Interval]) -> tuple[Interval, ...]:
    """Join phases of the same class that follow each other."""
    joined: list[Interval] = []
    for phase in sorted(phases, key=lambda part: part.start):
        if joined and joined[-1].what == phase.what and joined[-1].end == phase.start:
            phase = replace(joined.pop(), end=phase.end)
        joined.append(phase)
    return tuple(joined)


def _samples(buffer: str, arch: Arch, levels: Sequence[LevelChange], offset: int, first: int, last: int) -> Samples:
    """Add up the changes of one kind of buffer; what is given back and taken in the same cycle is no change."""
    changes: Counter[int] = Counter()
    for level in levels:
        if level.buffer == buffer:
            changes[max(level.cycle + offset, first)] += level.change
    points: list[tuple[int, int]] = []
    number = 0
    for cycle in sorted(changes):
        if cycle > last:
            break
        number += changes[cycle]
        if not points or points[-1][1] != number:
            points.append((cycle, number))
    return Samples(buffer, int(getattr(arch, buffer)), tuple(points))


def rates(activity: Activity, arch: Arch, engine: str) -> tuple[tuple[int, float], ...]:
    """Return DRAM bytes per cycle of one direction: (cycle, bytes per cycle) wherever that changes.

    A command moves its bytes evenly over the cycles in which it keeps the channel busy.

    Args:
        activity: what happened in a layer.
        arch: the machine.
        engine: "load" or "store".
    """
    points: list[tuple[int, float]] = []
    for part in activity.intervals:
        if part.engine != engine or part.moved is None:
            continue
        moved = part.moved.burst_bytes
        rate = moved / -(-moved // arch.dram_bytes_per_cycle)  # the interval itself may be cut at the window's edge
        if points and points[-1][0] == part.start:
            points.pop()
        if not points or points[-1][1] != rate:
            points.append((part.start, rate))
        points.append((part.end, 0.0))
    return tuple(points)


class Budget:
    """Counts events and refuses one too many."""

    def __init__(self, limit: int, scene: Scene, unit: str) -> None:
        self.used = 0
        self._limit, self._scene, self._unit = limit, scene, unit

    def take(self, count: int) -> None:
        """Count some events.

        Raises:
            ResourceLimitError: there are more than the limit; says how to narrow the view.
        """
        self.used += count
        if self.used > self._limit:
            scene = self._scene
            raise ResourceLimitError(
                f"more than {self._limit:,} {self._unit} in cycles {scene.first:,} to {scene.last:,} of "
                f"{scene.total:,}: narrow the trace with --layer TEXT, or with --from and --until"
            )
