"""What timing a layer gives, whichever execution of the contract was asked: cycles by class, and counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from accelsim.timing.boundary import NOTHING_FOUND, Boundary


@dataclass(frozen=True)
class LayerTiming:
    """Cycles of one layer by class (they sum to the cycles), and what happened in it."""

    cycles: int
    classes: tuple[tuple[str, int], ...]
    """See docs/timing_contract.md, sections 4.3 and 5.7."""
    events: tuple[tuple[str, int], ...]
    """Counts of timing contract section 6, bytes, and arithmetic of the vector unit."""
    left: Boundary = NOTHING_FOUND
    """What the next layer finds (section 5.6)."""

    def cycle_class(self, name: str) -> int:
        """Return the cycles of one class, 0 when it does not occur."""
        return dict(self.classes).get(name, 0)

    def event(self, name: str) -> int:
        """Return one count, 0 when it does not occur."""
        return dict(self.events).get(name, 0)

    @property
    def dram_bytes(self) -> int:
        """DRAM traffic in both directions, in whole bursts."""
        return self.event("dram_read_bytes") + self.event("dram_write_bytes")


def added(timings: Sequence[tuple[LayerTiming, int]]) -> LayerTiming:
    """Return the timing of several layers one after the other.

    Args:
        timings: of the layers, each with how often it occurs.
    """
    cycles, classes, events = 0, Counter[str](), Counter[str]()
    for timing, times in timings:
        cycles += times * timing.cycles
        classes.update({name: times * count for name, count in timing.classes})
        for name, count in timing.events:
            events[name] += times * count
    return LayerTiming(cycles, _nonzero(classes), _nonzero(events), timings[-1][0].left)


def _nonzero(counts: Counter[str]) -> tuple[tuple[str, int], ...]:
    return tuple((name, count) for name, count in counts.items() if count)
