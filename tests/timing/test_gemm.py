"""`gemm_timing`: the contract's array alone, and SCALE-Sim's numbers row by row."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from accelsim import Arch, UsageError, gemm_timing
from tests.oracles import contract
from tests.tiers import drawn

TABLE = Path(__file__).resolve().parent.parent / "data" / "scalesim_3.0.0.csv"
ROWS = [{key: value if key == "dataflow" else int(value) for key, value in row.items()}
        for row in csv.DictReader(TABLE.read_text("ascii").splitlines())]  # fmt: skip

SIDE, EXTENT = st.integers(1, 12), st.integers(1, 60)
DATAFLOW = st.sampled_from(["ws", "os", "is"])


@st.composite
def machines(draw: st.DrawFn) -> Arch:
    """Draw a machine with all options of its array."""
    return Arch(
        array=(draw(SIDE), draw(SIDE)),
        dataflow=draw(DATAFLOW),
        acc_rows=draw(st.integers(1, 30)),
        weight_double_buffer=draw(st.booleans()),
        drain_overlap=draw(st.booleans()),
        flush_between_tiles=draw(st.booleans()),
        weight_load=draw(st.sampled_from(["used", "full"])),
        x_gather_words_per_cycle=draw(st.none() | st.integers(1, 12)),
    )


# -------------------------------------------------------------------------------------------------------- SCALE-Sim


def test_the_table_has_all_rows() -> None:
    """In 3 dataflows 25 products on 3 arrays, and 6 layers of networks on 32x32, as SCALE-Sim 3.0.0 ran them."""
    assert len({tuple(row.values())[:-1] for row in ROWS}) == len(ROWS) == 3 * (25 * 3 + 6)


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
def test_scalesim_reports_the_same_cycles(dataflow: str) -> None:
    """Every row of what SCALE-Sim 3.0.0 reported, to the cycle."""
    rows = [row for row in ROWS if row["dataflow"] == dataflow]
    for row in rows:
        machine = Arch(array=(row["rows"], row["cols"]), dataflow=dataflow)
        found = gemm_timing(row["m"], row["k"], row["n"], machine, timing="scalesim")
        assert found.cycles == row["total_cycles"], row
        assert sum(cycles for _, cycles in found.classes) == found.cycles, row
        assert all(cycles > 0 for _, cycles in found.classes), row


PUBLISHED = [
    # (M, K, N): SCALE-Sim WS, OS in the code, OS in the paper, IS; all without the report's minus 1 (contract 8).
    ((3136, 576, 64), (116_280, 125_048, 131_320, 278_712)),
    ((49, 4608, 512), (329_472, 149_440, 150_464, 174_528)),
    ((1, 512, 1000), (48_640, 18_368, 19_392, 17_504)),
]


@pytest.mark.parametrize(("shape", "expected"), PUBLISHED)
def test_the_contracts_scalesim_columns(shape: tuple[int, int, int], expected: tuple[int, ...]) -> None:
    """SCALE-Sim's columns of the table in the contract, section 8."""
    machines = [Arch(array=32, dataflow=dataflow) for dataflow in ("ws", "os", "os", "is")]
    timings = ("scalesim", "scalesim", "scalesim-paper", "scalesim")
    found = [gemm_timing(*shape, machine, timing=timing) for machine, timing in zip(machines, timings, strict=True)]
    less = [0 if result.timing == "scalesim-paper" else 1 for result in found]
    assert tuple(result.cycles + one for result, one in zip(found, less, strict=True)) == expected


@drawn(80, 500, machines(), EXTENT, EXTENT, EXTENT)
def test_flush_and_full_load_are_scalesims_paper_plus_two_cycles_per_fold(
    machine: Arch, m: int, k: int, n: int
) -> None:
    """Section 8: flush, full load and acc_rows >= T give the paper's cycles, plus SRAM read and write per fold."""
    ours = machine.evolve(
        flush_between_tiles=True, weight_load="full", acc_rows=max(m, n), x_gather_words_per_cycle=None
    )
    native, paper = (gemm_timing(m, k, n, ours, timing=timing) for timing in ("native", "scalesim-paper"))
    assert native.tiles == paper.tiles
    assert native.cycles == paper.cycles + 2 * paper.tiles
    between = {"flush": 2 * (paper.tiles - 1), "tail": 2}
    for name in ("stream", "push", "shift", "flush", "tail"):
        assert native.cycle_class(name) == paper.cycle_class(name) + between.get(name, 0), name


@drawn(80, 500, machines(), EXTENT, EXTENT, EXTENT)
def test_the_report_misses_one_cycle_and_the_drain(machine: Arch, m: int, k: int, n: int) -> None:
    """`scalesim` is the paper's number less 1, and on OS also less R per fold; utilisation follows."""
    code, paper = (gemm_timing(m, k, n, machine, timing=timing) for timing in ("scalesim", "scalesim-paper"))
    drain = machine.rows * paper.tiles if machine.dataflow == "os" else 0
    assert code.cycles == paper.cycles - drain - 1
    slots = machine.rows * machine.cols * code.cycles
    assert code.utilisation == (m * k * n / slots if slots else 0.0)


# ----------------------------------------------------------------------------------------------------------- native


@drawn(80, 500, machines(), EXTENT, EXTENT, EXTENT)
def test_classes_add_up(machine: Arch, m: int, k: int, n: int) -> None:
    """Classes sum to the cycles in all modes; nothing is waited for; utilisation is M K N / (R C cycles)."""
    result = gemm_timing(m, k, n, machine)
    assert sum(cycles for _, cycles in result.classes) == result.cycles
    assert {name for name, _ in result.classes} <= {"stream", "push", "shift", "flush", "hazard", "tail"}
    assert result.cycle_class("tail") == machine.rows + machine.cols
    assert result.utilisation == m * k * n / (machine.rows * machine.cols * result.cycles)
    assert result.event("macs") == m * k * n


def issue_port(machine: Arch, m: int, k: int, n: int) -> contract.StationaryArray | contract.OutputArray:
    """Issue all tiles of a product in the order of section 4.4."""
    twin = contract.Machine(
        machine.rows,
        machine.cols,
        machine.dataflow,
        double_buffer=machine.weight_double_buffer,
        drain_overlap=machine.drain_overlap,
        flush=machine.flush_between_tiles,
        full_load=machine.weight_load == "full",
        gather_words=machine.x_gather_words_per_cycle or 0,
    )
    if machine.dataflow == "os":
        array = contract.OutputArray(twin)
        for _ in contract.cut(n, twin.cols):
            for first, last in contract.cut(m, twin.rows):
                steps = k * twin.gather(last - first)
                array.issue(contract.Tile(steps, depth=steps))
        return array
    port = contract.StationaryArray(twin)
    streamed, held = (n, m) if machine.dataflow == "is" else (m, n)
    for left, right in contract.cut(held, twin.cols):
        for top, bottom in contract.cut(streamed, machine.acc_rows):
            for low, high in contract.cut(k, twin.rows):
                slow, push = twin.gather(high - low), twin.push_steps(high - low)
                if machine.dataflow == "is":
                    slow, push = 1, push * twin.gather(right - left)
                port.issue(contract.Tile((bottom - top) * slow, push, accumulates=low > 0))
    return port


@drawn(80, 500, machines(), EXTENT, EXTENT, EXTENT)
def test_native_cycles_are_those_of_the_issue_port(machine: Arch, m: int, k: int, n: int) -> None:
    """The contract in plain Python, which walks over every cycle of the issue port, finds the same cycles by class."""
    port = issue_port(machine, m, k, n)
    result = gemm_timing(m, k, n, machine)
    assert dict(result.classes) == {name: cycles for name, cycles in port.classes().items() if cycles}
    assert result.cycles == port.total
    assert result.tiles == len(port.placed)


@drawn(80, 500, machines(), EXTENT, EXTENT, EXTENT)
def test_events_are_the_closed_forms(machine: Arch, m: int, k: int, n: int) -> None:
    """Rows 1 to 6 of section 6."""
    result, ceiling = gemm_timing(m, k, n, machine), contract.ceiling
    if machine.dataflow == "os":
        across, down = ceiling(n, machine.cols), ceiling(m, machine.rows)
        expected = (m * k * across, k * n * down, n * down, 0, m * n)
    else:
        streamed, held = (n, m) if machine.dataflow == "is" else (m, n)
        folds, across, blocks = (
            ceiling(k, machine.rows),
            ceiling(held, machine.cols),
            ceiling(streamed, machine.acc_rows),
        )
        reads = (streamed * k * across, blocks * k * held)
        reads = reads if machine.dataflow == "ws" else reads[::-1]
        outputs = streamed * held
        expected = (*reads, outputs, outputs * (folds - 1), outputs * folds)
    names = ("activation_reads", "weight_reads", "bias_reads", "acc_reads", "acc_writes")
    assert tuple(result.event(name) for name in names) == expected


# -------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("shape", "word"),
    [
        ((0, 1, 1), "M is 0"),
        ((1, -3, 1), "K is -3"),
        ((1, 1, 1 << 40), "N is 1099511627776"),
        ((1, 1, 1 << 99999), "N is 2^99999"),
        ((1.5, 1, 1), "M is 1.5"),
        ((True, 1, 1), "M is 1"),
        (("4", 1, 1), "M is '4'"),
        ((1 << 20, 1 << 20, 1 << 20), "2^50"),
        ((1, 1 << 25, 1 << 10), "tiles"),
    ],
)
def test_extents_out_of_range_are_refused(shape: tuple[int, int, int], word: str) -> None:
    """One sentence names the extent."""
    with pytest.raises(UsageError) as refused:
        gemm_timing(*shape, Arch(array=1))
    assert word in str(refused.value)
    assert "\n" not in str(refused.value)


def test_unknown_timings_are_refused() -> None:
    """The nearest word is offered."""
    with pytest.raises(UsageError, match="did you mean 'scalesim'"):
        gemm_timing(1, 1, 1, Arch(), timing="scalsim")


def test_large_products_are_exact() -> None:
    """Sizes of language models, and NumPy integers."""
    result = gemm_timing(np.int64(4096), 16384, 16384, Arch(array=128, acc_rows=4096))
    assert result.cycles == 128 + 128 * 128 * 4096 + 256
    assert result == replace(result, cycles=128 + (1 << 26) + 256)


def test_one_cycle_short_of_nothing() -> None:
    """SCALE-Sim reports 0 cycles for one multiplication on one PE; the utilisation is 0, not a division by it."""
    result = gemm_timing(1, 1, 1, Arch(array=1, dataflow="os"), timing="scalesim")
    assert (result.cycles, result.classes, result.utilisation) == (0, (), 0.0)
