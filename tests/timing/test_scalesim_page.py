"""docs/scalesim.md: its tables are what the program gives, and its commands run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

from tests.cli.command import command
from tests.docs.scripts import script

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
PAGE = (DOCS / "scalesim.md").read_text("utf-8")
COMMANDS = re.findall(r"^    (accel-sim .*)$", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    """The script that writes the tables."""
    return script("build_scalesim_page")


def test_the_tables_are_current(builder: ModuleType) -> None:
    """Run `python docs/build_scalesim_page.py` when this fails."""
    assert builder.page(PAGE) == PAGE


def test_the_networks_have_their_multiplications(builder: ModuleType) -> None:
    """Published sizes at 224 x 224: ResNet-18 has 1.81 G multiply-accumulates, MobileNet v1 0.57 G (569 M)."""
    total = {name: sum(m * k * n * times for _, (m, k, n), times in layers)
             for name, layers in (("resnet", builder.RESNET18), ("mobilenet", builder.MOBILENET))}  # fmt: skip
    total["mobilenet"] += sum(pixels * channels * 9 * times for _, pixels, channels, times in builder.DEPTHWISE)
    assert (round(total["resnet"] / 1e9, 2), round(total["mobilenet"] / 1e6)) == (1.81, 569)


def test_the_ladder_meets_in_the_middle(builder: ModuleType) -> None:
    """SCALE-Sim's paper plus two cycles per fold is our machine with flush and full loads."""
    rows = [line.split("|")[2:] for line in builder.ladder_table()]
    assert rows[5] == rows[6]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_of_the_page_prints_a_result(line: str) -> None:
    """Each prints a result."""
    outcome = command(*shlex.split(line)[1:])
    assert outcome.code == 0
    assert "cycles" in outcome.stdout


def test_there_are_commands_to_run() -> None:
    """The pattern that finds the commands still finds them."""
    assert len(COMMANDS) == 3
