"""The requantiser in RTL: its arithmetic word by word, its pipeline, the second accumulator bank and whole layers."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.rtl import drawing, recurrence, reference, tools
from tests.rtl.cases import Case, Requantiser, Transfers, simulate, tiles
from tests.rtl.comparison import layer_differences, report
from tests.rtl.conftest import SHAPES, SQUARE, Probe, Programs
from tests.rtl.recurrence import Memory
from tests.rtl.tools import Build

Integers = NDArray[np.int64]
ROWS, COLUMNS = SQUARE.rows, SQUARE.columns
TAIL = ROWS + COLUMNS


# --------------------------------------------------------------------------------------------------------- arithmetic


@pytest.fixture(scope="module")
def lane() -> Path:
    """One requantiser lane for sums of up to 64 bits."""
    tools.require("verilator")
    return tools.build("requant", "bench_requant.cpp", {"IN_W": 64})


def through_lane(lane: Path, sums: Integers, columns: Requantiser) -> Integers:
    """Send one sum per channel through the lane."""
    words = np.zeros((len(sums), 8), np.int64)
    words[:, 0] = columns.fixed_point
    words[:, 1] = (sums & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
    words[:, 2] = sums >> 32
    words[:, 3] = columns.multiplier.view(np.int32)
    words[:, 4] = columns.shift
    words[:, 5:] = columns.zero_point, columns.lowest, columns.highest
    return np.frombuffer(tools.run(lane, words.astype("<i4").tobytes()), "<i4").astype(np.int64)


def float_channels(
    scales: NDArray[np.float32], zero_point: int = 0, bounds: tuple[int, int] = (-128, 127)
) -> Requantiser:
    """Return a float requantiser with one channel per scale."""
    return Requantiser(scales.view(np.uint32), np.zeros(len(scales), np.int32), zero_point, *bounds, 1)


@pytest.mark.parametrize("bits", [9, 24, 25, 32, 33, 48, 64])
def test_float_words_equal_numpy(lane: Path, bits: int) -> None:
    """Sums of every magnitude, scales from 1e-11 to 100, signed and unsigned outputs (section 2)."""
    random = np.random.default_rng(bits)
    count = 40_000
    sums = random.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), count) >> random.integers(0, bits, count)
    sums[:2] = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    scales = np.exp(random.uniform(np.log(1e-11), np.log(100), count)).astype(np.float32)
    near = random.random(count) < 0.7  # outputs that are neither 0 nor clamped
    with np.errstate(divide="ignore"):
        wanted = (random.uniform(-300, 300, count) / np.maximum(abs(sums), 1)).astype(np.float32)
    scales = np.where(near, abs(wanted) + np.float32(1e-11), scales)
    for zero_point, bounds in ((0, (-128, 127)), (-128, (-128, 127)), (128, (0, 255)), (7, (-32768, 32767))):
        columns = float_channels(scales, zero_point, bounds)
        assert np.array_equal(through_lane(lane, sums, columns), reference.requantise(sums[None], columns)[0])


def test_exact_ties_go_to_the_even_output(lane: Path) -> None:
    """Products that end in .5 exactly, around every output and with many multipliers."""
    odd = np.arange(-1023, 1024, 2)
    factors, halvings = np.array([1, 3, 5, 7, 11, 13]), np.arange(1, 20)
    sums, scales = [], []
    for factor, halving in itertools.product(factors, halvings):
        sums.append(odd * 2 ** int(halving) // 2)
        scales.append(np.full(len(odd), factor * 2.0 ** -int(halving), np.float32))
    columns = float_channels(np.concatenate(scales), 0, (-32768, 32767))
    exact = np.concatenate(sums).astype(np.float64) * np.concatenate(scales)
    assert (abs(exact % 1) == 0.5).sum() > 100_000
    found = through_lane(lane, np.concatenate(sums), columns)
    assert np.array_equal(found, np.rint(exact))


def test_sums_that_no_float_holds_round_to_even_first(lane: Path) -> None:
    """A -> fl32(A) is a rounding of its own: 2^24 + 1 becomes 2^24, 2^24 + 3 becomes 2^24 + 4."""
    sums = np.array([2**24 + 1, 2**24 + 3, -(2**24) - 1, 2**53 + 2**29, 2**53 + 3 * 2**29])
    scales = np.array([2**-24] * 3 + [2**-53] * 2, np.float32) * np.float32(2**14)
    columns = float_channels(scales, 0, (-32768, 32767))
    assert np.array_equal(through_lane(lane, sums, columns), reference.requantise(sums[None], columns)[0])
    ulp = float_channels(np.full(2, 0.25, np.float32), 0, (-(2**17), 2**17 - 1))
    assert through_lane(lane, np.array([2**18 + 2, 2**18 + 6]), ulp).tolist() == [2**16, 2**16 + 2]


def test_fixed_point_words_equal_big_integers(lane: Path) -> None:
    """Multipliers of every shift, the saturating corner INT_MIN * INT_MIN, ties of both roundings (section 2)."""
    random = np.random.default_rng(31)
    count = 60_000
    bits = random.integers(2, 63, count)
    sums = random.integers(-(2**62), 2**62, count) >> (62 - bits)
    sums[: count // 4] >>= 31
    multiplier = random.integers(2**30, 2**31, count)
    multiplier[:500] = 2**30 + random.integers(0, 2, 500) * 2**29
    sums[500:510], multiplier[500:505], multiplier[505:510] = -(2**31), -(2**31), 2**31 - 1
    shift = random.integers(-31, 31, count).astype(np.int32)
    shift[500:510] = 0
    words = Requantiser(multiplier.astype(np.uint32), shift, -3, -(2**17), 2**17 - 1, 1, fixed_point=True)
    found, expected = through_lane(lane, sums, words), reference.requantise(sums[None], words)[0]
    assert np.array_equal(found, expected)
    assert len(set(expected.tolist())) > 5_000


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


@pytest.mark.parametrize("build", SHAPES, ids=lambda build: f"{build.rows}x{build.columns}")
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
