"""What a report asks of each result, one function per question: a chart, the table that equals it, and sentences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from accelsim.errors import printable
from accelsim.reports.charts.graph import draw_graph, has_graph
from accelsim.reports.charts.layers import (
    draw_accumulators,
    draw_cycles,
    draw_energy,
    draw_traffic,
    with_accumulators,
)
from accelsim.reports.charts.overview import draw_formats
from accelsim.reports.charts.roofline import draw_roofline, left_out, points
from accelsim.reports.charts.style import Chart
from accelsim.reports.charts.timeline import draw_timeline
from accelsim.reports.page.fact_tables import formats_table
from accelsim.reports.page.layer_tables import (
    accumulators_table,
    cycles_table,
    energy_table,
    graph_table,
    layers_table,
    roofline_table,
    timeline_table,
    traffic_table,
)
from accelsim.reports.page.tables import Table
from accelsim.reports.view import LARGEST_LAYERS, View
from accelsim.results.accumulators import width_lines

_OLDER = "this result lacks the data: the accel-sim that wrote it did not keep it; run the model again"
_SLOWEST = 5


@dataclass(frozen=True)
class Figure:
    """A chart and its equal table; notes: sentences below; opened: the table is shown without being asked for."""

    title: str
    chart: Chart | None
    table: Table | None
    notes: tuple[str, ...] = ()
    opened: bool = False


@dataclass(frozen=True)
class Question:
    """One question, and how a result answers it; tall: the answer scrolls inside of its frame."""

    key: str
    title: str
    intro: str
    answer: Callable[[View, float], Figure]
    tall: bool = True


def _notes(*sentences: str) -> tuple[str, ...]:
    """Return the sentences that say something."""
    return tuple(sentence for sentence in sentences if sentence)


def _cycles(view: View, width: float) -> Figure:
    """Where do the cycles go."""
    chart = Chart("cycles", f"Cycles of each layer by class, {view.title}", lambda: draw_cycles(view, width))
    ranked = sorted((row.layer.cycles for row in view.layers if row.number), reverse=True)
    note = ""
    if len(ranked) > 2 * _SLOWEST and view.result.cycles:
        share = sum(ranked[:_SLOWEST]) / view.result.cycles
        note = f"The {_SLOWEST} slowest of {len(view.result.layers):,} layers take {share:.0%} of the cycles."
    return Figure("", chart, cycles_table(view), _notes(note, view.fold_note))


def _energy(view: View, width: float) -> Figure:
    """Where does the energy go."""
    chart = Chart("energy", f"Energy of each layer by component, {view.title}", lambda: draw_energy(view, width))
    notes = [f"{printable(note, 300)}." for note in view.result.energy.detail.notes]
    return Figure("", chart, energy_table(view), _notes(*notes, view.fold_note))


def _formats(view: View, width: float) -> Figure:
    """What would other number formats cost."""
    detail = view.result.energy.detail
    if not detail.baselines:
        return Figure("", Chart("formats", "", None, _OLDER), None)
    chart = Chart("formats", f"Energy of {view.title} in other number formats", lambda: draw_formats(view, width))
    note = f"Assumed: {printable(detail.assumptions, 1000)}." if detail.assumptions else ""
    return Figure("", chart, formats_table(view), _notes(note))


def _roofline(view: View, width: float) -> Figure:
    """What could be faster."""
    if not points(view):
        return Figure("", Chart("roofline", "", None, _OLDER), None)
    chart = Chart("roofline", f"Roofline of {view.title}", lambda: draw_roofline(view, width))
    passed = [row for row in left_out(view) if row.number]
    note = ""
    if passed:
        names = ", ".join(row.label for row in passed[:6]) + (", ..." if len(passed) > 6 else "")
        verb = "layer has" if len(passed) == 1 else "layers have"
        note = f"{len(passed):,} {verb} no operations, only bytes to move, and so no place on a roofline: {names}."
    placed = points(view)
    bound = sum(point.row.bound.key == "DRAM" for point in placed)
    sloped = sum(point.roof.startswith("DRAM") for point in placed)
    are, lie = ("is" if bound == 1 else "are"), ("lies" if sloped == 1 else "lie")
    roof = (
        f"Of {len(placed):,} layers, {bound:,} {are} memory bound: most of the cycles wait for DRAM, as colours and "
        f"the last column of the table say. {sloped:,} {lie} under the slope of DRAM, where traffic allows less than "
        "the flat roof; the table names the roof of each."
    )
    return Figure("", chart, roofline_table(view), _notes(roof, note, view.fold_note))


def _accumulators(view: View, width: float) -> Figure:
    """Would narrower accumulators do."""
    rows = with_accumulators(view)
    if not rows:
        missing = "no layer's sums were watched: the values were not computed, or no layer is on the array"
        return Figure("", Chart("accumulators", "", None, missing), None)
    chart = Chart("accumulators", f"Accumulator bits needed, {view.title}", lambda: draw_accumulators(view, width))
    notes = [f"{line[0].upper()}{line[1:]}." for line in width_lines([row.layer for row in rows])]
    return Figure("", chart, accumulators_table(view), _notes(*notes, "Another input may need more.", view.fold_note))


def _traffic(view: View, width: float) -> Figure:
    """How far is DRAM traffic from the least possible."""
    if any(row.layer.compulsory_dram_bytes is None for row in view.layers):
        return Figure("", Chart("traffic", "", None, _OLDER), traffic_table(view))
    chart = Chart("traffic", f"DRAM traffic of each layer, {view.title}", lambda: draw_traffic(view, width))
    least = sum(row.layer.compulsory_dram_bytes or 0 for row in view.layers)
    moved = view.result.dram_bytes
    note = f"{moved:,} bytes are moved" + (f", {moved / least:.2f} times the {least:,} of the bound." if least else ".")
    return Figure("", chart, traffic_table(view), _notes(note, view.fold_note))


def _timeline(view: View, width: float) -> Figure:
    """What does every engine do, when."""
    timeline = view.result.timeline
    if timeline is None:
        missing = "this result has no timeline: accel-sim run with -o DIR, or with --timeline LAYER, keeps one"
        return Figure("", Chart("timeline", "", None, missing), None)
    name = next((row.label for row in view.layers if row.number == timeline.number + 1), "")
    name = name or printable(timeline.layer, 60)
    note = f"Layer {timeline.number + 1:,}, {name}: {timeline.cycles:,} cycles"
    remark = printable(timeline.note, 300)
    if not timeline.bars or not timeline.until:
        return Figure("", Chart("timeline", "", None, remark or "no engine did anything"), None, (f"{note}.",))
    note += f"; shown: {remark}." if remark else "."
    chart = Chart("timeline", f"Timeline of layer {name}, {view.title}", lambda: draw_timeline(view, width))
    return Figure("", chart, timeline_table(view), (note,))


def _graph(view: View, width: float) -> Figure:
    """Where in the graph is the cost."""
    if not has_graph(view):
        missing = f"the graph is drawn for models of up to {LARGEST_LAYERS} layers" if view.folded else _OLDER
        return Figure("", Chart("graph", "", None, missing), None)
    chart = Chart("graph", f"Graph of {view.title}, coloured by cycles", lambda: draw_graph(view, width))
    return Figure("", chart, graph_table(view))


def _layers(view: View, width: float) -> Figure:
    """All layers."""
    return Figure("", None, layers_table(view), _notes(view.fold_note), True)


QUESTIONS = (
    Question(
        "layers",
        "Layers",
        "One row per layer, 'bound by' names what most of its cycles go to; a click on a head sorts.",
        _layers,
    ),
    Question(
        "cycles",
        "Where do the cycles go?",
        "Every cycle of a layer counts for exactly one class: the array works, or it waits for what is named.",
        _cycles,
    ),
    Question(
        "energy",
        "Where does the energy go?",
        "Counts of events times unit energies, whose sources are listed below.",
        _energy,
    ),
    Question(
        "formats",
        "What would other number formats cost?",
        "The same network on the same array, with the unit energies and the widths of another format.",
        _formats,
        False,
    ),
    Question(
        "roofline",
        "What limits each layer?",
        "Operations are MACs on the array and lane operations on the vector unit. What is far below the roof loses its "
        "time elsewhere: unused PEs, fill and drain, the requantiser.",
        _roofline,
        False,
    ),
    Question(
        "accumulators",
        "Accumulator headroom",
        "Bits that the sums of this run need, against those that the accumulator has.",
        _accumulators,
    ),
    Question(
        "traffic",
        "DRAM traffic against the least possible",
        "The bound: each needed operand once and each result once, layer by layer, but for activations that this run "
        "keeps on chip between layers, which are left out of it. Bursts and reloads add to it.",
        _traffic,
    ),
    Question("timeline", "Timeline of one layer", "", _timeline, False),
    Question(
        "graph", "The lowered graph", "What the machine executes, in order; a darker box takes more cycles.", _graph
    ),
)
