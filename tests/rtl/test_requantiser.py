"""The requantiser in RTL: its arithmetic word by word, its pipeline, the second accumulator bank and whole layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from accelsim.kernels import numerics
from tests.rtl import drawing, recurrence, reference, tools, words
from tests.rtl.cases import Case, Transfers, simulate, tiles
from tests.rtl.comparison import layer_differences, report
from tests.rtl.conftest import SHAPES, SQUARE, Probe, Programs
from tests.rtl.recurrence import Memory
from tests.rtl.tools import Build
from tests.tiers import few

ROWS, COLUMNS = SQUARE.rows, SQUARE.columns
TAIL = ROWS + COLUMNS


# --------------------------------------------------------------------------------------------------------- arithmetic


@pytest.fixture(scope="module")
def lane() -> Path:
    """One requantiser lane for sums of up to 64 bits."""
    tools.require("verilator")
    return tools.build(*words.LANE)


@pytest.mark.parametrize("bits", [9, 24, 25, 32, 33, 48, 64])
def test_float_words_equal_numpy(lane: Path, bits: int) -> None:
    """Sums of every magnitude, scales from 1e-11 to 100, signed and unsigned outputs (section 2)."""
    for zero_point, bounds in ((0, (-128, 127)), (-128, (-128, 127)), (128, (0, 255)), (7, (-32768, 32767))):
        drawn = words.random_floats(bits, zero_point, bounds)
        assert np.array_equal(drawn.through(lane), drawn.expected())


def test_exact_ties_go_to_the_even_output(lane: Path) -> None:
    """Products that end in .5 exactly, around every output and with many multipliers."""
    ties = words.exact_ties()
    exact = ties.sums * ties.columns.multiplier.view(np.float32).astype(np.float64)
    assert (abs(exact % 1) == 0.5).sum() > 100_000
    assert np.array_equal(ties.through(lane), np.rint(exact))


@pytest.mark.parametrize("factor", [1, 3])
def test_every_rounding_to_float_is_to_even(lane: Path, factor: int) -> None:
    """A tie in fl32(A), or in the product, decides a tie of the output."""
    drawn = words.double_roundings(factor)
    found = drawn.through(lane)
    assert np.array_equal(found, drawn.expected())
    assert np.array_equal(abs(found), abs(drawn.sums) * factor >> 10)


def test_fixed_point_words_equal_big_integers(lane: Path) -> None:
    """Multipliers of every shift, the saturating corner INT_MIN * INT_MIN, ties of both roundings (section 2)."""
    drawn = words.fixed_points()
    expected = drawn.expected()
    assert np.array_equal(drawn.through(lane), expected)
    assert len(set(expected.tolist())) > 5_000


def test_the_datapath_scales_as_the_rtl_does(lane: Path) -> None:
    """The kernels of the project give the RTL's outputs, in both modes."""
    fixed, single = words.fixed_points(6000), words.random_floats(32, 0, words.WIDE, 6000)
    for drawn in (fixed, single):
        rows = zip(drawn.sums.tolist(), drawn.columns.multiplier, drawn.columns.shift.tolist(), strict=True)
        scaled = [
            int(numerics.scale_fixed(value, int(factor.view(np.int32)), shift))
            if drawn.columns.fixed_point
            else int(numerics.clamp_then_round(np.float32(value) * factor.view(np.float32), 0, *words.WIDE))
            for value, factor, shift in rows
        ]
        expected = np.clip(np.array(scaled) + drawn.columns.zero_point, *words.WIDE)
        assert np.array_equal(drawn.through(lane), expected)


# ------------------------------------------------------------------------------------- the cycle before, the cycle at


def with_requantiser(dataflow: str, m: int, k: int, n: int, lanes: int, **options: object) -> Case:
    """Return a small GEMM with a requantiser of some lanes."""
    random = np.random.default_rng((m, k, n))
    columns = replace(drawing.requantiser(random, SQUARE, n, fixed_point=False), lanes=lanes)
    x, w = random.integers(-99, 100, (m, k)), random.integers(-99, 100, (n, k))
    return Case(dataflow, x, w, random.integers(-99, 99, n), requantiser=columns, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("dataflow", "drain"), [("ws", 0), ("is", 0), ("os", ROWS)])
def test_the_requantiser_starts_behind_the_last_commit(probe: Probe, dataflow: str, drain: int) -> None:
    """Q starts at E + R + C, for OS after the drain; an output is written lq = 4 cycles behind its read (5.1, 5.2)."""
    device = probe(with_requantiser(dataflow, 4, 4, 4, lanes=4))
    start = device.answer.stream_starts[0] + 4 + drain + TAIL
    assert device.answer.block_ready == [start]
    assert device.closes("commit[3]", start)
    assert device.opens("requantiser_read[0]", start)
    assert device.opens("output[0]", start + 4)
    assert device.closes("output[0]", start + 4 + 4)
    assert device.answer.requantised == [start + 4 + 4]


@pytest.mark.parametrize("lanes", [1, 2, 3, 4])
def test_a_row_takes_a_cycle_per_group_of_lanes(probe: Probe, lanes: int) -> None:
    """A block takes rq = Mt * ceil(Nt / Q) + lq cycles (5.2)."""
    device = probe(with_requantiser("ws", 5, 4, 3, lanes=lanes))
    assert device.answer.requantised[0] - device.answer.block_ready[0] == 5 * -(-3 // lanes) + 4
    assert len(device.cycles("requantiser_read[2]")) == 5


@pytest.mark.parametrize("banks", [1, 2, 3])
def test_a_block_waits_for_its_bank(probe: Probe, banks: int) -> None:
    """RX_i = Q_{i-NA}: with a slow requantiser the stream opens in that very cycle (5.1)."""
    device = probe(with_requantiser("ws", 40, 4, 4, lanes=1, acc_rows=8, acc_banks=banks))
    starts, done = device.answer.stream_starts, device.answer.requantised
    for block in range(banks, 5):
        assert starts[block] == done[block - banks]
        assert device.opens("tile.starts", done[block - banks])
        assert device.active("class.wait_x", done[block - banks] - 1)


def test_the_array_fills_one_bank_while_the_other_is_read(probe: Probe) -> None:
    """With NA = 2 commits and reads of the requantiser share cycles; with one bank they never do."""
    shared = []
    for banks in (1, 2):
        device = probe(with_requantiser("ws", 40, 4, 4, lanes=1, acc_rows=8, acc_banks=banks))
        shared.append(len(set(device.cycles("commit[0]")) & set(device.cycles("requantiser_read[0]"))))
    assert shared[0] == 0 < shared[1]


def test_an_interrupted_drain_completes_one_cycle_later(probe: Probe) -> None:
    """OS: the first step of the next tile takes a slot of the wire v, and the block before it waits (3, 5.7)."""
    device = probe(with_requantiser("os", 8, 9, 4, lanes=4, acc_rows=4))
    first = device.answer.stream_starts[0]
    assert device.answer.stream_starts[1] == first + 9
    assert device.answer.block_ready[0] == first + 9 + ROWS + TAIL + 1


def test_the_requantiser_waits_for_an_output_buffer(probe: Probe) -> None:
    """Q_i waits for St_{i-NO} (5.1): silent in the cycle before, reading in the cycle at."""
    transfers = Transfers([0] * 5, [0] * 5, [90] * 5, 2, 1)
    device = probe(with_requantiser("ws", 20, 4, 4, lanes=4, acc_rows=4, transfers=transfers))
    for block in range(1, 5):
        assert device.answer.stored[block - 1] > device.answer.block_ready[block]
        assert device.opens("requantiser_read[0]", device.answer.stored[block - 1])


# ------------------------------------------------------------------------------------------------------------- layers


def drawn_layer(random: np.random.Generator, build: Build, dataflow: str, gather: bool) -> Case:
    """Draw a GEMM with a requantiser; loads and stores are added by the caller."""
    case = drawing.gemm(random, build, dataflow, gather)
    columns = drawing.requantiser(random, build, case.w.shape[0], fixed_point=bool(random.integers(2)))
    return replace(case, weights_at=(), operands_at=(), requantiser=columns)


@pytest.mark.deep
@pytest.mark.parametrize("dataflow", ["ws", "is"])
def test_blocks_follow_the_max_plus_recurrence(programs: Programs, dataflow: str) -> None:
    """L, S, Q and St of every block and tile are those of section 5.1; NB, NA and NO from 1 to 3, random transfers."""
    random = np.random.default_rng(51)
    for build in (SQUARE, SHAPES[3]):
        cases = [drawn_layer(random, build, dataflow, gather=index % 8 == 0) for index in range(300)]
        for index, case in enumerate(cases):
            count = tiles(case, build)[-1].block + 1
            load, store = (random.integers(0, most, count).tolist() for most in (60, 40))
            buffers = random.integers(1, 4, 2).tolist()
            cases[index] = replace(case, transfers=Transfers([-1] * count, load, store, *buffers))
        for case, answer in zip(cases, simulate(programs[build], build, cases), strict=True):
            expected = recurrence.groups(case, build, requantiser_work(case, build))
            assert not any(answer.faults.values())
            found = (answer.loaded, answer.requantised, answer.stored, answer.stream_starts)
            assert found == (expected.loaded, expected.requantised, expected.stored, expected.stream_starts)


def requantiser_work(case: Case, build: Build) -> list[int]:
    """Return rq of every block (section 5.2): rows of the bank are those of the streamed operand."""
    assert case.requantiser is not None
    firsts = [tile for tile in tiles(case, build) if tile.first]
    return [reference.requantiser_cycles(tile.rows, tile.columns, case.requantiser.lanes) for tile in firsts]


@pytest.mark.parametrize("build", few(SHAPES, [SHAPES[1]]), ids=lambda build: f"{build.rows}x{build.columns}")
def test_whole_layers_equal_the_recurrence(programs: Programs, build: Build) -> None:
    """LOAD and STORE of the bench around the RTL: cycles, all classes, sums and outputs, 0 differences."""
    random = np.random.default_rng([build.rows, 5])
    cases, machines = [], []
    for index in range(400):
        case = drawn_layer(random, build, drawing.DATAFLOWS[index % 3], gather=index % 5 == 0)
        latency, resident = int(random.integers(0, 30)), bool(random.integers(2))
        memory = Memory(int(random.choice([1, 2, 8, 64])), latency, int(random.choice([1, 4, 16])), resident)
        buffers = (int(random.integers(1, 4)), int(random.integers(1, 4)))
        machines.append((buffers, memory))
        cases.append(replace(case, transfers=recurrence.layer_transfers(case, build, buffers, memory)))
    answers = simulate(programs[build], build, cases)
    found = [
        (case, layer_differences(case, build, *machine, answer))
        for case, machine, answer in zip(cases, machines, answers, strict=True)
    ]
    wrong = [(case, what) for case, what in found if what]
    assert not wrong, f"{len(wrong)} of {len(cases)} layers differ\n{report(wrong)}"
