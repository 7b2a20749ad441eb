"""The lowered graph: a box per layer, coloured by its share of the cycles, an arrow per tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from accelsim.reports.charts.style import INK, SMALL_PX, Drawing, blank, plain, text_width
from accelsim.reports.terminal.run_table import energy_text, short_operator
from accelsim.reports.view import LayerView, View

_BOX_WIDTH, _BOX_HEIGHT = 250.0, 26.0
_ROW_STEP, _LANE_STEP = 40.0, 276.0
_MARGIN = 16.0
# Room beside the boxes for edges that pass layers; each takes a track.
_TRACK = 9.0
_TRACKS = 10
# Steps of a palette of one hue, light to dark, and the colour of the text on each.
_SHADES = ("#F7F4E9", "#FBE3B5", "#F9C76B", "#F0A23A", "#D97A1E", "#B4530F", "#7F3207")
_LIMITS = (0.0005, 0.002, 0.01, 0.03, 0.06, 0.12)


@dataclass(frozen=True)
class Box:
    """A layer in the picture: rank from above, lane from the left."""

    row: LayerView
    rank: int
    lane: int


@dataclass(frozen=True)
class Edge:
    """A tensor from one layer to another, as indices of boxes."""

    source: int
    target: int


def has_graph(view: View) -> bool:
    """Tell whether the result names the tensors of its layers, and all layers are shown."""
    return not view.folded and all(
        row.layer.inputs is not None and row.layer.outputs is not None for row in view.layers
    )


def edges_of(rows: Sequence[LayerView]) -> list[Edge]:
    """Return who reads what whom writes, in order, without repetition."""
    writers = {name: index for index, row in enumerate(rows) for name in row.layer.outputs or ()}
    found: dict[Edge, None] = {}
    for index, row in enumerate(rows):
        for name in row.layer.inputs or ():
            source = writers.get(name)
            if source is not None and source < index:  # a file may say anything; a run gives topological order
                found[Edge(source, index)] = None
    return list(found)


def lay_out(rows: Sequence[LayerView]) -> tuple[list[Box], list[Edge]]:
    """Give each layer a rank below all that it reads, and a lane beside others of its rank."""
    edges = edges_of(rows)
    sources: dict[int, list[int]] = {}
    for edge in edges:
        sources.setdefault(edge.target, []).append(edge.source)
    ranks: list[int] = []
    for index in range(len(rows)):
        ranks.append(max((ranks[source] + 1 for source in sources.get(index, ())), default=0))
    used: dict[int, int] = {}
    boxes = []
    for row, rank in zip(rows, ranks, strict=True):
        boxes.append(Box(row, rank, used.get(rank, 0)))
        used[rank] = used.get(rank, 0) + 1
    return boxes, edges


def shade(share: float) -> tuple[str, str]:
    """Return the colour of a box for a share of the cycles, and that of the text on it."""
    step = sum(share >= limit for limit in _LIMITS)
    return _SHADES[step], "#FFFFFF" if step >= 5 else "#111111"


def draw_graph(view: View, width: float) -> Drawing:
    """Draw the graph from above to below; the picture is as wide as its lanes need."""
    from matplotlib.patches import FancyBboxPatch

    boxes, edges = lay_out(view.layers)
    lanes = max((box.lane for box in boxes), default=0) + 1
    ranks = max((box.rank for box in boxes), default=0) + 1
    routes = _tracked(edges, boxes)
    tracks = min(max((track for _, track in routes), default=-1) + 1, _TRACKS)
    beside = _MARGIN + (lanes - 1) * _LANE_STEP + _BOX_WIDTH + 24 + _TRACK * tracks
    size = max(min(width, 560.0), beside + 240 * (lanes == 1) + _MARGIN), 52 + ranks * _ROW_STEP + _MARGIN
    drawing = blank(*size)
    axes = drawing.figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, size[0])
    axes.set_ylim(size[1], 0)
    _draw_scale(drawing)
    places = [(_MARGIN + box.lane * _LANE_STEP, 52 + box.rank * _ROW_STEP) for box in boxes]
    for edge, track in routes:
        _draw_edge(drawing, places[edge.source], places[edge.target], track, lanes)
    total = view.result.cycles or 1
    for box, (x, y) in zip(boxes, places, strict=True):
        share = box.row.layer.cycles / total
        fill, ink = shade(share)
        patch = FancyBboxPatch(
            (x, y), _BOX_WIDTH, _BOX_HEIGHT, boxstyle="round,pad=0,rounding_size=5", facecolor=fill,
            edgecolor="#808080", linewidth=0.8, mutation_aspect=1,
        )  # fmt: skip
        axes.add_patch(patch)
        drawing.tip(
            patch,
            f"{box.row.tip}: {box.row.layer.cycles:,} cycles ({share:.1%}), {energy_text(box.row.energy_pj)}, "
            f"{box.row.bound.verdict}",
        )
        axes.text(x + 8, y + 17, plain(box.row.label, 40), fontsize=SMALL_PX + 0.5, color=ink)
        axes.text(x + _BOX_WIDTH - 7, y + 17, f"{share:.1%}", fontsize=SMALL_PX, color=ink, ha="right")
        if lanes == 1:
            energy = box.row.energy_pj / (view.result.energy_pj or 1.0)
            text = f"{short_operator(box.row.layer.op)}, {energy:.1%} of the energy"
            axes.text(beside, y + 17, text, fontsize=SMALL_PX)
    return drawing


def _draw_scale(drawing: Drawing) -> None:
    """Explain the colours."""
    from matplotlib.patches import Rectangle

    (axes,) = drawing.figure.axes
    names = ["0", *(f"{limit:.3g}" for limit in (100 * limit for limit in _LIMITS))]
    axes.text(_MARGIN, 24, "share of the cycles, % and more:", fontsize=SMALL_PX)
    x = _MARGIN + text_width("share of the cycles, % and more:", SMALL_PX)
    for colour, name in zip(_SHADES, names, strict=True):
        axes.add_patch(Rectangle((x, 13), 13, 13, facecolor=colour, edgecolor="#808080", linewidth=0.6))
        axes.text(x + 17, 24, name, fontsize=SMALL_PX)
        x += 26 + text_width(name, SMALL_PX)


def _tracked(edges: Sequence[Edge], boxes: Sequence[Box]) -> list[tuple[Edge, int]]:
    """Give edges that pass other layers a track, so that those side by side do not lie on each other."""
    busy: list[int] = []  # per track: rank below which it is free
    found = []
    for edge in edges:
        top, bottom = boxes[edge.source].rank, boxes[edge.target].rank
        if bottom - top == 1:
            found.append((edge, -1))
            continue
        track = next((number for number, until in enumerate(busy) if until < top), len(busy))
        busy[track : track + 1] = [bottom]
        found.append((edge, track))
    return found


def _draw_edge(
    drawing: Drawing, source: tuple[float, float], target: tuple[float, float], track: int, lanes: int
) -> None:
    """Draw one edge: straight to the next rank, along its track past others."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    (axes,) = drawing.figure.axes
    start, end = (source[0] + _BOX_WIDTH / 2, source[1] + _BOX_HEIGHT), (target[0] + _BOX_WIDTH / 2, target[1])
    if track < 0:
        middle = (start[1] + end[1]) / 2
        points = [start, (start[0], middle), (end[0], middle), end]
        path = Path(points, [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])
    else:
        x = _MARGIN + (lanes - 1) * _LANE_STEP + _BOX_WIDTH + 12 + _TRACK * (track % _TRACKS)
        from_, to = source[1] + _BOX_HEIGHT / 2, target[1] + _BOX_HEIGHT / 2
        points = [(source[0] + _BOX_WIDTH, from_), (x, from_), (x, to), (target[0] + _BOX_WIDTH, to)]
        path = Path(points, [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO])
        end = points[-1]
    axes.add_patch(PathPatch(path, facecolor="none", edgecolor=INK, linewidth=1.0))
    tip = [(end[0], end[1]), (end[0] - 3.5, end[1] - 6), (end[0] + 3.5, end[1] - 6)]
    if track >= 0:
        tip = [(end[0], end[1]), (end[0] + 6, end[1] - 3.5), (end[0] + 6, end[1] + 3.5)]
    axes.fill([x for x, _ in tip], [y for _, y in tip], color=INK, linewidth=0)
