"""Tables of a report: plain cells, numbers with thousands separators, units in the heads, so that columns line up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One column; numeric ones are aligned to the right and sorted as numbers."""

    title: str
    numeric: bool = False


@dataclass(frozen=True)
class Cell:
    """One cell; tone: "", "good", "bad", "mark" or "dim"; hint: shown where the pointer rests."""

    text: str
    tone: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under columns, with an optional row of totals; wide: does not fit beside another one."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    totals: tuple[Cell, ...] = ()


@dataclass(frozen=True)
class Unit:
    """A unit for a whole column: name, how many base units it is, and decimals that its numbers have."""

    name: str
    factor: float
    decimals: int

    def text(self, value: float) -> str:
        """Return a number of base units in this unit, without its name."""
        return f"{value / self.factor:,.{self.decimals}f}"


def energy_unit(values_pj: Sequence[float]) -> Unit:
    """Return a unit in which the largest of some energies in pJ has up to six digits and small ones are not zero."""
    largest = max(values_pj, default=0.0)
    for name, factor in (("mJ", 1e9), ("µJ", 1e6), ("nJ", 1e3)):
        if largest >= 100 * factor:
            return Unit(name, factor, 2)
    return Unit("pJ", 1.0, 1)


def text_cells(*texts: str) -> tuple[Cell, ...]:
    """Return cells without tone."""
    return tuple(Cell(text) for text in texts)


def columns(*titles: str) -> tuple[Column, ...]:
    """Return columns; a title that starts with # is that of a numeric one."""
    return tuple(Column(title.removeprefix("#"), title.startswith("#")) for title in titles)


def share_text(part: float, whole: float) -> str:
    """Return a share in percent, without its sign."""
    return f"{100 * part / whole:.1f}" if whole else "0.0"
