"""Tensors without elements: a network that slices all of a tensor away still runs, or is refused in one sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper

import accelsim
from tests.hostile.builders import constant, floats, model_of, parameters

RNG_SEED = 90_001


def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> NodeProto:
    """Return a named node."""
    return helper.make_node(kind, inputs, [output], output, **attributes)


def run_on_nothing(
    core: NodeProto, shape: tuple[int, ...], axis: int = 0, weights: tuple[int, ...] = (), kind: str = "u1"
) -> accelsim.Result:
    """Run an operator "y0" between Q/DQ on a tensor "a" whose axis was cut to no element; "w" are its weights."""
    rng = np.random.default_rng(RNG_SEED)
    nodes = [
        node("QuantizeLinear", ["x", "scale", "zero"], "codes"),
        node("Slice", ["codes", "nought", "nought", "axis"], "none"),
        node("DequantizeLinear", ["none", "scale", "zero"], "a"),
        node("DequantizeLinear", ["w_codes", "w_scale", "w_zero"], "w"),
        core,
        node("QuantizeLinear", ["y0", "scale", "zero"], "y_codes"),
        node("DequantizeLinear", ["y_codes", "scale", "zero"], "y"),
    ]
    constants = [
        *parameters()[:1],
        constant("zero", np.array(3, kind)),
        constant("nought", np.array([0])),
        constant("axis", np.array([axis])),
        constant("w_codes", rng.integers(-90, 90, weights).astype(np.int8)),
        constant("w_scale", np.float32(0.01)),
        constant("w_zero", np.int8(0)),
        constant("repeats", np.array([1, 0])),
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    model = model_of(nodes, constants, [floats("x", shape)], [output], opset=21)
    model.ir_version = 10
    return accelsim.run(accelsim.load(model.SerializeToString()))


@pytest.mark.parametrize("kind", ["u1", "i1", "u2"])
@pytest.mark.parametrize(
    ("core", "shape", "weights"),
    [
        (node("Conv", ["a", "w"], "y0"), (2, 4, 5, 5), (3, 4, 2, 2)),
        (node("ConvTranspose", ["a", "w"], "y0"), (2, 4, 5, 5), (4, 3, 2, 2)),
        (node("MatMul", ["a", "w"], "y0"), (2, 4), (4, 3)),
        (node("MatMul", ["a", "a"], "y0"), (2, 4, 4), ()),
        (node("Gemm", ["a", "w"], "y0"), (2, 4), (4, 3)),
        (node("GlobalAveragePool", ["a"], "y0"), (2, 4, 3, 3), ()),
    ],
    ids=["convolution", "transposed", "product", "two activations", "gemm", "global average"],
)
def test_no_rows(core: NodeProto, shape: tuple[int, ...], weights: tuple[int, ...], kind: str) -> None:
    """A batch of none gives a result of none, and every cycle has a class."""
    result = run_on_nothing(core, shape, weights=weights, kind=kind)
    assert result.check is not None
    assert result.check.verdict == "exact"
    assert [array.size for array in result.outputs.values()] == [0]
    assert all(sum(layer.cycle_classes.values()) == layer.cycles for layer in result.layers)


def test_no_columns() -> None:
    """Weights without columns are no work."""
    result = run_on_nothing(node("MatMul", ["x", "w"], "y0"), (2, 4), weights=(4, 0))
    assert result.outputs["y"].shape == (2, 0)


def test_no_terms() -> None:
    """Sums of nothing are whatever onnxruntime finds in memory: refused."""
    with pytest.raises(accelsim.UnsupportedModelError, match="QLinearMatMul 'y0' sums over an empty tensor"):
        run_on_nothing(node("MatMul", ["a", "w"], "y0"), (2, 4), axis=1, weights=(0, 3))


def test_no_repeats() -> None:
    """Tile by 0 moves nothing."""
    result = run_on_nothing(node("Tile", ["x", "repeats"], "y0"), (2, 4))
    assert result.outputs["y"].shape == (2, 0)
