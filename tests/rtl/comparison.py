"""What a correct machine answers: values from section 2, cycles, classes and events from the recurrence."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tests.rtl import recurrence, reference
from tests.rtl.cases import Answer, Case
from tests.rtl.recurrence import Memory
from tests.rtl.tools import Build


def differences(case: Case, build: Build, answer: Answer) -> list[str]:
    """Return what the RTL does differently from section 2 and from the recurrence on a bare array."""
    expected = recurrence.bare_array(case, build)
    found = value_differences(case, answer)
    pairs = [
        ("total", answer.total, expected.total),
        ("classes", answer.classes, expected.classes),
        ("events", answer.events, expected.events),
        ("stream starts", answer.stream_starts, expected.stream_starts),
        ("sum of the classes", sum(answer.classes.values()) + build.rows + build.columns, answer.total),
    ]
    return found + [f"{name}: {got} instead of {wanted}" for name, got, wanted in pairs if got != wanted]


def layer_differences(case: Case, build: Build, buffers: tuple[int, int], memory: Memory, answer: Answer) -> list[str]:
    """Return what the RTL does differently from the recurrence of a layer with LOAD, REQUANT and STORE."""
    cycles, classes = recurrence.layer(case, build, buffers, memory)
    finished = max(answer.requantised[-1], answer.total)
    after = {
        "tail": build.rows + build.columns,
        "requant": finished - answer.total,
        "store": answer.stored[-1] - finished,
    }
    found = value_differences(case, answer)
    if answer.stored[-1] != cycles:
        found.append(f"cycles: {answer.stored[-1]} instead of {cycles}")
    if {**answer.classes, **after} != classes:
        found.append(f"classes: {answer.classes | after} instead of {classes}")
    return found


def value_differences(case: Case, answer: Answer) -> list[str]:
    """Return faults and wrong values: sums, and outputs if there is a requantiser."""
    sums = reference.sums(case)
    found = [name for name, count in answer.faults.items() if count]
    if not np.array_equal(sums, answer.sums):
        found.append("sums")
    if case.requantiser and not np.array_equal(reference.requantise(sums, case.requantiser), answer.outputs):
        found.append("outputs")
    return found


def report(found: Iterable[tuple[Case, list[str]]]) -> str:
    """Return the first differing cases with everything needed to draw them again."""
    lines = []
    for case, what in found:
        options = {
            name: value
            for name, value in vars(case).items()
            if name not in ("x", "w", "bias", "weights_at", "operands_at", "transfers", "requantiser")
        }
        lines.append(f"{case.shape} {options}: {'; '.join(what)}")
    return "\n".join(lines[:5])
