"""The timeline of one layer as a result keeps it: which engine did what when, bounded, and what is left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Bar:
    """One engine busy with one thing in cycles start..end-1 of the layer; engine "issue": a class of cycles."""

    engine: str
    what: str
    start: int
    end: int


@dataclass(frozen=True)
class Timeline:
    """What the engines did during one layer.

    layer, number: name and place (from 0) of the layer; cycles: of the layer; until: cycle up to which everything is
    here; bars: by start; note: one sentence about what is left out, empty where nothing is.
    """

    layer: str
    number: int
    cycles: int
    until: int
    bars: tuple[Bar, ...]
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the timeline as plain data, one list (engine, what, start, end) per bar."""
        bars = [[bar.engine, bar.what, bar.start, bar.end] for bar in self.bars]
        return {
            "layer": self.layer,
            "number": self.number,
            "cycles": self.cycles,
            "until": self.until,
            "intervals": bars,
            "note": self.note,
        }
