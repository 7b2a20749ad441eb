"""docs/quantisation.md: its Python runs, its commands run, its table is what the program gives."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

from accelsim.quantise.scheme import NAMES
from tests.cli.command import command
from tests.docs.scripts import script
from tests.quantise.helpers import ROOT
from tests.tiers import deep

PAGE = (ROOT / "docs" / "quantisation.md").read_text("utf-8")
COMMANDS = re.findall(r"^    (accel-sim .*)$", PAGE, re.MULTILINE)
SUBSET = ("fp32", "int8-symmetric", "int8-affine", "int8-affine-weights", "w4a8")


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    """The script that writes the table."""
    return script("build_schemes_page")


def test_every_example_gives_what_the_page_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every >>> gives what the page shows."""
    monkeypatch.chdir(ROOT)
    found = doctest.testfile(str(ROOT / "docs" / "quantisation.md"), module_relative=False)
    assert found.attempted > 20
    assert found.failed == 0


@deep
def test_all_commands_of_the_page_run_in_one_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They work one after the other in a folder that has the models."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").symlink_to(ROOT / "models")
    for line in COMMANDS:
        done = command(*shlex.split(line)[1:])
        assert done.code == 0, (line, done.stderr)
    assert (tmp_path / "report.html").is_file()


def test_there_are_commands_to_run() -> None:
    """The pattern that finds the commands still finds them."""
    assert len(COMMANDS) == 6


@deep
def test_the_table_is_current(builder: ModuleType) -> None:
    """A subset of the rows is computed again; run `python docs/build_schemes_page.py` when this fails."""
    for row in builder.rows(SUBSET):
        assert row in PAGE


def test_the_table_has_all_schemes(builder: ModuleType) -> None:
    """At least ten, int8 within half a point of float."""
    shown = re.findall(r"^\| `([^`]+)` \| ([\d.]+)% \|", PAGE, re.MULTILINE)
    assert [name for name, _ in shown] == list(builder.NAMES)
    accuracy = {name: float(value) for name, value in shown}
    assert len(accuracy) >= 10
    assert all(value > accuracy["fp32"] - 0.5 for name, value in accuracy.items() if name.startswith("int8"))


def test_every_name_is_explained() -> None:
    """The page's list of schemes is complete."""
    assert all(f"`{name}`" in PAGE for name in NAMES)
