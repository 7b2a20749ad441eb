"""What the engines did when: intervals per engine, and cycles by class at the array's issue port."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

ENGINES = ("load", "push", "array", "requant", "vector", "store")


@dataclass(frozen=True)
class Interval:
    """One engine busy with one thing, from a cycle to the cycle after its last one."""

    engine: str
    what: str
    start: int
    end: int


@dataclass
class Recorder:
    """Collects intervals, classes and events of one layer; `keep` is False where intervals are not wanted."""

    keep: bool = True
    intervals: list[Interval] = field(default_factory=list)
    classes: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)

    def busy(self, engine: str, what: str, start: int, end: int) -> None:
        """Record that an engine was busy."""
        if self.keep and end > start:
            self.intervals.append(Interval(engine, what, start, end))

    def idle(self, start: int, end: int, reasons: tuple[tuple[str, int, int], ...], otherwise: str) -> None:
        """Attribute the idle cycles start..end-1 of the issue port (contract, 4.3).

        Args:
            start: first idle cycle.
            end: cycle of the next step.
            reasons: (class, from, until) in order of precedence.
            otherwise: class of the cycles that no reason covers.
        """
        edges = sorted({start, end, *(min(max(edge, start), end) for _, low, high in reasons for edge in (low, high))})
        for low, high in pairwise(edges):
            name = next((name for name, since, until in reasons if since <= low < until), otherwise)
            self.classes[name] += high - low
