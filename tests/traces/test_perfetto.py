"""Perfetto traces, parsed back with the protobuf that their viewer uses."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

import accelsim
from accelsim.timing.event.recorder import ENGINES
from accelsim.timing.recurrence import time_program
from accelsim.timing.scene import View
from accelsim.traces.write import write_trace
from tests.planning import planned
from tests.tiers import deep, few
from tests.traces.reader import PerfettoTrace, read_perfetto

TRACKS = [name.upper() for name in ENGINES]
CAPACITY = {"operand buffers in use": 2, "accumulator banks in use": 3, "output buffers in use": 2}
ARCH = accelsim.Arch(array=(8, 8), acc_banks=3, keep_activations=False)


def traced(digits: Path, folder: Path, arch: accelsim.Arch = ARCH, view: View | None = None) -> PerfettoTrace:
    """Write a trace and read it back."""
    write_trace(accelsim.load(digits), arch, folder / "trace.pftrace", view=view)
    return read_perfetto(folder / "trace.pftrace")


@pytest.fixture
def trace(digits: Path, tmp_path: Path) -> PerfettoTrace:
    """The whole run of the digits network."""
    return traced(digits, tmp_path)


def test_there_is_a_track_for_everything(trace: PerfettoTrace) -> None:
    """One track per unit below one root, with counters that say their unit."""
    names = list(trace.tracks.values())
    assert names[0] == "digits_int8.onnx on 8x8 ws, 1 GHz"
    assert names[1:] == ["LAYERS", "ISSUE PORT", *TRACKS, *trace.units]
    assert set(trace.units) == {*CAPACITY, "DRAM read", "DRAM write"}
    assert {trace.parents[uuid] for uuid, name in trace.tracks.items() if name != names[0]} == {1}
    assert len(set(trace.tracks)) == len(trace.tracks)


@pytest.mark.parametrize("dataflow", few(["ws", "os", "is"], 1))
def test_slices_add_up_to_the_timings(digits: Path, tmp_path: Path, dataflow: str) -> None:
    """Layers, streaming on the array, classes of cycles and DRAM bytes are those of the recurrence."""
    arch = accelsim.Arch(array=(8, 8), dataflow=dataflow)
    trace = traced(digits, tmp_path, arch)
    program = planned(accelsim.load(digits).bind().graph, arch)
    timings = time_program(program, arch)
    run, *layers = trace.on("LAYERS")
    assert (run.name, run.depth, run.start, run.end) == ("run", 0, 0, sum(timing.cycles for timing in timings))
    expected = [(layer.name, timing) for layer, timing in zip(program.layers, timings, strict=True) if timing.cycles]
    start = 0
    for found, (name, timing) in zip(layers, expected, strict=True):
        inside = [part for part in trace.slices if part.details.get("layer") == name]
        assert (found.name, found.depth, found.start, found.end) == (name, 1, start, start + timing.cycles)
        assert all(found.start <= part.start < part.end <= found.end for part in inside)
        streamed = sum(part.end - part.start for part in inside if part.track == "ARRAY")
        assert streamed == timing.cycle_class("stream")
        classes: Counter[str] = Counter()
        for part in (part for part in inside if part.track == "ISSUE PORT"):
            classes[part.name] += part.end - part.start
        assert dict(classes) == dict(timing.classes)
        moved = sum(part.details["dram_bytes"] for part in inside if part.track in ("LOAD", "STORE"))
        assert moved == timing.dram_bytes
        start += timing.cycles


def test_no_track_shows_two_things_at_once(trace: PerfettoTrace) -> None:
    """On each engine slices follow each other; only the run holds other slices."""
    for track in ("ISSUE PORT", *TRACKS):
        parts = trace.on(track)
        assert parts, track
        assert {part.depth for part in parts} == {0}
        assert all(a.end <= b.start for a, b in pairwise(parts)), track
        assert all(part.end - part.start == part.details["cycles"] for part in parts)
        assert all(part.start == part.details["cycle"] for part in parts)


@pytest.mark.parametrize("channel", ["shared", "private"])
def test_loads_and_stores_share_a_channel_unless_told_otherwise(digits: Path, tmp_path: Path, channel: str) -> None:
    """On the shared channel, the default, no store is moved while a load is: what docs/traces.md says."""
    arch = accelsim.Arch(array=(8, 8), dram_channel=channel, keep_activations=False)
    trace = traced(digits, tmp_path, arch)
    moved = sorted((*trace.on("LOAD"), *trace.on("STORE")), key=lambda part: part.start)
    apart = all(a.end <= b.start for a, b in pairwise(moved))
    assert apart == (channel == accelsim.Arch().dram_channel)


def test_counters_stay_within_the_machine(trace: PerfettoTrace) -> None:
    """Buffers in use are between none and all of them and end at none; all of them are used at times."""
    for name, capacity in CAPACITY.items():
        values = [value for _, value in trace.samples[name]]
        assert min(values) == 0, name
        assert max(values) == (capacity if name != "accumulator banks in use" else 2), name
        assert values[-1] == 0, name
    for name in trace.units:
        times = [time for time, _ in trace.samples[name]]
        assert times[0] == 0
        assert all(a <= b for a, b in pairwise(times)), name


@pytest.mark.parametrize(("counter", "track"), [("DRAM read", "LOAD"), ("DRAM write", "STORE")])
def test_dram_rates_integrate_to_the_bytes(trace: PerfettoTrace, counter: str, track: str) -> None:
    """Bytes per cycle, summed over time, are the bytes of the transfers, and never more than the channel passes."""
    samples = trace.samples[counter]
    area = sum(value * (after[0] - time) for (time, value), after in pairwise(samples))
    assert area == pytest.approx(sum(part.details["dram_bytes"] for part in trace.on(track)))
    assert max(value for _, value in samples) <= 16
    assert samples[-1][1] == 0


@pytest.mark.parametrize("dataflow", few(["ws", "os", "is"], 1))
def test_flows_lead_from_load_to_compute_to_store(digits: Path, tmp_path: Path, dataflow: str) -> None:
    """Each flow passes existing slices of one layer in order of time; every load and every store is part of one."""
    trace = traced(digits, tmp_path, accelsim.Arch(array=(8, 8), dataflow=dataflow, keep_activations=False))
    flows = defaultdict(list)
    for part in trace.slices:
        for flow in (*part.outgoing, *part.terminating):
            flows[flow].append(part)
    routes = set()
    for flow, parts in flows.items():
        ordered = sorted(parts, key=lambda part: part.start)
        assert len(ordered) >= 2
        assert [flow in part.terminating for part in ordered] == [False] * (len(ordered) - 1) + [True]
        assert len({part.details["layer"] for part in ordered}) == 1
        assert len({part.details["block"] for part in ordered}) == 1
        assert all(a.end <= b.start for a, b in pairwise(ordered))
        routes.add(tuple(part.track for part in ordered))
    stationary = {("LOAD", "PUSH")} if dataflow != "os" else set()
    assert routes == stationary | {
        ("LOAD", "ARRAY"), ("ARRAY", "REQUANT", "STORE"), ("LOAD", "VECTOR"), ("VECTOR", "STORE"),
    }  # fmt: skip
    assert all(part.outgoing for part in trace.on("LOAD"))
    assert all(part.terminating for part in trace.on("STORE"))


def test_the_run_says_what_it_is(trace: PerfettoTrace) -> None:
    """Model, machine and the meaning of a nanosecond are shown with the slice of the run."""
    details = trace.on("LAYERS")[0].details
    assert details["model"] == "digits_int8.onnx"
    assert details["time"] == "1 cycle = 1 ns at 1 GHz"
    assert (details["array.rows"], details["array.dataflow"], details["array.drain_overlap"]) == (8, "ws", "True")


@pytest.mark.parametrize(("ghz", "ns", "cycles"), [(0.5, 2, 1), (0.7, 10, 7), (2.0, 500, 1), (1.5, 2000, 3)])
def test_time_follows_the_clock(digits: Path, tmp_path: Path, ghz: float, ns: int, cycles: int) -> None:
    """Above 1 GHz time is in picoseconds, which the trace says; no two cycles share a time stamp."""
    trace = traced(digits, tmp_path, accelsim.Arch(clock_ghz=ghz))
    for part in trace.slices:
        assert part.start == part.details["cycle"] * ns // cycles
        assert part.end > part.start
    assert ("1 ns is 1 ps" in trace.on("LAYERS")[0].details["time"]) == (ghz > 1)


def test_a_window_cuts_slices_at_its_edges(digits: Path, tmp_path: Path, trace: PerfettoTrace) -> None:
    """A window shows exactly what the whole trace shows in it; counters start with the value they have there."""
    first, last = 1500, 7000
    window = traced(digits, tmp_path, view=View(None, first, last))
    run = window.on("LAYERS")[0]
    assert (run.start, run.end) == (first, last)
    for track in ("ISSUE PORT", *TRACKS):
        whole = [(max(p.start, first), min(p.end, last)) for p in trace.on(track) if p.start < last and p.end > first]
        assert [(part.start, part.end) for part in window.on(track)] == whole, track
    for name in trace.units:
        for time in range(first, last, 97):
            assert level(window, name, time) == level(trace, name, time), (name, time)
    alive = Counter(flow for part in window.slices for flow in (*part.outgoing, *part.terminating))
    assert min(alive.values()) >= 2


def level(trace: PerfettoTrace, counter: str, time: int) -> float:
    """Return the value of a counter at a time."""
    return [value for at, value in trace.samples[counter] if at <= time][-1]


def test_layers_by_name_stay_where_they_are(digits: Path, tmp_path: Path, trace: PerfettoTrace) -> None:
    """--layer shows the same slices as the whole trace, at the same times."""
    chosen = traced(digits, tmp_path, view=View("pointwise"))
    assert [part.name for part in chosen.on("LAYERS")] == ["run", "pointwise1", "pointwise2", "pointwise3"]
    for part in chosen.on("ARRAY"):
        assert any((p.name, p.start, p.end) == (part.name, part.start, part.end) for p in trace.on("ARRAY"))


@deep
def test_equal_runs_write_equal_bytes(digits: Path, tmp_path: Path) -> None:
    """No dates, no random numbers."""
    for kind in ("pftrace", "vcd", "svg", "dram"):
        for name in ("a", "b"):
            write_trace(accelsim.load(digits), ARCH, tmp_path / f"{name}.{kind}", view=View("pointwise1"))
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes(), kind
