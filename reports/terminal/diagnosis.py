"""Why an element differs, in a few lines for people."""

from __future__ import annotations

from textwrap import wrap

from accelsim.results.check import FirstMismatch


def diagnosis_lines(first: FirstMismatch) -> list[str]:
    """Return why an element differs: the accumulators on both sides, and the cause in a sentence."""
    found = first.diagnosis
    if found is None:
        return []
    lines = []
    seen = found.accumulator
    if seen is not None:
        rounded = "" if seen.ours_before_rounding is None else f", {seen.ours_before_rounding:.9g} before rounding"
        lines.append(f"accumulators: ours {seen.ours:,} ({seen.bits} bits{rounded})")
        giving = "no int32 gives its value"
        if seen.lowest is not None and seen.highest is not None:
            span = f"{seen.lowest:,}" if seen.lowest == seen.highest else f"{seen.lowest:,} to {seen.highest:,}"
            giving = f"its value takes {span}"
        kind = "int32" if -(2**31) <= seen.reference < 2**31 else "exact"
        lines.append(f"              reference {seen.reference:,} ({kind}); {giving}")
    return [*lines, *wrap(f"cause: {found.cause}: {found.explanation}", 89)]
