"""Many outcomes added up, and how they are printed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.generator.verify import REFUSED, Distance, Outcome

MOST_REFUSED = 0.02


@dataclass
class DistanceTotal:
    """How far all float-reference tensors of one operator are."""

    tensors: int = 0
    elements: int = 0
    different: float = 0.0
    max_lsb: int = 0

    def add(self, distance: Distance) -> None:
        """Take in one tensor."""
        self.tensors += 1
        self.elements += distance.elements
        self.different += distance.different
        self.max_lsb = max(self.max_lsb, distance.max_lsb)


@dataclass
class Totals:
    """What a series of graphs gave."""

    graphs: int = 0
    elements: int = 0
    host_elements: int = 0
    mismatched: int = 0
    macs: int = 0
    overflows: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    operators: Counter[str] = field(default_factory=Counter)
    kernels: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    distances: dict[str, DistanceTotal] = field(default_factory=dict)

    def add(self, outcome: Outcome, rows: tuple[str, ...]) -> None:
        """Take in one graph."""
        self.graphs += 1
        if outcome.verdict == REFUSED:
            self.refusals[outcome.detail] += 1
            return
        if outcome.failed:
            self.failures[f"{outcome.verdict}: {outcome.detail}"] += 1
        self.elements += outcome.elements
        self.host_elements += outcome.host_elements
        self.mismatched += outcome.mismatched
        self.macs += outcome.macs
        self.overflows += outcome.overflows
        self.rows.update(rows)
        self.operators.update(outcome.operators)
        self.kernels.update(outcome.kernels)
        for distance in outcome.distances:
            name = f"{distance.operator}, in {distance.unit}"
            self.distances.setdefault(name, DistanceTotal()).add(distance)

    @property
    def refused(self) -> int:
        """Number of graphs that were refused."""
        return self.refusals.total()

    @property
    def passed(self) -> bool:
        """Tell whether nothing failed and few graphs were refused."""
        return not self.failures and not self.mismatched and self.refused <= MOST_REFUSED * max(self.graphs, 50)

    def lines(self) -> Iterator[str]:
        """Yield the summary, line by line."""
        yield f"graphs compared: {self.graphs - self.refused:,}; refused: {self.refused:,}"
        yield (
            f"elements compared: {self.elements:,} ({self.host_elements:,} of them computed by onnxruntime itself); "
            f"mismatched: {self.mismatched:,}"
        )
        yield f"MACs: {self.macs:,}; accumulator overflows: {self.overflows:,}"
        yield f"operators in the files ({len(self.operators)}): {_counts(self.operators)}"
        yield f"operators of the machine ({len(self.kernels)}): {_counts(self.kernels)}"
        for operator, total in sorted(self.distances.items()):
            share = total.different / max(total.elements, 1)
            yield (
                f"float-reference {operator}: {total.tensors:,} tensors, {total.elements:,} elements, "
                f"max {total.max_lsb}, {share:.4%} differ"
            )
        for reason, count in self.refusals.most_common():
            yield f"refused {count}x: {reason}"
        for reason, count in self.failures.most_common():
            yield f"FAILED {count}x: {reason}"


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counter.most_common())
