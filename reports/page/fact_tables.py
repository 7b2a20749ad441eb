"""Tables of whole results: what differs, the machine, where the unit energies come from, versions, distances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from accelsim.errors import printable
from accelsim.reports.changes import (
    MEASURES,
    Changes,
    LayerChange,
    Pair,
    flat_machine,
    inputs_text,
    measure_of,
    verdict_of,
)
from accelsim.reports.classes import component_name, ordered_components
from accelsim.reports.dimensions import dimensions_text
from accelsim.reports.page.tables import Cell, Column, Table, columns, energy_unit, text_cells
from accelsim.reports.view import View

_UNITS = {
    "accumulator.bits": "bits", "array.act_bits": "bits", "array.weight_bits": "bits", "buffers.activation": "B",
    "buffers.weight": "B", "clock.ghz": "GHz", "dram.burst": "B", "dram.bytes_per_cycle": "B/cycle",
    "dram.latency": "cycles", "requant.latency": "cycles", "vector.latency": "cycles",
    "array.sram_read_latency": "cycles", "array.acc_write_latency": "cycles",
    "array.x_gather_words_per_cycle": "words/cycle", "dram.row_bytes": "B", "dram.row_miss": "cycles",
}  # fmt: skip
_SOURCE_HEADS = {"name": "unit energy", "value_pj": "energy [pJ]"}
_FIRST = ("name", "component", "value_pj", "basis")
_LARGEST_DISTANCES = 500


def machine_table(views: Sequence[View]) -> Table:
    """Return the parameters of each machine; those in which they differ stand out."""
    machines = [flat_machine(view.result) for view in views]
    names = sorted({name for machine in machines for name in machine})
    rows = []
    for name in names:
        values = [machine.get(name, "") for machine in machines]
        tone = "mark" if len(set(values)) > 1 else ""
        rows.append((Cell(name), *(Cell(value, tone) for value in values), Cell(_UNITS.get(name, ""))))
    heads = (Column("parameter"), *(_value_head(view, views) for view in views), Column("unit"))
    return Table("the machine", heads, tuple(rows))


def _value_head(view: View, views: Sequence[View]) -> Column:
    """Return the head of one result's column."""
    return Column("value" if len(views) == 1 else view.title, True)


def versions_table(views: Sequence[View]) -> Table:
    """Return the versions that decided each result, and what was run."""
    names = sorted({name for view in views for name in view.result.versions})
    rows = [
        (Cell(printable(name, 60)), *(Cell(printable(view.result.versions.get(name, ""), 60)) for view in views))
        for name in names
    ]
    rows.append((Cell("model"), *(Cell(printable(view.result.model.name, 100)) for view in views)))
    rows.append((Cell("sha256 of the model"), *(Cell(printable(view.result.model.sha256, 64)) for view in views)))
    rows.append((Cell("inputs"), *(Cell(printable(inputs_text(view.result), 300)) for view in views)))
    open_sizes = (dimensions_text(view.result.model.dimensions) for view in views)
    rows.append((Cell("open dimensions"), *(Cell(printable(text, 300)) for text in open_sizes)))
    batches = (view.result.model.batch for view in views)
    rows.append((Cell("samples in one run"), *(Cell("not known" if size is None else f"{size:,}") for size in batches)))
    parameters = (Cell(f"{view.result.model.parameters_bytes:,} B") for view in views)
    rows.append((Cell("parameters of the model"), *parameters))
    rows.append((Cell("the reference ran"), *(Cell(printable(view.result.check.subject, 300)) for view in views)))
    rows.append((Cell("reference"), *(Cell(printable(view.result.check.reference, 300)) for view in views)))
    heads = (Column("what"), *(Column("value" if len(views) == 1 else view.title) for view in views))
    return Table("versions", heads, tuple(rows))


def sources_table(view: View) -> Table:
    """Return the unit energies with their sources, whatever columns the table in use has."""
    return rows_table("unit energies", view.result.energy.units)


def rows_table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return rows of any columns, those that name a row first."""
    present = dict.fromkeys(key for row in rows for key in row)
    keys = [key for key in _FIRST if key in present] + sorted(key for key in present if key not in _FIRST)
    numeric = {
        key
        for key in keys
        if all(isinstance(row[key], int | float) and not isinstance(row[key], bool) for row in rows if key in row)
    }
    heads = tuple(Column(_SOURCE_HEADS.get(key, printable(key, 40).replace("_", " ")), key in numeric) for key in keys)
    return Table(title, heads, tuple(tuple(Cell(_source_text(row.get(key, ""))) for key in keys) for row in rows))


def formats_table(view: View) -> Table:
    """Return what the same network would cost in other number formats."""
    detail, result = view.result.energy.detail, view.result
    bills = [result.energy_components_pj, *(baseline.components for baseline in detail.baselines)]
    unit = energy_unit([sum(bill.values()) for bill in bills])
    keys = ordered_components(key for bill in bills for key in bill)
    names = ["this run", *(printable(baseline.format, 20) for baseline in detail.baselines)]
    ratios = ["1.00", *(f"{baseline.ratio:.2f}" for baseline in detail.baselines)]
    bases = ["", *(printable(", ".join(baseline.bases), 80) for baseline in detail.baselines)]
    rows = tuple(
        text_cells(name, unit.text(sum(bill.values())), ratio, *(unit.text(bill.get(key, 0.0)) for key in keys), basis)
        for name, bill, ratio, basis in zip(names, bills, ratios, bases, strict=True)
    )
    heads = (
        *columns("format", f"#energy [{unit.name}]", "#times this run"),
        *(Column(component_name(key), True) for key in keys),
        Column("its arithmetic is"),
    )
    return Table("other number formats", heads, rows)


def _source_text(value: object) -> str:
    """Return a cell of a row of the energy table."""
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(_source_text(part) for part in value)
    if isinstance(value, float):
        return f"{value:,.4f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else printable(str(value), 600)


def distances_table(view: View) -> Table | None:
    """Return how far tensors are from onnxruntime that are not bit-exact by design; None where there are none."""
    check = view.result.check
    found = [(distance, "float in onnxruntime") for distance in check.float_reference]
    found += [(distance, "requantiser of the machine (q31)") for distance in check.q31]
    if not found:
        return None
    found.sort(key=lambda pair: (-pair[0].max_lsb, -pair[0].share))
    rows = tuple(
        text_cells(
            printable(distance.tensor, 80), why, f"{distance.max_lsb:,} {distance.unit}", f"{100 * distance.share:.4f}"
        )
        for distance, why in found[:_LARGEST_DISTANCES]
    )
    return Table("distances", columns("tensor", "why", "#largest", "#elements that differ [%]"), rows)


def pairs_table(title: str, pairs: Sequence[Pair]) -> Table:
    """Return both sides of some numbers or words, and the change."""
    rows = []
    for pair in pairs:
        tone = "mark" if pair.differs else "dim"
        change = "" if pair.change is None or not pair.differs else f"{100 * pair.change:+,.2f}"
        name = f"{pair.label} [{pair.unit}]" if pair.unit else pair.label
        rows.append((Cell(name), Cell(side_text(pair.old), tone), Cell(side_text(pair.new), tone), Cell(change)))
    return Table(title, columns("what", "#before", "#after", "#change [%]"), tuple(rows))


def side_text(value: float | str | None) -> str:
    """Return one side of a pair."""
    if value is None:
        return "none"
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"


def layer_changes_table(changes: Changes, rows: Sequence[LayerChange]) -> Table:
    """Return the layers in which something differs."""
    heads = columns(
        "layer", "#cycles before", "#after", "#change", "#energy before [nJ]", "#after [nJ]", "#change [nJ]",
        "#DRAM before [B]", "#after [B]", "#change [B]", "verdict before", "after",
    )  # fmt: skip
    cells = []
    for row in rows:
        texts = []
        for measure, factor, decimals in zip(MEASURES, (1.0, 1e3, 1.0), (0, 2, 0), strict=True):
            for layer in (row.old, row.new):
                texts.append("" if layer is None else f"{measure_of(layer, measure) / factor:,.{decimals}f}")
            texts.append(f"{row.delta(measure) / factor:+,.{decimals}f}")
        cells.append((Cell(row.label), *text_cells(*texts), Cell(verdict_of(row.old)), Cell(verdict_of(row.new))))
    return Table("layers that differ", heads, tuple(cells))
