"""docs/models.md: its commands run, and its figures are the catalogue's."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

from tests.cli.command import command
from tests.docs.scripts import script
from tests.tiers import deep

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


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    """The script that writes the table of trained networks."""
    return script("build_trained_page")


@deep
def test_the_table_is_current(builder: ModuleType) -> None:
    """A subset of the rows is computed again; run `python docs/build_trained_page.py` when this fails."""
    for row in builder.rows(("8 bits", "4 bits, `w4a8+bias_correction`", "**4 bits, trained**")):
        assert row in PAGE


@deep
def test_training_beats_every_way_to_round_afterwards(builder: ModuleType) -> None:
    """On 9,000 shifted digits, with 4 bits: fewer errors and a lower loss than the best quantiser without training."""
    trained = builder.score(builder.NETWORKS["**4 bits, trained**"])
    best = builder.score("w4a8+bias_correction")
    assert trained.shifted > best.shifted
    assert trained.cross_entropy < best.cross_entropy
    listed = re.findall(r"^\| 4 bits, \S.* \| \S+ \| ([\d.]+)% \| ([\d.]+) \|$", PAGE, re.MULTILINE)
    assert len(listed) == 5
    assert max(float(share) for share, _ in listed) < 100 * trained.shifted
    assert min(float(loss) for _, loss in listed) > trained.cross_entropy
