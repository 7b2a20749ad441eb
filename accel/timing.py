"""Cycles of a program: the recurrence of the timing contract, layer by layer, with a barrier between layers (5.6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from accelsim.arch import Arch
from accelsim.kernels import timeline
from accelsim.plan import ContractionPlan, Plan, StreamPlan
from accelsim.program import Program
from accelsim.work import ContractionWork, ImageLayout, StreamWork, Work

DATAFLOWS = {"ws": timeline.WS, "os": timeline.OS, "is": timeline.IS}


@dataclass(frozen=True)
class LayerTiming:
    """Cycles of one layer by class (they sum to the cycles), and what happened in it.

    classes: see docs/timing_contract.md, sections 4.3 and 5.7.
    events: counts of timing contract section 6, bytes, and arithmetic of the vector unit.
    """

    cycles: int
    classes: tuple[tuple[str, int], ...]
    events: tuple[tuple[str, int], ...]

    def cycle_class(self, name: str) -> int:
        """Return the cycles of one class, 0 when it does not occur."""
        return dict(self.classes).get(name, 0)

    def event(self, name: str) -> int:
        """Return one count, 0 when it does not occur."""
        return dict(self.events).get(name, 0)

    @property
    def dram_bytes(self) -> int:
        """DRAM traffic in both directions, in whole bursts."""
        return self.event("dram_read_bytes") + self.event("dram_write_bytes")


def time_layer(work: Work, plan: Plan, arch: Arch) -> LayerTiming:
    """Return the timing of one layer that starts at cycle 0 with empty buffers.

    Args:
        work: the layer's work.
        plan: its blocking on this machine.
        arch: the machine.
    """
    if isinstance(work, ContractionWork) and isinstance(plan, ContractionPlan):
        return _time_contraction(work, plan, arch)
    if isinstance(work, StreamWork) and isinstance(plan, StreamPlan):
        return _time_stream(work, plan, arch)
    raise TypeError(f"{type(plan).__name__} does not plan {type(work).__name__}")


def time_program(program: Program, arch: Arch) -> list[LayerTiming]:
    """Return the timing of every layer; layers follow each other without overlap (contract, section 5.6)."""
    return [time_layer(layer.work, layer.plan, arch) for layer in program.layers]


def array_spec(arch: Arch) -> timeline.ArraySpec:
    """Translate the machine into what the recurrence reads."""
    return timeline.ArraySpec(
        rows=arch.rows,
        cols=arch.cols,
        dataflow=DATAFLOWS[arch.dataflow],
        double_buffer=int(arch.weight_double_buffer),
        drain_overlap=int(arch.drain_overlap),
        flush=int(arch.flush_between_tiles),
        full_load=int(arch.weight_load == "full"),
        gather_words=arch.x_gather_words_per_cycle or 0,
        acc_banks=arch.acc_banks,
        operand_buffers=arch.operand_buffers,
        output_buffers=arch.output_buffers,
        requant_lanes=arch.requantiser_lanes,
        requant_latency=arch.requant_latency,
        bytes_per_cycle=arch.dram_bytes_per_cycle,
        dram_latency=arch.dram_latency,
        burst=arch.dram_burst,
    )


def loop_spec(work: ContractionWork, plan: ContractionPlan) -> timeline.LoopSpec:
    """Translate work and plan into what the recurrence reads."""
    image = work.image
    geometry = _image_fields(image) if image is not None else (0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0)
    return timeline.LoopSpec(  # type: ignore[call-arg] # the unpacked part has exactly the middle fields
        work.m, work.k, work.n, work.groups, plan.pack, plan.block_m, plan.block_n, plan.chunk_k, int(plan.resident),
        *geometry, int(work.dynamic_second), work.output_bytes, work.parameter_bytes,
        work.input_bytes, work.weight_bits, int(plan.preload), *(image.geometry.insertion if image else (1, 1)),
        work.row_sums, work.first_bits, work.second_bits, work.output_bits,
    )  # fmt: skip


def _image_fields(image: ImageLayout) -> tuple[int, ...]:
    """Return the fields of LoopSpec from `image` to `pad_left`."""
    window = image.geometry
    sizes = (1, image.height, image.width, image.out_height, image.out_width)
    return (*sizes, *window.kernel, *window.strides, *window.dilations, *window.pads[:2])


def _time_contraction(work: ContractionWork, plan: ContractionPlan, arch: Arch) -> LayerTiming:
    classes = np.zeros(len(timeline.CLASSES), np.int64)
    events = np.zeros(len(timeline.EVENTS), np.int64)
    cycles = int(timeline.contraction_timeline(array_spec(arch), loop_spec(work, plan), classes, events))
    return LayerTiming(cycles, _named(timeline.CLASSES, classes), _named(timeline.EVENTS, events))


def _time_stream(work: StreamWork, plan: StreamPlan, arch: Arch) -> LayerTiming:
    burst = arch.dram_burst
    read, write = (sum(count * -(-size // burst) * burst for count, size in part) for part in (work.reads, work.writes))
    spec = timeline.StreamSpec(
        plan.blocks,
        read,
        write,
        work.lane_operations,
        arch.vector_lanes,
        arch.vector_latency,
        arch.operand_buffers,
        arch.output_buffers,
        arch.dram_bytes_per_cycle,
        arch.dram_latency,
    )
    classes = np.zeros(len(timeline.CLASSES), np.int64)
    cycles = int(timeline.stream_timeline(spec, classes))
    useful_read, useful_write = (sum(count * size for count, size in part) for part in (work.reads, work.writes))
    moved = (
        ("dram_read_bytes", read),
        ("dram_write_bytes", write),
        ("useful_read_bytes", useful_read),
        ("useful_write_bytes", useful_write),
    )
    return LayerTiming(cycles, _named(timeline.CLASSES, classes), (*moved, *work.events))


def _named(names: Sequence[str], values: np.typing.NDArray[np.int64]) -> tuple[tuple[str, int], ...]:
    """Pair names with the values that occur."""
    return tuple((name, int(value)) for name, value in zip(names, values, strict=True) if value)
