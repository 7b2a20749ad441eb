"""Channel, open rows, layer boundary and kept operands on the event model alone (contract, 5.5, 5.6 and 5.8)."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest
import simpy
from hypothesis import given, strategies as st

import accelsim
from accelsim.program.addresses import Addresses
from accelsim.program.plan import ContractionPlan, StreamPlan
from accelsim.program.work import ContractionWork, StreamWork
from accelsim.timing.boundary import Boundary, Prefetch, Surroundings
from accelsim.timing.event.channel import LOAD, STORE, Command, open_channels
from accelsim.timing.event.recorder import Interval, Recorder
from accelsim.timing.event.rows import OpenRows
from accelsim.timing.event.run import LayerTrace, time_program_by_events, trace_layer
from accelsim.timing.event.traffic import Moved, Segments, first_weights
from tests.planning import planned
from tests.tiers import drawn, examples, few
from tests.timing.strategies import (
    DATAFLOWS,
    Surrounded,
    assert_busy_once,
    checked,
    contractions,
    run,
    surrounded_contractions,
    surrounded_streams,
)

Spans = list[tuple[str, str, int, int]]


def spans(trace: LayerTrace, *engines: str) -> Spans:
    """What some engines did, by time."""
    parts = [(i.engine, i.what, i.start, i.end) for i in trace.intervals if i.engine in engines]
    return sorted(parts, key=lambda part: part[2:])


# ---------------------------------------------------------------------------------------------------------- the channel


def channel_machine(**parameters: object) -> accelsim.Arch:
    """A machine whose numbers are easy to add up: 10 bytes per cycle and burst, no latency."""
    return accelsim.Arch(dram_bytes_per_cycle=10, dram_burst=10, dram_latency=0, vector_lanes=1, **parameters)


@pytest.mark.parametrize(("latency", "first"), [(29, "store"), (30, "load"), (31, "load")])
def test_of_equal_requests_the_load_comes_first(latency: int, first: str) -> None:
    """Block 0 is computed one cycle before load 1 leaves the channel, with it, one cycle later.

    Loads take 40 cycles. Load 2 is requested when load 1 has left (cycle 80) and block 0 is computed; so is store 0,
    but not bound to load 1.
    """
    work = StreamWork("vector", ((1, 1200),), ((1, 150),), 30, (), 100)
    trace = trace_layer(work, StreamPlan(3), channel_machine(vector_latency=latency))
    order = [part for part in spans(trace, "load", "store") if part[2] >= 80]
    assert order[0][0] == first
    assert order[0][2] == max(80, 50 + latency)
    assert order[1][2] == order[0][3]  # the other one follows at once: it has waited


def test_a_load_and_a_store_from_one_event() -> None:
    """One operand buffer: the end of a block frees it and lets its store go, in the same cycle."""
    work = StreamWork("vector", ((1, 80),), ((1, 40),), 20, (), 100)
    trace = trace_layer(work, StreamPlan(2), channel_machine(operand_buffers=1, vector_latency=0))
    assert [(engine, *span) for engine, _, *span in spans(trace, "load", "store")] == [
        ("load", 0, 4), ("load", 14, 18), ("store", 18, 20), ("store", 28, 30)
    ]  # fmt: skip


def test_a_transfer_is_never_interrupted() -> None:
    """A short load that comes a cycle after a long store waits for all of it."""
    work = StreamWork("vector", ((1, 20),), ((1, 2000),), 2, (), 100)
    trace = trace_layer(work, StreamPlan(2), channel_machine(operand_buffers=1, vector_latency=0))
    assert [(engine, *span) for engine, _, *span in spans(trace, "load", "store")] == [
        ("load", 0, 1), ("load", 2, 3), ("store", 3, 103), ("store", 103, 203)
    ]  # fmt: skip


Commands = list[tuple[int, int]]  # (cycles after the command before, beats)


def naive_channel(loads: Commands, stores: Commands, busy: int) -> list[tuple[int, int, int]]:
    """Serve two queues cycle by cycle; returns (kind, start, end)."""
    queues, ready, served = [list(loads), list(stores)], [0, 0], []
    free = busy
    wanted: list[int | None] = [None, None]
    for cycle in itertools.count():
        for kind in (LOAD, STORE):  # whoever has waited long enough asks; commands without beats pass
            while wanted[kind] is None and queues[kind] and ready[kind] + queues[kind][0][0] == cycle:
                if queues[kind][0][1]:
                    wanted[kind] = cycle
                else:
                    ready[kind] = cycle
                    queues[kind].pop(0)
        if not any(queues):
            return served
        asking = [(time, kind) for kind, time in enumerate(wanted) if time is not None]
        if cycle >= free and asking:
            _, kind = min(asking)
            beats = queues[kind].pop(0)[1]
            served.append((kind, cycle, cycle + beats))
            free = ready[kind] = cycle + beats
            wanted[kind] = None
    raise AssertionError


@checked(400)
@given(*[st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5)), max_size=8)] * 2, st.integers(0, 12))
def test_the_channel_serves_as_a_cycle_by_cycle_twin(loads: Commands, stores: Commands, busy: int) -> None:
    """First come, first served, ties to the load, with many ties."""
    env, recorder = simpy.Environment(), Recorder()
    channels = open_channels(env, channel_machine(), recorder, None, busy=busy)

    def engine(kind: int, commands: Commands) -> Iterator[simpy.Event]:
        for number, (pause, beats) in enumerate(commands):
            for _ in range(pause):  # in single steps, which end as late within a cycle as anything
                yield env.timeout(1)
            yield from channels[kind].move(Moved(beats * 10), kind, Command("x", number), env.event())

    for kind, commands in ((STORE, stores), (LOAD, loads)):
        env.process(engine(kind, commands))
    env.run()
    found = [(("load", "store").index(part.engine), part.start, part.end) for part in recorder.intervals]
    assert found == naive_channel(loads, stores, busy)


# ------------------------------------------------------------------------------------------------------------ open rows


def naive_misses(bursts: Iterable[int], row_bytes: int, banks: int, opened: dict[int, int]) -> int:
    """Walk bursts one by one."""
    count = 0
    for burst in bursts:
        row = burst // row_bytes
        if opened.get(row % banks) != row:
            opened[row % banks] = row
            count += 1
    return count


def bursts_of(parts: Sequence[Segments], bases: dict[str, int], burst: int) -> Iterator[int]:
    """Address of every burst that segments touch."""
    for part in parts:
        for number in range(part.count):
            start = bases[part.operand] + part.start + number * part.stride
            yield from range(start // burst * burst, start + part.length, burst)


segments = st.builds(
    Segments,
    st.sampled_from(("first", "second")),
    st.integers(0, 400),
    st.integers(1, 150),
    st.integers(1, 4),
    st.integers(0, 200),
)


@checked(400)
@given(st.lists(st.lists(segments, max_size=3), max_size=6), st.integers(1, 5), st.integers(1, 4))
def test_rows_are_those_of_every_burst(commands: list[list[Segments]], bursts: int, banks: int) -> None:
    """Rows touched at once, against a dictionary of open rows that sees burst by burst."""
    arch = accelsim.Arch(dram_burst=12, dram_row_bytes=12 * bursts, dram_banks=banks)
    bases, opened = {"first": 24, "second": 1200}, dict[int, int]()
    rows = OpenRows(arch, bases)
    for command in commands:
        expected = naive_misses(bursts_of(command, bases, 12), arch.dram_row_bytes, banks, opened)
        assert rows.misses(command) == expected


def row_machine(**parameters: object) -> accelsim.Arch:
    """Rows of 100 bytes, 7 cycles to open one."""
    return channel_machine(dram_row_bytes=100, dram_row_miss=7, vector_latency=0, **parameters)


@pytest.mark.parametrize(("banks", "misses"), [(8, 5), (5, 5), (4, 7), (1, 10)])
def test_a_second_pass_finds_the_rows_that_no_bank_has_lost(banks: int, misses: int) -> None:
    """400 bytes from the middle of a row on, twice: five rows, of which a second pass finds those no bank has lost."""
    work = StreamWork("vector", ((1, 400), (1, 400)), (), 0, (), 100)
    around = Surroundings(None, Addresses((50, 50), ()))
    timing = trace_layer(work, StreamPlan(1), row_machine(dram_banks=banks), around).timing
    assert timing.event("dram_row_misses") == misses
    assert timing.cycles == 80 + misses * 7


@pytest.mark.parametrize(("channel", "misses"), [("shared", 4), ("private", 2)])
def test_channels_have_banks_of_their_own(channel: str, misses: int) -> None:
    """All loads in one row, all stores in another one of the same bank: load, load, store, load, store, store."""
    work = StreamWork("vector", ((1, 60),), ((1, 60),), 30, (), 100)
    around = Surroundings(None, Addresses((0,), (800,)))
    arch = row_machine(dram_channel=channel, operand_buffers=1)
    trace = trace_layer(work, StreamPlan(3), arch, around)
    order = [engine for engine, *_ in spans(trace, "load", "store")]
    assert order == ["load", "load", "store", "load", "store", "store"] or channel == "private"
    assert trace.timing.event("dram_row_misses") == misses


def test_rows_need_addresses() -> None:
    """Nothing is free because nobody said where it lies."""
    with pytest.raises(ValueError, match="addresses"):
        trace_layer(StreamWork("vector", ((1, 400),), (), 0, (), 100), StreamPlan(1), row_machine())


# -------------------------------------------------------------------------------------------------------- kept operands

SMALL = ContractionWork(4, 8, 4, 1, None, False, 1, 8)


def plain(**changes: object) -> ContractionPlan:
    """One block, whole."""
    return ContractionPlan(4, 4, 8, 1, resident=True, **changes)


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize(("kept_input", "kept_output"), [(False, False), (True, False), (False, True), (True, True)])
def test_kept_operands_are_not_moved(dataflow: str, kept_input: bool, kept_output: bool) -> None:
    """No load, ready at once; no store, complete with the requantisation."""
    arch = accelsim.Arch(array=(8, 8))
    plan = plain(kept_input=kept_input, kept_output=kept_output, dataflow=dataflow)
    trace = trace_layer(SMALL, plan, arch)
    moved = Counter(part.what for part in trace.intervals if part.engine in ("load", "store"))
    expected = {"weights": 1, "activations": 1 - kept_input, "outputs": 1 - kept_output}
    assert moved == {name: count for name, count in expected.items() if count}
    event = trace.timing.event
    assert (event("activation_fill_bytes"), event("useful_write_bytes")) == (
        32 * (not kept_input),
        16 * (not kept_output),
    )
    assert event("useful_read_bytes") == 64 + 32 * (not kept_input)
    requantised = next(part for part in trace.intervals if part.engine == "requant").end
    assert trace.timing.cycles == requantised + (0 if kept_output else 4 + arch.dram_latency)


def test_a_layer_that_keeps_everything_starts_at_once() -> None:
    """With its weights there at cycle 5, a WS layer pushes in cycle 5."""
    trace = trace_layer(
        SMALL, plain(kept_input=True, kept_output=True), accelsim.Arch(array=(8, 8)), found=Boundary(0, 5)
    )
    assert spans(trace, "load", "store") == []
    assert spans(trace, "push") == [("push", "tile", 5, 13)]
    assert trace.timing.event("weight_fill_bytes") == 64  # the bytes count here
    assert trace.timing.event("dram_read_bytes") == 64
    assert trace.timing.cycle_class("wait_w") == 5


def test_kept_entries_of_a_stream_are_left_out() -> None:
    """Bytes and rows of the rest, useful bytes of what stays."""
    work = StreamWork("vector", ((1, 95), (2, 43)), ((1, 21), (1, 30)), 0, (("vector_ops", 3),), 100)
    arch, plan = row_machine(), StreamPlan(1, (True, False), (False, True))
    around = Surroundings(None, Addresses((1000, 50), (300, 2000)))
    trace = trace_layer(work, plan, arch, around)
    assert dict(trace.timing.events) == {
        "dram_read_bytes": 100, "dram_write_bytes": 30, "useful_read_bytes": 86, "useful_write_bytes": 21,
        "kept_read_bytes": 95, "kept_write_bytes": 30, "dram_row_misses": 3, "vector_ops": 3,
    }  # fmt: skip
    nothing = trace_layer(work, StreamPlan(4, (True, True), (True, True)), arch, around)
    assert (nothing.timing.cycles, nothing.intervals) == (0, ())


@pytest.mark.parametrize("outer", ["n", "m"])
@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_the_outer_loop_says_what_is_loaded_again(dataflow: str, outer: str) -> None:
    """2 x 3 blocks that stay nowhere: the outer operand is loaded once per block of its loop, the inner one always."""
    work = ContractionWork(8, 8, 24, 1, None, False, 1, 0)
    plan = ContractionPlan(4, 8, 8, 1, False, dataflow=dataflow, outer=outer)
    trace = trace_layer(work, plan, accelsim.Arch(array=(8, 8)))
    count = Counter(part.what for part in trace.intervals if part.engine == "load")
    assert count == {"weights": 3, "activations": 6} if outer == "n" else {"weights": 6, "activations": 2}
    stays = ContractionPlan(4, 8, 8, 1, True, dataflow=dataflow, outer=outer)
    trace = trace_layer(work, stays, accelsim.Arch(array=(8, 8)))
    count = Counter(part.what for part in trace.intervals if part.engine == "load")
    assert count == {"weights": 3, "activations": 2}
    first = spans(trace, "load")[0][1]
    assert first == ("activations" if dataflow == "is" else "weights")


# --------------------------------------------------------------------------------------------------- the layer boundary

LATER = ContractionWork(4, 64, 16, 1, None, False, 1, 8)
LATER_PLAN = ContractionPlan(4, 16, 64, 1, resident=True)  # 1024 bytes of weights, 128 of parameters: 72 cycles


def fetching(waits: bool) -> Surroundings:
    """What a layer before LATER does."""
    return Surroundings(Prefetch(LATER, LATER_PLAN, waits))


@pytest.mark.parametrize("channel", ["shared", "private"])
def test_weights_are_loaded_behind_the_own_loads(channel: str) -> None:
    """With room at once, without room from the issue end of the last chunk on."""
    arch = accelsim.Arch(array=(8, 8), dram_channel=channel)
    alone = trace_layer(SMALL, plain(), arch)
    issue_end = spans(alone, "array")[-1][3]
    free = spans(alone, "load")[-1][3]
    for waits, start in ((False, free), (True, issue_end)):
        trace = trace_layer(SMALL, plain(), arch, fetching(waits))
        assert spans(trace, "load")[-1] == ("load", "prefetch", start, start + 72)
        assert trace.timing.events == alone.timing.events  # its bytes count in the layer that uses them
        end = trace.timing.cycles
        assert trace.timing.left == Boundary(max(0, start + 72 - end), max(0, start + 72 + 100 - end))
        assert end == alone.timing.cycles + (0 if channel == "private" or not waits else waiting_store(trace, alone))


def waiting_store(trace: LayerTrace, alone: LayerTrace) -> int:
    """How much later the store starts, which finds the channel busy."""
    late, due = (spans(part, "store")[0][2] for part in (trace, alone))
    assert late == spans(trace, "load")[-1][3] > due
    return late - due


@pytest.mark.parametrize(("latency", "first"), [(19, "store"), (20, "prefetch"), (21, "prefetch")])
def test_a_store_and_a_prefetch_of_the_same_cycle(latency: int, first: str) -> None:
    """Store 0 is requested one cycle before the issue end of block 1, with it, one cycle after it.

    Block 1 takes 3 folds of 16 steps behind block 0; block 0 drains for 12 cycles and is requantised in 16 + latency.
    """
    work = ContractionWork(32, 24, 4, 1, None, False, 1, 8)
    plan = ContractionPlan(16, 4, 24, 1, resident=False, kept_input=True)
    arch = channel_machine(array=(8, 4), requant_latency=latency)
    trace = trace_layer(work, plan, arch, fetching(True))
    issue_end, requantised = spans(trace, "array")[-1][3], spans(trace, "requant")[0][3]
    assert requantised == issue_end + latency - 20
    parts = [part for part in spans(trace, "load", "store") if part[2] >= min(issue_end, requantised)]
    assert parts[0][1] == ("outputs" if first == "store" else "prefetch")
    assert parts[0][2] == min(issue_end, requantised)
    assert parts[1][2] == parts[0][3]


def test_a_busy_load_engine_and_channel() -> None:
    """The first own load starts when the trailing one has left; one cycle later, one cycle later."""
    for busy in (0, 1, 2, 50):
        trace = trace_layer(SMALL, plain(), accelsim.Arch(array=(8, 8)), found=Boundary(busy))
        assert spans(trace, "load")[0] == ("load", "weights", busy, busy + 4)
    work = ContractionWork(1, 1, 1, 1, None, False, 1, 0)  # no load of its own: its store finds a busy channel
    plan = ContractionPlan(1, 1, 1, 1, resident=True, kept_input=True)
    for channel, start in (("shared", 30), ("private", 5)):
        arch = channel_machine(array=(1, 1), requant_latency=0, dram_channel=channel)
        trace = trace_layer(work, plan, arch, found=Boundary(30, 0))
        assert spans(trace, "store") == [("store", "outputs", start, start + 1)]


@pytest.mark.parametrize(("busy", "first"), [(5, "load"), (6, "store"), (4, "load")])
def test_requests_at_the_end_of_the_residual_load(busy: int, first: str) -> None:
    """A store that is requested in cycle 5 beside a load that LOAD cannot request before it has ended its own."""
    work = ContractionWork(1, 1, 1, 1, None, False, 1, 0)
    arch = channel_machine(array=(1, 1), requant_latency=0, operand_buffers=1)
    plan = ContractionPlan(1, 1, 1, 1, resident=True, kept_input=True)
    around = Surroundings(Prefetch(LATER, LATER_PLAN, waits=False))
    trace = trace_layer(work, plan, arch, around, Boundary(busy, 0))  # push, step, tail 2, requantise: cycle 5
    assert spans(trace, "requant")[0][3] == 5
    parts = spans(trace, "load", "store")
    assert parts[0][0] == first
    assert parts[0][2] == max(busy, 5) if first == "store" else parts[0][2] == busy
    assert parts[1][2] == parts[0][3]


def test_the_prefetched_bytes_are_those_of_the_first_chunk() -> None:
    """What is loaded ahead is what the layer itself would have loaded."""

    @checked(200)
    @given(st.sampled_from(DATAFLOWS).flatmap(lambda dataflow: contractions(dataflow)))
    def compare(case: tuple[accelsim.Arch, ContractionWork, ContractionPlan]) -> None:
        arch, work, plan = case
        if work.dynamic_second:
            return
        arch = arch.evolve(dram_row_bytes=0)
        own = next(part for part in trace_layer(work, plan, arch).intervals if part.what == "weights")
        ahead = first_weights(work, plan, arch.dram_burst)
        assert own.moved is not None
        assert (own.moved.burst_bytes, own.moved.useful_bytes) == (ahead.burst_bytes, ahead.useful_bytes)

    compare()


def test_a_program_is_chained(digits: Path) -> None:
    """Each layer starts with what the one before has left; views pass it on; bytes stay where they are used."""
    plain_arch = accelsim.Arch(dram_bytes_per_cycle=1, dram_latency=0, dram_channel="private")
    arch = plain_arch.evolve(prefetch_weights=True)
    program = planned(accelsim.load(digits).bind().graph, arch)
    without, ahead = time_program_by_events(program, plain_arch), time_program_by_events(program, arch)
    assert sum(t.cycles for t in ahead) < sum(t.cycles for t in without)
    assert [t.events for t in ahead] == [t.events for t in without]
    before = Boundary()
    for layer, timing in zip(program.layers, ahead, strict=True):
        if isinstance(layer.work, StreamWork) and layer.work.placement == "none":
            assert (timing.cycles, timing.left) == (0, before)
        before = timing.left
    assert any(timing.left.busy for timing in ahead)


# -------------------------------------------------------------------------------------------------------- random layers


@examples(40, 300)
@pytest.mark.parametrize("dataflow", few(DATAFLOWS, 2))
def test_random_contractions_among_other_layers(dataflow: str, count: int) -> None:
    """Invariants of everything at once."""

    @checked(count)
    @given(surrounded_contractions(dataflow))
    def check(case: Surrounded) -> None:
        check_layer(case)

    check()


@drawn(40, 300, surrounded_streams())
def test_random_streams_among_other_layers(case: Surrounded) -> None:
    """Layers without the array as well."""
    check_layer(case)


def check_layer(case: Surrounded) -> None:
    """Engines and channels do one thing at a time; rows and bytes add up; cycles are classes."""
    arch, _, _, around, found = case
    trace = run(case)
    timing, intervals = trace.timing, trace.intervals
    assert_busy_once(intervals)
    before = [Interval("load", "before", 0, found.busy)]
    moving = [part for part in intervals if part.engine in ("load", "store")]
    if arch.dram_channel == "shared":
        assert_busy_once(tuple(Interval("channel", i.what, i.start, i.end) for i in (*before, *moving)))
    assert_busy_once((*before, *(part for part in intervals if part.engine == "load")))
    assert sum(dict(timing.classes).values()) == timing.cycles
    assert run(case, keep=False).timing == timing
    late = [part for part in intervals if part.end > timing.cycles]
    assert all(part.what == "prefetch" for part in late)
    assert timing.left.busy == (late[0].end - timing.cycles if late else 0)
    assert (timing.left.weights_ready is None) == (around.prefetch is None)
    check_bytes(case, trace)
    if arch.dram_row_bytes:
        check_rows(case, trace)


def check_bytes(case: Surrounded, trace: LayerTrace) -> None:
    """What commands move is what is counted, but for weights that are loaded in one layer and count in another."""
    arch, work, plan, _, found = case
    own = [part for part in trace.intervals if part.moved is not None and part.what != "prefetch"]
    read, written = (sum(p.moved.burst_bytes for p in own if p.engine == name) for name in ("load", "store"))
    if isinstance(work, ContractionWork) and found.weights_ready is not None:
        read += first_weights(work, plan, arch.dram_burst).burst_bytes
    assert (read, written) == (trace.timing.event("dram_read_bytes"), trace.timing.event("dram_write_bytes"))


def check_rows(case: Surrounded, trace: LayerTrace) -> None:
    """Walk every burst in the order of the commands; the channel is busy for the beats and the rows that opens."""
    arch, work, _, around, _ = case
    assert around.addresses is not None
    where = around.addresses
    bases = {"read": 0, "written": 0}
    if isinstance(work, ContractionWork):
        bases = dict(zip(("first", "second", "output"), (*where.reads, *where.writes), strict=True))
    if around.prefetch is not None:
        bases["prefetch"] = around.prefetch.address
    shared, opened = arch.dram_channel == "shared", ({}, {})
    total = 0
    for part in sorted(trace.intervals, key=lambda part: part.start):
        if part.moved is None:
            continue
        bursts = bursts_of(part.moved.segments, bases, arch.dram_burst)
        rows = opened[0 if shared or part.engine == "load" else 1]
        misses = naive_misses(bursts, arch.dram_row_bytes, arch.dram_banks, rows)
        assert part.row_misses == misses
        beats = -(-part.moved.burst_bytes // arch.dram_bytes_per_cycle)
        assert part.end - part.start == beats + misses * arch.dram_row_miss
        total += misses
    assert trace.timing.event("dram_row_misses") == total
