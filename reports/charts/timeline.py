"""The timeline of one layer: what each engine did when."""

from __future__ import annotations

from accelsim.reports.charts.bars import draw_legend, legend_height, spread_ticks
from accelsim.reports.charts.style import Drawing, blank, grid, place
from accelsim.reports.classes import ordered_classes
from accelsim.reports.view import View
from accelsim.results.cycle_classes import cycle_class
from accelsim.results.timeline import Bar, Timeline

_ENGINES = ("load", "push", "array", "requant", "vector", "store")
_NAMES = {"requant": "requantiser", "load": "DRAM load", "store": "DRAM store", "vector": "vector unit"}
_COLOURS = {
    "load": "#56B4E9", "push": "#CC79A7", "array": "#009E73", "requant": "#E69F00", "vector": "#F0E442",
    "store": "#D55E00",
}  # fmt: skip
_LOADS = {"weights": "#0072B2", "prefetch": "#004C77"}
_OTHER = "#666666"
_ROW_PX = 30.0


def engines_of(timeline: Timeline) -> list[str]:
    """Return the engines that did something, in the order of the rows."""
    present = {bar.engine for bar in timeline.bars} - {"issue"}
    return [name for name in _ENGINES if name in present] + sorted(present - set(_ENGINES))


def engine_name(engine: str) -> str:
    """Return what an engine is called."""
    return {"issue": "issue port, by class"}.get(engine, _NAMES.get(engine, engine.replace("_", " ")))


def draw_timeline(view: View, width: float) -> Drawing:
    """Draw a row per engine, and above them what the cycles of the layer count as."""
    timeline = view.result.timeline
    assert timeline is not None  # noqa: S101 - what has no timeline is not drawn
    classes = ordered_classes(bar.what for bar in timeline.bars if bar.engine == "issue")
    kinds = [cycle_class(key, view.dataflow) for key in classes]
    entries = [(kind.name, kind.colour) for kind in kinds]
    loads = sorted({bar.what for bar in timeline.bars if bar.engine == "load"})
    entries += [(f"loads {what}", _colour("load", what)) for what in loads]
    engines = ["issue", *engines_of(timeline)]
    legend = legend_height([name for name, _ in entries], width)
    drawing = blank(width, legend + _ROW_PX * len(engines) + 62)
    axes = place(drawing, 132, legend + 10, 20, 46)
    draw_legend(drawing, entries)
    axes.set_xlim(0, timeline.until)
    axes.set_ylim(len(engines) - 0.4, -0.6)
    axes.set_yticks(range(len(engines)), [engine_name(engine) for engine in engines])
    spread_ticks(axes, width - 152)
    grid(axes)
    axes.set_xlabel("cycle of the layer")
    hair = timeline.until / (width - 152)
    colours = {kind.key: kind.colour for kind in kinds}
    for row, engine in enumerate(engines):
        for what in sorted({bar.what for bar in timeline.bars if bar.engine == engine}):
            bars = [bar for bar in timeline.bars if bar.engine == engine and bar.what == what]
            colour = colours[what] if engine == "issue" else _colour(engine, what)
            spans = [(start, end - start) for start, end in _merged(bars, hair / 2)]
            artist = axes.broken_barh(spans, (row - 0.36, 0.72), facecolors=colour, linewidth=0)
            busy = sum(bar.end - bar.start for bar in bars)
            drawing.tip(
                artist,
                f"{engine_name(engine)}, {cycle_class(what).name if engine == 'issue' else what}: {len(bars):,} times, "
                f"{busy:,} cycles",
            )
    return drawing


def _colour(engine: str, what: str) -> str:
    """Return the colour of what an engine does."""
    if engine == "load" and what in _LOADS:
        return _LOADS[what]
    return _COLOURS.get(engine, _OTHER)


def _merged(bars: list[Bar], hair: float) -> list[tuple[float, float]]:
    """Return spans, each at least a hair wide; a gap narrower than a hair stays where there is room for it."""
    spans: list[tuple[float, float]] = []
    for bar in sorted(bars, key=lambda bar: (bar.start, bar.end)):
        start, end = float(bar.start), max(float(bar.end), bar.start + hair)
        if spans and start <= spans[-1][1] and (start < spans[-1][1] or end - start < 4 * hair):
            spans[-1] = (spans[-1][0], max(spans[-1][1], end))
        else:
            gap = hair if spans and start - spans[-1][1] < hair and end - start > 6 * hair else 0.0
            spans.append((start + gap, end))
    return spans
