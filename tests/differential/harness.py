"""Models of random graphs, run and compared with onnxruntime."""

from __future__ import annotations

from typing import Any

import accelsim
from tests.strategies import Case


def run_on_machine(case: Case, label: Any) -> accelsim.Result:
    """Run a model; nothing differs from onnxruntime, which computes nothing for us."""
    result = accelsim.run(accelsim.load(case.model), None, case.inputs)
    check = result.check
    assert check.verdict == "exact", (label, check.first_mismatch)
    assert check.mismatched_elements == check.drifted_elements == check.output_mismatched == 0, label
    assert check.output_elements > 0, label
    assert not check.float_reference, label
    assert {layer.computed_by for layer in result.layers} == {"machine"}, (label, [(x.op) for x in result.layers])
    assert result.macs_on_array_share in (None, 1.0)
    return result
