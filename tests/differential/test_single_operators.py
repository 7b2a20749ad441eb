"""Random models of one operator: every element of every tensor equals onnxruntime, on the unit the table promises."""

from __future__ import annotations

import zlib

import pytest

from accelsim.graph.load.constraints import OPERATORS
from tests.differential.registry import SEED, run_exactly
from tests.differential.single_operators import REGISTRY
from tests.strategies import Draw
from tests.tiers import few

MODELS = {"the first": range(8), "the rest": range(8, 30)}
PLACEMENTS = {row.kernel: row.placement for row in OPERATORS}


def draw_for(name: str, index: int) -> Draw:
    """Return the parameters of model number `index` of an operator; every second one is tie-rich."""
    return Draw((SEED, zlib.crc32(name.encode()), index), ties=index % 2 == 1)


@pytest.mark.parametrize("models", few(MODELS, 1))
@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_random_models_are_exact(name: str, models: str) -> None:
    """Drawn models of one operator equal onnxruntime in every element and run where the operator table says."""
    wanted = REGISTRY[name]
    placement = wanted.placement or PLACEMENTS[wanted.kernel]
    elements = 0
    for index in MODELS[models]:
        draw = draw_for(name, index)
        result = run_exactly(wanted.generate(draw), draw.machine(), f"{name} {index}")
        found = [(layer.op, layer.placement) for layer in result.layers]
        assert (wanted.kernel, placement) in found, (name, index, found)
        assert "host" not in {unit for _, unit in found}, (name, index, found)
        elements += result.check.elements
    print(f"{name}: {len(MODELS[models])} models, {elements} elements")


def test_every_supported_operator_has_random_models() -> None:
    """No row of the operator table is left without a generator; rows of several operators are float groups."""
    elsewhere = {"ConvTranspose", "DynamicQuantizeMatMul", "DynamicQuantizeLinear"}  # test_more_contractions.py
    covered = {entry.kernel for entry in REGISTRY.values()} | elsewhere
    assert {row for row in PLACEMENTS if ", " not in row} - covered == {"(any other)"}
