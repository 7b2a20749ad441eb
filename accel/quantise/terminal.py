"""What `accel-sim quantize` and `accel-sim schemes` print: tables of at most 100 columns."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from accelsim.errors import printable
from accelsim.quantisation_result import ErrorAnalysis, Sensitivity, ThreeWay
from accelsim.quantise.cost import SchemeCost, SchemeTable, short_layer
from accelsim.reports.ratios import decibels, share

_MOST_LAYERS = 40
_PICOJOULES = 1e6  # in a microjoule


def _table(*heads: str) -> Table:
    """Return an empty table whose first column is text and the others figures."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for index, head in enumerate(heads):
        table.add_column(head, justify="left" if index == 0 else "right", no_wrap=True)
    return table


def print_errors(console: Console, errors: ErrorAnalysis, ranking: tuple[Sensitivity, ...]) -> None:
    """Print the errors by layer, the most sensitive layers first.

    Args:
        console: where to.
        errors: of the quantised model.
        ranking: of its layers.
    """
    table = _table("layer", "bits", "weights", "output", "alone")
    rows = {layer.layer: layer for layer in errors.layers}
    for row in ranking[:_MOST_LAYERS]:
        layer = rows[row.layer]
        bits = str(layer.weight_bits or "float")
        cells = (bits, *map(decibels, (layer.weight_sqnr_db, layer.output_sqnr_db, row.output_sqnr_db)))
        table.add_row(Text(short_layer(row.layer)), *cells)
    console.print(table)
    if len(ranking) > _MOST_LAYERS:
        console.print(f"and {len(ranking) - _MOST_LAYERS} less sensitive layers")
    console.print(
        "SQNR of the weights, of the layer's output in the quantised network, and of the model's outputs\n"
        "when this layer alone is quantised; most sensitive first."
    )


def print_comparison(console: Console, found: ThreeWay) -> None:
    """Print the three executions.

    Args:
        console: where to.
        found: the comparison.
    """
    table = _table("execution", "SQNR", "accuracy", "as float")
    for one in (found.original, found.literal, found.machine):
        table.add_row(one.name, decibels(one.sqnr_db), share(one.accuracy), share(one.agreement))
    console.print(table)
    for distance in found.distances:
        far = f"{distance.max_abs:.3g}" if distance.max_lsb is None else f"{distance.max_lsb:g} LSB"
        console.print(
            f"output '{printable(distance.output, 40)}': the machine is at most {far} from fake quantisation, on "
            f"{share(distance.share)} of the elements"
        )


def print_schemes(console: Console, table: SchemeTable) -> None:
    """Print the schemes side by side, and the remarks below.

    Args:
        console: where to.
        table: the schemes.
    """
    quality = "accuracy" if table.labelled else "as float"
    shown = _table("scheme", quality, "SQNR", "worst", "bytes", "bits", "cycles", "uJ", "DRAM", "acc")
    for row in table.rows:
        shown.add_row(Text(printable(row.scheme, 34)), *_cells(row, table.labelled))
    console.print(shown)
    measured = "labelled samples" if table.labelled else "samples"
    console.print(
        f"{printable(table.model, 40)} on {table.machine}, {table.samples} {measured}; worst: most sensitive layer\n"
        f"cycles, energy and DRAM bytes of one run; acc: bits of the smallest accumulator that no layer overflows"
    )
    for line in remark_lines(table):
        console.print(line)


def _cells(row: SchemeCost, labelled: bool) -> tuple[str, ...]:
    """Return the figures of a row."""
    energy = "n/a" if row.energy_pj is None else f"{row.energy_pj / _PICOJOULES:,.2f}"
    worst = "" if row.worst_layer is None else short_layer(row.worst_layer)[-12:]
    safe = "n/a" if row.safe_acc_bits is None else str(row.safe_acc_bits)
    bits = "n/a" if row.effective_bits is None else f"{row.effective_bits:.2f}"
    quality = share(row.accuracy if labelled else row.agreement)
    sqnr = decibels(row.sqnr_db).removesuffix(" dB")
    return (
        quality,
        sqnr,
        worst,
        _amount(row.model_bytes),
        bits,
        _amount(row.cycles),
        energy,
        _amount(row.dram_bytes),
        safe,
    )


def remark_lines(table: SchemeTable, width: int = 96) -> Iterator[str]:
    """Yield the remarks under a table, wrapped, each once with the schemes that it is about."""
    about: dict[str, list[str]] = {}
    for row in table.rows:
        for remark in _all_remarks(row):
            about.setdefault(remark, []).append(row.scheme)
    for remark, schemes in about.items():
        names = "all" if len(schemes) == len(table.rows) > 1 else ", ".join(schemes)
        yield from wrap(printable(f"{names}: {remark}", 700), width, subsequent_indent="  ")


def _all_remarks(row: SchemeCost) -> Iterator[str]:
    """Yield the remarks of a row, and what its figures leave out."""
    if row.verdict not in (None, "exact"):
        yield f"verdict {row.verdict}"
    if row.integer is not None and row.integer < 1:
        yield f"{1 - row.integer:.0%} of the multiply-accumulates are float products of dequantised weights"
    if row.on_array is not None and row.on_array < 1:
        yield f"{1 - row.on_array:.0%} of the multiply-accumulates run on the host, without cycles for their arithmetic"
    yield from row.remarks


def _amount(value: float | None) -> str:
    """Return a count with thousands apart."""
    return "n/a" if value is None else f"{value:,.0f}"
