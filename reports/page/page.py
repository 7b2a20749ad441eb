"""A report as one self-contained page: no network, a strict policy, the same bytes for the same results."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from accelsim.errors import UsageError, printable
from accelsim.reports.changes import Changes, flat_machine
from accelsim.reports.charts.changes import draw_changes
from accelsim.reports.charts.style import FIGURE_KINDS, Chart, figure_bytes, inline_svg
from accelsim.reports.facts import Fact, facts, input_facts, machine_name
from accelsim.reports.page.parts import Figure
from accelsim.reports.page.quantisation import quantisation_facts, quantisation_sections
from accelsim.reports.page.sections import WIDE, Section, sections
from accelsim.reports.view import View, peak_of, view_of
from accelsim.results.quantisation import QuantisationReport
from accelsim.results.result import Result
from accelsim.version import __version__

if TYPE_CHECKING:
    from jinja2 import Environment

LARGEST_RESULTS = 8
_DIFFERING = 3
# What is higher than this is not shrunk to one sheet of paper.
_SHEET_PX = 1400


@dataclass(frozen=True)
class Shown:
    """A figure as the template reads it; long: its chart is for several sheets of paper."""

    figure: Figure
    svg: str
    long: bool


def views_of(results: Sequence[Result]) -> list[View]:
    """Return the results with titles that tell them apart.

    Raises:
        UsageError: there are none, or too many to be read beside each other.
    """
    if not results:
        raise UsageError("a report needs at least one result")
    if len(results) > LARGEST_RESULTS:
        raise UsageError(f"a report shows at most {LARGEST_RESULTS} results beside each other, got {len(results)}")
    if len(results) == 1:
        return [view_of(results[0])]
    names = [f"{printable(result.model.name, 30)}, {machine_name(result)}" for result in results]
    machines = [flat_machine(result) for result in results]
    keys = [
        key for key in dict.fromkeys(key for machine in machines for key in machine) if not key.startswith("array.")
    ]
    differing = [key for key in keys if len({machine.get(key) for machine in machines}) > 1][:_DIFFERING]
    titles = []
    for letter, name, machine in zip("ABCDEFGH", names, machines, strict=False):
        parts = [f"{key} {machine[key]}" for key in differing if key in machine] if names.count(name) > 1 else []
        titles.append(f"{letter}: {', '.join([name, *parts])}")
    views = [view_of(result, title) for result, title in zip(results, titles, strict=True)]
    return [replace(view, peak=peak_of(views)) for view in views]


def report_html(results: Sequence[Result], quantised: Sequence[QuantisationReport] = ()) -> str:
    """Return the page.

    Args:
        results: one, or several that are shown beside each other.
        quantised: what quantising did to their models, each of which belongs to one of the results.

    Raises:
        UsageError: see views_of; or a report on quantising is about none of the models.
    """
    views = views_of(results)
    found = _all_sections(views, quantised)
    heading = views[0].title if len(views) == 1 else f"{len(views)} results side by side"
    glances = [Glance(view.title, (*input_facts(view.result), *facts(view.result))) for view in views]
    return _page(heading, glances, found, views[0].result.versions.get("accelsim", ""))


def _all_sections(views: Sequence[View], quantised: Sequence[QuantisationReport]) -> list[Section]:
    """Return the sections of results, those on quantising their models in front of the machine's."""
    known = {view.result.model.sha256 for view in views}
    found = sections(views)
    place = next(index for index, section in enumerate(found) if section.key == "machine")
    for number, report in reversed(list(enumerate(quantised, start=1))):
        if report.quantised_sha256 not in known:
            raise UsageError(
                f"quantising {printable(report.model, 60)} with {printable(str(report.scheme.get('name')), 60)} gave "
                f"another file than the one that was run: run the file that accel-sim quantize wrote beside that report"
            )
        found[place:place] = quantisation_sections(report, number if len(quantised) > 1 else 0)
    return found


def quantisation_html(report: QuantisationReport) -> str:
    """Return what quantising did to a model as a page of its own.

    Args:
        report: the model taken apart.
    """
    heading = f"{printable(report.model, 80)}, quantised"
    glance = Glance(heading, tuple(quantisation_facts(report)))
    return _page(heading, [glance], quantisation_sections(report), __version__)


@dataclass(frozen=True)
class Glance:
    """What stands above all sections: the facts of one result."""

    title: str
    facts: tuple[Fact, ...]


def _page(heading: str, glances: Sequence[Glance], found: Sequence[Section], version: str) -> str:
    """Fill the template."""
    css, js = _asset("report.css"), _asset("report.js")
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src '{_hash(css)}'; script-src '{_hash(js)}'"
    )
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            policy=policy,
            css=css,
            js=js,
            heading=heading,
            views=glances,
            sections=[(section, _drawn(section)) for section in found],
            version=version,
        )
    )


def _drawn(section: Section) -> list[Shown]:
    """Draw the charts of a section."""
    shown = []
    for figure in section.figures:
        chart = figure.chart
        svg = "" if chart is None or chart.draw is None else inline_svg(chart.draw, chart.key, chart.alt)
        height = re.search(r'height="(\d+)', svg)
        shown.append(Shown(figure, svg, height is not None and int(height.group(1)) > _SHEET_PX))
    return shown


def report_figures(results: Sequence[Result], quantised: Sequence[QuantisationReport] = ()) -> dict[str, bytes]:
    """Return the charts of a report as files by name, each as SVG, PDF and PNG.

    Args:
        results: as for report_html.
        quantised: as for report_html.

    Raises:
        UsageError: see report_html.
    """
    found = _all_sections(views_of(results), quantised)
    return _files(figure.chart for section in found for figure in section.figures)


def changes_figure(changes: Changes, kind: str) -> bytes:
    """Return what changed as a file.

    Args:
        changes: between two results.
        kind: one of FIGURE_KINDS.
    """
    return figure_bytes(lambda: draw_changes(changes, WIDE), kind)


def _files(charts: Any) -> dict[str, bytes]:
    """Draw charts that have data in all formats."""
    drawable = [chart for chart in charts if isinstance(chart, Chart) and chart.draw is not None]
    return {
        f"{chart.key}.{kind}": figure_bytes(chart.draw, kind)
        for chart in drawable
        for kind in FIGURE_KINDS
        if chart.draw is not None
    }


@cache
def environment() -> Environment:
    """Return the templates: everything that is put in is escaped, and a name that does not exist is an error."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    return Environment(
        loader=FunctionLoader(_asset), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def _asset(name: str) -> str:
    """Read a template or what is put into the page."""
    return (resources.files("accelsim.reports") / "templates" / name).read_text("utf-8")


def _hash(text: str) -> str:
    """Return what a policy calls a text that may be in the page."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def partial_html(name: str, values: Mapping[str, Any]) -> str:
    """Render one macro of the partials, for notebooks.

    Args:
        name: of the template.
        values: what it reads.
    """
    return environment().get_template(name).render(**values)
