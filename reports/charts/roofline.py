"""The roofline: every layer by its operations per byte of DRAM and per cycle, under the machine's limits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from accelsim.reports.charts.bars import draw_legend, legend_height, number_text
from accelsim.reports.charts.style import FAINT, INK, SMALL_PX, Drawing, blank, place, text_width
from accelsim.reports.view import LayerView, View

if TYPE_CHECKING:
    from matplotlib.lines import Line2D
    from matplotlib.ticker import NullLocator

# By cause of most cycles: name in the legend, colour, marker.
_BOUND = {
    "array": ("compute bound", "#009E73", "o"),
    "DRAM": ("memory bound (DRAM)", "#0072B2", "s"),
    "requantiser": ("requantiser bound", "#E69F00", "D"),
    "fill and drain": ("fill and drain", "#CC79A7", "^"),
    "vector": ("vector unit bound", "#999933", "v"),
}
_OTHER = ("other", "#666666", "x")
_LABELLED = 8


@dataclass(frozen=True)
class Point:
    """One layer on the roofline.

    operations: MACs, or lane operations of the vector unit; bytes: on the busier DRAM channel, or on the one there is;
    intensity: operations per byte; rate, limit: operations per cycle, reached and possible; roof: what limits.
    """

    row: LayerView
    operations: int
    bytes: int
    peak: float
    slope: float

    @property
    def intensity(self) -> float:
        """Operations per byte of DRAM traffic."""
        return self.operations / self.bytes if self.bytes else math.inf

    @property
    def rate(self) -> float:
        """Operations per cycle reached."""
        return self.operations / self.row.layer.cycles

    @property
    def limit(self) -> float:
        """Operations per cycle under the roof."""
        return min(self.peak, self.intensity * self.slope)

    @property
    def roof(self) -> str:
        """What the roof above the point is."""
        if self.intensity * self.slope >= self.peak:
            return "array" if self.row.layer.placement == "array" else "vector unit"
        layer = self.row.layer
        if self.bytes == layer.dram_bytes and layer.dram_read_bytes and layer.dram_write_bytes:
            return "DRAM"
        return "DRAM reads" if self.bytes == layer.dram_read_bytes else "DRAM writes"


def peaks(view: View) -> tuple[float | None, float | None, float | None]:
    """Return MACs per cycle of the array, operations per cycle of the vector unit, DRAM bytes per cycle and channel."""
    return float(view.result.pe_count), view.number("vector", "lanes"), view.number("dram", "bytes_per_cycle")


def shared_channel(view: View) -> bool:
    """Tell whether reads and writes share one DMA channel."""
    return view.result.arch.get("dram", {}).get("channel") == "shared"


def points(view: View) -> list[Point]:
    """Return the layers that have operations and whose traffic is known."""
    array, vector, slope = peaks(view)
    found = []
    for row in view.layers:
        layer = row.layer
        read, written = layer.dram_read_bytes, layer.dram_write_bytes
        operations = layer.macs or layer.lane_operations or 0
        peak = array if layer.macs else vector
        if not layer.cycles or not operations or peak is None or slope is None or read is None or written is None:
            continue
        size = read + written if shared_channel(view) else max(read, written)
        if row.number:
            found.append(Point(row, operations, size, peak, slope))
    return found


def left_out(view: View) -> list[LayerView]:
    """Return the layers that take time and have no place on the roofline: they only move bytes, or stand for others."""
    placed = {point.row.number for point in points(view)}
    return [row for row in view.layers if row.layer.cycles and row.number not in placed]


def draw_roofline(view: View, width: float) -> Drawing:
    """Draw layers under the roofs of the array, the vector unit and DRAM."""
    placed = points(view)
    causes = [key for key in _BOUND if any(point.row.bound.key == key for point in placed)]
    entries = [(_BOUND[key][0], _BOUND[key][1]) for key in causes]
    legend = legend_height([name for name, _ in entries], width)
    drawing = blank(width, legend + 460)
    axes = place(drawing, 64, legend + 14, 26, 46)
    draw_legend(drawing, entries, [_BOUND[key][2] for key in causes])
    axes.set_xscale("log")
    axes.set_yscale("log")
    array, vector, slope = peaks(view)
    array, slope = array or 1.0, slope or 1.0
    low, edge = _span([point.intensity for point in placed if point.bytes] or [array / slope])
    edge = max(edge, 4 * array / slope)
    inner = any(not point.bytes for point in placed)
    high = 3 * edge if inner else edge
    axes.set_xlim(low, high)
    bottom = min(point.rate for point in placed)
    axes.set_ylim(10 ** math.floor(math.log10(bottom / 1.5)) / 1.25, array * 2.2)
    axes.grid(which="major", color=FAINT, linewidth=0.8)
    for peak, name, dashes in ((array, "array", "-"), (vector, "vector unit", "--")):
        if peak and (name == "array" or any(not point.row.layer.macs for point in placed)):
            knee = peak / slope
            axes.plot([low, knee, high], [low * slope, peak, peak], color=INK, linewidth=1.4, linestyle=dashes)
            unit = "MACs" if name == "array" else "operations"
            words = f"{name}: {peak:g} {unit} per cycle"
            axes.text(high / 1.05, peak * 1.08, words, ha="right", fontsize=SMALL_PX)
    if inner:
        axes.axvline(edge * 1.2, color=FAINT, linewidth=0.8, linestyle=":")
    for point in placed:
        _, colour, marker = _BOUND.get(point.row.bound.key, _OTHER)
        (mark,) = axes.plot(
            [_abscissa(point, edge)], [point.rate], marker=marker, markersize=7, color=colour, linestyle="none",
            markeredgewidth=0.6, markeredgecolor=INK, alpha=0.9,
        )  # fmt: skip
        drawing.tip(
            mark, f"{point.row.tip}: {point.rate:,.3g} of at most {point.limit:,.3g} operations per cycle, "
            f"{point.row.bound.sentence}",
        )  # fmt: skip
    _draw_labels(drawing, placed, edge)
    channel = "DRAM byte" if shared_channel(view) else "DRAM byte (busier direction)"
    beyond = "; behind the dots: no DRAM" if inner else ""
    axes.set_xlabel(f"operations per {channel}; slope {slope:g} B/cycle{beyond}")
    axes.set_ylabel("operations per cycle")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: number_text(value))
        axis.set_minor_formatter(lambda value, _: "")
        axis.set_minor_locator(_no_locator())
    return drawing


def _abscissa(point: Point, edge: float) -> float:
    """Return where a layer lies across: by its intensity, behind the edge when it touches no DRAM."""
    return point.intensity if point.bytes else edge * 1.9


def _no_locator() -> NullLocator:
    """Return a locator without ticks."""
    from matplotlib.ticker import NullLocator

    return NullLocator()


def _span(values: list[float]) -> tuple[float, float]:
    """Return limits of a logarithmic axis around values."""
    return min(values) / 2, max(values) * 2


def _draw_labels(drawing: Drawing, placed: list[Point], edge: float) -> None:
    """Name the layers with most cycles, each where its name meets no other name and no mark."""
    (axes,) = drawing.figure.axes
    marks = [tuple(axes.transData.transform((_abscissa(point, edge), point.rate))) for point in placed]
    boxes = [(x - 5, y - 5, x + 5, y + 5) for x, y in marks]
    boxes += [
        (x - 2, y - 3, x + 2, y + 3)
        for line in axes.lines
        if not line.get_marker() or line.get_marker() == "None"
        for x, y in _along(line)
    ]
    for words in axes.texts:
        x, y = (float(part) for part in axes.transData.transform(words.get_position()))
        boxes.append((x - text_width(words.get_text(), SMALL_PX) - 4, y - 4, x + 4, y + 13))
    inside = axes.get_window_extent().bounds
    right = inside[0] + inside[2]
    ranked = sorted(range(len(placed)), key=lambda index: -placed[index].row.layer.cycles)[:_LABELLED]
    for index in ranked:
        x, y = marks[index]
        text = placed[index].row.label
        wide = text_width(text, SMALL_PX)
        for dx, dy in ((8, -4), (8, 6), (8, -14), (-8 - wide, -4), (-8 - wide, 6), (-8 - wide, -14), (8, 16), (8, -24)):
            box = (x + dx, y + dy, x + dx + wide, y + dy + 10)
            if box[0] < inside[0] or box[2] > right or any(_meet(box, other) for other in boxes):
                continue
            boxes.append(box)
            spot = axes.transData.inverted().transform((box[0], box[1] + 2))
            axes.text(float(spot[0]), float(spot[1]), text, fontsize=SMALL_PX)
            break


def _along(line: Line2D) -> list[tuple[float, float]]:
    """Return points along a line, close enough that no text fits between them."""
    corners = line.get_transform().transform(line.get_xydata())
    return [
        (float(x), float(y))
        for (x0, y0), (x1, y1) in pairwise(corners)
        for x, y in zip(
            [x0 + (x1 - x0) * step / 100 for step in range(101)],
            [y0 + (y1 - y0) * step / 100 for step in range(101)],
            strict=True,
        )
    ]


def _meet(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Tell whether two boxes overlap."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
