"""The documentation does what it says: its Python runs, its commands run, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from accelsim.cli import app as cli
from tests.cli.command import command as run_command
from tests.tiers import few

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
LONG = r"accel-sim (schemes|quantize|report|run models:resnet50)"  # twenty seconds and more
COMMANDS = re.findall(r"`(accel-sim [a-z][^`]*)`", README)


def test_the_readmes_python_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The Python example prints one line per array."""
    monkeypatch.chdir(ROOT)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize("command", few(COMMANDS, [command for command in COMMANDS if not re.match(LONG, command)]))
def test_the_readmes_commands_run(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command of the README works when model.onnx is the digits network and its files exist."""
    monkeypatch.chdir(tmp_path)
    for source, target in (
        ("digits_int8.onnx", "model.onnx"),
        ("digits_sample.npz", "inputs.npz"),
        ("digits_float.onnx", "float.onnx"),
        ("digits_calibration.npz", "data.npz"),
        ("digits_test.npz", "test.npz"),
    ):
        (tmp_path / target).write_bytes((ROOT / "models" / source).read_bytes())
    if re.match("accel-sim (report|compare) ", command):
        for folder, flow in (("results", "ws"), ("others", "os")):
            assert run_command("run", "model.onnx", "--dataflow", flow, "-o", folder, "-q").code == 0
    words = shlex.split(command.replace("--layer conv1", "--layer stem"))
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code in (0, 3 if "--acc-bits 16" in command else 0), capsys.readouterr().err
    assert capsys.readouterr().out


def test_there_are_commands_to_run() -> None:
    """The pattern that finds the commands still finds them."""
    assert len(COMMANDS) >= 6


@pytest.mark.parametrize(
    "page", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.name
)
def test_links_lead_somewhere(page: Path) -> None:
    """Relative links of all pages point at files that exist."""
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_sample_is_part_of_the_test_set() -> None:
    """The four images of the README's command are the first of the held-back digits."""
    with (
        np.load(ROOT / "models" / "digits_sample.npz") as few,
        np.load(ROOT / "models" / "digits_test.npz") as all_images,
    ):
        assert np.array_equal(few["image"], all_images["image"][:4])
