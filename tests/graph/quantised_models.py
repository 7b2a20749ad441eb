"""Small models of quantised tensors, and a session of onnxruntime that is ours alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

import accelsim
from accelsim import Arch
from tests.generator.placements import Placed

Array = NDArray[Any]
ROWS, DEPTH, COLUMNS = 4, 16, 8
SCALE = 0.03125


class Fixed(Placed):
    """A network under construction whose constants are always initialisers."""

    def chance(self, share: float) -> bool:
        """Never take the other way."""
        return False


def build(graph: Placed, outputs: list[str], shape: tuple[int, ...] = (ROWS, DEPTH), half: bool = False) -> bytes:
    """Close a network whose input is x."""
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    ends = [helper.make_tensor_value_info(name, kind, None) for name in outputs]
    start = helper.make_tensor_value_info("x", kind, list(shape))
    proto = helper.make_graph(graph.nodes, "net", [start], ends, graph.constants)
    data: bytes = helper.make_model(
        proto, opset_imports=[helper.make_opsetid("", 19)], ir_version=9
    ).SerializeToString()
    return data


def fresh(half: bool = False) -> Fixed:
    """Begin a network."""
    return Fixed(np.random.default_rng(3), half)


def own_session(model: bytes, inputs: dict[str, Array]) -> list[Array]:
    """Run the bytes in onnxruntime, without the project."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, inputs))


def draw(shape: tuple[int, ...] = (ROWS, DEPTH), dtype: Any = np.float32) -> dict[str, Array]:
    """Draw the input."""
    return {"x": np.random.default_rng(1).normal(0, 1, shape).astype(dtype)}


def dequantised(g: Placed, x: str, zero: int = 0) -> str:
    """Quantise to int8 and back."""
    code = g.op("QuantizeLinear", x, g.real(SCALE), g.const(zero, np.int8))
    return g.op("DequantizeLinear", code, g.real(SCALE), g.const(zero, np.int8))


def dynamic(g: Placed, x: str) -> str:
    """Quantise with a scale and a zero point that are known at run time only."""
    names = [g.name() for _ in range(3)]
    g.nodes.append(helper.make_node("DynamicQuantizeLinear", [x], names))
    return g.op("DequantizeLinear", *names)


def weights(g: Placed, each: bool = True, shape: tuple[int, ...] = (DEPTH, COLUMNS), axis: int = 1) -> str:
    """Constant codes behind DequantizeLinear."""
    scales = g.rng.uniform(0.002, 0.006, shape[axis] if each else ())
    zeros = np.zeros(shape[axis] if each else (), np.int8)
    codes = g.const(g.rng.integers(-127, 128, shape), np.int8)
    return g.op("DequantizeLinear", codes, g.real(scales), g.const(zeros), axis=axis)


def pointwise(g: Placed, x: str, axis: int = 0) -> str:
    """Multiply rows by constant codes in a Conv: MatMul with other activations becomes MatMulNBits in onnxruntime."""
    w = weights(g, shape=(COLUMNS, DEPTH, 1), axis=axis)
    return g.op("Conv", g.op("Unsqueeze", x, g.const([2])), w)


def check_product(model: bytes, inputs: dict[str, Array], macs: int) -> accelsim.Result:
    """Demand integer products only, and outputs that are those of the file but for the rounding of float sums."""
    result = accelsim.run(accelsim.load(model), Arch(), inputs)
    assert sum(layer.macs for layer in result.layers if layer.arithmetic == "integer") == macs
    assert not any(layer.off_array_macs for layer in result.layers)
    assert result.check.verdict in ("exact", "near")
    for mine, theirs in zip(result.outputs.values(), own_session(model, inputs), strict=True):
        # half precision rounds every weight, which codes times a scale do not
        bound = 2e-2 if mine.dtype == np.float16 else 2e-5
        assert np.abs(mine.astype(float) - theirs).max() <= bound * max(np.abs(theirs).max(), 1)
    return result
