"""The page on zero points shows what its script prints, and `explain` says what the page promises."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from tests.cli.command import command

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "docs" / "examples" / "zero_points.py"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """A folder with both models, and the table that the script printed."""
    monkeypatch.setattr("sys.argv", [str(SCRIPT), str(tmp_path)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    (tmp_path / "table.md").write_text(capsys.readouterr().out)
    return tmp_path


def test_the_page_shows_what_the_script_prints(folder: Path) -> None:
    """The table of the page is the script's output, and makes the white paper's point."""
    page = (ROOT / "docs" / "zero_points.md").read_text("utf-8")
    (shown,) = re.findall(r"<!-- ci:zero-points -->\n(.*?)\n\n", page, re.DOTALL)
    printed = (folder / "table.md").read_text().strip()
    assert shown == printed
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines()[2:]]
    assert rows[0][2:] == rows[1][2:]  # symmetric weights: the machine makes no difference
    assert (rows[0][2], rows[2][2], rows[3][2]) == ("9x8", "9x9", "9x8")
    cycles = [int(row[3].replace(",", "")) for row in rows]
    assert cycles[2] == cycles[0] < cycles[3]
    assert {row[-1] for row in rows} == {"exact"}


def test_explain_shows_operands_and_alternatives(folder: Path) -> None:
    """Each convolution says its widths and what every treatment costs, the chosen one first."""
    for handling, words in (("row-sum", "w 8 bits (raw 8-bit codes"), ("wide-operand", "w 9 bits (8-bit codes")):
        outcome = command("explain", folder / "asymmetric.onnx", "--set", f"array.weight_zero_point={handling}")
        assert outcome.code == 0
        assert words in outcome.stdout
        chosen = [line for line in outcome.stdout.splitlines() if "(this machine)" in line]
        assert len(chosen) == 2
        assert all(f"fold + {handling} (this machine): " in line for line in chosen)
        assert outcome.stdout.count("bits always safe") == 8
        for line in chosen:  # what the alternative list says of this machine is what the layer takes
            cycles = re.findall(r": ([0-9,]+) cycles", line)[0]
            assert f"    cycles    {cycles} = " in outcome.stdout
    symmetric = command("explain", folder / "symmetric.onnx").stdout
    assert "zero points are free" in symmetric
    assert "row-sum" not in symmetric
    assert symmetric.count("bits always safe") == 4


def test_explain_shows_packed_weights_and_the_integer_requantiser(shared_models: Path) -> None:
    """A network with 4-bit weights says what unpacking takes and what its multipliers waste."""
    path = shared_models / "resnet8_cifar10_w4a8_qdq.onnx"
    outcome = command("explain", path, "--set", "requant.mode=q31")
    assert outcome.code == 0
    assert "weights packed at 4 bits" in outcome.stdout
    assert "unpacked to 8 bits" in outcome.stdout
    assert "wasted" in outcome.stdout
    assert "q31: int32 multipliers, shifts" in outcome.stdout


def test_a_machine_without_room_for_row_sums_is_refused(folder: Path) -> None:
    """One column and row sums: exit code 2 with one sentence that names both keys."""
    outcome = command("run", folder / "asymmetric.onnx", "--array", "4x1", "--set", "array.weight_zero_point=row-sum")
    assert outcome.code == 2
    assert "array.weight_zero_point=row-sum needs array.cols" in outcome.stderr
