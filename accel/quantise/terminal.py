"""What `accel-sim quantize` and `accel-sim schemes` print: tables of at most 100 columns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from textwrap import wrap

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from accelsim.errors import printable
from accelsim.quantise.measure.schemes import SchemeCost, SchemeTable
from accelsim.quantise.network.names import short_layer, short_names
from accelsim.reports.ratios import decibels, share
from accelsim.results.quantisation import QuantisationReport

_MOST_LAYERS = 40
_LONGEST_WORST = 12  # characters of the most sensitive layer
_LONGEST_NAME = 200  # characters of a scheme's name
_LEAST_NAME = 16  # columns for names, below which they take too many lines
_FIRST_COST = 6  # column of the schemes' table: what is left of it is quality and size, the rest is one run
_PIECES = re.compile(r"(?=[+/])|(?<=[-_.])")  # where a name may be broken
_ENDLESS = 10_000  # columns

_MISSING = "n/a"  # of a figure that could not be had; a remark says why
_PICOJOULES = 1e6  # in a microjoule


def _table(console: Console, heads: Sequence[str], rows: Sequence[Sequence[str]], padding: int = 1) -> Table:
    """Return a table whose first column holds names, folded where there is no room, and the others whole figures."""
    room = console.width - _width(console, _filled(heads, [("", *row[1:]) for row in rows], padding)) + len(heads[0])
    longest = max(len(row[0]) for row in rows) if rows else 0
    width = max(min(longest, room), 1)
    return _filled(heads, [(_folded(row[0], width), *row[1:]) for row in rows], padding)


def _filled(heads: Sequence[str], rows: Sequence[Sequence[str]], padding: int) -> Table:
    """Return a table of texts that are not wrapped; what is in them is no markup."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, padding, 0, 0))
    for index, head in enumerate(heads):
        table.add_column(head, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _width(console: Console, table: Table) -> int:
    """Return how many columns a table needs."""
    return Measurement.get(console, console.options.update(max_width=_ENDLESS), table).maximum


def _folded(name: str, width: int) -> str:
    """Break a name into lines, at the marks that it is made of or else anywhere."""
    lines = [""]
    for piece in _PIECES.split(name):
        rest = piece
        if len(lines[-1]) + len(rest) > width and lines[-1]:
            lines.append("")
        while len(rest) > width:
            lines[-1], rest = rest[:width], rest[width:]
            lines.append("")
        lines[-1] += rest
    return "\n".join(lines)


def print_errors(console: Console, report: QuantisationReport) -> None:
    """Print the errors by layer, the most sensitive layers first.

    Args:
        console: where to.
        report: of the quantised model.
    """
    layers, ranking = {layer.layer: layer for layer in report.errors.layers}, report.sensitivity
    names = short_names([row.layer for row in ranking])
    rows = []
    for row in ranking[:_MOST_LAYERS]:
        layer = layers[row.layer]
        figures = map(decibels, (layer.weight_sqnr_db, layer.output_sqnr_db))
        alone = decibels(row.output_sqnr_db) if row.reason is None else _MISSING
        rows.append((names[row.layer], str(layer.weight_bits or "float"), *figures, alone))
    console.print(_table(console, ("layer", "bits", "weights", "output", "alone"), rows))
    if len(ranking) > _MOST_LAYERS:
        console.print(f"and {len(ranking) - _MOST_LAYERS} less sensitive layers")
    console.print(
        f"SQNR of the weights, of the layer's output in the quantised network (on the {report.samples:,} calibration "
        f"samples), and of the model's outputs when this layer alone is quantised (on the first {report.ranked_on:,} "
        f"of them); most sensitive first."
    )


def print_comparison(console: Console, report: QuantisationReport) -> None:
    """Print the three executions.

    Args:
        console: where to.
        report: with the comparison.
    """
    found = report.comparison
    rows = [
        (printable(one.name, 40), decibels(one.sqnr_db), share(one.accuracy), share(one.agreement))
        if one.reason is None
        else (printable(one.name, 40), _MISSING, _MISSING, _MISSING)
        for one in (found.original, found.literal, found.machine)
    ]
    console.print(_table(console, ("execution", "SQNR", "accuracy", "as float"), rows))
    console.print(f"measured on {report.measured_samples} ({printable(report.measured_on, 60)})")
    if found.acc_bits_needed is not None:
        console.print(f"accumulators: {found.acc_bits} bits given, {found.acc_bits_needed} needed by these sums")
    for distance in found.distances:
        far = f"{distance.max_abs:.3g}" if distance.max_lsb is None else f"{distance.max_lsb:g} LSB"
        console.print(
            f"output '{printable(distance.output, 40)}': the machine is at most {far} from fake quantisation, on "
            f"{share(distance.share)} of the elements"
        )


def print_schemes(console: Console, table: SchemeTable, said: Sequence[str] = ()) -> None:
    """Print the schemes side by side, and the remarks below.

    Args:
        console: where to.
        table: the schemes.
        said: remarks that need not be repeated.
    """
    quality = "accuracy" if table.labelled else "as float"
    heads = ("scheme", quality, "SQNR", "worst", "bytes", "bits", "cycles", "uJ", "DRAM", "acc")
    rows = [(printable(row.scheme, _LONGEST_NAME), *_cells(row, table.labelled)) for row in table.rows]
    for shown in _fitting(console, heads, rows):
        console.print(shown)
    measured = f"{'labelled ' if table.labelled else ''}sample{'s' if table.samples != 1 else ''}"
    console.print(
        f"{printable(table.model, 40)} on {table.machine}, {table.samples} {measured}; worst: most sensitive layer; "
        f"cycles, energy and DRAM bytes of one run; acc: accumulator bits needed by the sums of these samples"
    )
    for line in remark_lines(table, console.width - 4, said):
        console.print(line)


def _fitting(console: Console, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[Table]:
    """Return one table, narrower if need be, or one of quality and one of cost where all figures do not fit in one."""
    least = min(_LEAST_NAME, max(len(row[0]) for row in rows))
    for padding in (1, 0):
        bare = [("x" * least, *row[1:]) for row in rows]
        if _width(console, _filled(heads, bare, padding)) <= console.width:
            return [_table(console, heads, rows, padding)]
    parts = (slice(1, _FIRST_COST), slice(_FIRST_COST, None))
    return [_table(console, (heads[0], *heads[p]), [(row[0], *row[p]) for row in rows]) for p in parts]


def _cells(row: SchemeCost, labelled: bool) -> tuple[str, ...]:
    """Return the figures of a row."""
    energy = "n/a" if row.energy_pj is None else f"{row.energy_pj / _PICOJOULES:,.2f}"
    worst = "" if row.worst_layer is None else _tail(short_layer(row.worst_layer))
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


def _tail(name: str) -> str:
    """Return the end of a name, marked where its beginning is left out."""
    return name if len(name) <= _LONGEST_WORST else f"…{name[1 - _LONGEST_WORST :]}"


def remark_lines(table: SchemeTable, width: int = 96, said: Sequence[str] = ()) -> Iterator[str]:
    """Yield the remarks under a table, wrapped, each once with the schemes that it is about.

    Args:
        table: the schemes.
        width: of a line.
        said: remarks that need not be repeated.
    """
    about: dict[str, list[str]] = {}
    for row in table.rows:
        for remark in _all_remarks(row):
            about.setdefault(remark, []).append(row.scheme)
    for remark, schemes in ((one, names) for one, names in about.items() if one not in said):
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
