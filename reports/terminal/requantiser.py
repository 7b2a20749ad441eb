"""What tables say about the machine's requantiser: its distance from onnxruntime, its energy beside the other one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from accelsim.errors import counted, printable
from accelsim.results.check import CheckResult
from accelsim.results.result import Result


def scaling_lines(result: Result) -> list[Text]:
    """Say which layers scale in integers and which ones keep float32, when the machine's requantiser is q31."""
    if result.arch["requant"]["mode"] != "q31":
        return []
    fixed = sum(layer.requantiser == "q31" for layer in result.layers)
    floats = Counter(layer.op for layer in result.layers if layer.requantiser == "f32")
    text = f"requant  q31: {fixed} layers scale with int32 multipliers and a rounding shift"
    if not floats:
        return [Text(f"{text}, none with float32")]
    names = ", ".join(f"{count} {name}" if count > 1 else name for name, count in sorted(floats.items()))
    return [Text(text), Text(f"         still float32, and priced so: {printable(names, 58)}")]


def distance_lines(check: CheckResult) -> list[Text]:
    """Say how far the requantiser's results are from onnxruntime's, layer by layer and end to end."""
    if not check.q31:
        return []
    worst = max(check.q31, key=lambda distance: (distance.max_lsb, distance.share))
    equal = sum(distance.max_lsb == 0 for distance in check.q31)
    lines = [
        Text("         the machine's requantiser (q31) is not onnxruntime's: distances instead of equality"),
        Text(
            f"         {counted(len(check.q31), 'tensor')} on onnxruntime's own inputs: at most {worst.max_lsb} LSB, "
            f"{worst.share:.3%} of elements; {equal} equal"
        ),
    ]
    ends = check.output_distance
    if ends is not None:
        largest = f"{ends.max_lsb:g} LSB" if ends.max_lsb is not None else f"{ends.max_abs:.3g}"
        count = f"{check.output_mismatched:,} of {check.output_elements:,} output elements differ"
        lines.append(Text(f"         end to end: {count}, by at most {largest}"))
    return lines


def distance_table(result: Result, names: Sequence[str]) -> Table:
    """Return a table of the layers whose requantiser differs from onnxruntime's.

    Args:
        result: what to show.
        names: a short name for every layer.
    """
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("layer (q31)", no_wrap=True)
    for title in ("max LSB", "share", "free run"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, layer in zip(names, result.layers, strict=True):
        check = layer.check
        if check is not None and check.exactness == "q31":
            drift = check.drifted / max(check.elements, 1)
            table.add_row(Text(name), str(check.max_lsb), f"{check.share:.4%}", f"{drift:.4%}")
    return table


def energy_line(result: Result) -> Text:
    """Return what scaling costs with each requantiser."""
    costs = result.energy.scaling_pj
    mode = result.arch["requant"]["mode"]
    shown = ", ".join(
        f"{name} {pj / 1e6:,.3f} uJ{' (this machine)' if name == mode else ''}" for name, pj in costs.items()
    )
    return Text(f"\nrequantisation, Add and Mul: {shown}")
