"""Traces of what layers have to do with each other: prefetched weights, kept tensors, a shared channel, opened rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import accelsim
from accelsim.program.addresses import map_addresses
from accelsim.program.layers import Layer, Program
from accelsim.program.plan import ContractionPlan, StreamPlan
from accelsim.timing.event.run import time_program_by_events
from accelsim.timing.scene import Activity, Scene, View, rates, run_scene, set_scene, visible
from accelsim.traces.dram import Accesses, accesses
from accelsim.traces.write import FORMATS, write_trace
from tests.planning import planned
from tests.tiers import few
from tests.traces.reader import read_accesses, read_perfetto, read_vcd

SLOW = accelsim.Arch(
    dram_bytes_per_cycle=2, dram_latency=20, dram_channel="private", prefetch_weights=True, keep_activations=False
)
MACHINES = (
    SLOW,
    SLOW.evolve(dram_row_bytes=256, dram_banks=2),
    SLOW.evolve(dram_channel="shared", dram_row_bytes=512),
    SLOW.evolve(dataflow="is", dram_bytes_per_cycle=1, spm_weight="6KiB"),
)


def program_of(path: Path, arch: accelsim.Arch) -> Program:
    """Lower a model."""
    return planned(accelsim.load(path).bind().graph, arch)


def activities(scene: Scene, arch: accelsim.Arch) -> list[Activity]:
    """What a scene shows."""
    return [visible(scene, arch, placed, trace) for placed, trace in run_scene(scene, arch)]


def all_accesses(program: Program, arch: accelsim.Arch, view: View) -> list[Accesses]:
    """Bursts of every layer shown."""
    scene, addresses = set_scene("model", program, arch, view), map_addresses(program, arch)
    return [accesses(scene, arch, addresses, placed, trace) for placed, trace in run_scene(scene, arch, segments=True)]


def joined_loads(shown: list[Activity]) -> list[tuple[int, int]]:
    """Spans of LOAD over the run; the two halves of a load across a boundary touch."""
    return sorted((part.start, part.end) for one in shown for part in one.intervals if part.engine == "load")


def test_some_load_crosses_a_boundary(digits: Path) -> None:
    """The machines of this page show what it is about."""
    crossing = [any(t.left.busy for t in time_program_by_events(program_of(digits, arch), arch)) for arch in MACHINES]
    assert crossing[:2] == [True, True]


@pytest.mark.parametrize("arch", MACHINES)
def test_loads_stay_within_the_layers_and_never_overlap(digits: Path, arch: accelsim.Arch) -> None:
    """Layers add up to the run; a load across a boundary is cut there and goes on in the first cycle of the next."""
    program = program_of(digits, arch)
    scene = set_scene("digits", program, arch, View())
    shown = activities(scene, arch)
    assert [a.end for a in shown[:-1]] == [b.start for b in shown[1:]]
    assert (shown[0].start, shown[-1].end) == (0, scene.total)
    for one in shown:
        assert all(one.start <= part.start < part.end <= one.end for part in one.intervals)
        assert one.placed.timing.cycles == sum(part.end - part.start for part in one.phases)
    assert all(a[1] <= b[0] for a, b in pairwise(joined_loads(shown)))
    for before, after in pairwise(shown):
        residual = before.placed.timing.left.busy
        tail = [part for part in before.intervals if part.what == "prefetch" and part.end == before.end]
        head = [part for part in after.intervals if part.start == after.start and part.engine == "load"]
        if residual:
            assert len(tail) == 1 or before.end == before.start
            assert (head[0].what, head[0].end) == ("weights", after.start + residual)


@pytest.mark.parametrize("arch", few(MACHINES, 2))
def test_every_byte_is_moved_once(digits: Path, arch: accelsim.Arch) -> None:
    """Counters of bytes per cycle, and the bursts, add up to the traffic of the run; the same bursts as without."""
    program = program_of(digits, arch)
    scene = set_scene("digits", program, arch, View())
    total = sum(placed.timing.dram_bytes for placed in scene.layers)
    moved = 0.0
    for one in activities(scene, arch):
        for engine in ("load", "store"):
            points = rates(one, arch, engine)
            moved += sum((b[0] - a[0]) * a[1] for a, b in pairwise(points))
    assert moved == pytest.approx(total, rel=1e-9)
    found = all_accesses(program, arch, View())
    assert sum(len(part.addresses) for part in found) * arch.dram_burst == total
    cycles = np.concatenate([part.cycles for part in found])
    assert (np.diff(cycles) >= 0).all()
    bare = arch.evolve(prefetch_weights=False)
    expected = all_accesses(program_of(digits, bare), bare, View())
    counts = [
        Counter(zip(np.concatenate([p.addresses for p in parts]).tolist(), _stores(parts), strict=True))
        for parts in (found, expected)
    ]
    assert counts[0] == counts[1]


def _stores(parts: list[Accesses]) -> list[bool]:
    return [bool(store) for part in parts for store in part.stores]


@pytest.mark.parametrize("arch", few(MACHINES, 2))
def test_windows_and_layers_partition_the_bursts(digits: Path, arch: accelsim.Arch) -> None:
    """A layer shown alone begins with the rest of its weights; two windows that meet show every burst once."""
    program = program_of(digits, arch)
    whole = all_accesses(program, arch, View())
    placed = set_scene("digits", program, arch, View()).layers
    for part, expected in zip(placed, whole, strict=True):
        (alone,) = all_accesses(program, arch, View(None, part.start, part.end))
        assert alone.cycles.tolist() == expected.cycles.tolist()
        assert alone.addresses.tolist() == expected.addresses.tolist()
    middle = placed[3].start + placed[3].timing.cycles // 3
    halves = [all_accesses(program, arch, view) for view in (View(None, None, middle), View(None, middle))]
    assert sum(len(p.addresses) for half in halves for p in half) == sum(len(p.addresses) for p in whole)


def test_a_shared_channel_moves_one_thing_at_a_time(digits: Path) -> None:
    """Loads and stores of the whole run, also across boundaries."""
    arch = MACHINES[2]
    scene = set_scene("digits", program_of(digits, arch), arch, View())
    spans = sorted(
        (part.start, part.end)
        for one in activities(scene, arch)
        for part in one.intervals
        if part.engine in ("load", "store")
    )
    assert all(a[1] <= b[0] for a, b in pairwise(spans))


def keep(program: Program, name: str) -> Program:
    """Let a tensor stay on chip wherever it is written and read."""

    def kept(layer: Layer) -> Layer:
        reads, writes = name in layer.inputs[:1], name in layer.outputs
        if isinstance(layer.plan, ContractionPlan):
            return replace(layer, plan=replace(layer.plan, kept_input=reads, kept_output=writes))
        assert isinstance(layer.plan, StreamPlan)
        work = layer.work
        flags = (reads,) * len(work.reads[:1]) + (False,) * len(work.reads[1:]), (writes,) * len(work.writes)
        return replace(layer, plan=replace(layer.plan, kept_reads=flags[0], kept_writes=flags[1]))

    return replace(program, layers=tuple(kept(layer) for layer in program.layers))


@pytest.mark.parametrize("arch", [accelsim.Arch(keep_activations=False), MACHINES[1]])
def test_kept_tensors_leave_no_trace_in_dram(digits: Path, arch: accelsim.Arch) -> None:
    """For each tensor between two layers: no burst of its region, no load or store for it, all else as before."""
    program = program_of(digits, arch)
    readers: dict[str, int] = defaultdict(int)
    for layer in program.layers:
        for name in layer.inputs[:1]:
            readers[name] += 1
    names = [
        layer.outputs[0]
        for layer in program.layers
        if readers[layer.outputs[0]] == 1 == sum(layer.outputs[0] in other.inputs for other in program.layers)
        and layer.outputs[0] in {region.name for region in map_addresses(program, arch).regions}
    ]
    assert len(names) > 3
    regions = {region.name: region for region in map_addresses(program, arch).regions}
    before = _touched(program, arch)
    for name in names:
        region = regions[name]
        inside = range(region.base, region.base + -(-region.size // arch.dram_burst) * arch.dram_burst)
        assert any(address in inside for address, _ in before)
        after = _touched(keep(program, name), arch)
        expected = Counter({place: count for place, count in before.items() if place[0] not in inside})
        views = [layer for layer in program.layers if name in layer.inputs and layer.kind == "Flatten"]
        assert views or after == expected, name


def _touched(program: Program, arch: accelsim.Arch) -> Counter[tuple[int, bool]]:
    """How often each burst is read and written."""
    parts = all_accesses(program, arch, View())
    return Counter(zip(np.concatenate([p.addresses for p in parts]).tolist(), _stores(parts), strict=True))


@pytest.mark.parametrize("suffix", few([".pftrace", ".vcd", ".svg", ".dram"], [".vcd", ".dram"]))
def test_every_format_shows_prefetches(digits: Path, tmp_path: Path, suffix: str) -> None:
    """All of them can be written, read back, and show LOAD busy across the boundary."""
    arch, path = MACHINES[1], tmp_path / f"trace{suffix}"
    summary = write_trace(accelsim.load(digits), arch, path)
    scene = set_scene("digits", program_of(digits, arch), arch, View())
    loads = joined_loads(activities(scene, arch))
    busy = sum(end - start for start, end in loads)
    assert summary.total == scene.total
    if suffix == ".pftrace":
        slices = read_perfetto(path).on("LOAD")
        assert [(part.start, part.end) for part in slices] == loads
        assert any(part.name == "prefetch 0" and not part.outgoing for part in slices)
        assert all(part.details["row_misses"] > 0 for part in slices if "row_misses" in part.details)
    elif suffix == ".vcd":
        assert sum(b - a for a, b in read_vcd(path).spans("accelerator.load.busy", "1")) == busy
    elif suffix == ".svg":
        assert "prefetch" in path.read_text("utf-8") or FORMATS["svg"].limit > summary.events
    else:
        assert len(read_accesses(path)) * arch.dram_burst == sum(p.timing.dram_bytes for p in scene.layers)
