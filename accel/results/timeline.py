"""The timeline of one layer as a result keeps it: which engine did what when, bounded, and what is left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

from pydantic import Field

from accelsim.results.limits import Count, Name, Text


class Bar(NamedTuple):
    """One engine busy with one thing in cycles start..end-1 of the layer; a list of four in files."""

    engine: Text
    """Its name, or "issue" for classes of cycles."""
    what: Text
    """What it does, or the class of the cycles."""
    start: Count
    end: Count


@dataclass(frozen=True)
class Timeline:
    """What the engines did during one layer."""

    layer: Name
    number: Count
    """Place of the layer in the network, from 0."""
    cycles: Count
    """Of the layer."""
    until: Count
    """Cycle up to which everything is here."""
    bars: Annotated[tuple[Bar, ...], Field(alias="intervals", max_length=20_000)]
    """By start."""
    note: Text = ""
    """One sentence about what is left out, empty where nothing is."""
