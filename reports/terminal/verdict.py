"""The verdict against onnxruntime in words: what was compared with what, how far apart, where it first differs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import wrap

from rich.text import Text

from accelsim.errors import counted, printable
from accelsim.reports.terminal.diagnosis import diagnosis_lines
from accelsim.reports.terminal.requantiser import distance_lines
from accelsim.reports.terminal.run_table import VERDICT_STYLES, short_name
from accelsim.results.check import CheckResult, FloatReference, LiteralDistance

_ROOM = 89


def check_lines(check: CheckResult) -> list[Text]:
    """Return the verdict in a few lines: what was compared with what, and where it first differs."""
    if check.verdict == "skipped":
        return [Text("check    skipped")]
    style = VERDICT_STYLES[check.verdict]
    wrong = max(check.mismatched_elements, check.drifted_elements)
    before = " before requantisation" if check.q31 else ""
    ends = f"; outputs: {check.output_mismatched:,} of {check.output_elements:,} differ"
    lines = [
        Text.assemble(
            "check    ",
            (check.verdict, style),
            f", {counted(wrong, 'mismatched element')}{before} over {check.elements:,} in "
            f"{counted(check.tensors, 'tensor')}",
            "" if check.q31 else ends,  # told with their distance below
        )
    ]
    if check.subject:
        lines += _indented([f"compared with {reference_words(check)}"])
    lines += _first_lines(check, style)
    lines += distance_lines(check)
    if check.verdict == "near":
        lines += _indented([near_sentence(check)])
    lines += _indented(_not_exact(check))
    lines += _indented(check.ignored, "yellow")
    lines += _indented([_literal(check), *check.notes])
    return lines + _indented(f"reference: {check.reference}".split("; "))


def _indented(sentences: Iterable[str], style: str = "") -> list[Text]:
    """Wrap sentences behind the names of the lines."""
    return [Text(f"         {part}", style=style) for sentence in sentences for part in wrap(sentence, _ROOM)]


def _first_lines(check: CheckResult, style: str) -> list[Text]:
    """Return where the first difference is, and why."""
    first = check.first_mismatch
    if first is None:
        return []
    where = ", ".join(map(str, first.index))
    operator = f" ({printable(first.operator, 30)})" if first.operator else ""
    lines = [
        f"         first difference at [{where}]: {first.got:g} instead of {first.expected:g}",
        f"         in tensor '{short_name(first.tensor, 70)}'",
        f"         of layer  '{short_name(first.layer, 50)}'{operator}",
    ]
    return [
        *(Text(line, style=style) for line in lines),
        *(Text(f"         {line}") for line in diagnosis_lines(first)),
    ]


def reference_words(check: CheckResult) -> str:
    """Name what a run was compared with: onnxruntime, and what it ran."""
    return f"onnxruntime on {printable(check.subject, 300)}" if check.subject else "onnxruntime"


def literal_warning(check: CheckResult) -> str:
    """Say that a reader of the file would expect other outputs, where onnxruntime ignores parts of it."""
    found = check.literal_qdq
    if not check.ignored or found is None or not found.share:
        return ""
    return (
        f"; but it ignores parameters of the file: read literally, "
        f"{found.share:.2%} of the outputs are other ones, by up to {literal_size(found)}"
    )


def near_sentence(check: CheckResult) -> str:
    """Say how many outputs differ where no layer is wrong, by how much, and behind which layer."""
    count = f"{check.output_mismatched:,} of {check.output_elements:,} outputs differ"
    behind = "behind layers that onnxruntime computes in float"
    if check.behind:
        operator = f" ({printable(check.behind_operator, 30)})" if check.behind_operator else ""
        behind = f"behind layer '{short_name(check.behind, 40)}'{operator}"
    return f"{count}{distance_words(check)}, {behind}"


def distance_words(check: CheckResult) -> str:
    """Say by how much outputs differ: in steps where they have one, else in units in the last place; may be empty."""
    ends = check.output_distance
    parts = [] if check.output_lsb is None else [f"{check.output_lsb:,g} LSB"]
    if check.output_ulp is not None:
        size = "" if ends is None or parts else f" ({ends.max_abs:.3g})"
        parts.append(f"{check.output_ulp:,.6g} ULP of the largest output{size}")
    return f", by at most {' and '.join(parts)}" if parts else ""


def _not_exact(check: CheckResult) -> list[str]:
    """Say which tensors are not compared bit for bit: float in onnxruntime, or onnxruntime's own."""
    sentences = []
    for unit in ("LSB", "ULP"):
        sentences += _float_sentences([one for one in check.float_reference if one.unit == unit], unit)
    if check.host_elements:
        share = check.host_elements / max(check.elements, 1)
        verb = "comes" if check.host_elements == 1 else "come"
        sentences.append(
            f"{counted(check.host_elements, 'element')} ({share:.1%}) {verb} from onnxruntime itself (host operators)"
        )
    return sentences


def _float_sentences(distances: Sequence[FloatReference], unit: str) -> list[str]:
    """Say how far tensors of codes, or of floats, are from those that onnxruntime computes in float."""
    if not distances:
        return []
    worst = max(distances, key=lambda distance: (distance.max_lsb, distance.share))
    verb = "is" if len(distances) == 1 else "are"
    text = f"{counted(len(distances), 'tensor')} {verb} float in onnxruntime: at most {worst.max_lsb:,} {unit}"
    sentences = [f"{text}, {worst.share:.4%} of elements"]
    return [*sentences, f"farthest: '{short_name(worst.tensor, 70)}'"] if worst.share else sentences


def _literal(check: CheckResult) -> str:
    """Say how far the outputs are from those of the file read literally."""
    found = check.literal_qdq
    if found is None:
        return f"literal float Q/DQ: {check.literal_remark}" if check.literal_remark else ""
    return f"literal float Q/DQ: {literal_words(found)}"


def literal_words(found: LiteralDistance) -> str:
    """Say how far outputs are from those of a literal evaluation."""
    if not found.share:
        return "equal in every output element"
    return f"max {literal_size(found)}, {found.share:.2%} of output elements"


def literal_size(found: LiteralDistance) -> str:
    """Return the largest distance in steps, or as a number where an output has no known step."""
    return f"{found.max_lsb:g} LSB" if found.max_lsb is not None else f"{found.max_abs:.3g}"
