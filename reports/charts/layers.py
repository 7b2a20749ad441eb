"""Charts with a row per layer: cycles by class, energy by component, accumulators, DRAM traffic."""

from __future__ import annotations

from accelsim.reports.charts.bars import Rows, Scale, Series, draw_ends, draw_legend, legend_height, row_axes, stacked
from accelsim.reports.charts.style import FAINT, INK, RED, Drawing, bar
from accelsim.reports.classes import component_colours, component_name
from accelsim.reports.page.tables import energy_unit
from accelsim.reports.view import LayerView, View
from accelsim.results.accumulators import bits_text, layer_bits_needed
from accelsim.results.cycle_classes import cycle_class

_READ, _WRITE, _LEAST = "#56B4E9", "#D55E00", INK
_FREE, _USED = FAINT, "#009E73"


def draw_cycles(view: View, width: float) -> Drawing:
    """Draw the cycles of every layer by class."""
    layers = view.layers
    series = []
    for key in view.classes:
        kind = cycle_class(key, view.dataflow)
        series.append(Series(kind.name, kind.colour, [row.layer.cycle_classes.get(key, 0) for row in layers]))
    total = view.result.cycles or 1
    ends = [f"{row.layer.cycles:,} ({row.layer.cycles / total:.1%})" for row in layers]
    return stacked(_rows(layers, ends), series, Scale("cycles", view.peak.cycles, unit="cycles"), width)


def draw_energy(view: View, width: float) -> Drawing:
    """Draw the energy of every layer by component."""
    layers = view.layers
    unit = energy_unit([view.peak.energy_pj])
    colours = component_colours(view.components)
    series = [
        Series(component_name(key), colours[key], [row.layer.energy_pj.get(key, 0.0) / unit.factor for row in layers])
        for key in view.components
    ]
    total = view.result.energy_pj or 1.0
    ends = [f"{unit.text(row.energy_pj)} ({row.energy_pj / total:.1%})" for row in layers]
    scale = Scale(f"energy [{unit.name}]", view.peak.energy_pj / unit.factor, unit.decimals, unit.name)
    return stacked(_rows(layers, ends), series, scale, width)


def with_accumulators(view: View) -> list[LayerView]:
    """Return the layers whose accumulators were watched."""
    return [row for row in view.layers if row.layer.acc is not None]


def draw_accumulators(view: View, width: float) -> Drawing:
    """Draw bits needed against bits given; what is missing is red, and nothing is drawn of what is not known."""
    rows = with_accumulators(view)
    shown = [(row.layer, row.layer.acc, layer_bits_needed(row.layer)) for row in rows if row.layer.acc is not None]
    ends = [
        (f"{acc.overflows:,} overflows, " if acc.overflows else "")
        + (f"needs {bits_text(layer)}" if needed is None or acc.overflows else f"{needed} of {acc.bits} bits")
        for layer, acc, needed in shown
    ]
    bits = [(acc.bits, acc.bits if needed is None else needed) for _, acc, needed in shown]
    series = [
        Series("bits needed", _USED, [0 if row[2] is None else min(row[2], row[1].bits) for row in shown]),
        Series("bits free", _FREE, [max(given - needed, 0) for given, needed in bits]),
        Series("bits missing (overflow)", RED, [max(needed - given, 0) for given, needed in bits]),
    ]
    return stacked(_rows(rows, ends), series, Scale("bits of an accumulator", unit="bits"), width)


def draw_traffic(view: View, width: float) -> Drawing:
    """Draw DRAM traffic, and a mark where the least possible would be."""
    layers = view.layers
    entries = [("read", _READ), ("written", _WRITE), ("least possible beside what stays on chip", _LEAST)]
    unit, factor = ("kB", 1e3) if view.peak.dram_bytes >= 1e5 else ("B", 1.0)
    ends = []
    for row in layers:
        least = row.layer.compulsory_dram_bytes
        ratio = f" ({row.layer.dram_bytes / least:.2f}x)" if least else ""
        ends.append(f"{row.layer.dram_bytes / factor:,.{1 if factor > 1 else 0}f}{ratio}")
    rows = _rows(layers, ends)
    scale = Scale(f"DRAM traffic [{unit}], in whole bursts", None, 1 if factor > 1 else 0, unit)
    drawing, axes = row_axes(rows, scale, width, legend_height([name for name, _ in entries], width))
    draw_legend(drawing, entries)
    for number, row in enumerate(layers):
        start = 0.0
        parts = ((row.layer.dram_read_bytes or 0, _READ, "read"), (row.layer.dram_write_bytes or 0, _WRITE, "written"))
        for size, colour, what in parts:
            if not size:
                continue
            mark = bar(axes, start, number, size / factor, colour)
            drawing.tip(mark, f"{row.tip}: {size:,} bytes {what}")
            start += size / factor
        least = row.layer.compulsory_dram_bytes
        if least:
            tick = view.peak.dram_bytes / factor * 0.003
            mark = bar(axes, least / factor - tick / 2, number, tick, _LEAST, 0.94)
            drawing.tip(mark, f"{row.tip}: at least {least:,} bytes")
    axes.set_xlim(0, view.peak.dram_bytes / factor * 1.02 or 1.0)
    draw_ends(axes, rows, width)
    return drawing


def _rows(layers: list[LayerView] | tuple[LayerView, ...], ends: list[str]) -> Rows:
    """Return names and tips of layers."""
    return Rows([row.label for row in layers], [row.tip for row in layers], ends)
