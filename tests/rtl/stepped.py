"""The project's register-level stepper, asked about a case: the third execution beside the RTL and the recurrence."""

from __future__ import annotations

import numpy as np

import accelsim
from accelsim.timing.registers import step_gemm
from tests.rtl.cases import EVENTS, Answer, Case
from tests.rtl.tools import Build


def machine(case: Case, build: Build) -> accelsim.Arch:
    """Return the machine of a case as users describe it."""
    return accelsim.Arch(
        array=(build.rows, build.columns),
        dataflow=case.dataflow,
        acc_bits=case.acc_bits,
        overflow="saturate" if case.saturate else "wrap",
        acc_rows=case.acc_rows,
        weight_double_buffer=case.double_buffer,
        drain_overlap=case.drain_overlap,
        flush_between_tiles=case.flush,
        weight_load="full" if case.full_load else "used",
        x_gather_words_per_cycle=case.gather_words or None,
    )


def differences(case: Case, build: Build, answer: Answer) -> list[str]:
    """Return what the RTL does differently from the stepper."""
    ready = {"ready_w": case.weights_at or None, "ready_x": case.operands_at or None}
    stepped = step_gemm(case.x, case.w, case.bias, machine(case, build), **ready)
    classes = dict(stepped.classes)
    names = ["macs", "activation_reads", "weight_reads", "bias_reads", "acc_reads", "acc_writes"]
    if case.dataflow == "is":
        names[1:3] = names[2:0:-1]
    counts = dict(stepped.events)
    pairs = [
        ("total", answer.total, stepped.cycles),
        (
            "classes",
            {**answer.classes, "tail": build.rows + build.columns},
            {**dict.fromkeys(answer.classes, 0), **classes},
        ),
        ("events", answer.events, {event: counts.get(name, 0) for event, name in zip(EVENTS, names, strict=True)}),
    ]
    found = [f"{name}: {got} instead of {wanted}" for name, got, wanted in pairs if got != wanted]
    return found + ([] if np.array_equal(answer.sums, stepped.accumulators) else ["sums"])
