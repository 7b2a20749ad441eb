"""Cycles of a program: the recurrence of the timing contract, layer by layer (section 5.6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from accelsim.kernels.cycles import recurrence
from accelsim.machine.arch import Arch
from accelsim.operators.geometry import ConvolutionGeometry
from accelsim.program.layers import Program
from accelsim.program.plan import ContractionPlan, Plan, StreamPlan
from accelsim.program.scratchpads import once_more
from accelsim.program.stream_work import moved_entries
from accelsim.program.weight_layout import first_tile_bytes, pack_weights
from accelsim.program.work import ContractionWork, ImageLayout, StreamWork, Work
from accelsim.timing.boundary import ALONE, NOTHING_FOUND, Boundary, Surroundings, surroundings, takes_time
from accelsim.timing.layer_timing import LayerTiming, added

Counts = NDArray[np.int64]

# What the recurrence reads where rows of k elements are no feature map.
_NO_IMAGE = ImageLayout(1, 1, 1, 1, 1, ConvolutionGeometry((1, 1)))

DATAFLOWS = {"ws": recurrence.WS, "os": recurrence.OS, "is": recurrence.IS}


def time_layer(
    work: Work, plan: Plan, arch: Arch, around: Surroundings = ALONE, found: Boundary = NOTHING_FOUND
) -> LayerTiming:
    """Return the timing of one layer that starts at cycle 0 with empty buffers.

    Args:
        work: the layer's work.
        plan: its blocking on this machine.
        arch: the machine.
        around: what it loads for a later layer, and where its tensors lie; without addresses there is no row model.
        found: what the layer before it has left.
    """
    if work.repeats > 1:
        return _time_repeated(work, plan, arch, around, found)
    if isinstance(work, ContractionWork) and isinstance(plan, ContractionPlan):
        return _time_contraction(work, plan, arch, around, found)
    if isinstance(work, StreamWork) and isinstance(plan, StreamPlan):
        return _time_stream(work, plan, arch, around, found)
    raise TypeError(f"{type(plan).__name__} does not plan {type(work).__name__}")


def _time_repeated(work: Work, plan: Plan, arch: Arch, around: Surroundings, found: Boundary) -> LayerTiming:
    """Time what is done several times, one after the other, as if each time were a layer (contract, section 5.9).

    The first time finds what the layer before has left, the last one loads for the next layer; all others are alike.
    """
    between = replace(around, prefetch=None)
    first = time_layer(replace(work, repeats=1), plan, arch, between, found)
    again = once_more(work, arch) if isinstance(work, ContractionWork) else replace(work, repeats=1)
    middle = time_layer(again, plan, arch, between)
    last = middle if around.prefetch is None else time_layer(again, plan, arch, around)
    return added([(first, 1), (middle, work.repeats - 2), (last, 1)])


def time_program(program: Program, arch: Arch) -> list[LayerTiming]:
    """Return the timing of every layer; each starts when the one before it has ended (contract, section 5.6)."""
    found, timings = NOTHING_FOUND, []
    for layer, around in zip(program.layers, surroundings(program, arch), strict=True):
        if takes_time(layer):
            timings.append(time_layer(layer.work, layer.plan, arch, around, found))
        else:  # a view takes no cycles, and hands on what it finds
            timings.append(replace(time_layer(layer.work, layer.plan, arch), left=found))
        found = timings[-1].left
    return timings


def array_spec(arch: Arch) -> recurrence.ArraySpec:
    """Translate the machine into what the recurrence reads."""
    return recurrence.ArraySpec(
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
        shared_channel=int(arch.dram_channel == "shared"),
        row_bytes=arch.dram_row_bytes,
        row_miss=arch.dram_row_miss,
        banks=arch.dram_banks,
    )


def loop_spec(work: ContractionWork, plan: ContractionPlan) -> recurrence.LoopSpec:
    """Translate work and plan into what the recurrence reads."""
    image = work.image if work.image is not None else _NO_IMAGE
    window = image.geometry
    return recurrence.LoopSpec(
        m=work.m,
        k=work.k,
        n=work.n,
        groups=work.groups,
        pack=plan.pack,
        block_m=plan.block_m,
        block_n=plan.block_n,
        chunk_k=plan.chunk_k,
        resident=int(plan.resident),
        image=int(work.image is not None),
        height=image.height,
        width=image.width,
        out_height=image.out_height,
        out_width=image.out_width,
        kernel_h=window.kernel[0],
        kernel_w=window.kernel[1],
        stride_h=window.strides[0],
        stride_w=window.strides[1],
        dilation_h=window.dilations[0],
        dilation_w=window.dilations[1],
        pad_top=window.pads[0],
        pad_left=window.pads[1],
        dynamic_second=int(work.dynamic_second) + int(work.second_by_column),
        output_bytes=work.output_bytes,
        parameter_bytes=work.parameter_bytes,
        input_bytes=work.input_bytes,
        weight_bits=work.weight_bits,
        preload=int(plan.preload),
        insert_h=window.insertion[0],
        insert_w=window.insertion[1],
        row_sums=work.row_sums,
        first_bits=work.first_bits,
        second_bits=work.second_bits,
        output_bits=work.output_bits,
        outer_n=int(plan.outer == "n"),
        kept_first=int(plan.kept_input),
        kept_output=int(plan.kept_output),
    )


_NO_OFFSETS = np.zeros((1, 1, 1), np.int64)


def _time_contraction(
    work: ContractionWork, plan: ContractionPlan, arch: Arch, around: Surroundings, found: Boundary
) -> LayerTiming:
    machine = array_spec(arch.with_dataflow(plan.dataflow))
    classes, events, left = _counters()
    boundary, offsets = _boundary(arch, around, found), _NO_OFFSETS
    if around.addresses is None:
        machine = machine._replace(row_bytes=0)
    else:
        first, second = around.addresses.reads
        bases = {"first_base": first, "second_base": second, "output_base": around.addresses.writes[0]}
        boundary = boundary._replace(**bases)
        offsets = _NO_OFFSETS if work.dynamic_second else _weight_offsets(work, plan, arch.dram_burst)
    cycles = int(
        recurrence.contraction_timeline(machine, loop_spec(work, plan), boundary, offsets, classes, events, left)
    )
    return LayerTiming(cycles, _named(recurrence.CLASSES, classes), _named(recurrence.EVENTS, events), _left(left))


def _counters() -> tuple[Counts, Counts, Counts]:
    """Return what the kernels fill: classes, events, and what is left to the next layer."""
    return (
        np.zeros(len(recurrence.CLASSES), np.int64),
        np.zeros(len(recurrence.EVENTS), np.int64),
        np.zeros(2, np.int64),
    )


def _left(left: Counts) -> Boundary:
    """Translate what a kernel has left to the next layer."""
    return Boundary(int(left[0]), int(left[1]) if left[1] >= 0 else None)


def _boundary(arch: Arch, around: Surroundings, found: Boundary) -> recurrence.BoundarySpec:
    """Translate what a layer finds and what it loads for a later one."""
    ready = -1 if found.weights_ready is None else found.weights_ready
    fetch = around.prefetch
    if fetch is None:
        return recurrence.BoundarySpec(busy=found.busy, weights_ready=ready)
    return recurrence.BoundarySpec(
        busy=found.busy,
        weights_ready=ready,
        fetch_bytes=-(-first_tile_bytes(fetch.work, fetch.plan) // arch.dram_burst) * arch.dram_burst,
        fetch_waits=int(fetch.waits),
        fetch_address=fetch.address,
    )


def _weight_offsets(work: ContractionWork, plan: ContractionPlan, burst: int) -> Counts:
    """Return the first bytes of the tiles of packed weights, int64[groups, column blocks, chunks of depth]."""
    offsets = pack_weights(work, plan, burst).offsets
    shape = (-(-work.groups // plan.pack), -(-work.n // plan.block_n), -(-work.k // plan.chunk_k))
    return np.array(list(offsets.values()), np.int64).reshape(shape)


def _time_stream(work: StreamWork, plan: StreamPlan, arch: Arch, around: Surroundings, found: Boundary) -> LayerTiming:
    reads, writes = work.moved_reads(plan.kept_reads), work.moved_writes(plan.kept_writes)
    padded = [
        [count * -(-size // arch.dram_burst) * arch.dram_burst for count, size in part] for part in (reads, writes)
    ]
    spec = recurrence.StreamSpec(
        blocks=plan.blocks,
        read_bytes=sum(padded[0]),
        write_bytes=sum(padded[1]),
        lane_operations=work.lane_operations,
        lanes=arch.vector_lanes,
        latency=arch.vector_latency,
        operand_buffers=arch.operand_buffers,
        output_buffers=arch.output_buffers,
        bytes_per_cycle=arch.dram_bytes_per_cycle,
        dram_latency=arch.dram_latency,
        shared_channel=int(arch.dram_channel == "shared"),
        row_bytes=arch.dram_row_bytes if around.addresses is not None else 0,
        row_miss=arch.dram_row_miss,
        banks=arch.dram_banks,
    )
    places = [
        _places(around, side, sizes, kept)
        for side, sizes, kept in (("reads", padded[0], plan.kept_reads), ("writes", padded[1], plan.kept_writes))
    ]
    classes, events, left = _counters()
    cycles = int(recurrence.stream_timeline(spec, _boundary(arch, around, found), *places, classes, events, left))
    all_read, all_written = (sum(count * size for count, size in part) for part in (work.reads, work.writes))
    useful_read, useful_write = (sum(count * size for count, size in part) for part in (reads, writes))
    moved = (
        ("dram_read_bytes", sum(padded[0])),
        ("dram_write_bytes", sum(padded[1])),
        ("useful_read_bytes", useful_read),
        ("useful_write_bytes", useful_write),
    )
    extra = (
        ("kept_read_bytes", all_read - useful_read),
        ("kept_write_bytes", all_written - useful_write),
        ("dram_row_misses", int(events[recurrence.Event.DRAM_ROW_MISSES])),
    )
    counted = (*moved, *(pair for pair in extra if pair[1]), *work.events)
    return LayerTiming(cycles, _named(recurrence.CLASSES, classes), counted, _left(left))


def _places(around: Surroundings, side: str, sizes: list[int], kept: tuple[bool, ...]) -> Counts:
    """Return int64[entries, 2]: first byte and bytes of the entries that are moved; nothing without a row model."""
    if around.addresses is None:
        return np.zeros((0, 2), np.int64)
    starts = moved_entries(getattr(around.addresses, side), kept)
    return np.array(list(zip(starts, sizes, strict=True)), np.int64).reshape(-1, 2)


def _named(names: Sequence[str], values: np.typing.NDArray[np.int64]) -> tuple[tuple[str, int], ...]:
    """Pair names with the values that occur."""
    return tuple((name, int(value)) for name, value in zip(names, values, strict=True) if value)
