"""Layers of a program on one axis of cycles: which of them a view shows, and what their engines did in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from accelsim.errors import ResourceLimitError, UsageError, printable
from accelsim.machine.arch import Arch
from accelsim.program.layers import Layer, Program
from accelsim.program.plan import ContractionPlan
from accelsim.program.work import StreamWork
from accelsim.timing.boundary import ALONE, Boundary, Surroundings, surroundings
from accelsim.timing.event.recorder import BUFFERS, Interval, LevelChange
from accelsim.timing.event.run import LayerTrace, trace_layer
from accelsim.timing.layer_timing import LayerTiming
from accelsim.timing.recurrence import time_program

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class View:
    """What of a run is shown: layers whose name contains a text, cycles first..last-1; None shows all."""

    layer: str | None = None
    first: int | None = None
    last: int | None = None


@dataclass(frozen=True, eq=False)
class Placed:
    """A layer of the run with its cycles start..end-1 and its timing; number: its place in the program.

    around: its surroundings; before, later: the layers around it that take cycles, later as a number in the program.
    """

    number: int
    layer: Layer
    start: int
    end: int
    timing: LayerTiming
    around: Surroundings = ALONE
    before: Placed | None = None
    later: int | None = None

    @property
    def found(self) -> Boundary:
        """What the layer finds at its cycle 0."""
        return Boundary() if self.before is None else self.before.timing.left

    @property
    def dataflow(self) -> str | None:
        """The dataflow that the layer's plan has chosen; None without the array."""
        return self.layer.plan.dataflow if isinstance(self.layer.plan, ContractionPlan) else None


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

    A layer starts when the one before has ended (contract, 5.6), so the recurrence, which equals the event model, says
    where each of them starts, and what it finds there, without running those that are not shown.

    Args:
        model_name: for messages.
        program: the layers.
        arch: the machine.
        view: what to show.

    Raises:
        UsageError: no layer has the text in its name, or the window is empty or outside of the run.
    """
    timings = time_program(program, arch)
    placed = _place(program, arch, timings)
    total = sum(timing.cycles for timing in timings)
    first, last = _window(view, total)
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


def _place(program: Program, arch: Arch, timings: Sequence[LayerTiming]) -> list[Placed]:
    """Give every layer its cycles and its neighbours; what is only another shape for the same bytes is nobody's one."""
    placed: list[Placed] = []
    before: Placed | None = None
    parts = zip(program.layers, timings, accumulate(timing.cycles for timing in timings), strict=True)
    around = surroundings(program, arch)
    timed = [
        number
        for number, layer in enumerate(program.layers)
        if not (isinstance(layer.work, StreamWork) and layer.work.placement == "none")
    ]
    following = dict(pairwise(timed))
    for number, (layer, timing, end) in enumerate(parts):
        later = following.get(number)
        placed.append(Placed(number, layer, end - timing.cycles, end, timing, around[number], before, later))
        if number in following:
            before = placed[-1]
    return placed


def _window(view: View, total: int) -> tuple[int, int]:
    """Return the cycles first..last-1 of a view."""
    if not total:
        raise UsageError("the run takes no cycles, so that there is nothing to trace: give inputs with elements")
    first = 0 if view.first is None else view.first
    last = total if view.last is None else min(view.last, total)
    for option, cycle in (("--from", view.first), ("--until", view.last)):
        if cycle is not None and cycle < 0:
            raise UsageError(f"{option} {cycle:,} is before the first cycle, which is 0: count cycles from there")
    if last <= first:
        raise UsageError(
            f"the window from cycle {first:,} until {last:,} is empty: --from must be smaller than --until, and the "
            f"run has {total:,} cycles"
        )
    return first, last


def run_scene(
    scene: Scene, arch: Arch, *, segments: bool = False, progress: Progress | None = None
) -> Iterator[tuple[Placed, LayerTrace]]:
    """Yield the layers of a scene with what the event model recorded of them, one at a time.

    A load for the next layer that goes on behind the end of its own is recorded in both: as "prefetch" of the one,
    as "weights" of the other, from a cycle before its first one on.

    Args:
        scene: the layers to run.
        arch: the machine.
        segments: also record where the bytes of each DMA command lie.
        progress: called with (layer name, number of the layer, count of layers) after each layer.
    """
    carried: tuple[int, tuple[Interval, ...]] = (-1, ())
    for number, placed in enumerate(scene.layers):
        before = placed.before
        if before is not None and placed.found.busy and carried[0] != before.number:  # a layer that is not shown
            carried = before.number, _carried(_run(before, arch, segments=segments))
        trace = _run(placed, arch, segments=segments)
        arriving = carried[1] if before is not None and carried[0] == before.number else ()
        carried = placed.number, _carried(trace)
        yield placed, replace(trace, intervals=(*arriving, *trace.intervals))
        if progress is not None:
            progress(placed.layer.name, number + 1, len(scene.layers))


def _run(placed: Placed, arch: Arch, *, segments: bool) -> LayerTrace:
    """Run a layer between its neighbours."""
    layer = placed.layer
    return trace_layer(layer.work, layer.plan, arch, placed.around, placed.found, segments=segments)


def _carried(trace: LayerTrace) -> tuple[Interval, ...]:
    """Return what goes on behind the end of a layer, as the next one sees it: its own weights."""
    cycles, found = trace.timing.cycles, []
    for part in trace.intervals:
        if part.end > cycles and part.moved is not None:
            own = tuple(replace(segment, operand="second") for segment in part.moved.segments)
            moved = replace(part.moved, segments=own)
            found.append(replace(part, what="weights", start=part.start - cycles, end=part.end - cycles, moved=moved))
    return tuple(found)


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


def channel_cycles(part: Interval, arch: Arch) -> int:
    """Return the cycles for which a DMA command keeps its channel busy, wherever its interval is cut.

    Args:
        part: the command.
        arch: the machine.
    """
    beats = -(-part.moved.burst_bytes // arch.dram_bytes_per_cycle) if part.moved is not None else 0
    return beats + part.row_misses * arch.dram_row_miss


def rates(activity: Activity, arch: Arch, engine: str) -> tuple[tuple[int, float], ...]:
    """Return DRAM bytes per cycle of one direction: (cycle, bytes per cycle) wherever that changes.

    A command moves its bytes evenly over the cycles in which it keeps the channel busy, opened rows included.

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
        rate = moved / channel_cycles(part, arch)  # the interval itself may be cut at the window's edge
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
