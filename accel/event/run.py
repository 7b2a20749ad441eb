"""Times layers and programs on the event model; the same results as accelsim.timing, found another way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from accelsim.arch import Arch
from accelsim.event.commands import contraction_blocks
from accelsim.event.contraction import ContractionModel
from accelsim.event.recorder import Interval, Recorder
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
    """Timing of a layer and when each engine was busy, in cycles since its start."""

    timing: LayerTiming
    intervals: tuple[Interval, ...]


def trace_layer(work: Work, plan: Plan, arch: Arch, *, shared_channel: bool = False, keep: bool = True) -> LayerTrace:
    """Run one layer on the event model.

    Args:
        work: the layer's work.
        plan: its blocking on this machine.
        arch: the machine.
        shared_channel: loads and stores share one DMA channel, as in contract section 5.5.
        keep: keep the intervals.
    """
    recorder = Recorder(keep)
    if isinstance(work, ContractionWork) and isinstance(plan, ContractionPlan):
        blocks = list(contraction_blocks(work, plan, arch))
        cycles = ContractionModel(arch, blocks, recorder, shared_channel=shared_channel).run()
        events = _listed(_EVENTS, recorder.events)
    elif isinstance(work, StreamWork) and isinstance(plan, StreamPlan):
        model = StreamModel(arch, work, plan.blocks, recorder, shared_channel=shared_channel)
        cycles, events = model.run(), (*model.traffic(), *work.events)
    else:
        raise TypeError(f"{type(plan).__name__} does not plan {type(work).__name__}")
    timing = LayerTiming(cycles, _listed(_CLASSES, recorder.classes), events)
    return LayerTrace(timing, tuple(recorder.intervals))


def time_program_by_events(program: Program, arch: Arch) -> list[LayerTiming]:
    """Return the timing of every layer from the event model; layers follow each other without overlap (5.6)."""
    return [trace_layer(layer.work, layer.plan, arch, keep=False).timing for layer in program.layers]


def _listed(names: Sequence[str], counts: Counter[str]) -> tuple[tuple[str, int], ...]:
    """Return the counts that are not zero, in a fixed order."""
    return tuple((name, int(counts[name])) for name in names if counts[name])
