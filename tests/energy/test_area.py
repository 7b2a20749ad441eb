"""Relative area: the committed table is monotone and read as written; the script parses yosys and repeats a row."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

from accelsim.energy.area import AREA_SOURCE, gate_counts
from tests.cli.command import command
from tests.docs.scripts import script

ROOT = Path(__file__).resolve().parent.parent.parent
REPORT = """
=== top ===

   Number of wires:                  7
   Number of cells:                 11
     $_AND_                          4
     $_DFFE_PP_                      2
     $_DFF_P_                        3
     $_XOR_                          2
"""


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    """The script that writes the table."""
    return script("build_area_table")


def test_the_table_is_monotone(builder: ModuleType) -> None:
    """A wider accumulator takes more gates and more flip-flops, and saturating more than wrapping."""
    rows = {(row.accumulator_bits, row.overflow): row for row in gate_counts()}
    assert list(rows) == [(bits, overflow) for overflow in builder.OVERFLOWS for bits in builder.WIDTHS]
    for overflow in builder.OVERFLOWS:
        for low, high in pairwise(builder.WIDTHS):
            assert rows[low, overflow].cells < rows[high, overflow].cells
            assert rows[low, overflow].flip_flops < rows[high, overflow].flip_flops
    assert all(rows[bits, "wrap"].cells < rows[bits, "saturate"].cells for bits in builder.WIDTHS)
    assert rows[32, "wrap"].relative == 1


def test_registers_are_those_of_the_rtl() -> None:
    """Per bit of the accumulator three registers (v, acc, o); beside them a, a_live, w, w0, w1 and the token."""
    for row in gate_counts():
        assert row.flip_flops == 3 * row.accumulator_bits + 9 + 1 + 3 * 8 + 8


def test_the_last_statistics_of_a_report_are_read(builder: ModuleType) -> None:
    """Cells and flip-flops of the last statistics; reports without any, or that do not add up, are refused."""
    assert builder.counts(REPORT) == (11, 5)
    assert builder.counts(REPORT.replace("11", "99") + REPORT) == (11, 5)
    for broken in ("", REPORT.replace("11", "12"), REPORT.rpartition("$_AND_")[0]):
        with pytest.raises(ValueError, match="report"):
            builder.counts(broken)


def test_yosys_gives_the_committed_row(builder: ModuleType, tmp_path: Path) -> None:
    """Where yosys is installed: the rows of 16 bits once more (another version may count differently, but not far)."""
    if shutil.which("yosys") is None:
        pytest.skip("synthesis not run: install yosys (apt-get install yosys)")
    rows = {(row.accumulator_bits, row.overflow): row for row in gate_counts()}
    for overflow in builder.OVERFLOWS:
        cells, flip_flops = builder.synthesise(16, overflow, tmp_path)
        row = rows[16, overflow]
        assert flip_flops == row.flip_flops
        assert cells == pytest.approx(row.cells, rel=0.1)


def test_the_command_labels_it_relative() -> None:
    """`energy --area` shows the table and says that it is relative; without the option it is not there."""
    shown = command("energy", "--area")
    assert "relative area" in shown.stdout
    assert "relative only" in " ".join(shown.stdout.split())
    assert AREA_SOURCE.startswith("relative only")
    assert "relative area" not in command("energy").stdout
