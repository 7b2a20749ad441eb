"""Charts of whole results side by side: cycles by class and energy by component, one bar per result."""

from __future__ import annotations

from collections.abc import Sequence

from accelsim.reports.charts.bars import Rows, Scale, Series, stacked
from accelsim.reports.charts.style import Drawing, plain
from accelsim.reports.classes import component_colours, component_name, ordered_classes, ordered_components
from accelsim.reports.page.tables import energy_unit
from accelsim.reports.terminal.run_table import energy_text
from accelsim.reports.view import View
from accelsim.results.cycle_classes import cycle_class


def total_cycles(view: View, key: str) -> int:
    """Return the cycles of one class in a whole run."""
    return sum(layer.cycle_classes.get(key, 0) for layer in view.result.layers)


def common_dataflow(views: Sequence[View]) -> str:
    """Return the dataflow of all results, empty where they differ."""
    names = {view.dataflow for view in views}
    return names.pop() if len(names) == 1 else ""


def draw_total_cycles(views: Sequence[View], width: float) -> Drawing:
    """Draw the cycles of each result by class."""
    keys = ordered_classes(key for view in views for key in view.classes)
    flow = common_dataflow(views)
    series = []
    for key in keys:
        kind = cycle_class(key, flow)
        series.append(Series(kind.name, kind.colour, [total_cycles(view, key) for view in views]))
    rows = Rows(_names(views), _names(views), [f"{view.result.cycles:,}" for view in views])
    return stacked(rows, series, Scale("cycles", unit="cycles"), width)


def draw_total_energy(views: Sequence[View], width: float) -> Drawing:
    """Draw the energy of each result by component."""
    keys = ordered_components(key for view in views for key in view.components)
    unit = energy_unit([view.result.energy_pj for view in views])
    colours = component_colours(keys)
    parts = [view.result.energy_components_pj for view in views]
    series = [
        Series(component_name(key), colours[key], [part.get(key, 0.0) / unit.factor for part in parts]) for key in keys
    ]
    rows = Rows(_names(views), _names(views), [energy_text(view.result.energy_pj) for view in views])
    return stacked(rows, series, Scale(f"energy [{unit.name}]", None, unit.decimals, unit.name), width)


def draw_formats(view: View, width: float) -> Drawing:
    """Draw the energy of the run, and of the same network on the same array in other number formats."""
    detail = view.result.energy.detail
    bills = [view.result.energy_components_pj, *(baseline.components for baseline in detail.baselines)]
    keys = ordered_components(key for bill in bills for key in bill)
    totals = [sum(bill.values()) for bill in bills]
    unit = energy_unit(totals)
    colours = component_colours(keys)
    series = [
        Series(component_name(key), colours[key], [bill.get(key, 0.0) / unit.factor for bill in bills]) for key in keys
    ]
    names = ["this run", *(plain(baseline.format, 20) for baseline in detail.baselines)]
    ends = [energy_text(totals[0])]
    ends += [f"{energy_text(baseline.energy_pj)} ({baseline.ratio:.2f}x)" for baseline in detail.baselines]
    scale = Scale(f"energy [{unit.name}]", None, unit.decimals, unit.name)
    return stacked(Rows(names, names, ends), series, scale, width)


def _names(views: Sequence[View]) -> list[str]:
    """Return the names of the bars."""
    return ["all layers"] if len(views) == 1 else [view.title for view in views]
