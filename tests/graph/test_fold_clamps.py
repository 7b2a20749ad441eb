"""Clamps behind contractions: folded where they are nothing but clamps that nobody else sees."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import accelsim


def _model(second_scale: float, *, shared: bool = False, kind: str = "Relu", zero_point: int = 0) -> bytes:
    """Return Q, DQ, Conv, Q, DQ, Relu or Clip, Q, DQ in int8; shared: the tensor before it is an output as well."""
    weights = np.random.default_rng(0).integers(-127, 128, (4, 3, 1, 1)).astype(np.int8)
    constants = [
        numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.float32(0.01), "ws"),
        numpy_helper.from_array(np.int8(0), "z"), numpy_helper.from_array(np.float32(0.02), "xs"),
        numpy_helper.from_array(np.float32(0.05), "s1"), numpy_helper.from_array(np.float32(second_scale), "s2"),
        numpy_helper.from_array(np.int8(zero_point), "yz"),
        numpy_helper.from_array(np.float32(-1), "low"), numpy_helper.from_array(np.float32(2), "high"),
    ]  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "xs", "z"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "z"], ["wd"]),
        helper.make_node("Conv", ["xd", "wd"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "s1", "yz"], ["cq"]),
        helper.make_node("DequantizeLinear", ["cq", "s1", "yz"], ["cd"]),
        helper.make_node(kind, ["cd", "low", "high"] if kind == "Clip" else ["cd"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "s2", "yz"], ["rq"]),
        helper.make_node("DequantizeLinear", ["rq", "s2", "yz"], ["y"]),
    ]
    outputs = ["y", "cd"] if shared else ["y"]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 5, 5])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 5, 5]) for name in outputs], constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def _inputs() -> dict[str, NDArray[np.generic]]:
    return {"x": np.random.default_rng(1).normal(0, 1, (1, 3, 5, 5)).astype(np.float32)}


@pytest.mark.parametrize("kind", ["Relu", "Clip"])
@pytest.mark.parametrize("zero_point", [0, 7, -100])
def test_a_clamp_disappears(kind: str, zero_point: int) -> None:
    """Same scale on both sides: one layer on the array, equal to onnxruntime."""
    result = accelsim.run(accelsim.load(_model(0.05, kind=kind, zero_point=zero_point)), None, _inputs())
    assert result.check.verdict == "exact"
    assert [layer.op for layer in result.layers if layer.op in ("Relu", "Clip")] == []


def test_a_change_of_scale_stays() -> None:
    """Another scale behind the Relu is more than a clamp."""
    result = accelsim.run(accelsim.load(_model(0.03)), None, _inputs())
    assert result.check.verdict == "exact"
    assert "Relu" in [layer.op for layer in result.layers]


def test_a_tensor_that_others_see_stays() -> None:
    """Codes that leave the model are those before the clamp."""
    result = accelsim.run(accelsim.load(_model(0.05, shared=True)), None, _inputs())
    assert result.check.verdict == "exact"
    assert "Relu" in [layer.op for layer in result.layers]
    assert result.outputs["cd"].min() < 0 <= result.outputs["y"].min()


def test_narrow_accumulators_are_clamped_like_wide_ones() -> None:
    """With overflow the bounds apply to what the accumulator holds; the run ends with a mismatch, not with an error."""
    result = accelsim.run(accelsim.load(_model(0.05)), accelsim.Arch(acc_bits=8), _inputs())
    assert result.check.verdict == "mismatch"
    assert result.outputs["y"].min() >= 0
