"""docs/energy.md: its table is what its script prints, its ratios are Horowitz', its commands run."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest

from accelsim.energy.accelergy import ROLES
from accelsim.energy.charges import COMPONENTS
from accelsim.energy.rows import LAWS
from tests.cli.command import command
from tests.tiers import deep

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "energy.md").read_text("utf-8")
COMMANDS = re.findall(r"^    (accel-sim .*)$", PAGE, re.MULTILINE)


def test_the_page_shows_what_the_script_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """Horowitz' ratios of 30 and 18.5 come out, and a quarter of the energy is what remains of them on a network."""
    runpy.run_path(str(ROOT / "docs" / "examples" / "energy.py"), run_name="__main__")
    printed = capsys.readouterr().out.strip()
    (shown,) = re.findall(r"<!-- ci:energy -->\n(.*?)\n\n", PAGE, re.DOTALL)
    assert shown == printed
    ratios = [float(line.split("|")[4]) for line in printed.splitlines()[2:]]
    assert ratios[:2] == [30.0, 18.5]
    assert ratios[1] > ratios[2] > ratios[3] > ratios[4] > 1


@pytest.mark.parametrize("line", COMMANDS)
def test_the_pages_commands_run(line: str, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of the page works when model.onnx is the digits network."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.onnx").write_bytes(digits.read_bytes())
    outcome = command(*shlex.split(line)[1:])
    assert outcome.code == 0, outcome.stderr
    assert outcome.stdout


def test_there_are_commands_to_run() -> None:
    """The pattern that finds the commands still finds them."""
    assert len(COMMANDS) >= 5


def test_the_page_lists_what_there_is() -> None:
    """Components, laws and roles of the page are those of the code."""
    assert all(f"`{name}`" in PAGE for name in (*COMPONENTS, *LAWS.values(), *ROLES))


@deep
@pytest.mark.parametrize(("zp_mode", "share"), [("fold", "3.9"), ("subtract", "27.1")])
def test_the_shares_of_zero_operands(shared_models: Path, zp_mode: str, share: str) -> None:
    """The two shares of MobileNetV2 that the page names, on the sample beside the model."""
    model, sample = (shared_models / f"mobilenetv2_100_224_int8.{end}" for end in ("onnx", "in0.npz"))
    options = ("--no-check", "-v", "--zero-gating", "--set", f"array.zp_mode={zp_mode}")
    outcome = command("run", model, "--input", sample, *options)
    assert f"multiply-accumulates gated ({share}%)" in outcome.stdout
    assert f"{share} %" in PAGE


def test_the_page_names_its_numbers() -> None:
    """Figures in the text are those of the tables: the 16-bit multiplication, and gates from 32 to 16 bits."""
    from accelsim.energy.area import gate_counts
    from accelsim.energy.reader import load_table

    assert f"({load_table().multiplier(16, 16).value_pj:.3f} pJ)" in PAGE
    cells = {(row.accumulator_bits, row.overflow): row.cells for row in gate_counts()}
    text = " ".join(PAGE.split())
    for overflow in ("wrap", "saturate"):
        lost = 1 - cells[16, overflow] / cells[32, overflow]
        assert f"{lost:.0%}".replace("%", " %") in text
    assert f"{cells[32, 'saturate'] / cells[32, 'wrap'] - 1:.0%}".replace("%", " %") + " at 32 bits" in text
