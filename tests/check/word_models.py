"""Small models for the words of a verdict, and their judge: onnxruntime on the file's own bytes, without our code."""

from __future__ import annotations

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Arrays = dict[str, NDArray[np.generic]]


def own_session(data: bytes, inputs: Arrays, *, literal: bool = False) -> Arrays:
    """Run the bytes of a file as they are: all optimisations or none, one thread, int8 activations kept int8."""
    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_DISABLE_ALL if literal else levels.ORT_ENABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def judged_word(outputs: Arrays, data: bytes, inputs: Arrays) -> str:
    """Return the word that outputs of a machine without mistakes deserve: do they equal onnxruntime's on the file?"""
    judged = own_session(data, inputs)
    return "exact" if all(np.array_equal(outputs[name], judged[name], equal_nan=True) for name in judged) else "near"


class Builder:
    """Collects nodes and constants of a graph of opset 21."""

    def __init__(self) -> None:
        self.nodes: list[object] = []
        self.constants: list[TensorProto] = []

    def constant(self, name: str, value: object) -> str:
        """Add a constant."""
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        """Add a node with one output, after which it is named."""
        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"{kind}_{output}", **attributes))
        return output

    def pair(self, source: str, scale: float, zero: NDArray[np.generic]) -> tuple[str, str]:
        """Quantise and dequantise a tensor; returns codes and values."""
        scales = self.constant(f"{source}_s", np.float32(scale)), self.constant(f"{source}_z", zero)
        codes = self.node("QuantizeLinear", [source, *scales], f"{source}_codes")
        return codes, self.node("DequantizeLinear", [codes, *scales], f"{source}_values")

    def weights(self, name: str, codes: NDArray[np.generic], scale: object, **attributes: int) -> str:
        """Dequantise constant codes."""
        zero = np.zeros(np.shape(scale), codes.dtype)
        scales = self.constant(f"{name}_s", np.asarray(scale, np.float32)), self.constant(f"{name}_z", zero)
        return self.node("DequantizeLinear", [self.constant(name, codes), *scales], f"{name}_values", **attributes)

    def build(self, inputs: dict[str, tuple[int | str, ...]], outputs: dict[str, int]) -> bytes:
        """Return the file: float inputs of these shapes, outputs of these element types."""
        graph = helper.make_graph(
            self.nodes,
            "words",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
            [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        data: bytes = model.SerializeToString()
        return data


def linear(batch: int | str = "batch", sequence: int | str = "seq") -> bytes:
    """Return a Linear of rank 3 with a float bias behind the product, as PyTorch exports it."""
    generator, graph = np.random.default_rng(33), Builder()
    _, values = graph.pair("x", 0.03, np.uint8(128))
    weights = graph.weights("w", generator.integers(-127, 128, (16, 24)).astype(np.int8), 0.01)
    product = graph.node("MatMul", [values, weights], "product")
    bias = graph.constant("bias", generator.standard_normal(24).astype(np.float32))
    total = graph.node("Add", [bias, product], "total")
    codes, _ = graph.pair(total, 0.05, np.uint8(128))
    return graph.build({"x": (batch, sequence, 16)}, {codes: TensorProto.UINT8})


def wide(kind: str = "codes") -> bytes:
    """Return a product of 16-bit codes, which onnxruntime computes in float: as codes, values, or behind a Softmax.

    The output's step is twice that of the sums, so that every odd sum is a tie, which float32 decides by chance.
    """
    generator, graph = np.random.default_rng(16), Builder()
    _, values = graph.pair("x", 1e-4, np.uint16(32768))
    weights = graph.weights("w", generator.integers(-127, 128, (16, 8)).astype(np.int16), 0.01)
    codes, results = graph.pair(graph.node("MatMul", [values, weights], "product"), 2e-6, np.uint16(32768))
    outputs = {"codes": {codes: TensorProto.UINT16}, "values": {results: TensorProto.FLOAT}}.get(kind)
    return graph.build({"x": (4, 16)}, outputs or {graph.node("Softmax", [results], "likely"): TensorProto.FLOAT})


def square_convolution(axis: int, **others: object) -> bytes:
    """Return a convolution of 4 channels into 4, whose weights have scales along an axis."""
    generator, graph = np.random.default_rng(3), Builder()
    _, values = graph.pair("x", 0.03, np.int8(0))
    scales = np.float32([0.01, 0.02, 0.04, 0.08])
    weights = graph.weights("w", generator.integers(-127, 128, (4, 4, 3, 3)).astype(np.int8), scales, axis=axis)
    codes, _ = graph.pair(graph.node("Conv", [values, weights], "c"), 0.2, np.int8(0))
    return graph.build({"x": ("batch", 4, 6, 6)}, {codes: TensorProto.INT8})


def biased(kind: str, scale: float, zero: int = 0) -> bytes:
    """Return a Gemm or Conv with a quantised bias of some scale; the product of the operands' scales is 3e-4."""
    generator, graph = np.random.default_rng(2), Builder()
    _, values = graph.pair("x", 0.03, np.int8(0))
    shape = (8, 8) if kind == "Gemm" else (8, 8, 1, 1)
    weights = graph.weights("w", generator.integers(-127, 128, shape).astype(np.int8), 0.01)
    bias = graph.constant("b", generator.integers(-3000, 3000, 8).astype(np.int32))
    parameters = graph.constant("b_s", np.float32(scale)), graph.constant("b_z", np.int32(zero))
    offset = graph.node("DequantizeLinear", [bias, *parameters], "b_values")
    codes, _ = graph.pair(graph.node(kind, [values, weights, offset], "c"), 0.05, np.int8(0))
    return graph.build({"x": (2, 8) if kind == "Gemm" else (2, 8, 3, 3)}, {codes: TensorProto.INT8})


def draw(*shape: int, size: float = 1.0) -> Arrays:
    """Return an input x of a shape."""
    return {"x": (size * np.random.default_rng(7).standard_normal(shape)).astype(np.float32)}
