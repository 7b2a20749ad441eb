"""`accel-sim explain`: its formulas are those of the machine's mode, and its sums are the cycles."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from accelsim.explain.layers import output_stationary_formula, stationary_formula
from accelsim.kernels.cycles.array import output_step, stationary_step
from accelsim.kernels.cycles.specs import CLASSES
from accelsim.machine.arch import Arch
from accelsim.program.plan import ContractionPlan
from accelsim.program.work import ContractionWork
from accelsim.timing.recurrence import array_spec
from tests.cli.command import assert_refused, command
from tests.tiers import few

MODES = [
    {},
    {"weight_load": "full"},
    {"weight_double_buffer": False},
    {"weight_double_buffer": False, "weight_load": "full"},
    {"flush_between_tiles": True},
    {"drain_overlap": False},
    {"x_gather_words_per_cycle": 3},
]
# M, K, N of one block, on an array of 8 rows and 5 columns.
BLOCKS = [(40, 5, 5), (3, 24, 5), (1, 8, 5), (8, 64, 3), (7, 3, 1), (30, 17, 4)]


def _layer(m: int, k: int, n: int) -> tuple[ContractionWork, ContractionPlan]:
    """Return a matrix product that is one block, its whole depth resident."""
    return ContractionWork(m, k, n, 1, None, False, 1, 8), ContractionPlan(m, n, k, 1, True)


@pytest.mark.parametrize("dataflow", ["ws", "is"])
@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_the_printed_interval_of_ws_and_is_is_that_of_the_recurrence(
    dataflow: str, mode: dict[str, object], block: tuple[int, int, int]
) -> None:
    """The interval that is printed for WS and IS is the one between two equal tiles of the recurrence."""
    arch = Arch(rows=8, cols=5, dataflow=dataflow, **mode)
    m, k, n = block if dataflow == "ws" else block[::-1]
    work, plan = _layer(m, k, n)
    depth = min(k, arch.rows)
    steps = m * arch.gather_cycles(depth) if dataflow == "ws" else n
    columns = n if dataflow == "ws" else m
    state, classes = np.zeros(4, np.int64), np.zeros(len(CLASSES), np.int64)
    starts = [
        stationary_step(array_spec(arch), state, depth, columns, steps, 0, 0, 0, tile > 0 and k > arch.rows, classes)
        for tile in range(3)
    ]
    text, cycles = stationary_formula(work, plan, arch)
    assert cycles == starts[2] - starts[1], text


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_the_printed_interval_of_os_is_that_of_the_recurrence(
    mode: dict[str, object], block: tuple[int, int, int]
) -> None:
    """The interval that is printed for OS is the one between two equal tiles of the recurrence."""
    arch = Arch(rows=8, cols=5, dataflow="os", **mode)
    work, plan = _layer(*block)
    steps = work.k * arch.gather_cycles(min(work.m, arch.rows))
    state, classes = np.zeros(4, np.int64), np.zeros(len(CLASSES), np.int64)
    starts = [output_step(array_spec(arch), state, steps, 0, 0, True, steps, classes) for _ in range(3)]
    text, cycles = output_stationary_formula(work, plan, arch)
    assert cycles == starts[2] - starts[1], text


@pytest.mark.parametrize("dataflow", few(["ws", "os", "is"], ["os"]))
@pytest.mark.parametrize("mode", ["weight_load=full", "flush_between_tiles=true", "drain_overlap=false"])
def test_totals_are_the_cycles(digits: Path, dataflow: str, mode: str) -> None:
    """The terms of every total add up to the cycles of the layer."""
    outcome = command("explain", digits, "--array", "8x4", "--dataflow", dataflow, "--set", f"array.{mode}")
    assert outcome.code == 0, outcome
    totals = re.findall(r"total = (.*)\n +cycles +([\d,]+)", outcome.stdout)
    assert len(totals) == 8
    for terms, cycles in totals:
        assert sum(int(term.replace(",", "")) for term in re.findall(r"[\d,]+(?= \+|$)", terms)) == int(
            cycles.replace(",", "")
        ), terms


def test_default_mode_is_filled_in(digits: Path) -> None:
    """On the default machine a layer shows its loop nest, the rule of 4.1 with its numbers, and what binds it."""
    text = command("explain", digits, "--layer", "reduce").stdout
    assert (
        "for n in 32 by 16: for m in 64 by 64: for k in 144 by 48: for k-fold in 48 by 16: push, stream 64 of m" in text
    )
    assert "max(Mt=64, L=Kt=16, next k-fold not before R+2=18) (double buffered) = 64\n" in text
    assert "total = 18 tiles 1,152 + exposed push 16 + waits" in text
    assert "R+C=32" in text
    assert "activations on chip already; weights loaded once; result stays on chip" in text
    assert "least cycles x energy of 80 plans that fit the scratchpads (ws)" in text
    assert "bound by  the array" in text


def test_vector_layer_is_filled_in(digits: Path) -> None:
    """A layer of the vector unit shows operations, lanes and latency."""
    text = command("explain", digits, "--layer", "image_Quant", "--set", "vector.lanes=32").stdout
    assert "ceil(operations=256 / V=32) + latency 4 = 12" in text


def test_shapes_of_an_input_file(digits: Path, tmp_path: Path) -> None:
    """With --input a dynamic batch is explained as large as the array given is."""
    np.savez(tmp_path / "four.npz", image=np.zeros((4, 1, 16, 16), np.float32))
    outcome = command("explain", digits, "--input", tmp_path / "four.npz", "--layer", "stem")
    assert outcome.code == 0, outcome
    assert "M=1024 K=9 N=16" in outcome.stdout


def test_input_files_are_checked(digits: Path, tmp_path: Path) -> None:
    """Names, types and shapes of the arrays are refused as `run` refuses them."""
    path = tmp_path / "wrong.npz"
    np.savez(path, picture=np.zeros((1, 1, 16, 16), np.float32))
    assert_refused(command("explain", digits, "--input", path), 2, "no input 'picture'")
    np.savez(path, image=np.zeros((1, 1, 16, 16), np.uint8))
    assert_refused(command("explain", digits, "--input", path), 2, "is uint8")
    np.savez(path, image=np.zeros((1, 2, 16, 16), np.float32))
    assert_refused(command("explain", digits, "--input", path), 2, "image")
