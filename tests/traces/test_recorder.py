"""What the event model records beside its results: classes over time, buffers in use, segments of commands."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

import accelsim
from accelsim.program.plan import ContractionPlan
from accelsim.program.weight_layout import pack_weights
from accelsim.program.work import ContractionWork
from accelsim.timing.event.recorder import BUFFERS
from accelsim.timing.event.run import LayerTrace, trace_layer
from accelsim.timing.layer_timing import LayerTiming
from tests.tiers import drawn, examples, few
from tests.timing.strategies import (
    DATAFLOWS,
    Surrounded,
    checked,
    run,
    surrounded_contractions,
    surrounded_streams,
)

OPERANDS = {"activations": "first", "weights": "second", "outputs": "output", "prefetch": "prefetch"}


def assert_phases_partition(trace: LayerTrace) -> None:
    """The phases cover every cycle of the layer once and add up to the classes."""
    ordered = sorted(trace.phases, key=lambda phase: phase.start)
    assert all(a.end == b.start for a, b in pairwise(ordered))
    if ordered:
        assert (ordered[0].start, ordered[-1].end) == (0, trace.timing.cycles)
    found: Counter[str] = Counter()
    for phase in ordered:
        found[phase.what] += phase.end - phase.start
    assert dict(found) == dict(trace.timing.classes)


def assert_buffers_suffice(trace: LayerTrace, arch: accelsim.Arch) -> None:
    """Never more buffers in use than there are, never fewer than none, none at the end."""
    for buffer in BUFFERS:
        changes: dict[int, int] = defaultdict(int)
        for level in trace.levels:
            if level.buffer == buffer:
                changes[level.cycle] += level.change
        number = 0
        for cycle in sorted(changes):
            number += changes[cycle]
            assert 0 <= number <= getattr(arch, buffer), (buffer, cycle)
        assert number == 0, buffer


@examples(40, 300)
@pytest.mark.parametrize("dataflow", few(DATAFLOWS, 1))
def test_phases_and_buffers_of_random_contractions(dataflow: str, count: int) -> None:
    """Also with one channel for both directions, and among other layers; what is kept changes no result."""

    @checked(count)
    @given(surrounded_contractions(dataflow))
    def compare(case: Surrounded) -> None:
        trace = run(case)
        assert_phases_partition(trace)
        assert_buffers_suffice(trace, case[0])
        assert_equal_without_keeping(case, trace.timing)

    compare()


def assert_equal_without_keeping(case: Surrounded, timing: LayerTiming) -> None:
    """Without intervals, and with segments, the result is the same."""
    bare = run(case, keep=False)
    assert (bare.intervals, bare.phases, bare.levels) == ((), (), ())
    assert bare.timing == timing
    assert run(case, segments=True).timing == timing


@drawn(40, 300, surrounded_streams())
def test_phases_and_buffers_of_random_streams(case: Surrounded) -> None:
    """Layers without the array as well, also where they move or compute nothing."""
    trace = run(case)
    assert_phases_partition(trace)
    assert_buffers_suffice(trace, case[0])


@drawn(40, 300, st.sampled_from(DATAFLOWS).flatmap(surrounded_contractions))
def test_segments_are_the_bytes_of_their_command(case: Surrounded) -> None:
    """Segment by segment the bursts add up to what the command moves; weights' tiles do not overlap."""
    arch, work, plan, *_ = case
    assert isinstance(work, ContractionWork)
    assert isinstance(plan, ContractionPlan)
    trace, burst = run(case, segments=True), arch.dram_burst
    weights: dict[int, int] = {}
    for part in trace.intervals:
        if part.engine not in ("load", "store"):
            continue
        assert part.moved is not None
        bursts = useful = 0
        for segment in part.moved.segments:
            for number in range(segment.count):
                start = segment.start + number * segment.stride
                bursts += (start + segment.length - 1) // burst - start // burst + 1
            useful += segment.count * segment.length
            assert segment.operand == OPERANDS[part.what]
            if part.what == "weights" and not work.dynamic_second:
                assert weights.setdefault(segment.start, segment.length) == segment.length
        assert (bursts * burst, useful) == (part.moved.burst_bytes, part.moved.useful_bytes)
    ends = [(start, start + length) for start, length in sorted(weights.items())]
    assert all(a[1] <= b[0] for a, b in pairwise(ends))
    if ends:
        assert ends[-1][1] <= pack_weights(work, plan, burst).size


def test_without_segments_commands_carry_none() -> None:
    """The normal path does not build what nobody asked for."""
    work = ContractionWork(4, 8, 4, 1, None, False, 1, 8)
    trace = trace_layer(work, ContractionPlan(4, 4, 8, 1, True), accelsim.Arch())
    assert all(part.moved is None or part.moved.segments == () for part in trace.intervals)
    assert sum(part.moved is not None for part in trace.intervals) == 3
