"""The lines that say what is not on the machine: host operators, their share of the cycles, MACs off the array."""

from __future__ import annotations

from collections import Counter

from rich.text import Text

from accelsim.errors import printable
from accelsim.results.result import Result

# Operators that are named; the rest is counted.
_NAMED = 4

# Operators without a count that are named.
_UNCOUNTED = 2

_PRICED = {
    "vector": "priced on the vector unit",
    "array": "priced as float multipliers in the array",
    "parts": "priced in parts, products on the array",
}


def host_lines(result: Result) -> list[Text]:
    """Return host operators with their counts and shares of the cycles, and the share of the MACs on the array.

    An operator is a host operator when onnxruntime computes its values, whether array and vector unit price it or only
    its bytes take time, as DMA. The parts of a node count as one.
    """
    nodes, cycles = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for layer in result.layers:
        if layer.computed_by != "machine":
            key = (layer.op, layer.placement) if layer.part_of is None else (layer.part_of, "parts")
            nodes[key] += layer.part_of in (None, layer.op)  # the last part is called as the node
            cycles[key] += layer.cycles
    lines = []
    groups = sorted(cycles.items(), key=lambda item: (-item[1], item[0]))
    if groups:
        total = max(result.cycles, 1)
        for key, spent in groups[:_NAMED]:
            times = f" x{nodes[key]}" if nodes[key] > 1 else ""
            priced = _PRICED.get(key[1], "timed as DMA traffic, arithmetic in energy only")
            lines.append(f"{printable(key[0], 30)}{times}: {spent / total:.1%} of the cycles, {priced}")
        rest = groups[_NAMED:]
        if rest:
            share = sum(spent for _, spent in rest) / total
            lines.append(f"{len(rest)} other operators: {share:.1%} of the cycles")
    shared = _macs_line(result)
    if shared:
        lines.append(f"{'' if groups else 'none; '}{shared}")
    return [Text(f"{'host' if not index else '':<9}{line}") for index, line in enumerate(lines)]


def _macs_line(result: Result) -> str:
    """Say which share of the MACs is on the array, or whose MACs nobody has counted; nothing without any MACs."""
    if result.uncounted_operators:
        return f"MACs of {uncounted_text(result)} are not counted: the array's share of all is unknown"
    share = result.macs_on_array_share
    if share is None:
        return ""
    exact = "100%" if share == 1 else f"{min(share, 0.9999):.2%}"
    return f"{exact} of the MACs are on the array"


def uncounted_text(result: Result) -> str:
    """Name the operators whose MACs nobody has counted, the first few of them.

    Args:
        result: a result with such operators.
    """
    counted = result.uncounted_operators
    named = [
        f"{printable(name, 30)}{f' x{times}' if times > 1 else ''}"
        for name, times in list(counted.items())[:_UNCOUNTED]
    ]
    rest = len(counted) - len(named)
    return ", ".join([*named, *([f"{rest} other operators"] if rest else [])])
