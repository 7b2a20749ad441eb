"""The generators of single_*.py by name, and the run that every model of theirs must survive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import accelsim
from tests.strategies import Case, Draw

SEED = 30_001

Generator = Callable[[Draw], Case]


@dataclass(frozen=True)
class Operator:
    """How to draw models of one operator, the kernel that must execute it, and where.

    placement: overrides the table of operators where one kernel has two.
    """

    generate: Generator
    kernel: str
    placement: str = ""


REGISTRY: dict[str, Operator] = {}


def operator(name: str, kernel: str, placement: str = "", **fixed: Any) -> Callable[[Any], Any]:
    """Register a generator under a name, with some of its arguments fixed."""

    def add(function: Any) -> Any:
        assert name not in REGISTRY
        REGISTRY[name] = Operator(lambda draw: function(draw, **fixed), kernel, placement)
        return function

    return add


def run_exactly(case: Case, arch: accelsim.Arch, label: str) -> accelsim.Result:
    """Run a model and assert that no element of any tensor differs from onnxruntime."""
    result = accelsim.run(accelsim.load(case.model), arch, case.inputs)
    check = result.check
    assert check.verdict == "exact", (label, check.first_mismatch)
    assert check.mismatched_elements == check.drifted_elements == check.output_mismatched == 0, label
    assert check.elements > 0, label
    assert check.output_elements > 0, label
    return result
