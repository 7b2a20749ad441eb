"""Single registers of the array: the cycle before and the cycle at (timing contract, sections 3 and 4)."""

from __future__ import annotations

import numpy as np
import pytest

from accelsim.machine.arch import Arch
from accelsim.timing.registers import step_gemm
from tests.timing.harness import ArrayUnderTest, Operands, assert_gate

R, C = 4, 3
PES = [(row, column) for row in range(R) for column in range(C)]


def array(m: int, k: int, n: int, dataflow: str = "ws", **options: object) -> tuple[ArrayUnderTest, Operands]:
    """Put random operands on a 4x3 array."""
    ready = {name: options.pop(name, None) for name in ("ready_w", "ready_x")}
    operands = Operands.random(m, k, n)
    return ArrayUnderTest(Arch(array=(R, C), dataflow=dataflow, **options), operands, **ready), operands


# --------------------------------------------------------------------------------------------------------- the tokens


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
@pytest.mark.parametrize(("row", "column"), PES)
def test_a_pe_executes_a_step_r_plus_c_cycles_after_the_corner(dataflow: str, row: int, column: int) -> None:
    """A step issued at t is executed by PE(r,c) in t + 1 + r + c, not a cycle before or after."""
    dut, _ = array(1, 1, 1, dataflow)
    issued = 0 if dataflow == "os" else 1
    assert "mac" in dut.issued(issued)
    cycle = issued + 1 + row + column
    if cycle > dut.stepper.cycle:
        assert "mac" not in dut.at(cycle - 1).token(row, column)
    assert "mac" in dut.at(cycle).token(row, column)
    assert "mac" not in dut.at(cycle + 1).token(row, column)


@pytest.mark.parametrize(("row", "column"), PES)
def test_operands_and_sums_meet_in_every_pe(row: int, column: int) -> None:
    """PE(r,c) reads x[0, r] and the sum of the rows above as it works, and has written its own sum one cycle later."""
    dut, operands = array(1, R, C)
    works = R + 1 + row + column
    x, weights, bias = operands.activations[0], operands.weights[column], operands.bias[column]
    sums = bias + np.concatenate([[0], np.cumsum(x * weights)])
    dut.at(works)
    assert dut.probe(f"PE({row},{column}).a_in") == x[row]
    assert dut.probe(f"PE({row},{column}).v_in") == sums[row]
    assert dut.probe(f"PE({row},{column}).v") != sums[row + 1]
    assert dut.at(works + 1).probe(f"PE({row},{column}).v") == sums[row + 1]


# ------------------------------------------------------------------------------------------------------------ weights


@pytest.mark.parametrize(("row", "column"), PES)
def test_a_weight_is_in_place_after_the_last_push(row: int, column: int) -> None:
    """The deepest row is pushed first; the last push, issued at L - 1, puts W[k] into row k, in step time."""
    dut, operands = array(2, R, C)
    assert_gate(dut, f"PE({row},{column}).w0", R + row + column + 1, operands.weights[column, row])


def test_pushing_the_next_tile_leaves_the_weights_in_use_alone() -> None:
    """Ping and pong: w1 fills while w0 is multiplied, from the first step of the tile that uses w0."""
    dut, operands = array(9, 2 * R, C)
    assert dut.issue_cycles("push") == list(range(2 * R))
    dut, operands = array(9, 2 * R, C)
    for row, column in PES:
        dut.at(2 * R + R + C)  # both tiles are pushed, the first one still streams
        assert dut.probe(f"PE({row},{column}).w0") == operands.weights[column, row]
        assert dut.probe(f"PE({row},{column}).w1") == operands.weights[column, R + row]


def test_only_used_rows_are_pushed() -> None:
    """L = Kt by default, L = R with full load; a single tile streams right after (4.1)."""
    for load, length in (("used", 2), ("full", R)):
        dut, _ = array(3, 2, 1, weight_load=load)
        assert dut.issue_cycles("push") == list(range(length))
        assert dut.issue_cycles("mac") == [length, length + 1, length + 2]


def test_a_single_buffer_is_refilled_after_the_stream() -> None:
    """The push of the next tile starts with the cycle after the last step, not with it."""
    dut, _ = array(5, R, 2 * C, weight_double_buffer=False)
    assert dut.issue_cycles("push") == [*range(R), *range(R + 5, 2 * R + 5)]


def test_flush_waits_for_the_last_commit() -> None:
    """The push of the next tile starts in the first cycle with an empty array: S + Mt + R + C."""
    dut, operands = array(5, R, 2 * C, flush_between_tiles=True)
    free = R + 5 + R + C
    expected = operands.accumulators()
    assert_gate(dut, f"result(4,{C - 1})", free, expected[4, C - 1])
    assert dut.issue_cycles("push") == [*range(R), *range(free, free + R)]


# ------------------------------------------------------------------------------------------------- accumulators, WS, IS


@pytest.mark.parametrize("column", range(C))
def test_a_result_is_committed_at_the_end_of_t_plus_1_plus_r_plus_c(column: int) -> None:
    """The first row of the stream, issued at R, is in the bank of column c as cycle R + (1 + R + c) + 1 begins."""
    dut, operands = array(3, R, C)
    expected = operands.accumulators()
    assert_gate(dut, f"bank(0,0,{column})", R + 1 + R + column + 1, expected[0, column])


def test_the_hazard_is_r_plus_2_and_not_r_plus_1() -> None:
    """The next k fold may read a row R + 2 cycles after its issue; in the cycle before, the bank has the old one."""
    dut, operands = array(1, 2 * R, C)
    partial = operands.bias[0] + (operands.activations[0, :R] * operands.weights[0, :R]).sum()
    first = R
    assert "mac" in dut.issued(first)
    assert all("mac" not in dut.issued(cycle) for cycle in range(first + 1, first + R + 2))
    assert dut.at(first + R + 2).probe("bank(0,0,0)") == partial
    assert "mac" in dut.issued(first + R + 2)
    dut, _ = array(1, 2 * R, C)
    assert dut.at(first + R + 1).probe("bank(0,0,0)") != partial


@pytest.mark.parametrize("column", range(C))
def test_the_read_address_of_a_bank_is_skewed_by_its_column(column: int) -> None:
    """Column c reads its partial sum c cycles after column 0: it enters PE(0,c) as that one works."""
    dut, operands = array(1, 2 * R, C)
    partial = operands.bias + (operands.activations[0, :R] * operands.weights[:, :R]).sum(axis=1)
    assert_gate(dut, f"PE(0,{column}).v_in", R + (R + 2) + 1 + column, partial[column])


def test_a_stream_of_r_plus_2_rows_hides_the_hazard() -> None:
    """Mt = R + 2 has no bubble between k folds, Mt = R + 1 has one."""
    for rows, bubbles in ((R + 2, 0), (R + 1, 1), (1, R + 1)):
        dut, _ = array(rows, 2 * R, C)
        steps = dut.issue_cycles("mac")
        assert steps[rows] - steps[rows - 1] - 1 == bubbles


# ----------------------------------------------------------------------------------------------------------------- OS


def test_the_bias_rides_on_the_first_step() -> None:
    """No cycle is spent on it: PE(r,c) finds it on the wire v as it works on k = 0."""
    for row, column in PES:
        dut, operands = array(R, 5, C, "os")
        dut.at(1 + row + column)
        assert {"first", "mac"} <= dut.token(row, column)
        assert dut.probe(f"PE({row},{column}).v_in") == operands.bias[column]
        first = operands.bias[column] + operands.activations[row, 0] * operands.weights[column, 0]
        assert_gate(dut, f"PE({row},{column}).acc", 2 + row + column, first)


@pytest.mark.parametrize(("row", "column"), PES)
def test_the_drain_comes_bottom_row_first(row: int, column: int) -> None:
    """The j-th shift step, issued at K + j, commits row R - 1 - j of column c at the end of K + j + 1 + R + c."""
    depth = 5
    dut, operands = array(R, depth, C, "os")
    cycle = depth + (R - 1 - row) + 1 + R + column + 1
    assert_gate(dut, f"result({row},{column})", cycle, operands.accumulators()[row, column])


def test_all_rows_are_shifted_for_a_small_tile() -> None:
    """A tile of one row takes R shift steps, and only one of them writes."""
    dut, operands = array(1, 5, C, "os")
    assert dut.issue_cycles("shift") == list(range(5, 5 + R))
    done = step_gemm(operands.activations, operands.weights, operands.bias, Arch(array=(R, C), dataflow="os"))
    assert dict(done.events)["acc_writes"] == C


@pytest.mark.parametrize("depth", [1, 2, R - 1, R, R + 1, R + 2])
def test_a_drain_gives_way_to_the_first_step_and_ends_with_the_last(depth: int) -> None:
    """Tiles follow at max(K, R + 1); `first` and `shift` never meet, `last` and `shift` do when K is 2..R + 1."""
    dut, operands = array(3 * R, depth, C, "os")
    first, last, shift = (dut.issue_cycles(bit) for bit in ("first", "last", "shift"))
    interval = max(depth, R + 1)
    assert first == [0, interval, 2 * interval]
    assert not set(first) & set(shift)
    assert len(shift) == 3 * R
    assert bool(set(last) & set(shift)) == (2 <= depth <= R + 1)
    assert np.array_equal(dut.stepper.registers.result, operands.accumulators())


def test_o_keeps_the_new_sum_when_last_and_shift_meet() -> None:
    """In the step that is both, the old o of the row leaves on v and the new sum stays in o."""
    dut, operands = array(2 * R, R, C, "os")
    expected = operands.accumulators()
    last = (R + 1) + R - 1
    assert {"last", "shift", "mac"} <= dut.issued(last)
    bottom = R - 1
    works = last + 1 + bottom
    assert dut.stepper.cycle <= works
    assert dut.at(works).probe(f"PE({bottom},0).o") == expected[0, 0]
    assert dut.at(works + 1).probe(f"PE({bottom},0).v") == expected[0, 0]
    assert dut.probe(f"PE({bottom},0).o") == expected[2 * R - 1, 0]


# -------------------------------------------------------------------------------------------------------------- gates


@pytest.mark.parametrize("ready", [1, 5, 17])
def test_a_push_starts_when_the_weights_are_there(ready: int) -> None:
    """Not before RW, and exactly at it (4.1)."""
    dut, _ = array(2, R, C, ready_w=[ready])
    assert dut.issue_cycles("push")[0] == ready


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
@pytest.mark.parametrize("ready", [R + 1, 17])
def test_a_stream_starts_when_its_operand_and_bank_are_there(dataflow: str, ready: int) -> None:
    """Not before RX, and exactly at it (4.1, 4.2)."""
    dut, _ = array(2, R, C, dataflow, ready_x=[ready])
    assert dut.issue_cycles("mac")[0] == ready


def test_a_waiting_tile_keeps_the_next_push_waiting() -> None:
    """With two buffers the push of tile 1 shares the cycle of the first step of tile 0, whenever that is."""
    dut, _ = array(2, 2 * R, C, ready_x=[20, 0])
    assert dut.issue_cycles("push") == [*range(R), *range(20, 20 + R)]


def test_a_drain_goes_on_in_a_wait() -> None:
    """OS shifts while the next tile waits for its operands."""
    dut, _ = array(2 * R, 9, C, "os", ready_x=[0, 30])
    assert dut.issue_cycles("shift") == [*range(9, 9 + R), *range(39, 39 + R)]
