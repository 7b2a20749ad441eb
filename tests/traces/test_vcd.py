"""VCD waveforms, read back by a small reader of our own."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

import accelsim
from accelsim.timing.event.recorder import BUFFERS, ENGINES
from accelsim.timing.event.run import trace_layer
from accelsim.timing.scene import View
from accelsim.traces.write import write_trace
from tests.planning import planned
from tests.traces.reader import Waves, read_vcd

ARCH = accelsim.Arch(array=(8, 8))


def waves(digits: Path, folder: Path, arch: accelsim.Arch = ARCH, view: View | None = None) -> Waves:
    """Write waveforms and read them back."""
    write_trace(accelsim.load(digits), arch, folder / "waves.vcd", view=view)
    return read_vcd(folder / "waves.vcd")


def joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join spans that touch."""
    whole: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if whole and whole[-1][1] == start:
            start = whole.pop()[0]
        whole.append((start, end))
    return whole


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
def test_wires_are_high_when_engines_are_busy(digits: Path, tmp_path: Path, dataflow: str) -> None:
    """Exactly in the intervals of the event model, layer after layer; classes add up as well."""
    arch = accelsim.Arch(array=(8, 8), dataflow=dataflow)
    found = waves(digits, tmp_path, arch)
    busy: dict[str, list[tuple[int, int]]] = {engine: [] for engine in ENGINES}
    classes: Counter[str] = Counter()
    start = 0
    for layer in planned(accelsim.load(digits).bind().graph, arch).layers:
        trace = trace_layer(layer.work, layer.plan, arch)
        for part in trace.intervals:
            busy[part.engine].append((part.start + start, part.end + start))
        classes.update(dict(trace.timing.classes))
        start += trace.timing.cycles
    assert found.end == start
    for engine, spans in busy.items():
        assert joined(found.spans(f"accelerator.{engine}.busy", "1")) == joined(spans), engine
    name = "accelerator.issue.cycle_class"
    for known, cycles in classes.items():
        assert sum(b - a for a, b in found.spans(name, known)) == cycles, known


def test_buffers_are_counted(digits: Path, tmp_path: Path) -> None:
    """Integers between none and the number of buffers, none at the end."""
    found = waves(digits, tmp_path, accelsim.Arch(keep_activations=False))
    for buffer in BUFFERS:
        values = [int(value) for _, value in found.signals[f"accelerator.buffers.{buffer}"]]
        assert (min(values), max(values), values[-1]) == (0, 2, 0), buffer


def test_layers_are_named(digits: Path, tmp_path: Path) -> None:
    """Name and number of the layer follow the program; both stay for as long as the layer takes."""
    found = waves(digits, tmp_path, view=View("wise"))
    result = accelsim.run(digits, ARCH, values=False)
    for number, layer in enumerate(result.layers):
        spans = found.spans("accelerator.layer.name", layer.name)
        assert [b - a for a, b in spans] == ([layer.cycles] if "wise" in layer.name else []), layer.name
        if spans and layer.name != "pointwise3":
            assert found.spans("accelerator.layer.number", str(number))[0][0] == spans[0][0]


def test_a_window_begins_and_ends_where_it_should(digits: Path, tmp_path: Path) -> None:
    """All times lie in the window, and wires show what the whole file shows there."""
    first, last = 2000, 5000
    whole, window = waves(digits, tmp_path), waves(digits, tmp_path, view=View(None, first, last))
    times = [time for changes in window.signals.values() for time, _ in changes]
    assert (min(times), max(times), window.end) == (first, last, last)
    for engine in ENGINES:
        name = f"accelerator.{engine}.busy"
        spans = [(max(a, first), min(b, last)) for a, b in whole.spans(name, "1") if a < last and b > first]
        assert joined(window.spans(name, "1")) == joined(spans), engine


@pytest.mark.parametrize(("ghz", "timescale", "ratio"), [(1.0, "1 ns", 1), (0.5, "1 ns", 2), (2.0, "1 ps", 500)])
def test_time_follows_the_clock(digits: Path, tmp_path: Path, ghz: float, timescale: str, ratio: int) -> None:
    """Nanoseconds up to 1 GHz, picoseconds above."""
    found = waves(digits, tmp_path, accelsim.Arch(clock_ghz=ghz))
    assert found.timescale == timescale
    assert found.end == accelsim.run(digits, accelsim.Arch(clock_ghz=ghz), values=False).cycles * ratio


def test_times_never_repeat_a_value(digits: Path, tmp_path: Path) -> None:
    """A change is a change: no signal is written with the value it has."""
    for name, changes in waves(digits, tmp_path).signals.items():
        assert all(before[1] != after[1] for before, after in pairwise(changes)), name
