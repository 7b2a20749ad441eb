"""What recording and verifying print: one line when all is well, else what changed, group by group."""

from __future__ import annotations

from rich.text import Text

from accelsim.errors import counted, printable
from accelsim.reports.terminal.run_table import VERDICT_STYLES, energy_text, short_name
from accelsim.reports.terminal.verdict import check_lines
from accelsim.results.comparison import Comparison, Group, Row
from accelsim.results.result import Result

# Rows of one group that are shown; the JSON has all.
_SHOWN = 8
_STYLES = {"changed": "bold red", "equal": "green"}


def record_lines(result: Result, folder: str) -> list[Text]:
    """Return what was recorded, and its verdict."""
    overflows = sum(layer.acc.overflows for layer in result.layers if layer.acc is not None)
    counts = f"{counted(len(result.layers), 'layer')}, {result.cycles:,} cycles, {energy_text(result.energy_pj)}"
    name, place = printable(result.model.name, 40), printable(folder, 60)
    lines = [
        Text(f"recorded {name} in {place}"),
        Text(f"         {counts}, {counted(overflows, 'overflow event')}"),
    ]
    return [*lines, *check_lines(result.check)]


def comparison_lines(comparison: Comparison) -> list[Text]:
    """Return the answer of a verification: equal or different, and each group that changed with old and new values."""
    word = "equal" if comparison.equal else "different"
    style = _STYLES["equal" if comparison.equal else "changed"]
    what = "" if comparison.equal else f": {', '.join(comparison.failed)}"
    name, place = printable(comparison.model, 40), printable(comparison.golden, 60)
    lines = [Text.assemble("verify   ", (word, style), f"{what} ({name} in {place})")]
    energy = energy_text(comparison.energy_pj)
    lines.append(Text(f"         {counted(comparison.layers, 'layer')}, {comparison.cycles:,} cycles, {energy}"))
    verdict = comparison.check.verdict
    if verdict != "exact":
        lines.append(Text(f"         the verdict against onnxruntime is {verdict}", VERDICT_STYLES.get(verdict, "")))
    for group in comparison.groups:
        if group.rows:
            lines += _group_lines(group, comparison)
    return [*lines, *(check_lines(comparison.check) if "verdict" in comparison.failed else [])]


def _group_lines(group: Group, comparison: Comparison) -> list[Text]:
    """Return the lines of one group."""
    remarks = {
        "changed": "changed",
        "tolerated": "changed within the tolerance",
        "ignored": "changed, ignored",
        "reported": "changed, which is no failure by itself",
    }
    remark = remarks[group.status]
    if group.name == "versions" and "values" in comparison.failed:
        remark = "changed, and so did values: look here first"
    lines = [Text(f"{group.name:9}{remark}", _STYLES.get(group.status, ""))]
    shown = [row for row in group.rows if row.old is None and row.new is None and row.remark]
    rest = [row for row in group.rows if row not in shown]
    if group.name == "values":
        lines += [Text(f"         {short_name(row.label, 40)}: {row.remark}") for row in shown[:_SHOWN]]
        if rest:
            verb = "differs" if len(rest) == 1 else "differ"
            lines.append(
                Text(f"         {counted(len(rest), 'tensor')} {verb}, the first of them in topological order:")
            )
        shown, rest = [], rest[:1]
    rows = [*shown, *rest]
    lines += [Text(f"         {_row_text(row, group.name)}") for row in rows[:_SHOWN]]
    if len(rows) > _SHOWN:
        lines.append(Text(f"         and {len(rows) - _SHOWN} more (all of them with --json)"))
    return lines


def _row_text(row: Row, group: str) -> str:
    """Return one row: what, old, new, change."""
    label = short_name(row.label, 26) if group != "values" else f"'{short_name(row.label, 60)}' {row.remark}"
    if group == "values":
        return printable(label, 110)
    if row.old is None and isinstance(row.new, int):
        return f"{label:26} {row.new:,} {printable(row.remark, 60)}".rstrip()
    text = f"{label:26} {_value_text(row.old, group)} -> {_value_text(row.new, group)}"
    if isinstance(row.old, int | float) and isinstance(row.new, int | float) and row.old:
        text += f" ({(row.new - row.old) / row.old:+.2%})"
    return text + (f", {printable(row.remark, 60)}" if row.remark else "")


def _value_text(value: float | str | None, group: str) -> str:
    """Return one side of a row."""
    if value is None:
        return "none"
    if isinstance(value, str):
        return printable(value, 100 if group == "versions" else 40)
    return energy_text(value) if group == "energy" else f"{value:,}"
