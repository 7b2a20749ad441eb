"""Hundreds of damaged models: each runs or is refused in one sentence, in bounded time, without taking us down."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from accelsim.errors import ExitCode
from tests.conftest import ROOT
from tests.hostile.mutants import mutant
from tests.tiers import deep

FIRST, COUNT, SECONDS = 20_000, 300, 10
ALLOWED = {
    "exact",
    "near",
    *(f"exit {int(code)}" for code in (ExitCode.UNSUPPORTED, ExitCode.INVALID, ExitCode.RESOURCE)),
}


@pytest.fixture(scope="module")
def outcomes() -> list[dict[str, Any]]:
    """Run a batch of mutants in a child process and return what it reported, seed by seed."""
    arguments = [str(ROOT / "models" / "digits_int8.onnx"), str(FIRST), str(COUNT), str(SECONDS)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.batch", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    last = rows[-1]["seed"] if rows else None
    assert done.returncode == 0, f"the child died with {done.returncode} at seed {last}: {done.stderr[-2000:]}"
    return [row for row in rows if "outcome" in row]


@deep
def test_every_mutant_ends_properly(outcomes: list[dict[str, Any]]) -> None:
    """No mutant raises anything but an error for the user, none is too slow, and the answers of those that run agree.

    A mutant may also need a larger machine (exit 2), which is the user's to give.
    """
    assert len(outcomes) == COUNT
    odd = [row for row in outcomes if row["outcome"] not in ALLOWED | {"exit 2"}]
    assert not odd, odd[:3]


@deep
def test_messages_are_sentences(outcomes: list[dict[str, Any]]) -> None:
    """Messages are printable, end without a full stop or line break, and say what to do after a colon."""
    for row in outcomes:
        if row["outcome"] in ("exit 5", "exit 6"):
            assert row["message"].isprintable(), row
            assert ": " in row["message"], row
            assert len(row["message"]) < 700, row


@deep
def test_the_mutants_are_worth_their_time(outcomes: list[dict[str, Any]]) -> None:
    """The batch reaches all layers of defence: some run, many are refused, for many different reasons."""
    counts = Counter(row["outcome"] for row in outcomes)
    assert counts["exact"] > COUNT // 5
    assert counts["exit 5"] > COUNT // 5
    reasons = {row["message"].split("'")[0] + row["message"].split("'")[-1][:30] for row in outcomes}
    assert len(reasons) > 20


def test_mutants_are_reproducible(digits: Path) -> None:
    """A seed always stands for the same bytes, so that a report can be repeated."""
    original = digits.read_bytes()
    assert [mutant(original, seed) for seed in range(20)] == [mutant(original, seed) for seed in range(20)]
    assert len({mutant(original, seed) for seed in range(50)}) > 45
