"""Tables that equal the charts, number for number, and those of the machine, the sources and the versions."""

from __future__ import annotations

from collections.abc import Sequence

from accelsim.errors import printable
from accelsim.reports.charts.graph import edges_of
from accelsim.reports.charts.layers import with_accumulators
from accelsim.reports.charts.overview import common_dataflow, total_cycles
from accelsim.reports.charts.roofline import left_out, points
from accelsim.reports.charts.timeline import engine_name
from accelsim.reports.classes import component_name, ordered_classes, ordered_components
from accelsim.reports.page.tables import Cell, Column, Table, columns, energy_unit, share_text, text_cells
from accelsim.reports.view import LayerView, View
from accelsim.results.accumulators import bits_text, layer_bits_needed
from accelsim.results.cycle_classes import cycle_class

_TONES = {"exact": "good", "mismatch": "bad", "drifted": "bad"}


def _name(row: LayerView) -> tuple[Cell, Cell]:
    """Return the cells that name a layer."""
    return Cell(str(row.number) if row.number else ""), Cell(row.label, "", row.name)


def layers_table(view: View) -> Table:
    """Return one row per layer with what a person looks for first."""
    unit = energy_unit([view.peak.energy_pj])
    rows = []
    for row in view.layers:
        layer = row.layer
        shape = "" if layer.m is None else f"{layer.m} x {layer.k} x {layer.n}"
        shape += f" x{layer.groups}" if layer.groups and layer.groups > 1 else ""
        verdict = "-" if layer.check is None else layer.check.verdict
        used = "" if layer.utilisation is None else f"{100 * layer.utilisation:.1f}"
        numbers = (f"{layer.cycles:,}", row.bound.key or "-", used, unit.text(row.energy_pj), f"{layer.dram_bytes:,}")
        rest = (f"{layer.macs:,}", shape, printable(layer.op, 40), printable(layer.placement, 20))
        rows.append((*_name(row), *text_cells(*numbers), Cell(verdict, _TONES.get(verdict, "")), *text_cells(*rest)))
    result = view.result
    totals = text_cells(
        "", "total", f"{result.cycles:,}", "", f"{100 * result.utilisation:.1f}", unit.text(result.energy_pj),
        f"{result.dram_bytes:,}", result.check.verdict, f"{result.model.macs:,}", "", "", "",
    )  # fmt: skip
    heads = columns(
        "##", "layer", "#cycles", "bound by", "#utilisation [%]", f"#energy [{unit.name}]", "#DRAM [B]", "verdict",
        "#MACs", "M x K x N", "operator", "where",
    )  # fmt: skip
    return Table("layers", heads, tuple(rows), totals)


def cycles_table(view: View) -> Table:
    """Return cycles by class."""
    heads = (*columns("##", "layer", "#cycles", "#share [%]"), *_class_heads(view.classes, view.dataflow))
    rows = tuple(
        (
            *_name(row),
            *text_cells(f"{row.layer.cycles:,}", share_text(row.layer.cycles, view.result.cycles)),
            *text_cells(*(f"{row.layer.cycle_classes.get(key, 0):,}" for key in view.classes)),
        )
        for row in view.layers
    )
    sums = (f"{total_cycles(view, key):,}" for key in view.classes)
    return Table("cycles by class", heads, rows, text_cells("", "total", f"{view.result.cycles:,}", "100.0", *sums))


def _class_heads(keys: Sequence[str], dataflow: str) -> tuple[Column, ...]:
    """Return a column per class."""
    return tuple(Column(cycle_class(key, dataflow).name, True) for key in keys)


def energy_table(view: View) -> Table:
    """Return energy by component."""
    unit = energy_unit([view.peak.energy_pj])
    names = (Column(component_name(key), True) for key in view.components)
    heads = (*columns("##", "layer", f"#energy [{unit.name}]", "#share [%]"), *names)
    rows = tuple(
        (
            *_name(row),
            *text_cells(unit.text(row.energy_pj), share_text(row.energy_pj, view.result.energy_pj)),
            *text_cells(*(unit.text(row.layer.energy_pj.get(key, 0.0)) for key in view.components)),
        )
        for row in view.layers
    )
    parts = view.result.energy_components_pj
    sums = (unit.text(parts.get(key, 0.0)) for key in view.components)
    totals = text_cells("", "total", unit.text(view.result.energy_pj), "100.0", *sums)
    return Table(f"energy by component in {unit.name}", heads, rows, totals)


def roofline_table(view: View) -> Table:
    """Return the points of the roofline, and the layers that have no place on it."""
    heads = columns(
        "##", "layer", "where", "#operations", "#bytes", "#operations per byte", "#reached [per cycle]",
        "#possible [per cycle]", "#reached [%]", "roof", "bound by",
    )  # fmt: skip
    rows = [
        (
            *_name(point.row),
            *text_cells(printable(point.row.layer.placement, 20), f"{point.operations:,}", f"{point.bytes:,}"),
            *text_cells(
                f"{point.intensity:,.2f}" if point.bytes else "no DRAM", f"{point.rate:,.2f}", f"{point.limit:,.2f}"
            ),
            *text_cells(share_text(point.rate, point.limit), point.roof, point.row.bound.key),
        )
        for point in points(view)
    ]
    rows += [
        (
            *_name(row),
            *text_cells(printable(row.layer.placement, 20), "0" if row.number else "", f"{row.layer.dram_bytes:,}"),
            *text_cells("", "", "", "", "only moves bytes" if row.number else "", row.bound.key),
        )
        for row in left_out(view)
    ]
    return Table("roofline", heads, tuple(sorted(rows, key=lambda row: int(row[0].text or 1 << 30))))


def accumulators_table(view: View) -> Table:
    """Return bits given and needed."""
    heads = columns("##", "layer", "#bits given", "#bits needed", "#bits left", "#largest |sum|", "#overflow events")
    rows = []
    for row in with_accumulators(view):
        acc = row.layer.acc
        if acc is not None:
            tone = "bad" if acc.overflows else ""
            needed = layer_bits_needed(row.layer)
            left = "" if needed is None else f"{acc.bits - needed}"
            numbers = (f"{acc.bits}", bits_text(row.layer), left, f"{acc.peak:,}", f"{acc.overflows:,}")
            rows.append((*_name(row), *(Cell(text, tone) for text in numbers)))
    return Table("accumulators", heads, tuple(rows))


def traffic_table(view: View) -> Table:
    """Return DRAM traffic and its lower bound."""
    heads = columns("##", "layer", "#read [B]", "#written [B]", "#both [B]", "#least possible [B]", "#ratio")
    rows = tuple((*_name(row), *_traffic_cells(row)) for row in view.layers)
    return Table("DRAM traffic", heads, rows)


def _traffic_cells(row: LayerView) -> tuple[Cell, ...]:
    """Return the numbers of one layer."""
    layer = row.layer
    least = layer.compulsory_dram_bytes
    known = ("" if value is None else f"{value:,}" for value in (layer.dram_read_bytes, layer.dram_write_bytes))
    ratio = f"{layer.dram_bytes / least:.3f}" if least else ""
    return text_cells(*known, f"{layer.dram_bytes:,}", "" if least is None else f"{least:,}", ratio)


def timeline_table(view: View) -> Table:
    """Return how long each engine did what, as far as the timeline goes."""
    heads = columns("engine", "does", "#times", "#cycles", "#share of the time [%]", "#first cycle", "#last cycle")
    timeline = view.result.timeline
    if timeline is None:
        return Table("timeline", heads, ())
    groups: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for bar in timeline.bars:
        groups.setdefault((bar.engine, bar.what), []).append((bar.start, bar.end))
    rows = []
    for (engine, what), spans in groups.items():
        busy = sum(end - start for start, end in spans)
        name = cycle_class(what, view.dataflow).name if engine == "issue" else printable(what, 40)
        rows.append(
            text_cells(
                printable(engine_name(engine), 40), name, f"{len(spans):,}", f"{busy:,}",
                share_text(busy, timeline.until), f"{min(start for start, _ in spans):,}",
                f"{max(end for _, end in spans) - 1:,}",
            )
        )  # fmt: skip
    return Table("timeline", heads, tuple(rows))


def graph_table(view: View) -> Table:
    """Return the edges of the graph."""
    heads = columns("##", "layer", "operator", "#share of cycles [%]", "#share of energy [%]", "reads the results of")
    sources: dict[int, list[str]] = {}
    for edge in edges_of(view.layers):
        sources.setdefault(edge.target, []).append(view.layers[edge.source].label)
    rows = []
    for index, row in enumerate(view.layers):
        cycles, energy = view.result.cycles, view.result.energy_pj
        rows.append(
            (
                *_name(row),
                *text_cells(printable(row.layer.op, 40), share_text(row.layer.cycles, cycles)),
                *text_cells(share_text(row.energy_pj, energy), ", ".join(sources.get(index, [])[:20]) or "-"),
            )
        )
    return Table("graph", heads, tuple(rows))


def total_cycles_table(views: Sequence[View]) -> Table:
    """Return cycles by class of each result."""
    keys = ordered_classes(key for view in views for key in view.classes)
    flow = common_dataflow(views)
    rows = []
    for key in keys:
        cells = [Cell(cycle_class(key, flow).name)]
        for view in views:
            cycles = total_cycles(view, key)
            cells += text_cells(f"{cycles:,}", share_text(cycles, view.result.cycles))
        rows.append(tuple(cells))
    totals = [Cell("total")]
    for view in views:
        totals += text_cells(f"{view.result.cycles:,}", "100.0")
    return Table("cycles by class", _total_heads("class", views, "cycles"), tuple(rows), tuple(totals))


def total_energy_table(views: Sequence[View]) -> Table:
    """Return energy by component of each result."""
    keys = ordered_components(key for view in views for key in view.components)
    unit = energy_unit([view.result.energy_pj for view in views])
    parts = [view.result.energy_components_pj for view in views]
    rows = []
    for key in keys:
        cells = [Cell(component_name(key))]
        for view, part in zip(views, parts, strict=True):
            cells += text_cells(unit.text(part.get(key, 0.0)), share_text(part.get(key, 0.0), view.result.energy_pj))
        rows.append(tuple(cells))
    totals = [Cell("total")]
    for view in views:
        totals += text_cells(unit.text(view.result.energy_pj), "100.0")
    return Table("energy by component", _total_heads("component", views, unit.name), tuple(rows), tuple(totals))


def _total_heads(first: str, views: Sequence[View], unit: str) -> tuple[Column, ...]:
    """Return two columns per result."""
    heads = [Column(first)]
    for view in views:
        mark = "" if len(views) == 1 else f"{view.title.split(':')[0]}: "
        heads += [Column(f"{mark}{unit}", True), Column(f"{mark}share [%]", True)]
    return tuple(heads)
