"""What follows the table of `accel-sim run`: details first, and at the end the facts a person wants."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from rich.console import Console
from rich.text import Text

from accelsim.errors import printable
from accelsim.reports.facts import Fact, facts, input_facts
from accelsim.reports.terminal.host import host_lines
from accelsim.reports.terminal.requantiser import scaling_lines
from accelsim.reports.terminal.run_table import VERDICT_STYLES, print_verbose, run_table
from accelsim.reports.terminal.verdict import check_lines
from accelsim.results.accumulators import overflow_events, width_lines
from accelsim.results.result import BLOCKED, LayerResult, Result


def detail_lines(result: Result) -> list[Text]:
    """Return what stands behind the facts: source of the energies, accumulators, host operators, the comparison."""
    lines = [Text(f"table    {printable(result.energy.table, 30)}, {printable(result.energy.source, 58)}")]
    style = "bold red" if overflow_events(result.layers) else ""
    parts = [part for line in width_lines(result.layers) for part in wrap(line, 91)]
    lines += [Text(f"{'' if index else 'acc':<9}{part}", style=style) for index, part in enumerate(parts)]
    products = [layer for layer in result.layers if layer.arithmetic is not None]
    blocked = _named(products, [layer for layer in products if layer.arithmetic == BLOCKED])
    if blocked:
        lines.append(Text(f"{BLOCKED.split()[0]:<9}{blocked}: activations quantised at run time, {BLOCKED}"))
    floats = _named(products, [layer for layer in products if layer.arithmetic not in ("integer", BLOCKED)])
    if floats:
        lines.append(Text(f"float    {floats}: float activations, priced as float multipliers in the array"))
    lines += host_lines(result)
    lines += [line for fact in input_facts(result) for line in _fact_lines(fact)]
    return [*lines, *scaling_lines(result), *check_lines(result.check)]


def _named(products: Sequence[LayerResult], some: Sequence[LayerResult]) -> str:
    """Return the operators of some products; of those whose parts are not all among them, which parts are."""
    parts: dict[str, set[str]] = {}
    for layer in some:
        parts.setdefault(layer.part_of or layer.op, set()).add("last part" if layer.op == layer.part_of else layer.op)
    others = {layer.part_of for layer in products} - {None}
    others &= {layer.part_of for layer in products if all(layer is not one for one in some)}
    names = [f"{name} ({', '.join(sorted(found))})" if name in others else name for name, found in parts.items()]
    return printable(", ".join(sorted(names)), 60)


def fact_lines(result: Result) -> list[Text]:
    """Return the facts, one a line."""
    return [line for fact in facts(result) for line in _fact_lines(fact)]


def _fact_lines(fact: Fact) -> list[Text]:
    """Return one fact: its name, its value, and the rest of the sentence, wrapped behind the name."""
    style = VERDICT_STYLES.get(fact.value, "bold") if fact.title == "verdict" else "bold"
    joint = " " if fact.title in ("latency", "energy") else ": "
    text = Text.assemble(f"{fact.title:<9}", (fact.value, style), joint if fact.remark else "", fact.remark)
    lines = []
    while text.cell_len > 100:
        room = text.plain.rfind(" ", 10, 100)
        if room < 0:
            break
        lines.append(text[:room])
        text = Text(f"{'':<9}{text.plain[room + 1 :]}")
    return [*lines, text]


def print_run(result: Result, console: Console, *, verbose: bool = False) -> None:
    """Print the table of layers, what -v adds, the details, and the facts."""
    console.print(run_table(result, console.width))
    if verbose:
        print_verbose(result, console)
    for line in [*detail_lines(result), Text(""), *fact_lines(result)]:
        console.print(line)
