"""What is not on the machine is said: host operators with their share of the cycles, MACs off the array."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

import accelsim
from tests.cli.command import assert_refused, run_model
from tests.cli.harness import lines_of, mixed_case
from tests.hostile.builders import around, constant
from tests.tiers import few

MOSTLY_ON_THE_ARRAY = (
    "textgen_transformer_int8",
    "mobilenetv2_100_224_int8_nchw",
    "deeplabv3_mnv2_dm05_uint8",
    "posenet_mobilenetv1_075_353x481_int8",
)


def test_macs_of_host_operators_are_not_on_the_array() -> None:
    """A float product counts against the array's share, and its layer says who computed it."""
    case = mixed_case()
    result = accelsim.run(accelsim.load(case.model), None, case.inputs)
    by_operator = {layer.op: layer for layer in result.layers}
    on_array = sum(layer.macs for layer in result.layers)
    off_array = sum(layer.off_array_macs for layer in result.layers)
    assert on_array == result.model.macs
    assert on_array + off_array == 6 * 32 * 48 + 6 * 48 * 4
    assert result.macs_on_array_share == on_array / (on_array + off_array)
    assert by_operator["LayerNormalization"].computed_by == "onnxruntime"
    assert by_operator["LayerNormalization"].placement == "vector"
    data = json.loads(result.to_json())
    assert data["totals"]["macs_on_array_share"] == result.macs_on_array_share
    assert {row["computed_by"] for row in data["layers"]} == {"machine", "onnxruntime"}


def test_host_operators_are_named_with_their_share() -> None:
    """Each operator has a line with its share of the cycles and how it is priced; the last one is about MACs."""
    case = mixed_case()
    result = accelsim.run(accelsim.load(case.model), None, case.inputs)
    lines = lines_of(result)
    text = "\n".join(lines)
    layer = next(layer for layer in result.layers if layer.op == "LayerNormalization")
    assert f"LayerNormalization: {layer.cycles / result.cycles:.1%} of the cycles, priced on the vector unit" in text
    assert lines[0].startswith("host ")
    assert lines[-1].endswith("of the MACs are on the array")
    assert max(map(len, lines)) <= 100


def test_a_model_wholly_on_the_machine_says_so(digits: Path) -> None:
    """One line: nothing is outside."""
    result = accelsim.run(accelsim.load(digits), values=False)
    assert lines_of(result) == ["host     none; 100% of the MACs are on the array"]


@pytest.mark.parametrize("name", few(MOSTLY_ON_THE_ARRAY, 1))
def test_real_models_run_on_the_array(shared_models: Path, name: str) -> None:
    """At least 99 % of the MACs of the transformer, the classifier, the segmentation and the pose net."""
    result = accelsim.run(accelsim.load(shared_models / f"{name}.onnx"), values=False)
    assert result.macs_on_array_share is not None
    assert result.macs_on_array_share >= 0.99
    assert {layer.computed_by for layer in result.layers} == {"machine"}


@pytest.mark.parametrize("dilations", [[2], [1]])
def test_a_quantised_average_pool_with_dilations_is_refused(tmp_path: Path, dilations: list[int]) -> None:
    """Exit code 4 and one sentence with the node, the reason and the remedy."""
    model = around(
        helper.make_node("Unsqueeze", ["a", "axis"], ["wide"], "widen"),
        helper.make_node("AveragePool", ["wide"], ["pooled"], "pool", kernel_shape=[2], dilations=dilations),
        helper.make_node("QuantizeLinear", ["pooled", "scale", "zero"], ["pooled_codes"], "q"),
        helper.make_node("DequantizeLinear", ["pooled_codes", "scale", "zero"], ["pooled_reals"], "dq"),
        helper.make_node("Squeeze", ["pooled_reals", "axis"], ["b"], "narrow"),
        initialisers=[constant("axis", np.array([0]))],
    )
    model.opset_import[0].version = 19
    assert_refused(run_model(tmp_path, model), 4, "AveragePool 'pool", "dilations", "leave the attribute out")
