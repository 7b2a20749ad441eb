"""What moves into the requantiser: the same bits as the operators it replaces, and the same as a slow twin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper

import accelsim
from accelsim import Arch
from accelsim.check.replay import Element, finish
from accelsim.operators import CodeFormat, Quantise, Rescale
from accelsim.values.epilogue import apply_epilogue
from tests.graph.quantised_models import build, fresh, own_session

Array = NDArray[Any]
UINT8 = CodeFormat(np.dtype(np.uint8), 7)


def twin(acc: int, epilogue: Rescale, row: int) -> float | int:
    """Compute one result from the definition, one float32 operation after the other."""
    scale = epilogue.scale[row if epilogue.scale.size > 1 else 0]
    y = np.float32(np.float32(acc) * scale)
    if epilogue.bias is not None:
        y = np.float32(y + epilogue.bias[row])
    if epilogue.bounds is not None:
        y = np.float32(min(max(float(y), epilogue.bounds[0]), epilogue.bounds[1]))
    if epilogue.half:
        return float(np.float16(y))
    if epilogue.quantise is None:
        return float(y)
    code = epilogue.quantise.output
    ratio = float(np.float32(y / epilogue.quantise.scale))
    return (
        int(np.rint(min(max(ratio, code.lowest - code.zero_point), code.highest - code.zero_point))) + code.zero_point
    )


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("bounds", [None, (0.0, float("inf")), (0.0, 6.0)])
@pytest.mark.parametrize("ending", ["float", "half", "codes"])
def test_rescaling_equals_its_twin(bias: bool, bounds: tuple[float, float] | None, ending: str) -> None:
    """Every combination of steps, on accumulators around zero and at the ends of int32."""
    rng = np.random.default_rng(2)
    acc = np.concatenate([rng.integers(-3000, 3000, (5, 40)), rng.integers(-(2**31), 2**31 - 1, (5, 8))], axis=1)
    epilogue = Rescale(
        rng.uniform(1e-4, 1e-2, 5).astype(np.float32),
        rng.normal(0, 1, 5).astype(np.float32) if bias else None,
        bounds,
        ending == "half",
        Quantise(np.float32(0.03), UINT8) if ending == "codes" else None,
    )
    with np.errstate(over="ignore"):
        got = apply_epilogue(acc.astype(np.int32), epilogue)
        expected = [[twin(int(value), epilogue, row) for value in acc[row]] for row in range(5)]
        assert (got == np.array(expected)).all()
        none, code = np.zeros(0, np.int64), CodeFormat(np.dtype(np.int8), 0)
        for row, column in ((0, 0), (2, 7), (4, 41)):
            element = Element(0, none, none, 0, False, code, row, 5, epilogue, none)
            assert finish(element, int(acc[row, column])) == got[row, column]
    assert got.dtype == epilogue.dtype


def integer_convolution(activation: list[str], scale_first: bool) -> bytes:
    """Build what dynamic quantisation writes: ConvInteger, Cast, Mul by two scales, Add, and an activation."""
    g = fresh()
    names = [g.name() for _ in range(3)]
    g.nodes.append(helper.make_node("DynamicQuantizeLinear", ["x"], names))
    w = g.const(g.rng.integers(0, 255, (6, 4, 3, 3)), np.uint8)
    sums = g.op("ConvInteger", names[0], w, names[2], g.const(120, np.uint8), pads=[1] * 4)
    scale = g.op("Mul", *([names[1], g.real(0.004)] if scale_first else [g.real(0.004), names[1]]))
    y = g.op("Mul", g.op("Cast", sums, to=1), scale)
    y = g.op("Add", y, g.real(g.rng.normal(0, 1, (1, 6, 1, 1))))
    for kind in activation:
        y = g.op(kind, y, *([g.real(0), g.real(6)] if kind == "Clip" else []))
    return build(g, [y], (2, 4, 5, 5))


@pytest.mark.parametrize("activation", [[], ["Relu"], ["Clip"], ["Sigmoid"]])
@pytest.mark.parametrize("scale_first", [False, True])
def test_what_follows_an_integer_convolution_is_part_of_it(activation: list[str], scale_first: bool) -> None:
    """One layer on the array in place of four, bit for bit what onnxruntime gives for the file."""
    model = integer_convolution(activation, scale_first)
    inputs = {"x": np.random.default_rng(5).normal(0, 1, (2, 4, 5, 5)).astype(np.float32)}
    result = accelsim.run(accelsim.load(model), Arch(), inputs)
    rest = ["Sigmoid"] if activation == ["Sigmoid"] else []
    assert [layer.op for layer in result.layers] == ["DynamicQuantizeLinear", "ConvInteger", *rest]
    assert result.check.verdict == "exact"
    (mine,), (theirs,) = result.outputs.values(), own_session(model, inputs)
    assert mine.tobytes() == theirs.tobytes()


def test_a_bias_and_a_quantiser_behind_a_product_are_part_of_it() -> None:
    """A Linear layer as exporters write it, of dynamic size: two layers, the codes of the file."""
    g = fresh()
    x = g.op("DequantizeLinear", g.op("QuantizeLinear", "x", g.real(0.03), g.const(128, np.uint8)), g.real(0.03),
             g.const(128, np.uint8))  # fmt: skip
    w = g.op("DequantizeLinear", g.const(g.rng.integers(-127, 128, (16, 8)), np.int8),
             g.real(g.rng.uniform(0.002, 0.005, 8)), g.const(np.zeros(8, np.int8)), axis=1)  # fmt: skip
    y = g.op("Add", g.op("MatMul", x, w), g.real(g.rng.normal(0, 0.3, 8)))
    code = g.op("QuantizeLinear", y, g.real(0.04), g.const(128, np.uint8))
    g.nodes.append(helper.make_node("DequantizeLinear", [code, g.real(0.04), g.const(128, np.uint8)], ["y"]))
    start = helper.make_tensor_value_info("x", 1, ["batch", "seq", 16])
    graph = helper.make_graph(
        g.nodes, "net", [start], [helper.make_tensor_value_info("y", 1, ["batch", "seq", 8])], g.constants
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    inputs = {"x": np.random.default_rng(4).normal(0, 1, (3, 40, 16)).astype(np.float32)}
    result = accelsim.run(accelsim.load(proto.SerializeToString()), Arch(), inputs)
    assert [layer.placement for layer in result.layers] == ["vector", "array", "vector"]
    assert result.check.verdict == "exact"
    assert result.outputs["y"].tobytes() == own_session(proto.SerializeToString(), inputs)[0].tobytes()
