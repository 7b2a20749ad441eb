"""A small HTML table of a result, for notebooks."""

from __future__ import annotations

from html import escape

from accelsim.result import Result


def result_html(result: Result) -> str:
    """Return the layers of a result as an HTML table; all names are escaped."""
    head = "".join(
        f"<th>{title}</th>" for title in ("layer", "operator", "cycles", "utilisation", "energy [pJ]", "verdict")
    )
    rows = []
    for layer in result.layers:
        cells = (
            layer.name,
            layer.op,
            f"{layer.cycles:,}",
            "" if layer.utilisation is None else f"{layer.utilisation:.1%}",
            f"{sum(layer.energy_pj.values()):,.0f}",
            "" if layer.check is None else layer.check.verdict,
        )
        rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    caption = (
        f"{escape(result.model.name)}: {result.cycles:,} cycles, {result.energy_pj / 1e6:,.3f} µJ, "
        f"{escape(result.check.verdict)}"
    )
    return f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
