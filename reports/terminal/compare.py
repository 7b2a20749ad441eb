"""What `accel-sim compare` prints: totals, layers, inputs, parameters of the machine and versions that differ."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from accelsim.errors import printable
from accelsim.reports.changes import MEASURES, Changes, LayerChange, Pair, measure_of, verdict_of
from accelsim.reports.page.fact_tables import side_text
from accelsim.reports.terminal.run_table import energy_text, quantity

_SHOWN = 20
_MORE, _LESS = "yellow", "cyan"


def print_changes(changes: Changes, console: Console, *, all_layers: bool = False) -> None:
    """Print a comparison.

    Args:
        changes: what differs.
        console: where to.
        all_layers: all layers that differ, not only those in which most changed.
    """
    console.print(_totals(changes.totals))
    rows = changes.changed_layers
    if not rows:
        console.print(Text(f"layers   all {len(changes.layers):,} equal in cycles, energy, DRAM traffic and verdict"))
    else:
        shown = list(rows) if all_layers else _largest(rows)
        console.print(_layers(shown))
        rest = len(rows) - len(shown)
        if rest:
            console.print(
                Text(f"         and {rest:,} more of {len(changes.layers):,} layers differ: --all shows them")
            )
    for title, pairs in (("input", changes.inputs), ("machine", changes.machine), ("versions", changes.versions)):
        for index, pair in enumerate(pairs):
            name = title if not index else ""
            console.print(Text(f"{name:<9}{pair.label}: {side_text(pair.old)} -> {side_text(pair.new)}"))
        if not pairs:
            console.print(Text(f"{title:<9}equal"))


def _totals(pairs: Sequence[Pair]) -> Table:
    """Return the table of totals."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    for title in ("", "before", "after", "change"):
        table.add_column(title, justify="right" if title else "left", no_wrap=True)
    for pair in pairs:
        name = f"{pair.label} [{pair.unit}]" if pair.unit else pair.label
        style = "" if pair.differs else "dim"
        change = "=" if not pair.differs else "" if pair.change is None else f"{pair.change:+.2%}"
        sides = (Text(printable(side_text(side), 30), style=style) for side in (pair.old, pair.new))
        table.add_row(Text(name), *sides, Text(change, style=_style(pair.change or 0.0)))
    return table


def _style(change: float) -> str:
    """Return the style of a change: more, less, none."""
    return "dim" if not change else _MORE if change > 0 else _LESS


def _largest(rows: Sequence[LayerChange]) -> list[LayerChange]:
    """Return the layers in which most changed, in their order: of cycles, or else of energy, or else the verdict."""
    ranked = sorted(
        rows, key=lambda row: (-abs(row.delta("cycles")), -abs(row.delta("energy_pj")), -abs(row.delta("dram_bytes")))
    )
    kept = {id(row) for row in ranked[:_SHOWN]}
    return [row for row in rows if id(row) in kept]


def _layers(rows: Sequence[LayerChange]) -> Table:
    """Return the table of layers: after, and the change."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("layer", no_wrap=True, max_width=26)
    for title in ("cycles", "change", "energy", "change", "DRAM", "change"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in rows:
        cells: list[Text] = []
        for measure in MEASURES:
            cells += [_value(row, measure), _change(row, measure)]
        old, new = verdict_of(row.old), verdict_of(row.new)
        verdict = new if old == new else f"{old} > {new}"
        table.add_row(Text(row.label), *cells, Text(verdict, style="" if old == new else _MORE))
    return table


def _value(row: LayerChange, measure: str) -> Text:
    """Return the new value."""
    if row.new is None:
        return Text("gone", style=_LESS)
    value = measure_of(row.new, measure)
    if measure == "cycles":
        return Text(f"{value:,}")
    return Text(energy_text(value) if measure == "energy_pj" else quantity(value, "B"))


def _change(row: LayerChange, measure: str) -> Text:
    """Return the change, relative where both sides have the layer."""
    delta = row.delta(measure)
    if row.old is None:
        return Text("new", style=_MORE)
    before = measure_of(row.old, measure)
    if row.new is None or not before:
        return Text("-", style="dim")
    return Text(f"{delta / before:+.1%}" if delta else "=", style=_style(delta))
