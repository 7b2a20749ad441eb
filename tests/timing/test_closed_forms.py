"""The closed forms of the timing contract (4.1, 4.2, 8) against the kernels, tile by tile and layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st

from accelsim.kernels.cycles import recurrence
from accelsim.machine.arch import Arch
from accelsim.program.plan import ContractionPlan
from accelsim.program.work import ContractionWork
from accelsim.timing.recurrence import array_spec, loop_spec
from tests.oracles import contract
from tests.tiers import drawn
from tests.timing.harness import run_alone

CASES = settings(max_examples=500, deadline=None, derandomize=True)
ARRAY_CLASSES = ("stream", "push", "shift", "flush", "hazard", "tail")
WAITS = ("wait_w", "wait_x_load", "wait_x_bank")

SIDE = st.integers(1, 12)


@st.composite
def machines(draw: st.DrawFn, *dataflows: str) -> contract.Machine:
    """Draw rows, columns, dataflow and all options of the array."""
    flag = st.booleans()
    return contract.Machine(
        draw(SIDE),
        draw(SIDE),
        draw(st.sampled_from(dataflows)),
        double_buffer=draw(flag),
        drain_overlap=draw(flag),
        flush=draw(flag),
        full_load=draw(flag),
    )


def arch_of(machine: contract.Machine, **others: int) -> Arch:
    """Build the same machine through its public description."""
    return Arch(
        array=(machine.rows, machine.cols),
        dataflow=machine.dataflow,
        weight_double_buffer=machine.double_buffer,
        drain_overlap=machine.drain_overlap,
        flush_between_tiles=machine.flush,
        weight_load="full" if machine.full_load else "used",
        **others,
    )


# ------------------------------------------------------------------------------------------------- device under test


class Array:
    """The array alone: tiles are issued one by one and nothing is ever waited for."""

    def __init__(self, machine: contract.Machine) -> None:
        self.machine, self.spec = machine, array_spec(arch_of(machine))
        self.state, self.classes = np.zeros(4, np.int64), np.zeros(len(recurrence.CLASSES), np.int64)

    def stationary(self, streamed: int, depth: int, accumulates: bool) -> int:
        """Issue a WS or IS tile; returns the start of its stream."""
        step = recurrence.stationary_step
        return int(step(self.spec, self.state, depth, 1, streamed, 0, 0, 0, accumulates, self.classes))

    def output(self, depth: int) -> int:
        """Issue an OS tile; returns its start."""
        return int(recurrence.output_step(self.spec, self.state, depth, 0, 0, True, depth, self.classes))

    def total(self) -> int:
        """Cycle of the last commit, checked to be the sum of the classes; there are no waits."""
        drain = self.machine.rows if self.machine.dataflow == "os" else 0
        total = int(self.state[0] + self.state[1]) + drain + self.machine.rows + self.machine.cols
        counts = dict(zip(recurrence.CLASSES, self.classes.tolist(), strict=True))
        counts["shift"] += drain
        counts["tail"] += self.machine.rows + self.machine.cols
        assert sum(counts[name] for name in ARRAY_CLASSES) == total
        assert not any(counts[name] for name in WAITS)
        return total


def folds(extent: int, size: int) -> Iterator[int]:
    """Yield the sizes of the pieces of an extent."""
    for start in range(0, extent, size):
        yield min(size, extent - start)


def array_cycles(machine: contract.Machine, shape: tuple[int, int, int], acc_rows: int) -> int:
    """Issue all tiles of a GEMM in the order of section 4.4, everything resident, and return the cycles."""
    (m, k, n), array = shape, Array(machine)
    if machine.dataflow == "os":
        for _ in folds(n, machine.cols):
            for _ in folds(m, machine.rows):
                array.output(k)
        return array.total()
    streamed, width = (n, m) if machine.dataflow == "is" else (m, n)
    for _ in folds(width, machine.cols):
        for length in folds(streamed, acc_rows):
            for number, depth in enumerate(folds(k, machine.rows)):
                array.stationary(length, depth, accumulates=number > 0)
    return array.total()


# --------------------------------------------------------------------------------------------------------- WS and IS


@drawn(80, 500, machines("ws", "is"), st.integers(1, 40), st.data())
def test_one_tile_takes_its_load_its_rows_and_the_skew(
    machine: contract.Machine, streamed: int, data: st.DataObject
) -> None:
    """One tile takes L + Mt + R + C (4.1)."""
    depth = data.draw(st.integers(1, machine.rows))
    array = Array(machine)
    assert array.stationary(streamed, depth, accumulates=False) == (machine.rows if machine.full_load else depth)
    load = machine.rows if machine.full_load else depth
    assert array.total() == load + streamed + machine.rows + machine.cols
    assert array.total() == contract.single_tile(machine, streamed, depth)


@drawn(80, 500, machines("ws", "is"), st.integers(1, 40), st.booleans(), st.integers(2, 9), st.data())
def test_equal_tiles_follow_at_the_steady_interval(
    machine: contract.Machine, streamed: int, accumulates: bool, tiles: int, data: st.DataObject
) -> None:
    """Equal tiles follow each other at max(Mt, L, R + 2), max(Mt + L, R + 2) or L + Mt + R + C (4.1)."""
    depth = data.draw(st.integers(1, machine.rows))
    array = Array(machine)
    starts = [array.stationary(streamed, depth, accumulates and number > 0) for number in range(tiles)]
    intervals = {later - earlier for earlier, later in pairwise(starts)}
    assert intervals == {contract.steady_interval(machine, streamed, depth, accumulates)}


@st.composite
def equal_tile_layers(draw: st.DrawFn, *dataflows: str) -> tuple[contract.Machine, tuple[int, int, int], int]:
    """Draw a machine, (streamed, depth, width) of equal tiles, and acc_rows; all intervals accumulate, or none.

    All accumulate when there is one block of outputs; none does when there is one fold.
    """
    machine = draw(machines(*dataflows))
    length, widths = draw(st.integers(1, 30)), draw(st.integers(1, 4))
    if draw(st.booleans()):
        depth = machine.rows * draw(st.integers(2, 6))
        depth -= draw(st.integers(0, machine.rows - 1)) if machine.full_load else 0
        shape = (length, depth, draw(st.integers(1, machine.cols)))
    else:
        streams = draw(st.integers(1, 4))
        width = machine.cols * (widths - 1) + draw(st.integers(1, machine.cols))
        shape = (length * streams, draw(st.integers(1, machine.rows)), width)
    return machine, shape, length


@drawn(80, 500, equal_tile_layers("ws", "is"))
def test_layers_of_equal_tiles(case: tuple[contract.Machine, tuple[int, int, int], int]) -> None:
    """A layer of n equal tiles takes L + (n - 1) * interval + Mt + R + C (4.1)."""
    machine, (streamed, depth, width), acc_rows = case
    shape = (width, depth, streamed) if machine.dataflow == "is" else (streamed, depth, width)
    k_folds = contract.ceiling(depth, machine.rows)
    tiles = contract.ceiling(width, machine.cols) * contract.ceiling(streamed, acc_rows) * k_folds
    expected = contract.equal_tiles(machine, tiles, acc_rows, min(depth, machine.rows), accumulates=k_folds > 1)
    assert array_cycles(machine, shape, acc_rows) == expected


# ---------------------------------------------------------------------------------------------------------------- OS


@drawn(80, 500, machines("os"), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_output_stationary_totals_equal_the_closed_forms(machine: contract.Machine, m: int, k: int, n: int) -> None:
    """OS totals with the drain overlapped, not overlapped, and with flush (4.2)."""
    tiles = contract.ceiling(m, machine.rows) * contract.ceiling(n, machine.cols)
    assert array_cycles(machine, (m, k, n), acc_rows=512) == contract.output_tiles(machine, tiles, k)


# -------------------------------------------------------------------------------------------------------- SCALE-Sim


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
def test_flush_and_full_load_are_scalesim_plus_two_cycles_per_fold(dataflow: str) -> None:
    """With flush, full weight load and acc_rows >= T: folds * (2R + C + T - 2) + 2 * folds (8)."""

    @CASES
    @given(SIDE, SIDE, st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), st.booleans())
    def compare(rows: int, cols: int, m: int, k: int, n: int, double_buffer: bool) -> None:
        machine = contract.Machine(rows, cols, dataflow, double_buffer=double_buffer, flush=True, full_load=True)
        expected = contract.scalesim_paper(machine, m, k, n) + 2 * contract.scalesim_folds(machine, m, k, n)
        assert array_cycles(machine, (m, k, n), acc_rows=max(m, n)) == expected

    compare()


# ------------------------------------------------------------------------------------- whole layers, loads included


def layer_timing(
    machine: contract.Machine, work: ContractionWork, plan: ContractionPlan
) -> tuple[dict[str, int], dict[str, int]]:
    """Run a layer whose operands are fetched ahead in one beat each; returns cycles by class, and events.

    Every operand block has its own buffer and every output block its own accumulator bank, so that nothing but the
    very first beat is waited for.
    """
    arch = arch_of(machine, dram_latency=0, dram_bytes_per_cycle=65536, requant_latency=0)
    many = array_spec(arch)._replace(
        shared_channel=0, operand_buffers=4096, acc_banks=4096, output_buffers=4096, requant_lanes=4096
    )
    plan = replace(plan, dataflow=machine.dataflow, outer="m" if machine.dataflow == "is" else "n")
    classes, events = np.zeros(len(recurrence.CLASSES), np.int64), np.zeros(len(recurrence.EVENTS), np.int64)
    cycles = run_alone(many, loop_spec(work, plan), classes, events)
    assert classes.sum() == cycles
    return (
        dict(zip(recurrence.CLASSES, classes.tolist(), strict=True)),
        dict(zip(recurrence.EVENTS, events.tolist(), strict=True)),
    )


def product(m: int, k: int, n: int) -> ContractionWork:
    """Describe an int8 product with constant weights."""
    return ContractionWork(m, k, n, 1, None, False, 1, 8)


@drawn(80, 500, equal_tile_layers("ws", "is"))
def test_whole_layers_start_one_beat_late(case: tuple[contract.Machine, tuple[int, int, int], int]) -> None:
    """The array's classes of a whole layer add up to the closed form, after one cycle of waiting for the weights."""
    machine, (streamed, depth, width), acc_rows = case
    assume(acc_rows >= 2 and machine.push_steps(min(depth, machine.rows)) >= 2)
    work = product(*((width, depth, streamed) if machine.dataflow == "is" else (streamed, depth, width)))
    held = min(machine.cols, width)
    sizes = (held, acc_rows) if machine.dataflow == "is" else (acc_rows, held)
    classes, _ = layer_timing(machine, work, ContractionPlan(*sizes, depth, 1, True))
    k_folds = contract.ceiling(depth, machine.rows)
    tiles = contract.ceiling(width, machine.cols) * contract.ceiling(streamed, acc_rows) * k_folds
    expected = contract.equal_tiles(machine, tiles, acc_rows, min(depth, machine.rows), accumulates=k_folds > 1)
    assert [classes[name] for name in WAITS] == [1, 0, 0]
    assert sum(classes[name] for name in ARRAY_CLASSES) == expected


@drawn(80, 500, machines("os"), st.integers(2, 40), st.integers(2, 40), st.integers(1, 40))
def test_whole_output_stationary_layers_start_two_beats_late(machine: contract.Machine, m: int, k: int, n: int) -> None:
    """The same for OS, which waits for one beat of weights and one of activations."""
    plan = ContractionPlan(m, min(machine.cols, n), k, 1, True)
    classes, _ = layer_timing(machine, product(m, k, n), plan)
    tiles = contract.ceiling(m, machine.rows) * contract.ceiling(n, machine.cols)
    assert [classes[name] for name in WAITS] == [0, 2, 0]
    assert sum(classes[name] for name in ARRAY_CLASSES) == contract.output_tiles(machine, tiles, k)


@drawn(80, 500, machines("ws", "os", "is"), st.integers(1, 30), st.integers(1, 30), st.integers(1, 30))
def test_utilisation_counts_the_macs_of_the_array(machine: contract.Machine, m: int, k: int, n: int) -> None:
    """MACs are M * K * N; they fill R * C * stream exactly when the streamed tiles are full, and never more (4.3)."""
    plan = {
        "ws": ContractionPlan(m, min(machine.cols, n), k, 1, True),
        "os": ContractionPlan(m, min(machine.cols, n), k, 1, True),
        "is": ContractionPlan(min(machine.cols, m), n, k, 1, True),
    }[machine.dataflow]
    classes, events = layer_timing(machine, product(m, k, n), plan)
    on_rows, on_columns = {"ws": (k, n), "os": (m, n), "is": (k, m)}[machine.dataflow]
    full = contract.ceiling(on_rows, machine.rows) * machine.rows * contract.ceiling(on_columns, machine.cols)
    idle_lanes = full * machine.cols - on_rows * on_columns
    assert events["macs"] == m * k * n
    assert machine.rows * machine.cols * classes["stream"] - events["macs"] == idle_lanes * (m * k * n) // (
        on_rows * on_columns
    )


CORNERS: list[tuple[str, Callable[[contract.Machine], contract.Machine], tuple[int, int, int], int]] = [
    ("K < R", lambda machine: machine, (7, 3, 4), 7 + 3 + 8),
    ("Mt < R + 2", lambda machine: machine, (2, 12, 4), 4 + 2 * 6 + 2 + 8),
    ("Mt = R + 2", lambda machine: machine, (6, 12, 4), 4 + 3 * 6 + 8),
    ("one row", lambda machine: replace(machine, rows=1), (5, 3, 4), 1 + 3 * 5 + 5),
    ("one column", lambda machine: replace(machine, cols=1), (5, 4, 2), 4 + 2 * 5 + 5),
    ("T = 1", lambda machine: machine, (1, 4, 8), 4 + 4 + 1 + 8),
    ("OS, K = R", lambda machine: replace(machine, dataflow="os"), (8, 4, 4), 5 + 4 + 12),
    ("OS, K = R + 1", lambda machine: replace(machine, dataflow="os"), (8, 5, 4), 5 + 5 + 12),
    ("OS, K = 1", lambda machine: replace(machine, dataflow="os"), (8, 1, 4), 5 + 1 + 12),
]


@pytest.mark.parametrize(("change", "shape", "expected"), [row[1:] for row in CORNERS], ids=[row[0] for row in CORNERS])
def test_corner_shapes_take_what_was_worked_out_by_hand(
    change: Callable[[contract.Machine], contract.Machine], shape: tuple[int, int, int], expected: int
) -> None:
    """Corner shapes on a 4x4 array, worked out by hand from 4.1 and 4.2."""
    assert array_cycles(change(contract.Machine(4, 4)), shape, acc_rows=512) == expected
