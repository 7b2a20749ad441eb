"""The table that `accel-sim run` prints: one row per layer, totals, the verdict; 100 columns, colour optional."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from accelsim.errors import printable
from accelsim.reports.terminal.energy import baseline_lines, gating_lines, note_lines
from accelsim.reports.terminal.requantiser import distance_table, energy_line
from accelsim.results.accumulators import bits_text
from accelsim.results.cycle_classes import cycle_class
from accelsim.results.result import LayerResult, Result

WIDTH = 100

# Operators whose names are too long for a column.
_SHORT = {
    "QLinearGlobalAveragePool": "QGlobAvg",
    "QLinearAveragePool": "QAvgPool",
    "QLinearLeakyRelu": "QLeakyRel",
    "MatMulIntegerToFloat": "MatMulInt",
    "QuantizeLinear": "Quantize",
    "DequantizeLinear": "Dequant",
}

# Parts of a path that are looked at, from its end.
_PARTS = 6

# Widths of the column of names; wider than needed helps nobody, narrower ones first close the gaps between columns.
_NARROWEST, _WIDEST = 12, 26

# Cycles from here on are shown as a quantity.
_MANY = 10_000_000

VERDICT_STYLES = {
    "exact": "green",
    "near": "cyan",
    "mismatch": "bold red",
    "drifted": "yellow",
    "float-ref": "cyan",
    "q31": "magenta",
    "skipped": "dim",
}


def make_console(*, stderr: bool = False) -> Console:
    """Return a console of at most 100 columns that honours NO_COLOR and plain pipes."""
    probe = Console(stderr=stderr, highlight=False)
    width = min(probe.width, WIDTH) if probe.is_terminal else WIDTH
    return Console(stderr=stderr, highlight=False, width=max(width, 60), emoji=False, markup=False)


def _parts(name: str) -> list[str]:
    """Return the last parts of a name's first path, printable; names are often paths, joined by semicolons."""
    first = next((part for part in name.split(";") if part), name)
    return [printable(part, 200) for part in first.split("/") if part][-_PARTS:] or [printable(name, 200)]


def _cut(text: str, limit: int, head: float) -> str:
    """Return a text of at most `limit` characters: its longest part is cut in the middle, or else all of it.

    Args:
        text: printable text.
        limit: largest length, at least 1.
        head: share of what stays that is taken from the front.
    """
    if len(text) <= limit:
        return text
    parts = text.split("/")
    longest = max(parts, key=len)
    kept = len(longest) - (len(text) - limit) - 1
    if len(parts) > 1 and kept >= 4:
        at = parts.index(longest)
        return "/".join([*parts[:at], _cut(longest, kept + 1, head), *parts[at + 1 :]])
    front = round((limit - 1) * head)
    return f"{text[:front]}…{text[len(text) - (limit - 1 - front) :]}"


def short_name(name: str, limit: int = 22) -> str:
    """Return a name short enough for a line: the last parts of its first path, cut in the middle.

    Args:
        name: the name in the model, often a path, sometimes several joined by semicolons.
        limit: largest length.
    """
    parts = _parts(name)
    whole = "/".join(parts[-2:])
    return _cut(whole if len(whole) <= limit or len(parts[-1]) < limit // 2 else parts[-1], limit, 0.5)


def _distinct_parts(paths: Sequence[Sequence[str]], limit: int) -> list[str]:
    """Return for each path the parts that no other path has: its end if that fits, else the shortest choice of parts.

    Paths without such parts, as those of layers with one and the same name, keep their last two.
    """
    choices = [{chosen for size in (1, 2, 3) for chosen in combinations(path, size)} for path in paths]
    counts = Counter(chosen for options in choices for chosen in options)
    texts = []
    for path, options in zip(paths, choices, strict=True):
        ends = [tuple(path[-size:]) for size in (2, 1, 3)]
        alone = [chosen for chosen in (*ends, *sorted(options)) if counts[chosen] == 1]
        fitting = [chosen for chosen in alone[:3] if chosen in ends and len("/".join(chosen)) <= limit]
        shortest = min(alone, key=lambda chosen: len("/".join(chosen)), default=ends[0])
        texts.append("/".join(fitting[0] if fitting else shortest))
    return texts


def short_names(names: Sequence[str], limit: int) -> list[str]:
    """Return names of at most `limit` characters that can be told apart; a row number such as #12 is the last resort.

    Args:
        names: names of all layers, in the order of the rows.
        limit: largest length.
    """
    texts = _distinct_parts([_parts(name) for name in names], limit)
    labels: list[str | None] = [None] * len(texts)
    for head in (0.5, 0.3, 0.7, 0.0, 1.0):
        cuts = [_cut(text, limit, head) for text in texts]
        counts = Counter(cuts)
        for row, cut in enumerate(cuts):
            if labels[row] is None and counts[cut] == 1 and cut not in labels:
                labels[row] = cut
    return [_numbered(texts[row], row + 1, limit) if label is None else label for row, label in enumerate(labels)]


def _numbered(text: str, row: int, limit: int) -> str:
    """Return a cut text with the number of its row behind it."""
    number = f"#{row}"
    return _cut(text, limit - len(number), 0.5) + number


def quantity(value: float, unit: str, digits: int = 3) -> str:
    """Return a number with an SI prefix and three significant digits, e.g. 12.3 kB.

    Args:
        value: the number in plain units.
        unit: the unit to append.
        digits: significant digits.
    """
    for factor, prefix in (
        (1e12, "T"),
        (1e9, "G"),
        (1e6, "M"),
        (1e3, "k"),
        (1.0, ""),
        (1e-3, "m"),
        (1e-6, "µ"),
        (1e-9, "n"),
    ):
        if abs(value) >= factor:
            scaled = value / factor
            decimals = max(digits - len(str(int(abs(scaled)))), 0)
            return f"{scaled:.{decimals}f} {prefix}{unit}".rstrip()
    return f"{value * 1e12:.{digits}g} p{unit}" if value else f"0 {unit}".rstrip()


def energy_text(energy_pj: float) -> str:
    """Return an energy given in pJ with a readable unit."""
    return quantity(energy_pj * 1e-12, "J")


def run_table(result: Result, width: int = WIDTH) -> Table:
    """Return the table of layers with a row of totals; nothing but names is ever cut.

    Args:
        result: what to show.
        width: columns of the terminal; where they are too few, whole columns are left out.
    """
    rows = [_row(layer) for layer in result.layers]
    columns: Sequence[str] = _COLUMNS
    footers = _footers(result)
    gap, room = _layout(columns, rows, footers, width)
    for dropped in _DROPPED_FIRST:
        if room >= _NARROWEST:
            break
        columns = tuple(title for title in columns if title != dropped)
        gap, room = _layout(columns, rows, footers, width)
    names = short_names([layer.name for layer in result.layers], min(max(room, 6), _WIDEST))
    padding = (0, gap - 1, 0, 0)
    table = Table(box=box.SIMPLE_HEAD, padding=padding, pad_edge=False, show_edge=False, show_footer=True)
    table.add_column("layer", "total", no_wrap=True, max_width=max(room, 6))
    for title in columns:
        table.add_column(title, footers[title], justify="right" if title in _NUMERIC else "left", no_wrap=True)
    for name, row in zip(names, rows, strict=True):
        table.add_row(Text(name), *(row[title] for title in columns))
    return table


_COLUMNS = ("operator", "M x K x N", "cycles", "util", "largest stall", "energy", "DRAM", "check")
_NUMERIC = ("cycles", "util", "energy", "DRAM")
_DROPPED_FIRST = ("operator", "M x K x N", "DRAM", "largest stall")


def _layout(
    columns: Sequence[str], rows: Sequence[dict[str, Text]], footers: dict[str, Text], width: int
) -> tuple[int, int]:
    """Return the gap between columns, two where names have room, and the width left for the column of names."""
    taken = sum(max(cell_len(title), *(row[title].cell_len for row in (*rows, footers))) for title in columns)
    wide = width - taken - 2 * len(columns)
    return (2, wide) if wide >= _WIDEST - 8 else (1, wide + len(columns))


def _footers(result: Result) -> dict[str, Text]:
    """Return the row of totals."""
    verdict = result.check.verdict
    cells = dict.fromkeys(_COLUMNS, Text(""))
    cells |= {"cycles": Text(_cycles(result.cycles)), "util": Text(_percent(result.utilisation))}
    cells |= {"energy": Text(energy_text(result.energy_pj)), "DRAM": Text(quantity(result.dram_bytes, "B"))}
    return cells | {"check": Text(verdict, style=VERDICT_STYLES.get(verdict, ""))}


def _cycles(cycles: int) -> str:
    """Return cycles in at most nine characters."""
    return f"{cycles:,}" if cycles < _MANY else quantity(cycles, "")


def _percent(share: float) -> str:
    """Return a share in at most five characters."""
    return f"{share:.1%}" if share < 0.9995 else "100%"


def short_operator(name: str) -> str:
    """Return an operator's name in at most nine characters, as tables show it."""
    return _SHORT.get(name) or printable(re.sub("^QLinear", "Q", name), 9)


def _row(layer: LayerResult) -> dict[str, Text]:
    """Return the cells of one layer by the title of their column."""
    shape = layer.placement
    if layer.m is not None:
        groups = f" x{layer.groups}" if layer.groups and layer.groups > 1 else ""
        shape = f"{layer.m}x{layer.k}x{layer.n}{groups}"
    stall = layer.largest_stall
    check = "-" if layer.check is None else layer.check.verdict
    overflow = layer.acc is not None and layer.acc.overflows > 0
    return {
        "operator": Text(short_operator(layer.op)),
        "M x K x N": Text(shape),
        "cycles": Text(_cycles(layer.cycles)),
        "util": Text("-" if layer.utilisation is None else _percent(layer.utilisation)),
        "largest stall": Text("-" if stall is None else f"{cycle_class(stall[0]).short} {stall[1] / layer.cycles:.0%}"),
        "energy": Text(energy_text(sum(layer.energy_pj.values()))),
        "DRAM": Text(quantity(layer.dram_bytes, "B")),
        "check": Text(check + ("!" if overflow else ""), style=VERDICT_STYLES.get(check, "")),
    }


def print_verbose(result: Result, console: Console) -> None:
    """Print what -v adds: accumulators of each layer and energy by component."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for title, justify in (
        ("layer", "left"),
        ("bits given", "right"),
        ("peak", "right"),
        ("bits needed", "right"),
        ("overflows", "right"),
    ):
        table.add_column(title, justify="right" if justify == "right" else "left", no_wrap=True)
    names = short_names([layer.name for layer in result.layers], 40)
    for name, layer in zip(names, result.layers, strict=True):
        if layer.acc is not None:
            acc = layer.acc
            table.add_row(Text(name), str(acc.bits), f"{acc.peak:,}", bits_text(layer), f"{acc.overflows:,}")
    console.print(table)
    if result.check.q31:
        console.print(distance_table(result, short_names([layer.name for layer in result.layers], 40)))
    total = result.energy_pj or 1.0
    for name, value in sorted(result.energy_components_pj.items(), key=lambda item: -item[1]):
        console.print(f"  {name.replace('_', ' '):18} {energy_text(value):>10} {value / total:6.1%}")
    console.print(energy_line(result))
    for line in [*gating_lines(result), *baseline_lines(result)]:
        console.print(line)
    console.print("\nunit energies")
    for unit in result.energy.units:
        console.print(f"  {unit['name']:24} {unit['value_pj']:9.4f} pJ  {unit['basis']}")
    for line in note_lines(result.energy.detail.notes):
        console.print(line)
