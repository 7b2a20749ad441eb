"""What tables say about energy: the table in use, other number formats, and what the numbers leave out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from accelsim.errors import printable
from accelsim.results.energy import GateCount, TableDescription
from accelsim.results.result import Result

_STYLES = {"measured": "green", "given": "green", "imported": "green", "interpolated": "yellow"}


def _basis(basis: str) -> Text:
    """Return how a value is known, coloured by how well; "measured, scaled" as what was scaled."""
    return Text(basis, style=_STYLES.get(basis.partition(",")[0], "red"))


def baseline_lines(result: Result) -> list[Text]:
    """Return one line per number format: what the same network would cost on the same array."""
    baselines = result.energy.detail.baselines
    if not baselines:
        return []
    lines = [Text("\nthe same network on the same array in other formats")]
    for baseline in baselines:
        arithmetic = baseline.components.get("mac", 0.0)
        dram = baseline.components.get("dram", 0.0)
        total = baseline.energy_pj or 1.0
        lines.append(
            Text(
                f"  {baseline.format:6} {baseline.energy_pj / 1e6:12,.3f} uJ {baseline.ratio:7.2f}x  "
                f"mac {arithmetic / total:6.1%}  dram {dram / total:6.1%}  {', '.join(baseline.bases)}"
            )
        )
    lines += _indented(f"assumed: {result.energy.detail.assumptions}")
    return lines


def gating_lines(result: Result) -> list[Text]:
    """Say how many multiply-accumulates had a zero operand, where they were counted."""
    counted = [layer for layer in result.layers if layer.gated_macs is not None]
    if not counted:
        return []
    gated, macs = sum(layer.gated_macs or 0 for layer in counted), sum(layer.macs for layer in counted)
    return [Text(f"\nzero operands: {gated:,} of {macs:,} multiply-accumulates gated ({gated / max(macs, 1):.1%})")]


def note_lines(notes: Sequence[str]) -> list[Text]:
    """Return what the numbers leave out or assume."""
    return [line for note in notes for line in _indented(note)]


def _indented(text: str, width: int = 96) -> list[Text]:
    """Wrap a sentence behind a dash."""
    parts = wrap(printable(text, 2000), width)
    return [Text(f"{'  - ' if index == 0 else '    '}{part}", style="dim") for index, part in enumerate(parts)]


def print_table(description: TableDescription, console: Console) -> None:
    """Print a table of unit energies: rows, laws, operations, the machine's units, notes."""
    where = description.file or "packaged"
    console.print(Text(f"energy table {printable(description.table)} ({printable(where, 60)})", style="bold"))
    console.print(Text(printable(description.source, 300)))
    console.print(_rows(description.detail.rows))
    for line in _laws(description.detail.laws):
        console.print(line)
    console.print(_units("operations", description.operations))
    console.print(_units(f"units of {description.machine}", description.units))
    for line in note_lines(description.detail.notes):
        console.print(line)
    if description.area:
        console.print(_area(description.area))
        for line in _indented(description.area_source):
            console.print(line)


def _rows(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return the rows of a table with their sources."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for title, justify in (("row", "left"), ("value", "right"), ("unit", "left"), ("node", "right"), ("V", "right")):
        table.add_column(title, justify="right" if justify == "right" else "left", no_wrap=True)
    table.add_column("basis", no_wrap=True)
    table.add_column("source", overflow="fold")
    for row in rows:
        unit = f"{row['unit']}/{row['width']} b" if row["component"] in ("memory", "dram") else row["unit"]
        cells = (row["name"], f"{row['value']:g}", unit, f"{row['node_nm']:g} nm", f"{row['voltage']:g}")
        basis = _basis(row["basis"])
        law = f"; {row['law']}" if "law" in row else ""
        table.add_row(*(Text(cell) for cell in cells), basis, Text(printable(f"{row['source']}{law}", 400)))
    return table


def _laws(laws: Sequence[Mapping[str, Any]]) -> list[Text]:
    """Return one entry per law."""
    lines = [Text("laws between and beyond the rows")]
    for law in laws:
        span = "" if law["range"] is None else f", range {law['range'][0]:,.0f}..{law['range'][1]:,.0f}"
        lines += _indented(f"{law['component']} {law['operation']}: {law['law']}{span}; {law['source']}")
    return lines


def _units(title: str, units: Sequence[Mapping[str, Any]]) -> Table:
    """Return unit energies with the laws that gave them."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(title, no_wrap=True)
    table.add_column("pJ", justify="right", no_wrap=True)
    table.add_column("basis", no_wrap=True)
    table.add_column("law", overflow="fold")
    for unit in units:
        basis = _basis(unit["basis"])
        law = unit["law"] or "a row of the table"
        if unit["basis"] in ("imported", "given"):
            law = "; ".join(part for part in (unit["source"], unit["law"]) if part)
        table.add_row(Text(unit["name"]), Text(f"{unit['value_pj']:.5g}"), basis, Text(printable(law, 400)))
    return table


def _area(rows: Sequence[GateCount]) -> Table:
    """Return sizes of a processing element, relative to the one with a wrapping 32-bit accumulator."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for title in ("accumulator bits", "overflow", "gates", "of them flip-flops", "relative area"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            str(row.accumulator_bits), row.overflow, f"{row.cells:,}", f"{row.flip_flops:,}", f"{row.relative:.3f}"
        )
    return table
