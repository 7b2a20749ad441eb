"""Times layers and programs on the event model; the same results as accelsim.timing, found another way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from accelsim.arch import Arch
from accelsim.event.commands import contraction_blocks
from accelsim.event.contraction import ContractionModel
from accelsim.event.recorder import Interval, LevelChange, Recorder
from accelsim.event.stream import StreamModel
from accelsim.plan import ContractionPlan, Plan, StreamPlan
from accelsim.program import Program
from accelsim.timing import LayerTiming
from accelsim.work import ContractionWork, StreamWork, Work

# The order in which classes and events are listed, as the recurrence lists them.
_CLASSES = (
    "stream", "push", "shift", "flush", "wait_w", "hazard", "wait_x_load", "wait_x_bank", "tail",
    "requant", "vector", "wait_load", "wait_store", "store",
)  # fmt: skip
_EVENTS = (
    "tiles", "macs", "activation_reads", "weight_reads", "bias_reads", "acc_reads", "acc_writes", "requant_elements",
    "operand_register_writes", "sum_register_writes", "weight_register_writes",
    "activation_fill_bytes", "weight_fill_bytes", "dram_read_bytes", "dram_write_bytes", "useful_read_bytes",
    "useful_write_bytes",
)  # fmt: skip


@dataclass(frozen=True)
class LayerTrace:
    """Timing of a layer and when each engine was busy, in cycles since its start.

    phases: the classes over time; levels: buffers taken and given back.
    """

    timing: LayerTiming
    intervals: tuple[Interval, ...]
    phases: tuple[Interval, ...] = ()
    levels: tuple[LevelChange, ...] = ()


def trace_layer(
    work: Work, plan: Plan, arch: Arch, *, shared_channel: bool = False, keep: bool = True, segments: bool = False
) -> LayerTrace:
    """Run one layer on the event model.

    Args:
        work: the layer's work.
        plan: its blocking on this machine.
        arch: the machine.
        shared_channel: loads and stores share one DMA channel, as in contract section 5.5.
        keep: keep intervals, phases and levels.
        segments: keep, with the intervals of a contraction, where the bytes of each DMA command lie.
    """
    recorder = Recorder(keep)
    if isinstance(work, ContractionWork) and isinstance(plan, ContractionPlan):
        blocks = list(contraction_blocks(work, plan, arch, segments=segments))
        cycles = ContractionModel(arch, blocks, recorder, shared_channel=shared_channel).run()
        events = _listed(_EVENTS, recorder.events)
    elif isinstance(work, StreamWork) and isinstance(plan, StreamPlan):
        model = StreamModel(arch, work, plan.blocks, recorder, shared_channel=shared_channel)
        cycles, events = model.run(), (*model.traffic(), *work.events)
    else:
        raise TypeError(f"{type(plan).__name__} does not plan {type(work).__name__}")
    timing = LayerTiming(cycles, _listed(_CLASSES, recorder.classes), events)
    return LayerTrace(timing, tuple(recorder.intervals), tuple(recorder.phases), tuple(recorder.levels))


def time_program_by_events(
    program: Program, arch: Arch, progress: Callable[[str, int, int], None] | None = None
) -> list[LayerTiming]:
    """Return the timing of every layer from the event model; layers follow each other without overlap (5.6).

    Args:
        program: the layers.
        arch: the machine.
        progress: called with (layer name, number of the layer, count of layers) after each layer.
    """
    timings = []
    for number, layer in enumerate(program.layers):
        timings.append(trace_layer(layer.work, layer.plan, arch, keep=False).timing)
        if progress is not None:
            progress(layer.name, number + 1, len(program.layers))
    return timings


def _listed(names: Sequence[str], counts: Counter[str]) -> tuple[tuple[str, int], ...]:
    """Return the counts that are not zero, in a fixed order."""
    return tuple((name, int(counts[name])) for name in names if counts[name])
