"""The array in RTL: the gates of sections 3 and 4 at their edges, corners, random GEMMs against the recurrence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.rtl import drawing, stepped
from tests.rtl.cases import Case, simulate, tiles
from tests.rtl.comparison import differences, report
from tests.rtl.conftest import SHAPES, SQUARE, WIDE, Probe, Programs
from tests.rtl.drawing import operand_bits
from tests.rtl.tools import Build
from tests.tiers import few

RANDOM_CASES = 2000
ROWS, COLUMNS = SQUARE.rows, SQUARE.columns
TAIL = ROWS + COLUMNS


def gemm(dataflow: str, m: int, k: int, n: int, **options: object) -> Case:
    """Return a GEMM with operands that are all different from zero."""
    random = np.random.default_rng((m, k, n))
    x, w = random.integers(1, 100, (m, k)), random.integers(-100, 0, (n, k))
    return Case(dataflow, x, w, random.integers(-999, 999, n), **options)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------- the cycle before, the cycle at


@pytest.mark.parametrize("dataflow", few(["ws", "is"], 1))
def test_an_element_works_one_cycle_plus_its_distance_behind_the_issue(probe: Probe, dataflow: str) -> None:
    """Step issued at t: PE(r,c) works in t+1+r+c (section 3)."""
    device = probe(gemm(dataflow, 4, 4, 4))
    start = device.answer.stream_starts[0]
    assert device.opens("token.mac", start)
    for r in range(ROWS):
        for c in range(COLUMNS):
            assert device.opens(f"pe[{r},{c}]", start + 1 + r + c)
            assert device.closes(f"pe[{r},{c}]", start + 4 + 1 + r + c)


@pytest.mark.parametrize("dataflow", ["ws", "is"])
def test_a_column_commits_behind_its_last_element(probe: Probe, dataflow: str) -> None:
    """Column c commits at the end of cycle t+1+R+c (section 3); the total is the cycle behind the last commit."""
    device = probe(gemm(dataflow, 6, 4, 6))
    for c in range(COLUMNS):
        assert device.opens(f"commit[{c}]", device.answer.stream_starts[0] + 1 + ROWS + c)
    assert device.closes("commit[1]", device.answer.total - 2)
    assert device.answer.total == device.answer.stream_starts[-1] + 6 + TAIL


def test_the_read_address_of_the_accumulators_is_skewed(probe: Probe) -> None:
    """Column c is addressed in cycle t+c, so that its word arrives with the token (section 3)."""
    device = probe(gemm("ws", 9, 8, 4))
    for c in range(COLUMNS):
        assert device.opens(f"bank_read[{c}]", device.answer.stream_starts[1] + c)
        assert device.opens(f"bias[{c}]", device.answer.stream_starts[0] + 1 + c)


@pytest.mark.parametrize(("full", "length"), [(False, 3), (True, ROWS)])
def test_a_stream_starts_when_its_weights_are_pushed(probe: Probe, full: bool, length: int) -> None:
    """S = P + L, where L is Kt or R (section 4)."""
    device = probe(gemm("ws", 5, 3, 4, full_load=full))
    assert device.cycles("token.push") == list(range(length))
    assert device.opens("token.mac", length)
    assert device.answer.total == length + 5 + TAIL


def test_weights_are_pushed_when_they_are_ready(probe: Probe) -> None:
    """P = max(base, RW): wait_w up to the cycle before (4.1, 4.3)."""
    device = probe(gemm("ws", 5, 4, 4, weights_at=(17,)))
    assert device.opens("token.push", 17)
    assert device.closes("class.wait_w", 17)
    assert device.opens("token.mac", 17 + 4)


def test_a_stream_starts_when_its_operands_are_ready(probe: Probe) -> None:
    """S >= RX: wait_x up to the cycle before (4.1, 4.3)."""
    device = probe(gemm("ws", 5, 4, 4, operands_at=(23,)))
    assert device.cycles("class.wait_x") == list(range(4, 23))
    assert device.opens("token.mac", 23)


def test_double_buffered_weights_share_the_first_step(probe: Probe) -> None:
    """At base = S_{i-1} the push starts, in the very cycle of the first step of the tile before (4.1)."""
    device = probe(gemm("ws", 30, 8, 4))
    first, second = device.answer.stream_starts
    assert device.opens("push.starts", first)
    assert device.closes("token.push", first + 4)
    assert second == first + 30


def test_single_buffered_weights_wait_for_the_last_step(probe: Probe) -> None:
    """The push starts at base = S_{i-1} + Mt_{i-1} (4.1)."""
    device = probe(gemm("ws", 30, 8, 4, double_buffer=False))
    first, second = device.answer.stream_starts
    assert device.opens("token.push", first + 30)
    assert device.closes("token.mac", first + 30)
    assert device.opens("token.mac", first + 30 + 4)
    assert second == first + 30 + 4


def test_a_flush_empties_the_array_before_the_next_push(probe: Probe) -> None:
    """At base = S_{i-1} + Mt_{i-1} + R + C: the cycle at is the one behind the last commit (4.1)."""
    device = probe(gemm("ws", 5, 8, 4, flush=True))
    end = device.answer.stream_starts[0] + 5
    assert device.opens("class.flush", end)
    assert device.closes("class.flush", end + TAIL)
    assert device.opens("token.push", end + TAIL)
    assert device.closes("commit[3]", end + TAIL)


@pytest.mark.parametrize("rows", [1, 3, ROWS + 1, ROWS + 2, ROWS + 3])
def test_a_fold_waits_until_its_rows_are_committed(probe: Probe, rows: int) -> None:
    """From hz = S_{i-1} + R + 2: the bank is read in the cycle behind the one that ends with the commit (4.1)."""
    device = probe(gemm("ws", rows, 8, 4))
    first, second = device.answer.stream_starts
    assert second == first + max(rows, ROWS + 2)
    assert device.opens("commit[3]", first + 1 + ROWS + 3)
    assert device.opens("bank_read[3]", first + ROWS + 2 + 3 if rows <= ROWS + 2 else second + 3)
    assert len(device.cycles("class.hazard")) == max(0, ROWS + 2 - max(rows, 4))


def test_a_faster_fold_waits_for_the_last_row_of_the_slower_one(probe: Probe) -> None:
    """The distance grows by the difference of issue cycles: the last row is read when it has been committed (4.5)."""
    device = probe(gemm("ws", 3, 5, 4, gather_words=1))
    first, second = device.answer.stream_starts
    assert second == first + ROWS + 2 + 3 * (4 - 1)
    last_committed = device.cycles("commit[0]")[2]
    assert last_committed == first + 3 * 4 + ROWS
    assert device.cycles("bank_read[0]") == [second, second + 1, last_committed + 1]


@pytest.mark.parametrize("depth", [1, 2, ROWS, ROWS + 1, ROWS + 2, 9])
def test_the_drain_overlaps_the_next_tile(probe: Probe, depth: int) -> None:
    """OS: gap = max(0, R+1-K); R shift steps, none in the first step of a tile (4.2)."""
    device = probe(gemm("os", 8, depth, 4))
    first, second = device.answer.stream_starts
    gap = max(0, ROWS + 1 - depth)
    assert second == first + depth + gap
    assert device.cycles("class.shift")[:gap] == list(range(first + depth, second))
    assert len(device.cycles("token.shift")) == 2 * ROWS
    assert not device.active("token.shift", second)
    assert device.answer.total == second + depth + 2 * ROWS + COLUMNS


def test_a_drain_that_does_not_overlap_takes_all_rows(probe: Probe) -> None:
    """OS: gap = R, also where the tile has fewer rows (4.2)."""
    device = probe(gemm("os", 6, 9, 4, drain_overlap=False))
    first, second = device.answer.stream_starts
    assert device.cycles("class.shift") == [*range(first + 9, second), *range(second + 9, second + 9 + ROWS)]
    assert second == first + 9 + ROWS


def test_a_flushed_drain_leaves_the_array_empty(probe: Probe) -> None:
    """OS: gap = 2R + C: R shifts, then R + C cycles until the last commit (4.2)."""
    device = probe(gemm("os", 8, 9, 4, flush=True))
    first, second = device.answer.stream_starts
    assert second == first + 9 + 2 * ROWS + COLUMNS
    assert device.closes("commit[3]", second)
    assert device.opens("class.flush", first + 9 + ROWS)


def test_the_bottom_row_leaves_first_and_masked_rows_are_not_written(probe: Probe) -> None:
    """OS: a tile of 3 rows commits in 3 of the R shift steps, the last ones (4.2)."""
    device = probe(gemm("os", 3, 9, 4))
    shifts = device.cycles("token.shift")
    assert device.cycles("commit[0]") == [cycle + 1 + ROWS for cycle in shifts[1:]]


def test_elements_outside_of_the_tile_are_silent(probe: Probe) -> None:
    """Masked lanes take time, not energy (section 6): latency is that of the full array."""
    device = probe(gemm("ws", 4, 2, 3))
    working = [(r, c) for r in range(ROWS) for c in range(COLUMNS) if device.cycles(f"pe[{r},{c}]")]
    assert working == [(r, c) for r in range(2) for c in range(3)]
    assert device.cycles("commit[3]") == []
    assert device.answer.total == 2 + 4 + TAIL


# --------------------------------------------------------------------------------------------------- directed corners


def corners(build: Build) -> list[Case]:
    """Return the corners of one build on every dataflow and with every option."""
    rows, columns = build.rows, build.columns
    shapes = {
        (3, max(1, rows - 1), columns), (2, rows, columns), (2, rows + 1, columns), (rows + 1, 2 * rows, columns),
        (rows + 2, 2 * rows, columns), (rows + 3, 3 * rows + 1, columns + 1), (1, 1, 1), (1, 2 * rows, 2 * columns),
        (columns + 1, rows + 1, 1), (2 * rows + 1, 1, 2 * columns + 1),
    }  # fmt: skip
    found = []
    for index, (m, k, n) in enumerate(sorted(shapes)):
        random = np.random.default_rng(index)
        for dataflow in drawing.DATAFLOWS:
            half_x, half_w = (2 ** (bits - 1) for bits in operand_bits(build, dataflow))
            lowest_w = np.full((n, k), -half_w)
            for x, w in (
                (np.full((m, k), -half_x), lowest_w),
                (np.full((m, k), half_x - 1), lowest_w),
                (random.integers(-half_x, half_x, (m, k)), random.integers(-half_w, half_w, (n, k))),
            ):
                for bias in (-(2**31), 2**31 - 1, 1):
                    options = [bool(bit) for bit in random.integers(0, 2, 6)]
                    found.append(
                        Case(
                            dataflow, x, w, np.full(n, bias), int(random.choice([8, 16, 24, 32, 48])), options[0],
                            64 // rows * rows, options[1], options[2], options[3] and options[4], options[5],
                        )
                    )  # fmt: skip
    return found


@pytest.mark.parametrize("build", few(SHAPES, [SQUARE]), ids=lambda build: f"{build.rows}x{build.columns}")
def test_corner_gemms_equal_recurrence_stepper_and_big_integers(programs: Programs, build: Build) -> None:
    """K < R, K = R, K = R+1, Mt around R+2, T = 1, one row, one column, INT_MIN bias, extreme operands, narrow sums."""
    cases = corners(build)
    assert_no_differences(programs, build, cases)


# ------------------------------------------------------------------------------------------------------- random GEMMs


def assert_no_differences(programs: Programs, build: Build, cases: list[Case]) -> None:
    """Run cases; compare with integers, recurrence and stepper: values, totals, classes, events, starts."""
    answers = simulate(programs[build], build, cases)
    found = [
        (case, differences(case, build, answer) + stepped.differences(case, build, answer))
        for case, answer in zip(cases, answers, strict=True)
    ]
    wrong = [(case, what) for case, what in found if what]
    assert not wrong, f"{len(wrong)} of {len(cases)} cases differ\n{report(wrong)}"


@pytest.mark.parametrize("build", few(SHAPES, [SQUARE]), ids=lambda build: f"{build.rows}x{build.columns}")
def test_random_gemms_equal_recurrence_stepper_and_big_integers(programs: Programs, build: Build) -> None:
    """Three dataflows, all widths, wrap and saturate, buffering, flush, overlap, random readiness: 0 differences."""
    random = np.random.default_rng([build.rows, build.columns])
    cases = [drawing.gemm(random, build, drawing.DATAFLOWS[i % 3]) for i in range(RANDOM_CASES)]
    assert {case.saturate for case in cases} == {False, True}
    assert {case.acc_bits for case in cases} == set(range(8, 49))
    assert_no_differences(programs, build, cases)


@pytest.mark.parametrize("build", few([SQUARE, SHAPES[3]], [SQUARE]), ids=["4x4", "3x8"])
def test_gathered_lanes_equal_the_recurrence(programs: Programs, build: Build) -> None:
    """Some activations per cycle instead of all lanes at once (section 4.5)."""
    random = np.random.default_rng(build.columns)
    cases = [drawing.gemm(random, build, drawing.DATAFLOWS[i % 3], gather=True) for i in range(400)]
    assert_no_differences(programs, build, cases)


@pytest.mark.deep
def test_accumulators_of_up_to_64_bits(programs: Programs) -> None:
    """Wires of 64 bits: sums that overflow 63 and 64 bits need a bias of their own width, so they start at INT32."""
    random = np.random.default_rng(64)
    cases = [drawing.gemm(random, WIDE, drawing.DATAFLOWS[i % 3]) for i in range(300)]
    cases = [replace(case, acc_bits=int(random.integers(49, 65))) for case in cases]
    assert_no_differences(programs, WIDE, cases)


def test_the_random_cases_reach_every_situation(programs: Programs) -> None:
    """Among the drawn cases every class occurs, several tiles and blocks, and partial tiles in each direction."""
    random = np.random.default_rng([SQUARE.rows, SQUARE.columns])
    cases = [drawing.gemm(random, SQUARE, drawing.DATAFLOWS[i % 3]) for i in range(RANDOM_CASES)]
    answers = simulate(programs[SQUARE], SQUARE, cases)
    for name in ("stream", "push", "shift", "flush", "wait_w", "hazard", "wait_x"):
        assert sum(answer.classes[name] > 0 for answer in answers) >= 50, name
    found = [tile for case in cases for tile in tiles(case, SQUARE)]
    assert {tile.columns for tile in found} == {1, 2, 3, 4}
    assert {tile.depth for tile in found if tile.depth < 4} == {1, 2, 3}
    assert max(tile.block for tile in found) >= 5
