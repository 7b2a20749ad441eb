"""Perfetto traces: TrackEvent packets, one track per engine, counters for buffers and DRAM, flows along a block."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import IO, Any

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import (
    CounterDescriptor,
    TracePacket,
    TrackDescriptor,
    TrackEvent,
)
from perfetto.trace_builder.proto_builder import StreamingTraceProtoBuilder

from accelsim.machine.arch import Arch
from accelsim.timing.event.recorder import BUFFERS, ENGINES, Interval
from accelsim.timing.scene import Activity, Budget, Scene, rates
from accelsim.traces.clock import Clock
from accelsim.traces.flows import chains

LAYERS, ISSUE = "LAYERS", "ISSUE PORT"
COUNTERS = {
    "operand_buffers": ("operand buffers in use", "buffers"),
    "acc_banks": ("accumulator banks in use", "banks"),
    "output_buffers": ("output buffers in use", "buffers"),
    "load": ("DRAM read", "bytes/cycle"),
    "store": ("DRAM write", "bytes/cycle"),
}
_ROOT, _SEQUENCE = 1, 1


class PerfettoWriter:
    """Writes one trace, layer by layer, so that no more than one layer is in memory."""

    def __init__(self, file: IO[bytes], title: str, arch: Arch, scene: Scene, budget: Budget) -> None:
        self._builder = StreamingTraceProtoBuilder(file)
        self._arch, self._scene, self._budget, self._clock = arch, scene, budget, Clock(arch.clock_ghz)
        self._interned: dict[str, dict[str, int]] = defaultdict(dict)
        self._tracks: dict[str, int] = {}
        self._counter_values: dict[str, float] = {}
        self._flows = 0
        self._describe(title)

    # ------------------------------------------------------------------------------------------------- what is written

    def open(self, metadata: Mapping[str, str | int | float]) -> None:
        """Begin the slice of the whole run.

        Args:
            metadata: what the run is, shown with the slice.
        """
        stated = {
            **metadata,
            "time": str(self._clock),
            "first_cycle": self._scene.first,
            "last_cycle": self._scene.last,
        }
        self._begin(LAYERS, "run", self._scene.first, stated)
        for name in COUNTERS:
            self._count(name, self._scene.first, 0.0)

    def layer(self, activity: Activity) -> None:
        """Write one layer: its slice, its classes over time, its engines, its counters."""
        placed = activity.placed
        known = {"layer": placed.layer.name}
        self._begin(
            LAYERS,
            placed.layer.name,
            activity.start,
            {"operator": placed.layer.kind, "number": placed.number, "cycles": placed.timing.cycles},
        )
        for phase in activity.phases:
            self._slice(ISSUE, phase.what, phase, known | {"cycles": phase.end - phase.start})
        outgoing, terminating = self._flow_ids(activity)
        for place, part in enumerate(activity.intervals):
            name, details = _described(part)
            flows = outgoing.get(place, ()), terminating.get(place, ())
            self._slice(part.engine.upper(), name, part, known | details, *flows)
        for samples in activity.samples:
            for cycle, number in samples.points:
                self._count(samples.buffer, cycle, number)
        for engine in ("load", "store"):
            for cycle, rate in rates(activity, self._arch, engine):
                self._count(engine, cycle, rate)
        self._end(LAYERS, activity.end)

    def close(self) -> None:
        """End the slice of the run."""
        self._end(LAYERS, self._scene.last)

    # --------------------------------------------------------------------------------------------------------- packets

    def _describe(self, title: str) -> None:
        """Write the tracks: slices of layers and classes, the engines, the counters."""
        root = self._packet()
        root.sequence_flags = TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
        root.track_descriptor.uuid = _ROOT
        root.track_descriptor.name = title
        root.track_descriptor.description = str(self._clock)
        root.track_descriptor.child_ordering = TrackDescriptor.EXPLICIT
        self._builder.write_packet(root)
        units = dict(COUNTERS.values())
        names = [LAYERS, ISSUE, *(engine.upper() for engine in ENGINES), *units]
        for rank, name in enumerate(names):
            packet = self._packet()
            track = packet.track_descriptor
            track.uuid, track.parent_uuid, track.name, track.sibling_order_rank = _ROOT + 1 + rank, _ROOT, name, rank
            if name in units:
                track.counter.unit = CounterDescriptor.UNIT_UNSPECIFIED
                track.counter.unit_name = units[name]
            self._tracks[name] = track.uuid
            self._builder.write_packet(packet)

    def _packet(self, cycle: int | None = None) -> Any:
        packet = self._builder.create_packet()
        packet.trusted_packet_sequence_id = _SEQUENCE
        if cycle is not None:
            packet.timestamp = self._clock.stamp(cycle)
            packet.sequence_flags = TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
        return packet

    def _slice(
        self,
        track: str,
        name: str,
        part: Interval,
        details: Mapping[str, str | int | float],
        outgoing: Sequence[int] = (),
        terminating: Sequence[int] = (),
    ) -> None:
        self._begin(track, name, part.start, details, outgoing, terminating)
        self._end(track, part.end)

    def _begin(
        self,
        track: str,
        name: str,
        cycle: int,
        details: Mapping[str, str | int | float],
        outgoing: Sequence[int] = (),
        terminating: Sequence[int] = (),
    ) -> None:
        self._budget.take(1)
        packet = self._packet(cycle)
        event = packet.track_event
        event.type, event.track_uuid = TrackEvent.TYPE_SLICE_BEGIN, self._tracks[track]
        event.name_iid = self._intern(packet, "event_names", name)
        event.flow_ids.extend(outgoing)
        event.terminating_flow_ids.extend(terminating)
        for key, value in {"cycle": cycle, **details}.items():
            annotation = event.debug_annotations.add()
            annotation.name_iid = self._intern(packet, "debug_annotation_names", key)
            if isinstance(value, str):
                annotation.string_value_iid = self._intern(packet, "debug_annotation_string_values", value)
            elif isinstance(value, float):
                annotation.double_value = value
            else:
                annotation.int_value = value
        self._builder.write_packet(packet)

    def _end(self, track: str, cycle: int) -> None:
        packet = self._packet(cycle)
        packet.track_event.type = TrackEvent.TYPE_SLICE_END
        packet.track_event.track_uuid = self._tracks[track]
        self._builder.write_packet(packet)

    def _count(self, counter: str, cycle: int, value: float) -> None:
        """Write a sample unless the counter has this value already."""
        if self._counter_values.get(counter) == value:
            return
        self._counter_values[counter] = value
        self._budget.take(1)
        packet = self._packet(cycle)
        packet.track_event.type = TrackEvent.TYPE_COUNTER
        packet.track_event.track_uuid = self._tracks[COUNTERS[counter][0]]
        if counter in BUFFERS:
            packet.track_event.counter_value = int(value)
        else:
            packet.track_event.double_counter_value = value
        self._builder.write_packet(packet)

    def _intern(self, packet: Any, table: str, text: str) -> int:
        """Return the number of a text; a packet that uses it for the first time carries it."""
        known = self._interned[table]
        if text not in known:
            known[text] = len(known) + 1
            entry = getattr(packet.interned_data, table).add()
            entry.iid = known[text]
            if table == "debug_annotation_string_values":
                entry.str = text.encode("utf-8", "replace")
            else:
                entry.name = text
        return known[text]

    def _flow_ids(self, activity: Activity) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
        """Number the chains of a layer; returns the flows that begin or pass, and those that end, by slice."""
        outgoing: dict[int, list[int]] = defaultdict(list)
        terminating: dict[int, list[int]] = defaultdict(list)
        for chain in chains(activity.intervals, activity.placed.dataflow):
            self._flows += 1
            for place in chain[:-1]:
                outgoing[place].append(self._flows)
            terminating[chain[-1]].append(self._flows)
        return outgoing, terminating


def _described(part: Interval) -> tuple[str, dict[str, str | int | float]]:
    """Return the name of a slice and what it tells when it is clicked on."""
    details: dict[str, str | int | float] = {"block": part.block, "cycles": part.end - part.start}
    if part.what == "tile":
        return f"tile {part.block}.{part.tile}", details | {"tile": part.tile, "chunk": part.chunk}
    if part.moved is not None:
        details |= {"chunk": part.chunk, "dram_bytes": part.moved.burst_bytes}
        if part.moved.useful_bytes:
            details["useful_bytes"] = part.moved.useful_bytes
        if part.row_misses:
            details["row_misses"] = part.row_misses
    return f"{part.what} {part.block}", details
