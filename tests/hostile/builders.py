"""Small models to spoil: a quantised matrix product, and shorthands for what tests change in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

Edit = Callable[[ModelProto], object]

WIDTH = 8


def constant(name: str, values: NDArray[np.generic]) -> TensorProto:
    """Return a named initialiser."""
    return numpy_helper.from_array(values, name)


def floats(name: str, shape: Sequence[int | str] = (1, WIDTH)) -> ValueInfoProto:
    """Return a float32 graph input or output."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def parameters(prefix: str = "", scale: float = 0.05, zero_point: int = 3) -> list[TensorProto]:
    """Return the initialisers `scale` and `zero` of a uint8 activation."""
    return [constant(f"{prefix}scale", np.float32(scale)), constant(f"{prefix}zero", np.uint8(zero_point))]


def model_of(
    nodes: Iterable[NodeProto],
    initialisers: Iterable[TensorProto] = (),
    inputs: Iterable[ValueInfoProto] | None = None,
    outputs: Iterable[ValueInfoProto] | None = None,
    opset: int = 17,
) -> ModelProto:
    """Return a model; inputs and outputs default to x and y of 1x8 floats."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [floats("x")] if inputs is None else list(inputs),
        [floats("y")] if outputs is None else list(outputs),
        list(initialisers),
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def quantised(*edits: Edit) -> ModelProto:
    """Return Q/DQ -> MatMul -> Q/DQ of 1x8 floats, valid until the edits are applied to it."""
    weights = np.arange(-32, 32, dtype=np.int8).reshape(WIDTH, WIDTH)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["codes"], "quantise"),
        helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["values"], "dequantise"),
        helper.make_node("DequantizeLinear", ["weights", "weights_scale", "weights_zero"], ["w"], "dequantise_weights"),
        helper.make_node("MatMul", ["values", "w"], ["product"], "product"),
        helper.make_node("QuantizeLinear", ["product", "out_scale", "out_zero"], ["out_codes"], "quantise_out"),
        helper.make_node("DequantizeLinear", ["out_codes", "out_scale", "out_zero"], ["y"], "dequantise_out"),
    ]
    initialisers = [
        *parameters(),
        *parameters("out_", 0.25, 128),
        constant("weights", weights),
        constant("weights_scale", np.float32(0.02)),
        constant("weights_zero", np.int8(0)),
    ]
    model = model_of(nodes, initialisers)
    for edit in edits:
        edit(model)
    return model


def around(*nodes: NodeProto, initialisers: Iterable[TensorProto] = ()) -> ModelProto:
    """Return a quantised model in which the nodes given stand between DequantizeLinear ("a") and "b"."""
    head = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["codes"], "quantise"),
        helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["a"], "dequantise"),
    ]
    tail = [
        helper.make_node("QuantizeLinear", ["b", "scale", "zero"], ["out_codes"], "quantise_out"),
        helper.make_node("DequantizeLinear", ["out_codes", "scale", "zero"], ["y"], "dequantise_out"),
    ]
    return model_of([*head, *nodes, *tail], [*parameters(), *initialisers])


def initialiser(model: ModelProto, name: str) -> TensorProto:
    """Return an initialiser by name."""
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def node(model: ModelProto, name: str) -> NodeProto:
    """Return a node by name."""
    return next(candidate for candidate in model.graph.node if candidate.name == name)


def replace_constant(name: str, values: NDArray[np.generic]) -> Edit:
    """Return an edit that gives an initialiser other contents."""
    return lambda model: initialiser(model, name).CopyFrom(constant(name, values))
