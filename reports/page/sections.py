"""What a report consists of: sections in their order, each with charts and the tables that equal them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from accelsim.errors import printable
from accelsim.reports.changes import changes_between
from accelsim.reports.charts.changes import draw_changes, drawn_layers, listed_layers
from accelsim.reports.charts.overview import draw_total_cycles, draw_total_energy
from accelsim.reports.charts.style import Chart
from accelsim.reports.page.fact_tables import (
    distances_table,
    layer_changes_table,
    machine_table,
    pairs_table,
    rows_table,
    sources_table,
    versions_table,
)
from accelsim.reports.page.layer_tables import total_cycles_table, total_energy_table
from accelsim.reports.page.parts import QUESTIONS, Figure, Question
from accelsim.reports.terminal.verdict import check_lines
from accelsim.reports.view import View

WIDE, NARROW = 1000.0, 520.0


@dataclass(frozen=True)
class Section:
    """One question with its answers; tall: they scroll inside of their frames; lines: text as it is, per result.

    gallery: many small charts beside each other.
    """

    key: str
    title: str
    intro: str
    figures: tuple[Figure, ...]
    tall: bool = False
    lines: tuple[tuple[str, tuple[str, ...]], ...] = ()
    gallery: bool = False


def sections(views: Sequence[View]) -> list[Section]:
    """Return all sections of a report.

    Args:
        views: one or several results.
    """
    found = [_overview(views), *([_differences(views)] if len(views) > 1 else [])]
    found += [_answers(question, views) for question in QUESTIONS]
    return [*found, _machine(views), _sources(views), _verdict(views), _versions(views)]


def _overview(views: Sequence[View]) -> Section:
    """Return cycles and energy of whole runs."""
    shown = ", ".join(view.title for view in views)
    cycles = Chart("total-cycles", f"Cycles by class of {shown}", lambda: draw_total_cycles(views, WIDE))
    energy = Chart("total-energy", f"Energy by component of {shown}", lambda: draw_total_energy(views, WIDE))
    figures = (Figure("", cycles, total_cycles_table(views)), Figure("", energy, total_energy_table(views)))
    return Section("totals", "The whole run" if len(views) == 1 else "The whole runs", "", figures)


def _differences(views: Sequence[View]) -> Section:
    """Return what differs between the first result and each other."""
    figures: list[Figure] = []
    for view in views[1:]:
        figures += difference_figures(views[0], view)
    intro = f"Changes relate to {views[0].title}; layers are matched by name."
    return Section("differences", "What differs", intro, tuple(figures), True)


def difference_figures(old: View, new: View) -> list[Figure]:
    """Return totals, layers, machine and versions of two results beside each other."""
    changes = changes_between(old.result, new.result)
    title = f"{old.title} → {new.title}"
    key = f"changes-{new.title.split(':')[0]}"
    chart = Chart(key, f"Change per layer, {title}", lambda: draw_changes(changes, WIDE))
    if not drawn_layers(changes):
        chart = Chart(key, "", None, "no layer differs in cycles, energy or DRAM traffic")
    listed = listed_layers(changes)
    hidden = len(changes.changed_layers) - len(listed)
    notes = (f"{hidden:,} more layers differ, by less.",) if hidden else ()
    figures = [Figure(title, None, pairs_table("totals", changes.totals), opened=True)]
    figures.append(Figure("", chart, layer_changes_table(changes, listed) if listed else None, notes))
    for name, pairs in (
        ("inputs that differ", changes.inputs),
        ("machine parameters that differ", changes.machine),
        ("versions that differ", changes.versions),
    ):
        if pairs:
            figures.append(Figure("", None, pairs_table(name, pairs), opened=True))
    return figures


def _answers(question: Question, views: Sequence[View]) -> Section:
    """Ask every result one question."""
    width = WIDE if len(views) == 1 else NARROW
    figures = []
    for number, view in enumerate(views, start=1):
        figure = question.answer(view, width)
        if len(views) > 1:
            chart = None if figure.chart is None else replace(figure.chart, key=f"{number}-{figure.chart.key}")
            figure = replace(figure, title=view.title, chart=chart)
        figures.append(figure)
    return Section(question.key, question.title, question.intro, tuple(figures), question.tall)


def _machine(views: Sequence[View]) -> Section:
    """Return the parameters of the machines."""
    intro = "" if len(views) == 1 else "Parameters that are not the same everywhere are marked."
    return Section("machine", "The machine", intro, (Figure("", None, machine_table(views), opened=True),))


def _sources(views: Sequence[View]) -> Section:
    """Return where the unit energies come from; results with equal tables share one."""
    figures: list[Figure] = []
    for view in views:
        table = sources_table(view)
        if table in [figure.table for figure in figures]:
            continue
        energy = view.result.energy
        note = f"Table {printable(energy.table, 60)}: {printable(energy.source, 300)}."
        figures.append(Figure(view.title if len(views) > 1 else "", None, table, (note,), True))
        for name, rows in (("rows of the table", energy.detail.rows), ("laws", energy.detail.laws)):
            if rows:
                figures.append(Figure(name, None, rows_table(name, rows)))
    intro = "Measured values are the source's own; others follow from a stated law through them."
    return Section("sources", "Where the energies come from", intro, tuple(figures), True)


def _verdict(views: Sequence[View]) -> Section:
    """Return what was compared with onnxruntime, and what came out."""
    figures, lines = [], []
    for view in views:
        title = view.title if len(views) > 1 else ""
        lines.append((title, tuple(printable(line.plain[9:], 300) for line in check_lines(view.result.check))))
        distances = distances_table(view)
        if distances is not None:
            figures.append(Figure(title, None, distances))
    return Section("verdict", "The verdict", "", tuple(figures), True, tuple(lines))


def _versions(views: Sequence[View]) -> Section:
    """Return what decides a result."""
    return Section("versions", "Versions and model", "", (Figure("", None, versions_table(views), opened=True),))
