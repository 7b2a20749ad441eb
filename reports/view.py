"""What a report shows of a result: layers with short names and what binds them, bounded in number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from accelsim.errors import printable
from accelsim.reports.classes import ordered_classes, ordered_components
from accelsim.reports.facts import Binding, binding_of, dataflow_of, machine_name
from accelsim.reports.terminal.run_table import short_names
from accelsim.results.result import LayerResult, Result

# Layers that charts and tables show one by one; of larger models, those with most cycles, and the rest together.
LARGEST_LAYERS = 300
_LABEL = 30


@dataclass(frozen=True)
class LayerView:
    """One row of charts and tables."""

    number: int
    """Place in the result from 1, 0 for the row that stands for several layers."""
    label: str
    """Short and unlike any other."""
    name: str
    """Whole, printable."""
    layer: LayerResult
    bound: Binding
    """What binds the layer."""

    @property
    def energy_pj(self) -> float:
        """Energy of the layer."""
        return sum(self.layer.energy_pj.values())

    @property
    def tip(self) -> str:
        """Name of the layer where the pointer rests on it."""
        return f"{self.label} ({printable(self.layer.op, 40)})" if self.layer.op else self.label


@dataclass(frozen=True)
class Peak:
    """The largest values of any row, so that charts beside each other have one scale."""

    cycles: int = 0
    energy_pj: float = 0.0
    dram_bytes: int = 0


@dataclass(frozen=True, eq=False)
class View:
    """A result as a report shows it."""

    title: str
    """Unlike that of any other result of the report."""
    result: Result
    layers: tuple[LayerView, ...]
    folded: int
    """Layers that the last row stands for."""
    peak: Peak = Peak()
    """Of all results of the report."""

    @cached_property
    def classes(self) -> list[str]:
        """Classes of cycles that occur, in the order of charts."""
        return ordered_classes(key for row in self.layers for key in row.layer.cycle_classes)

    @cached_property
    def components(self) -> list[str]:
        """Components of energy that occur, in the order of charts."""
        return ordered_components(key for row in self.layers for key in row.layer.energy_pj)

    @property
    def dataflow(self) -> str:
        """Dataflow of the machine, empty where it does not say which operand a class of cycles waits for."""
        return dataflow_of(self.result)

    @property
    def fold_note(self) -> str:
        """Say what stands in one row."""
        if not self.folded:
            return ""
        kept = len(self.layers) - 1
        return f"The {kept:,} layers with most cycles; the other {self.folded:,} are added up in the last row."

    def number(self, section: str, key: str) -> float | None:
        """Return a number of the machine's description, None where it has none."""
        value = self.result.arch.get(section, {}).get(key)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def view_of(result: Result, title: str = "", limit: int = LARGEST_LAYERS) -> View:
    """Return what a report shows of a result.

    Args:
        result: the result.
        title: name beside other results; empty takes model and machine.
        limit: largest number of rows.
    """
    title = title or f"{printable(result.model.name, 60)} on {machine_name(result)}"
    view = _view(result, title, limit)
    return replace(view, peak=peak_of([view]))


def peak_of(views: Sequence[View]) -> Peak:
    """Return the largest values of any row of some results."""
    rows = [row for view in views for row in view.layers]
    return Peak(
        max((row.layer.cycles for row in rows), default=0),
        max((row.energy_pj for row in rows), default=0.0),
        max((max(row.layer.dram_bytes, row.layer.compulsory_dram_bytes or 0) for row in rows), default=0),
    )


def _view(result: Result, title: str, limit: int) -> View:
    """Number, name and fold the layers."""
    labels = short_names([layer.name for layer in result.layers], _LABEL)
    dataflow = dataflow_of(result)
    rows = [
        _row(number, label, layer, dataflow)
        for number, (label, layer) in enumerate(zip(labels, result.layers, strict=True), start=1)
    ]
    if len(rows) <= limit:
        return View(title, result, tuple(rows), 0)
    ranked = sorted(rows, key=lambda row: -row.layer.cycles)
    kept = {row.number for row in ranked[: limit - 1]}
    rest = [row.layer for row in rows if row.number not in kept]
    together = _row(0, f"({len(rest):,} other layers)", _together(rest), dataflow)
    return View(title, result, (*(row for row in rows if row.number in kept), together), len(rest))


def _row(number: int, label: str, layer: LayerResult, dataflow: str) -> LayerView:
    """Build one row."""
    return LayerView(number, label, printable(layer.name, 300), layer, binding_of(layer.cycle_classes, dataflow))


def _together(layers: Sequence[LayerResult]) -> LayerResult:
    """Add layers up to one row."""
    classes: dict[str, int] = {}
    energy: dict[str, float] = {}
    for layer in layers:
        for name, cycles in layer.cycle_classes.items():
            classes[name] = classes.get(name, 0) + cycles
        for name, pj in layer.energy_pj.items():
            energy[name] = energy.get(name, 0.0) + pj
    return LayerResult(
        f"({len(layers):,} other layers)", "", "", None, None, None, None, sum(layer.tiles for layer in layers),
        sum(layer.macs for layer in layers), sum(layer.cycles for layer in layers), classes, None, energy,
        sum(layer.dram_bytes for layer in layers), None, None,
        dram_read_bytes=_sum(layer.dram_read_bytes for layer in layers),
        dram_write_bytes=_sum(layer.dram_write_bytes for layer in layers),
        compulsory_dram_bytes=_sum(layer.compulsory_dram_bytes for layer in layers),
        lane_operations=_sum(layer.lane_operations for layer in layers),
    )  # fmt: skip


def _sum(values: Iterable[int | None]) -> int | None:
    """Add numbers up; one that is not known makes the sum unknown."""
    total = 0
    for value in values:
        if value is None:
            return None
        total += value
    return total
