"""The table that `accel-sim run` prints: one row per layer, totals, the verdict; 100 columns, colour optional."""

from __future__ import annotations

import re

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from accelsim.errors import printable
from accelsim.result import CheckResult, LayerResult, Result

WIDTH = 100

# What the classes of cycles are called in front of people.
STALLS = {
    "push": "weight push",
    "shift": "drain",
    "flush": "flush",
    "wait_w": "weight load",
    "hazard": "accumulator",
    "wait_x_load": "input load",
    "wait_x_bank": "bank busy",
    "tail": "tail",
    "requant": "requantise",
    "wait_load": "input load",
    "wait_store": "output busy",
    "store": "store",
}

# Operators whose names are too long for a column.
_SHORT = {
    "QLinearGlobalAveragePool": "QGlobAvg",
    "QLinearAveragePool": "QAvgPool",
    "QLinearLeakyRelu": "QLeakyRel",
    "MatMulIntegerToFloat": "MatMulInt",
    "QuantizeLinear": "Quantize",
    "DequantizeLinear": "Dequant",
}

VERDICT_STYLES = {"exact": "green", "mismatch": "bold red", "drifted": "yellow", "float-ref": "cyan", "skipped": "dim"}


def make_console(*, stderr: bool = False) -> Console:
    """Return a console of at most 100 columns that honours NO_COLOR and plain pipes."""
    probe = Console(stderr=stderr, highlight=False)
    width = min(probe.width, WIDTH) if probe.is_terminal else WIDTH
    return Console(stderr=stderr, highlight=False, width=max(width, 60), emoji=False, markup=False)


def short_name(name: str, limit: int = 22) -> str:
    """Return a layer's name short enough for a column: the last part of its first path, cut in the middle.

    Args:
        name: the name in the model, often a path, sometimes several joined by semicolons.
        limit: largest length.
    """
    first = next((part for part in name.split(";") if part), name)
    parts = [part for part in first.split("/") if part]
    kept = "/".join(parts[-2:])
    if len(kept) > limit and len(parts) > 1 and len(parts[-1]) >= limit // 2:
        kept = parts[-1]
    kept = printable(kept)
    if len(kept) <= limit:
        return kept
    head = (limit - 1) // 2
    return f"{kept[:head]}…{kept[-(limit - 1 - head) :]}"


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


def run_table(result: Result) -> Table:
    """Return the table of layers with a row of totals."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, show_footer=True)
    verdict = Text(result.check.verdict, style=VERDICT_STYLES.get(result.check.verdict, ""))
    for title, footer, justify in (
        ("layer", "total", "left"),
        ("operator", "", "left"),
        ("M x K x N", "", "left"),
        ("cycles", f"{result.cycles:,}", "right"),
        ("util", _percent(result.utilisation), "right"),
        ("largest stall", "", "left"),
        ("energy", energy_text(result.energy_pj), "right"),
        ("DRAM", quantity(result.dram_bytes, "B"), "right"),
        ("check", verdict, "left"),
    ):
        table.add_column(title, footer, justify="right" if justify == "right" else "left", no_wrap=True)
    for layer in result.layers:
        table.add_row(*_row(layer))
    return table


def _percent(share: float) -> str:
    """Return a share in at most five characters."""
    return f"{share:.1%}" if share < 0.9995 else "100%"


def short_operator(name: str) -> str:
    """Return an operator's name in at most nine characters, as tables show it."""
    return _SHORT.get(name) or printable(re.sub("^QLinear", "Q", name), 9)


def _row(layer: LayerResult) -> list[Text | str]:
    """Return the cells of one layer."""
    shape = layer.placement
    if layer.m is not None:
        groups = f" x{layer.groups}" if layer.groups and layer.groups > 1 else ""
        shape = f"{layer.m}x{layer.k}x{layer.n}{groups}"
    stall = layer.largest_stall
    check = "-" if layer.check is None else layer.check.verdict
    overflow = layer.acc is not None and layer.acc.overflows > 0
    return [
        short_name(layer.name, 16),
        short_operator(layer.op),
        shape,
        f"{layer.cycles:,}",
        "-" if layer.utilisation is None else _percent(layer.utilisation),
        "-" if stall is None else f"{STALLS.get(stall[0], stall[0])} {stall[1] / layer.cycles:.0%}",
        energy_text(sum(layer.energy_pj.values())),
        quantity(layer.dram_bytes, "B"),
        Text(check + ("!" if overflow else ""), style=VERDICT_STYLES.get(check, "")),
    ]


def check_lines(check: CheckResult) -> list[Text]:
    """Return the verdict in a few lines: what was compared with what, and where it first differs."""
    if check.verdict == "skipped":
        return [Text("check    skipped")]
    style = VERDICT_STYLES[check.verdict]
    wrong = max(check.mismatched_elements, check.drifted_elements)
    lines = [
        Text.assemble(
            "check    ",
            (check.verdict, style),
            f", {wrong:,} mismatched elements over {check.elements:,} in {check.tensors} tensors; "
            f"outputs: {check.output_mismatched:,} of {check.output_elements:,} differ",
        )
    ]
    first = check.first_mismatch
    if first is not None:
        where = ", ".join(map(str, first.index))
        lines.append(
            Text(f"         first difference at [{where}]: {first.got:g} instead of {first.expected:g}", style=style)
        )
        lines.append(Text(f"         in tensor '{short_name(first.tensor, 70)}'", style=style))
        lines.append(Text(f"         of layer  '{short_name(first.layer, 70)}'", style=style))
    if check.float_reference:
        worst = max(check.float_reference, key=lambda distance: (distance.max_lsb, distance.share))
        text = f"         {len(check.float_reference)} tensors are float in onnxruntime: at most {worst.max_lsb} LSB"
        lines.append(Text(f"{text}, {worst.share:.4%} of elements ('{short_name(worst.tensor, 30)}')"))
    literal = check.literal_qdq
    if literal is not None:
        distance = f"{literal.max_lsb:g} LSB" if literal.max_lsb is not None else f"{literal.max_abs:.3g}"
        lines.append(Text(f"         literal float Q/DQ: max {distance}, {literal.share:.2%} of output elements"))
    lines += [Text(f"         {part}") for part in f"reference: {check.reference}".split("; ")]
    return lines


def summary_lines(result: Result) -> list[Text]:
    """Return the facts a person wants: latency, energy, accumulators, verdict."""
    rows, cols = result.arch["array"]["rows"], result.arch["array"]["cols"]
    components = result.energy_components_pj
    largest = max(components.items(), key=lambda item: item[1]) if components else ("none", 0.0)
    share = largest[1] / result.energy_pj if result.energy_pj else 0.0
    lines = [
        Text(
            f"latency  {quantity(result.time_s, 's')} at {result.clock_ghz:g} GHz: {result.cycles:,} cycles on "
            f"{rows}x{cols} {result.arch['array']['dataflow']}, {quantity(result.model.macs, 'MAC')}, "
            f"utilisation {result.utilisation:.1%}"
        ),
        Text(
            f"energy   {energy_text(result.energy_pj)}, {share:.0%} of it {largest[0].replace('_', ' ')} "
            f"({result.energy.table}, {result.energy.source})"
        ),
    ]
    used = [layer for layer in result.layers if layer.acc is not None]
    if used:
        needed = max(layer.acc.min_safe_bits for layer in used if layer.acc)
        events = sum(layer.acc.overflows for layer in used if layer.acc)
        bits = result.arch["accumulator"]["bits"]
        text = f"acc      {bits} bits given, {needed} needed by the sums of this input, {events:,} overflow events"
        lines.append(Text(text, style="" if not events else "bold red"))
    host = sorted({layer.op for layer in result.layers if layer.placement == "host"})
    if host:
        names = printable(", ".join(host), 60)
        lines.append(Text(f"host     {names}: computed outside of the machine, only their DMA traffic is priced"))
    return [*lines, *check_lines(result.check)]


def print_run(result: Result, console: Console) -> None:
    """Print the table of layers and the summary."""
    console.print(run_table(result))
    for line in summary_lines(result):
        console.print(line)


def print_verbose(result: Result, console: Console) -> None:
    """Print what -v adds: accumulators of each layer and energy by component."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for title, justify in (
        ("layer", "left"),
        ("acc bits", "right"),
        ("peak", "right"),
        ("safe bits", "right"),
        ("overflows", "right"),
    ):
        table.add_column(title, justify="right" if justify == "right" else "left", no_wrap=True)
    for layer in result.layers:
        if layer.acc is not None:
            acc = layer.acc
            table.add_row(
                short_name(layer.name, 40), str(acc.bits), f"{acc.peak:,}", str(acc.min_safe_bits), f"{acc.overflows:,}"
            )
    console.print(table)
    total = result.energy_pj or 1.0
    for name, value in sorted(result.energy_components_pj.items(), key=lambda item: -item[1]):
        console.print(f"  {name.replace('_', ' '):18} {energy_text(value):>10} {value / total:6.1%}")
    console.print("\nunit energies")
    for unit in result.energy.units:
        console.print(f"  {unit['name']:24} {unit['value_pj']:9.4f} pJ  {unit['basis']}")
