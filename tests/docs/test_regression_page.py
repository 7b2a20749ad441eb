"""docs/regression.md does what it says: its commands run in their order, its example is the file and passes."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from accelsim.regression.pytest_plugin import AccelSim
from tests.cli.command import command
from tests.tiers import deep

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "regression.md").read_text("utf-8")
EXAMPLE = ROOT / "docs" / "examples" / "test_my_model.py"


def test_all_commands_of_the_page_run_in_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All commands of the page, one after the other in one folder, succeed."""
    monkeypatch.chdir(tmp_path)
    for source, target in (("digits_int8.onnx", "model.onnx"), ("digits_sample.npz", "inputs.npz")):
        shutil.copy(ROOT / "models" / source, target)
    lines = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    assert len(lines) >= 5
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "accel-sim"
        outcome = command(*arguments)
        assert outcome.code == 0, (line, outcome)
    assert {"dump", "golden"} <= {path.name for path in tmp_path.iterdir()}


@deep
def test_the_example_of_the_page_passes_with_a_record(tmp_path: Path) -> None:
    """The page shows the file, and pytest runs it as it is, with a record beside it."""
    (shown,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    code = EXAMPLE.read_text("utf-8")
    assert code.partition('"""\n\n')[2] == shown
    for name in ("digits_int8.onnx", "digits_sample.npz"):
        (tmp_path / "models").mkdir(exist_ok=True)
        shutil.copy(ROOT / "models" / name, tmp_path / "models" / name)
    folder = tmp_path / "docs" / "examples"
    folder.mkdir(parents=True)
    shutil.copy(EXAMPLE, folder)
    assert command("record", tmp_path / "models" / "digits_int8.onnx", "-o", folder / "golden").code == 0
    arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--strict-markers", str(folder)]
    done = subprocess.run([sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout


def shown_block(first: str) -> list[str]:
    """Return the lines of the page's output that starts with a text, without their indent."""
    lines = PAGE.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"    {first}"))
    block = [line[4:] for line in lines[start : start + 20]]
    return block[: block.index("")] if "" in block else block


def test_the_mismatch_shown_is_the_one_found() -> None:
    """Every line of the example of a mismatch is what 12-bit accumulators give."""
    outcome = command("check", ROOT / "models" / "digits_int8.onnx", "--acc-bits", "12")
    block = shown_block("check    mismatch")
    assert len(block) == 9
    assert outcome.stdout.splitlines()[:9] == block


def test_the_failure_shown_is_the_one_raised(accel_sim: AccelSim) -> None:
    """The figures of the failure are those of the digits network today."""
    result = accel_sim(str(ROOT / "models" / "digits_int8.onnx"), array="16x16")
    with pytest.raises(AssertionError) as failed:
        result.assert_cycles(at_most=10_000)
    block = shown_block("digits_int8.onnx on 16x16")
    assert block[-1] == "  ..."
    assert str(failed.value).splitlines()[: len(block) - 1] == block[:-1]
