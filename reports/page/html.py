"""A result in a notebook: the facts and the table of layers, from the same partials as the report."""

from __future__ import annotations

from accelsim.reports.facts import facts, input_facts
from accelsim.reports.page.layer_tables import layers_table
from accelsim.reports.page.page import partial_html
from accelsim.reports.view import view_of
from accelsim.results.result import Result


def result_html(result: Result) -> str:
    """Return the facts and the layers of a result as HTML without styles and scripts; all names are escaped."""
    view = view_of(result)
    values = {
        "title": view.title,
        "facts": (*input_facts(result), *facts(result)),
        "table": layers_table(view),
        "notes": view.fold_note,
    }
    return partial_html("notebook.html.j2", values)
