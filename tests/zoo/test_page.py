"""docs/models.md: its commands run, and its figures are the catalogue's."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.cli.command import command

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "models.md").read_text("utf-8")
COMMANDS = re.findall(r"^    (accel-sim .*)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_the_pages_commands_run(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command works as it is written."""
    monkeypatch.chdir(tmp_path)
    outcome = command(*shlex.split(line)[1:])
    assert outcome.code == 0, outcome
    assert outcome.stdout or (tmp_path / "ds-cnn.onnx").is_file()


def test_every_network_is_on_the_page() -> None:
    """What `accel-sim models` lists is described."""
    listed = re.findall(r"^ (\S+) {2,}", command("models").stdout, re.MULTILINE)
    assert len(listed) >= 12
    for name in listed:
        if name != "model":
            assert name in PAGE, name
