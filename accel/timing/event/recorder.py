"""What the engines did when: intervals per engine, buffers in use, and cycles by class at the array's issue port."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

from accelsim.timing.event.traffic import Moved

ENGINES = ("load", "push", "array", "requant", "vector", "store")

# The buffers whose occupancy is recorded; the machine says how many there are of each.
BUFFERS = ("operand_buffers", "acc_banks", "output_buffers")


@dataclass(frozen=True, slots=True)
class Interval:
    """One engine busy with one thing, from a cycle to the cycle after its last one.

    what: operand, tile, block, or class of cycles, "prefetch" for what the next layer needs; block: number of the
    output block; chunk: number of its operand load; tile: number of its tile; moved: what a DMA command moved, and
    row_misses: how many rows of DRAM it opened.
    """

    engine: str
    what: str
    start: int
    end: int
    block: int = 0
    chunk: int = 0
    tile: int = 0
    moved: Moved | None = None
    row_misses: int = 0


@dataclass(frozen=True, slots=True)
class LevelChange:
    """A buffer taken (+1) or given back (-1) at a cycle."""

    buffer: str
    cycle: int
    change: int


@dataclass
class Recorder:
    """Collects intervals, classes and events of one layer; `keep` is False where intervals are not wanted.

    phases: the classes over time, which partition the cycles of the layer.
    """

    keep: bool = True
    intervals: list[Interval] = field(default_factory=list)
    phases: list[Interval] = field(default_factory=list)
    levels: list[LevelChange] = field(default_factory=list)
    classes: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)

    def busy(
        self,
        engine: str,
        what: str,
        start: int,
        end: int,
        *,
        block: int = 0,
        chunk: int = 0,
        tile: int = 0,
        moved: Moved | None = None,
        row_misses: int = 0,
    ) -> None:
        """Record that an engine was busy; see Interval."""
        if self.keep and end > start:
            self.intervals.append(Interval(engine, what, start, end, block, chunk, tile, moved, row_misses))

    def level(self, buffer: str, cycle: int, change: int) -> None:
        """Record that a buffer was taken or given back; see LevelChange."""
        if self.keep:
            self.levels.append(LevelChange(buffer, cycle, change))

    def spend(self, name: str, start: int, end: int) -> None:
        """Attribute the cycles start..end-1 to a class."""
        self.classes[name] += end - start
        if self.keep and end > start:
            self.phases.append(Interval("issue", name, start, end))

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
            self.spend(name, low, high)
