"""What changed from one result to another: per layer, cycles, energy and DRAM traffic, more or less than before."""

from __future__ import annotations

from accelsim.reports.changes import Changes, LayerChange
from accelsim.reports.charts.bars import ROW_PX, draw_legend, number_text
from accelsim.reports.charts.style import INK, SMALL_PX, Drawing, bar, blank, grid, place, plain, row_names, text_width

# Layers that are drawn: those whose cycles, or else energy or traffic, changed most.
LARGEST_ROWS = 100
_MORE, _LESS = "#D55E00", "#0072B2"
_PANELS = (("cycles", "cycles", 1.0), ("energy_pj", "energy [nJ]", 1e3), ("dram_bytes", "DRAM [kB]", 1e3))


def drawn_layers(changes: Changes) -> list[LayerChange]:
    """Return the layers that a chart shows, in their order."""
    rows = [layer for layer in changes.changed_layers if any(layer.delta(key) for key, _, _ in _PANELS)]
    largest = {key: max((abs(row.delta(key)) for row in rows), default=0.0) or 1.0 for key, _, _ in _PANELS}
    ranked = sorted(rows, key=lambda row: -max(abs(row.delta(key)) / largest[key] for key, _, _ in _PANELS))
    kept = {id(row) for row in ranked[:LARGEST_ROWS]}
    return [row for row in rows if id(row) in kept]


def listed_layers(changes: Changes) -> list[LayerChange]:
    """Return the layers of the table that equals the chart, and some in which nothing but the verdict differs."""
    kept = {id(row) for row in drawn_layers(changes)}
    silent = [row for row in changes.changed_layers if not any(row.delta(key) for key, _, _ in _PANELS)]
    kept |= {id(row) for row in silent[:LARGEST_ROWS]}
    return [row for row in changes.changed_layers if id(row) in kept]


def draw_changes(changes: Changes, width: float) -> Drawing:
    """Draw a panel of bars around zero for cycles, energy and DRAM traffic, as far as they changed."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    rows = drawn_layers(changes)
    if not rows:
        empty = blank(width, 60)
        empty.figure.text(0.5, 0.5, "no layer differs in cycles, energy or DRAM traffic", ha="center", va="center")
        return empty
    left = max((text_width(plain(row.label, 40)) for row in rows), default=0.0) + 10
    drawing = blank(width, 88 + ROW_PX * len(rows))
    draw_legend(drawing, [("more than before", _MORE), ("less than before", _LESS)])
    panels = [panel for panel in _PANELS if any(row.delta(panel[0]) for row in rows)]
    panel = (width - left - 12) / len(panels)
    for number, (key, title, factor) in enumerate(panels):
        start = left + number * panel
        axes = place(drawing, start, 46, width - start - panel + 24, 40)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        row_names(axes, [] if number else [row.label for row in rows], left)
        axes.tick_params(axis="x", labelsize=SMALL_PX, labeltop=True)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=max(int(panel // 90), 2), min_n_ticks=2))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number_text(value)))
        axes.set_xlabel(f"change of {title}")
        grid(axes)
        axes.axvline(0, color=INK, linewidth=0.8)
        deltas = [row.delta(key) / factor for row in rows]
        for position, (row, delta) in enumerate(zip(rows, deltas, strict=True)):
            if delta:
                mark = bar(axes, min(delta, 0.0), position, abs(delta), _MORE if delta > 0 else _LESS)
                drawing.tip(mark, f"{row.label}: {delta:+,.6g}, {title}")
        reach = max((abs(delta) for delta in deltas), default=0.0) or 1.0
        low, high = min([*deltas, 0.0]), max([*deltas, 0.0])
        axes.set_xlim(low - 0.06 * reach, high + 0.06 * reach)
    return drawing
