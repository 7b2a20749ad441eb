"""The changelog is grouped, and speaks of releases only."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).resolve().parents[2] / "CHANGELOG.md").read_text("utf-8")
RELEASES = re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]


def test_each_release_is_grouped() -> None:
    """Added, Changed and Fixed, in this order, once each; nothing stands outside of them."""
    for release in RELEASES:
        title, _, body = release.partition("\n")
        assert re.fullmatch(r"\d+\.\d+\.\d+ \((unreleased|\d{4}-\d\d-\d\d)\)", title)
        assert re.findall(r"^### (.*)$", body, re.MULTILINE) == ["Added", "Changed", "Fixed"]
        assert body.lstrip().startswith("### Added")


@pytest.mark.parametrize(
    "word", ["no longer", "than before", "which it always was", "instead of", "it was refused", "they were"]
)
def test_the_first_release_has_no_before(word: str) -> None:
    """Words that compare with something that nobody had are not in the first release."""
    assert word not in RELEASES[-1]
