"""Probes: what this onnxruntime does where versions differ, found out by asking it, and by no version number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from accelsim.operators import SoftmaxArithmetic
from accelsim.reference.session import open_session

Array = NDArray[np.generic]

# The first code of a row of 180 equal ones, whose float32 quotient lies just below a half where the float64 one lies
# just above, and of a row of one, whose float32 product overflows.
_SOFTMAX_ANSWERS: dict[tuple[int, int], SoftmaxArithmetic] = {
    (20, 0): "float32-low-byte",
    (20, -128): "float32",
    (21, 127): "float64",
}


@cache
def softmax_arithmetic() -> SoftmaxArithmetic:
    """Tell in which way onnxruntime's QLinearSoftmax computes its quotients.

    In float32, of int8 codes only the low byte kept or the code clamped, or in float64. Answers that no known version
    gives are taken for the newest form: what differs from it then, the comparison with onnxruntime shows.
    """
    answers = _softmax(180, np.float32(1 / 3690)), _softmax(1, np.float32(1 / 256))
    return _SOFTMAX_ANSWERS.get(answers, "float64")


def _softmax(length: int, scale: np.float32) -> int:
    """Return what QLinearSoftmax makes of the first of equal int8 codes."""
    constants: dict[str, Array] = {
        "x_scale": np.array(0.125, np.float32), "x_zero": np.array(0, np.int8),
        "y_scale": np.array(scale, np.float32), "y_zero": np.array(0, np.int8),
    }  # fmt: skip
    node = helper.make_node("QLinearSoftmax", ["x", *constants], ["y"], domain="com.microsoft", axis=-1, opset=13)
    return int(_run([node], constants, np.zeros((1, length), np.int8), TensorProto.INT8, "none").flat[0])


def _run(
    nodes: Sequence[NodeProto], constants: Mapping[str, Array], codes: Array, element_type: int, optimise: str
) -> Array:
    """Run a graph from x to y, both of one type and, but for the last dimension, of one shape."""
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    inputs = [helper.make_tensor_value_info("x", element_type, codes.shape)]
    outputs = [helper.make_tensor_value_info("y", element_type, (codes.shape[0], None))]
    graph = helper.make_graph(list(nodes), "probe", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    result: Array = open_session(model.SerializeToString(), optimise=optimise).run(None, {"x": codes})[0]
    return result
