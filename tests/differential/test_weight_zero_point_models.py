"""Models with asymmetric weights: four treatments of zero points on three dataflows, all equal to onnxruntime."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

import accelsim
from accelsim.program.work import ContractionWork
from tests.differential.single_operators import REGISTRY
from tests.planning import planned
from tests.strategies import Draw
from tests.tiers import deep, few

KINDS = ("conv", "conv_1d", "qlinear_conv", "matmul", "matmul_to_float", "gemm", "qgemm")
MODELS_PER_KIND = 8
TREATMENTS = list(product(("fold", "subtract"), ("wide-operand", "row-sum")))
DATAFLOWS = ("ws", "os", "is")


@pytest.mark.parametrize("kind", few(KINDS, 3))
def test_random_models_are_exact_in_every_treatment(kind: str) -> None:
    """Drawn models with any zero points: 0 mismatches, and among them layers that use row sums."""
    summed = 0
    for index in range(MODELS_PER_KIND):
        seed = (81_001, KINDS.index(kind), index)
        draw = Draw(seed, ties=index % 2 == 1)
        case = REGISTRY[kind].generate(draw)
        model = accelsim.load(case.model)
        for number, (zp_mode, weight_zero_point) in enumerate(TREATMENTS):
            arch = accelsim.Arch(
                array=(draw.choice([4, 8]), draw.choice([2, 4, 16])),
                dataflow=DATAFLOWS[(index + number) % 3],
                zp_mode=zp_mode,
                weight_zero_point=weight_zero_point,
            )
            result = accelsim.run(model, arch, case.inputs)
            check = result.check
            assert (check.verdict, check.mismatched_elements) == ("exact", 0), (seed, check.first_mismatch)
            shapes = {name: array.shape for name, array in case.inputs.items()}
            works = [layer.work for layer in planned(model.bind(shapes).graph, arch).layers]
            summed += sum(isinstance(work, ContractionWork) and work.row_sums for work in works)
    print(kind, summed)
    assert summed >= MODELS_PER_KIND // 2


@deep
@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_a_legacy_network_is_exact_with_row_sums(shared_models: Path, dataflow: str) -> None:
    """A MobileNet with uint8 weights and zero points: exact, and never cheaper in cycles than with wide operands."""
    path = shared_models / "mobilenetv1_025_128_uint8.onnx"
    with np.load(path.with_suffix(".in0.npz")) as arrays:
        inputs = dict(arrays)
    model = accelsim.load(path)
    wide = accelsim.run(model, accelsim.Arch(dataflow=dataflow), values=False)
    sums = accelsim.run(model, accelsim.Arch(dataflow=dataflow, weight_zero_point="row-sum"), inputs)
    assert (sums.check.verdict, sums.check.mismatched_elements) == ("exact", 0)
    assert sums.model.macs == wide.model.macs
    assert sums.cycles > wide.cycles
