"""Times layers and programs on the event model; the same results as accelsim.timing.recurrence, found another way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from accelsim.kernels.cycles.specs import CLASSES, EVENTS
from accelsim.machine.arch import Arch
from accelsim.program.layers import Program
from accelsim.program.plan import ContractionPlan, Plan, StreamPlan
from accelsim.program.scratchpads import once_more
from accelsim.program.work import ContractionWork, StreamWork, Work
from accelsim.timing.boundary import ALONE, Boundary, Surroundings, surroundings
from accelsim.timing.event.commands import contraction_blocks
from accelsim.timing.event.contraction import ContractionModel
from accelsim.timing.event.layer import Setting
from accelsim.timing.event.recorder import Interval, LevelChange, Recorder
from accelsim.timing.event.stream import StreamModel
from accelsim.timing.layer_timing import LayerTiming, added

_NOTHING = Boundary()


@dataclass(frozen=True)
class LayerTrace:
    """Timing of a layer and when each engine was busy, in cycles since its start."""

    timing: LayerTiming
    intervals: tuple[Interval, ...]
    phases: tuple[Interval, ...] = ()
    """The classes over time."""
    levels: tuple[LevelChange, ...] = ()
    """Buffers taken and given back. What the layer loads for the next one, the interval "prefetch" of LOAD, may go on
    behind its last cycle."""


def trace_layer(
    work: Work,
    plan: Plan,
    arch: Arch,
    around: Surroundings = ALONE,
    found: Boundary = _NOTHING,
    *,
    keep: bool = True,
    segments: bool = False,
) -> LayerTrace:
    """Run one layer on the event model.

    Args:
        work: the layer's work.
        plan: its blocking on this machine.
        arch: the machine.
        around: what the layer loads for the next one, and where its bytes lie in DRAM.
        found: what the layer before has left.
        keep: keep intervals, phases and levels.
        segments: keep, with the intervals of a contraction, where the bytes of each DMA command lie.

    Raises:
        ValueError: the machine has a row model, and nobody says where the layer's bytes lie.
    """
    if work.repeats > 1:
        return _trace_repeated(work, plan, arch, around, found, keep, segments)
    recorder = Recorder(keep)
    rows = arch.dram_row_bytes > 0
    if rows and around.addresses is None:
        raise ValueError("dram.row_bytes asks for the rows of a layer, and its surroundings have no addresses")
    model: ContractionModel | StreamModel
    if isinstance(work, ContractionWork) and isinstance(plan, ContractionPlan):
        machine = arch.with_dataflow(plan.dataflow)
        blocks = list(contraction_blocks(work, plan, machine, segments=segments or rows))
        model = ContractionModel(Setting(machine, around, found, recorder), blocks)
        cycles = model.run()
        events = _listed(EVENTS, recorder.events)
    elif isinstance(work, StreamWork) and isinstance(plan, StreamPlan):
        model = StreamModel(Setting(arch, around, found, recorder), work, plan)
        cycles = model.run()
        events = (*model.traffic(), *work.events)
    else:
        raise TypeError(f"{type(plan).__name__} does not plan {type(work).__name__}")
    timing = LayerTiming(cycles, _listed(CLASSES, recorder.classes), events, model.left)
    return LayerTrace(timing, tuple(recorder.intervals), tuple(recorder.phases), tuple(recorder.levels))


def _trace_repeated(
    work: Work, plan: Plan, arch: Arch, around: Surroundings, found: Boundary, keep: bool, segments: bool
) -> LayerTrace:
    """Run what is done several times, each time behind the time before (contract, section 5.9)."""
    once: Work = replace(work, repeats=1)
    again = once_more(work, arch) if isinstance(work, ContractionWork) else once
    start = 0
    timings: list[tuple[LayerTiming, int]] = []
    intervals: list[Interval] = []
    phases: list[Interval] = []
    levels: list[LevelChange] = []
    for number in range(work.repeats):
        here = around if number == work.repeats - 1 else replace(around, prefetch=None)
        trace = trace_layer(again if number else once, plan, arch, here, found, keep=keep, segments=segments)
        found = trace.timing.left
        timings.append((trace.timing, 1))
        intervals += (replace(part, start=part.start + start, end=part.end + start) for part in trace.intervals)
        phases += (replace(part, start=part.start + start, end=part.end + start) for part in trace.phases)
        levels += (replace(change, cycle=change.cycle + start) for change in trace.levels)
        start += trace.timing.cycles
    return LayerTrace(added(timings), tuple(intervals), tuple(phases), tuple(levels))


def time_program_by_events(
    program: Program, arch: Arch, progress: Callable[[str, int, int], None] | None = None
) -> list[LayerTiming]:
    """Return the timing of every layer from the event model; each starts when the one before has ended (5.6).

    Args:
        program: the layers.
        arch: the machine.
        progress: called with (layer name, number of the layer, count of layers) after each layer.
    """
    timings, found = [], Boundary()
    for number, (layer, around) in enumerate(zip(program.layers, surroundings(program, arch), strict=True)):
        view = isinstance(layer.work, StreamWork) and layer.work.placement == "none"  # takes no cycles
        before = Boundary() if view else found
        timing = trace_layer(layer.work, layer.plan, arch, around, before, keep=False).timing
        timings.append(replace(timing, left=found) if view else timing)
        found = timings[-1].left
        if progress is not None:
            progress(layer.name, number + 1, len(program.layers))
    return timings


def _listed(names: Sequence[str], counts: Counter[str]) -> tuple[tuple[str, int], ...]:
    """Return the counts that are not zero, in a fixed order."""
    return tuple((name, int(counts[name])) for name in names if counts[name])
