"""The report as one self-contained HTML file: tables, and a histogram of every tensor with its grid."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from accelsim.errors import printable
from accelsim.quantise.analysis import TensorError
from accelsim.quantise.figures import decibels, share
from accelsim.quantise.pictures import histogram_svg
from accelsim.quantise.report import QuantisationReport

_MOST_PICTURES = 200

_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse;margin:.6rem 0 1.6rem;font-variant-numeric:tabular-nums}
th,td{padding:.15rem .7rem;border-bottom:1px solid #ddd;text-align:right}th:first-child,td:first-child{text-align:left}
td:first-child{max-width:26rem;overflow-wrap:anywhere}figure{display:inline-block;margin:.4rem;width:23rem;
vertical-align:top}figcaption{font-size:12px;overflow-wrap:anywhere}svg{width:100%;height:auto}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}th,td{border-color:#444}svg{background:#fff}}
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def report_html(report: QuantisationReport) -> str:
    """Return the report as HTML.

    Args:
        report: the report.
    """
    tensors = [*report.errors.weights, *report.errors.activations]
    body = [
        f"<h1>{_text(report.model)}: {_text(report.scheme.name)}</h1>",
        _summary(report),
        _remarks(report),
        "<h2>Float, fake quantisation, machine</h2>",
        _executions(report),
        "<h2>Layers</h2>",
        _layers(report),
        "<h2>Weights</h2>",
        _tensors(report.errors.weights),
        "<h2>Activations</h2>",
        _tensors(report.errors.activations),
        "<h2>Values and grids</h2>",
        "<p>Counts on a logarithmic scale; the shaded range is what the codes stand for, lines are single codes where "
        "there are few.</p>",
        *(_figure(error) for error in tensors[:_MOST_PICTURES]),
        f"<p>{len(tensors) - _MOST_PICTURES} more tensors are in the JSON report.</p>"
        if len(tensors) > _MOST_PICTURES
        else "",
    ]
    head = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" '
        f'content="{_POLICY}"><meta name="viewport" content="width=device-width"><title>{_text(report.model)}</title>'
        f"<style>{_STYLE}</style></head><body>"
    )
    return head + "\n".join(body) + "</body></html>\n"


def _text(text: str, limit: int = 200) -> str:
    """Return text from a model, harmless in HTML."""
    return escape(printable(text, limit))


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table; cells are escaped."""
    line = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = "\n".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{line}</tr></thead><tbody>{lines}</tbody></table>"


def _summary(report: QuantisationReport) -> str:
    """Say what became of the constants, and how good the outputs are."""
    return (
        f"<p>Constants: {report.float_bytes:,} bytes in float, {report.quantised_bytes:,} quantised; "
        f"{report.effective_bits:.2f} bits per weight, scales and zero points counted. Calibrated on {report.samples} "
        f"samples ({_text(report.calibration)}). Outputs: {decibels(report.errors.output_sqnr_db)}.</p>"
    )


def _remarks(report: QuantisationReport) -> str:
    """List the remarks."""
    return "<ul>" + "".join(f"<li>{_text(remark, 600)}</li>" for remark in report.remarks) + "</ul>"


def _executions(report: QuantisationReport) -> str:
    """Compare the three executions."""
    found = report.comparison
    rows = [
        (one.name, decibels(one.sqnr_db), share(one.accuracy), share(one.agreement))
        for one in (found.original, found.literal, found.machine)
    ]
    distances = [
        (d.output, "-" if d.max_lsb is None else f"{d.max_lsb:g}", share(d.share), f"{d.max_abs:.3g}")
        for d in found.distances
    ]
    return _table(("execution", "SQNR", "accuracy", "same class as float"), rows) + _table(
        ("output: machine against fake quantisation", "largest distance, LSB", "elements that differ", "largest"),
        distances,
    )


def _layers(report: QuantisationReport) -> str:
    """Show errors by layer, with the ranking of sensitivity."""
    alone = {row.layer: row.output_sqnr_db for row in report.sensitivity}
    rows = (
        (
            layer.layer,
            layer.kind,
            str(layer.weight_bits or "float"),
            decibels(layer.weight_sqnr_db),
            decibels(layer.output_sqnr_db),
            decibels(alone.get(layer.layer)),
        )
        for layer in report.errors.layers
    )
    head = ("layer", "operator", "weight bits", "weights, SQNR", "output in the network, SQNR", "alone quantised, SQNR")
    return _table(head, rows)


def _tensors(errors: Iterable[TensorError]) -> str:
    """Show errors by tensor."""
    rows = (
        (
            error.tensor,
            str(error.bits),
            f"{error.effective_bits:.2f}",
            decibels(error.sqnr_db),
            share(error.rounding / error.total if error.total else 0.0),
            share(error.clipping / error.total if error.total else 0.0),
            share(error.clipped_share),
            f"{error.unused_codes} of {error.codes}",
            share(error.outlier_share),
        )
        for error in errors
    )
    head = ("tensor", "bits", "effective", "SQNR", "rounding", "clipping", "clipped", "unused codes", "outliers")
    return _table(head, rows)


def _figure(error: TensorError) -> str:
    """Draw one tensor."""
    caption = f"{_text(error.tensor)} ({error.kind}, {error.bits} bits, {decibels(error.sqnr_db)})"
    return f"<figure>{histogram_svg(error)}<figcaption>{caption}</figcaption></figure>"
