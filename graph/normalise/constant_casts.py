"""Constants that onnxruntime converts once, at the level whose graph it cannot write for other processors.

The graph that is lowered is written at ORT_ENABLE_EXTENDED, the file runs at ORT_ENABLE_ALL. Where a kernel lacks
float16, both put a Cast before it; only the latter makes constants of those Casts of constants that one node reads
(FuseInitializersTransformer). Left as it is, a MatMulNBits would find no scales while it packs its weights, and be 0.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from accelsim.graph.load.loader import Weights, copy_model, without_weights


def fold_constant_casts(proto: ModelProto, weights: Weights) -> tuple[ModelProto, Weights]:
    """Return an optimised graph with float32 constants in place of Casts of float16 ones that one node reads.

    Args:
        proto: the graph that onnxruntime wrote, large constants declared as external.
        weights: data of those constants.
    """
    casts = {node.output[0]: node.input[0] for node in _folded(proto)}
    if not casts:
        return proto, weights
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    values = {
        name: (weights[source] if source in weights else numpy_helper.to_array(constants[source])).astype(np.float32)
        for name, source in casts.items()
    }
    return _with_constants(proto, weights, values)


def _folded(proto: ModelProto) -> list[NodeProto]:
    """Return the Casts of float16 constants to float32 that one input of one node reads."""
    halves = {tensor.name for tensor in proto.graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    reads = Counter(name for node in proto.graph.node for name in node.input)
    kept = {value.name for value in proto.graph.output}
    return [
        node
        for node in proto.graph.node
        if node.op_type == "Cast" and node.input[0] in halves
        if reads[node.output[0]] == 1 and node.output[0] not in kept
        if any(attribute.name == "to" and attribute.i == TensorProto.FLOAT for attribute in node.attribute)
    ]


def _with_constants(
    proto: ModelProto, weights: Weights, values: dict[str, NDArray[np.float32]]
) -> tuple[ModelProto, Weights]:
    """Return a graph with constants in place of the nodes that compute them, without what nothing reads any more."""
    nodes = [node for node in proto.graph.node if not set(node.output) & set(values)]
    read = {name for node in nodes for name in node.input} | {value.name for value in proto.graph.output}
    result = copy_model(proto, lambda tensor: tensor if tensor.name in read else None)
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    made = _declared(values)
    result.graph.initializer.extend(made)
    large = {tensor.name: values[tensor.name] for tensor in made if tensor.data_location == TensorProto.EXTERNAL}
    return result, {name: array for name, array in weights.items() if name in read} | large


def _declared(values: dict[str, NDArray[np.float32]]) -> list[TensorProto]:
    """Return tensors with some values, large ones declared as external."""
    tensors = [numpy_helper.from_array(array, name) for name, array in values.items()]
    outputs = [helper.make_empty_tensor_value_info(name) for name in values]
    model = helper.make_model(helper.make_graph([], "constants", [], outputs, tensors))
    return list(without_weights(model).graph.initializer)
