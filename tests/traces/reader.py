"""Readers of what the traces are written as: Perfetto's protobuf, VCD, and the load/store format of DRAM simulators."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TracePacket, TrackEvent


@dataclass
class Slice:
    """One slice of a track; depth 0 is outermost."""

    track: str
    name: str
    start: int
    depth: int
    details: dict[str, Any]
    outgoing: list[int]
    terminating: list[int]
    end: int = -1


@dataclass
class PerfettoTrace:
    """Tracks by number, slices in the order of their begin, samples of counters by name."""

    tracks: dict[int, str] = field(default_factory=dict)
    parents: dict[int, int] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    slices: list[Slice] = field(default_factory=list)
    samples: dict[str, list[tuple[int, float]]] = field(default_factory=lambda: defaultdict(list))

    def on(self, track: str) -> list[Slice]:
        """Return the slices of one track."""
        return [part for part in self.slices if part.track == track]


def read_perfetto(path: Path) -> PerfettoTrace:
    """Parse a trace; slices must nest and close, texts must have been interned before they are used."""
    trace, found = Trace(), PerfettoTrace()
    trace.ParseFromString(path.read_bytes())
    texts: dict[str, dict[int, str]] = defaultdict(dict)
    opened: dict[int, list[Slice]] = defaultdict(list)
    assert trace.packet[0].sequence_flags == TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
    assert {packet.trusted_packet_sequence_id for packet in trace.packet} == {1}
    for packet in trace.packet:
        if packet.HasField("track_descriptor"):
            described = packet.track_descriptor
            found.tracks[described.uuid] = described.name
            found.parents[described.uuid] = described.parent_uuid
            if described.HasField("counter"):
                found.units[described.name] = described.counter.unit_name
            continue
        for table in ("event_names", "debug_annotation_names", "debug_annotation_string_values"):
            for entry in getattr(packet.interned_data, table):
                texts[table][entry.iid] = entry.str.decode() if "string" in table else entry.name
        event = packet.track_event
        if event.type == TrackEvent.TYPE_COUNTER:
            exact = event.HasField("counter_value")
            value = event.counter_value if exact else event.double_counter_value
            found.samples[found.tracks[event.track_uuid]].append((packet.timestamp, value))
        elif event.type == TrackEvent.TYPE_SLICE_BEGIN:
            part = Slice(
                found.tracks[event.track_uuid],
                texts["event_names"][event.name_iid],
                packet.timestamp,
                len(opened[event.track_uuid]),
                {texts["debug_annotation_names"][a.name_iid]: _value(a, texts) for a in event.debug_annotations},
                list(event.flow_ids),
                list(event.terminating_flow_ids),
            )
            opened[event.track_uuid].append(part)
            found.slices.append(part)
        else:
            assert event.type == TrackEvent.TYPE_SLICE_END
            opened[event.track_uuid].pop().end = packet.timestamp
    assert not any(opened.values())
    return found


def _value(annotation: Any, texts: dict[str, dict[int, str]]) -> Any:
    kind = annotation.WhichOneof("value")
    if kind == "string_value_iid":
        return texts["debug_annotation_string_values"][annotation.string_value_iid]
    return getattr(annotation, kind)


@dataclass
class Waves:
    """A parsed VCD: changes (time, value) by the full name of a signal."""

    timescale: str
    signals: dict[str, list[tuple[int, str]]]
    end: int

    def spans(self, name: str, value: str) -> list[tuple[int, int]]:
        """Return the times from which until which a signal has a value."""
        changes = [*self.signals[name], (self.end, "")]
        return [(a, b) for (a, held), (b, _) in pairwise(changes) if held == value and a < b]


def read_vcd(path: Path) -> Waves:
    """Parse a value change dump; times must not go back."""
    header, _, body = path.read_text("ascii").partition("$enddefinitions $end\n")
    scopes: list[str] = []
    names: dict[str, str] = {}
    timescale = ""
    for line in header.splitlines():
        words = line.split()
        if words[0] == "$scope":
            scopes.append(words[2])
        elif words[0] == "$upscope":
            scopes.pop()
        elif words[0] == "$var":
            names[words[3]] = ".".join([*scopes, words[4]])
        elif words[0] == "$timescale":
            timescale = " ".join(words[1:-1])
    now, signals = 0, {name: [] for name in names.values()}
    for line in body.splitlines():
        if line.startswith("#"):
            assert int(line[1:]) >= now
            now = int(line[1:])
        elif not line.startswith("$"):
            value, _, code = line.partition(" ") if line[0] in "bsr" else (line[0], "", line[1:])
            if value.startswith("b"):
                value = value[1:] if "x" in value else str(int(value[1:], 2))
            signals[names[code]].append((now, value[1:] if value[0] in "sr" else value))
    return Waves(timescale, signals, now)


def read_accesses(path: Path) -> list[tuple[bool, int]]:
    """Parse lines of `LD 0xADDR` and `ST 0xADDR` as Ramulator 2 does: two words; returns (is a store, address)."""
    found = []
    for line in path.read_text("ascii").splitlines():
        word, address = line.split(" ")
        assert word in ("LD", "ST")
        assert address.startswith("0x")
        found.append((word == "ST", int(address, 16)))
    return found
