"""What quantising did to a model, as sections of a page: executions, layers, tensors, and a histogram of each."""

from __future__ import annotations

from collections.abc import Sequence

from accelsim.errors import printable
from accelsim.reports.charts.histograms import draw_histogram
from accelsim.reports.charts.style import Chart
from accelsim.reports.facts import Fact
from accelsim.reports.page.parts import Figure
from accelsim.reports.page.sections import Section
from accelsim.reports.page.tables import Cell, Table, columns, text_cells
from accelsim.reports.ratios import decibels, share
from accelsim.results.quantisation import QuantisationReport, TensorError

MOST_HISTOGRAMS = 200
_WIDTH = 330.0
_GRIDS = (
    "Counts on a logarithmic axis. The band is what the codes stand for; single codes are lines where there are few "
    "(of the coarsest grid where a tensor has several). What lies outside of the band is clipped."
)
_ALONE = (
    "Signal to quantisation noise of the weights, of the layer's output in the quantised network (on the {:,} "
    "calibration samples), and of the network's outputs when this layer alone is quantised (on the first {:,} of "
    "them): the least of these names the layer to keep in float or to widen."
)
_TENSORS = (
    "Squared errors are those of rounding (values that have a code near) and of clipping (values outside of the grid), "
    "nothing else. Outliers are more than six standard deviations from the mean. Activations are those of the {:,} "
    "calibration samples."
)


def quantisation_facts(report: QuantisationReport) -> list[Fact]:
    """Return what a person wants to know first.

    Args:
        report: the model taken apart.
    """
    machine, original = report.comparison.machine, report.comparison.original
    quality = [f"on {report.measured_samples}", f"{decibels(machine.sqnr_db)} at the outputs"]
    if machine.agreement is not None:
        quality.append(f"{share(machine.agreement)} of the samples get the float network's class")
    if machine.accuracy is None:
        value = share(machine.agreement) if machine.agreement is not None else decibels(machine.sqnr_db)
        accuracy = Fact("against float, on the machine", value, "; ".join(quality))
    else:
        quality.insert(1, f"float {share(original.accuracy)}")
        accuracy = Fact("accuracy on the machine", share(machine.accuracy), "; ".join(quality))
    ratio = report.float_bytes / max(report.quantised_bytes, 1)
    return [
        Fact("scheme", printable(str(report.scheme.get("name", "")), 80), _origin(report)),
        accuracy,
        Fact(
            "constants",
            f"{report.quantised_bytes:,} B",
            f"{report.float_bytes:,} B in float, {ratio:.1f} times as much",
        ),
        Fact("bits per weight", f"{report.effective_bits:.2f}", "scales and zero points counted"),
    ]


def _origin(report: QuantisationReport) -> str:
    """Say what the ranges come from."""
    return f"calibrated on {report.samples:,} samples ({printable(report.calibration, 100)})"


def quantisation_sections(report: QuantisationReport, number: int = 0) -> list[Section]:
    """Return the sections of one quantised model.

    Args:
        report: the model taken apart.
        number: tells several models of one page apart, 0 for a single one.
    """
    key = f"quantisation-{number}-" if number else "quantisation-"
    scheme = printable(str(report.scheme.get("name", "")), 80)
    name = f" ({printable(report.model, 40)}, {scheme})" if number else ""
    return [
        Section(
            f"{key}executions",
            f"Float, fake quantisation, machine{name}",
            f"Scheme {scheme}, {_origin(report)}; measured on {report.measured_samples} "
            f"({printable(report.measured_on, 100)}). Fake quantisation computes in float between quantisers, the "
            "machine adds integers and rounds once.",
            (*_executions(report), *([Figure("remarks", None, None, _remarks(report))] if report.remarks else [])),
        ),
        Section(
            f"{key}layers",
            f"What each layer loses{name}",
            _ALONE.format(report.samples, report.ranked_on),
            (Figure("", None, _layers(report), opened=True),),
        ),
        Section(
            f"{key}tensors",
            f"Errors of each tensor{name}",
            _TENSORS.format(report.samples),
            tuple(
                Figure(kind, None, _tensors(kind, errors), opened=True)
                for kind, errors in (("weights", report.errors.weights), ("activations", report.errors.activations))
                if errors
            ),
        ),
        Section(f"{key}grids", f"Values and their grids{name}", _GRIDS, _histograms(report, key), gallery=True),
    ]


def _remarks(report: QuantisationReport) -> tuple[str, ...]:
    """Return the sentences that the quantiser had to say."""
    return tuple(printable(remark, 600) for remark in report.remarks)


def _executions(report: QuantisationReport) -> list[Figure]:
    """Return the three executions side by side, and how far the machine is from fake quantisation."""
    found = report.comparison
    rows = tuple(
        text_cells(
            printable(one.name, 40), *map(_number, (one.sqnr_db,)), *map(_percent, (one.accuracy, one.agreement))
        )
        for one in (found.original, found.literal, found.machine)
    )
    heads = columns("execution", "#SQNR [dB]", "#accuracy [%]", "#same class as float [%]")
    figures = [Figure("", None, Table("executions", heads, rows), opened=True)]
    if found.distances:
        rows = tuple(
            text_cells(
                printable(row.output, 80),
                "" if row.max_lsb is None else f"{row.max_lsb:g}",
                _percent(row.share),
                f"{row.max_abs:.3g}",
            )
            for row in found.distances
        )
        heads = columns("output", "#largest distance [LSB]", "#elements that differ [%]", "#largest distance")
        table = Table("machine against fake quantisation", heads, rows)
        figures.append(Figure("Machine against fake quantisation", None, table, opened=True))
    return figures


def _layers(report: QuantisationReport) -> Table:
    """Return the errors by layer, the most sensitive first."""
    alone = {row.layer: row.output_sqnr_db for row in report.sensitivity}
    order = {row.layer: place for place, row in enumerate(report.sensitivity)}
    ranked = sorted(report.errors.layers, key=lambda layer: order.get(layer.layer, len(order)))
    rows = tuple(
        (
            Cell(printable(layer.layer, 60), hint=printable(layer.layer, 300)),
            *text_cells(
                printable(layer.kind, 40),
                str(layer.weight_bits or "float"),
                _number(layer.weight_sqnr_db),
                _number(layer.output_sqnr_db),
                _number(alone.get(layer.layer)),
            ),
        )
        for layer in ranked
    )
    heads = columns(
        "layer", "operator", "#weight bits", "#weights, SQNR [dB]", "#output in the network, SQNR [dB]",
        "#network with this layer alone quantised, SQNR [dB]",
    )  # fmt: skip
    return Table("layers", heads, rows)


def _tensors(kind: str, errors: Sequence[TensorError]) -> Table:
    """Return the errors by tensor."""
    rows = tuple(
        (
            Cell(printable(error.tensor, 48), hint=printable(error.tensor, 300)),
            *text_cells(
                str(error.bits),
                f"{error.scales:,}",
                f"{error.effective_bits:.2f}",
                _number(error.sqnr_db),
                _percent(error.rounding / error.total if error.total else 0.0),
                _percent(error.clipping / error.total if error.total else 0.0),
                _percent(error.clipped_share),
                f"{error.unused_codes:,}",
                f"{error.codes:,}",
                _percent(error.outlier_share),
            ),
        )
        for error in errors
    )
    heads = columns(
        "tensor", "#bits", "#scales", "#bits per value with scales", "#SQNR [dB]", "#error by rounding [%]",
        "#by clipping [%]", "#values clipped [%]", "#codes unused", "#of", "#outliers [%]",
    )  # fmt: skip
    return Table(kind, heads, rows)


def _histograms(report: QuantisationReport, key: str) -> tuple[Figure, ...]:
    """Draw every tensor; of a very large model the first ones."""
    tensors = [*report.errors.weights, *report.errors.activations]
    figures = [_histogram(error, f"{key}{place}") for place, error in enumerate(tensors[:MOST_HISTOGRAMS])]
    if len(tensors) > MOST_HISTOGRAMS:
        note = f"{len(tensors) - MOST_HISTOGRAMS:,} more tensors are in the report as JSON."
        figures.append(Figure("", None, None, (note,)))
    return tuple(figures)


def _histogram(error: TensorError, key: str) -> Figure:
    """Draw one tensor."""
    name = printable(error.tensor, 60)
    clipped = f", {share(error.clipped_share)} clipped" if error.clipped_share else ""
    scales = "" if error.scales == 1 else f", {error.scales:,} scales"
    note = f"{printable(error.kind, 20)}, {error.bits} bits{scales}, {decibels(error.sqnr_db)}{clipped}"
    alt = f"Values of {name} with the grid of its codes: {note}"
    return Figure(name, Chart(key, alt, lambda: draw_histogram(error, _WIDTH)), None, (note,))


def _number(value: float | None) -> str:
    """Return decibels without the unit, which stands in the head of a column."""
    text = decibels(value).removesuffix(" dB")
    return "" if text == "-" else text


def _percent(value: float | None) -> str:
    """Return a share in per cent without its sign."""
    return "" if value is None else share(value).removesuffix("%")
