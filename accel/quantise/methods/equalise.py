"""Cross-layer equalisation: channels between two layers are scaled so that both layers' weights have equal ranges.

relu(s x) = s relu(x) for s > 0, so that a channel may be divided by s in one layer and multiplied in the next. With
s_i = sqrt(r1_i / r2_i) both ranges become sqrt(r1_i r2_i): M. Nagel et al., "Data-Free Quantization Through Weight
Equalization and Bias Correction" (2019), section 4.1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper

from accelsim.quantise.network.source import FloatLayer, FloatModel, attribute_of, constants

Floats = NDArray[np.float32]

_ROUNDS = 20  # sweeps over all pairs; the ranges have settled long before
_SETTLED = 1e-3
_HOMOGENEOUS = frozenset({"Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Identity"})
_LARGEST_FACTOR = 1e4


@dataclass(frozen=True)
class Pair:
    """Two layers with nothing but homogeneous operators between them; grouped: the second one is depthwise."""

    first: FloatLayer
    second: FloatLayer
    grouped: bool


def find_pairs(model: FloatModel) -> tuple[Pair, ...]:
    """Return neighbouring convolutions whose channels can be rescaled.

    Args:
        model: the float model.
    """
    graph = model.proto.graph
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    by_name = {layer.name: layer for layer in model.layers}
    outputs = set(model.outputs)
    nodes = {node.name: node for node in graph.node}
    pairs = []
    for layer in model.layers:
        node, tensor = nodes[layer.name], layer.output
        while len(readers.get(tensor, ())) == 1 and tensor not in outputs:
            node = readers[tensor][0]
            if node.op_type not in _HOMOGENEOUS:
                break
            tensor = node.output[0]
        second = by_name.get(node.name)
        if second is None or second.name == layer.name or second.source != tensor or tensor in outputs:
            continue
        rescaled = (*nodes[layer.name].input[1:], second.weight)
        own = all(len(readers[name]) == 1 and name not in outputs for name in rescaled if name)
        computed = layer.bias != "".join(nodes[layer.name].input[2:])
        if not own or computed or layer.kind != "Conv" or second.kind != "Conv":
            continue
        groups = int(attribute_of(nodes[second.name], "group", 1))
        channels = model.constant(layer.weight).shape[0]
        if groups == 1 or (groups == channels and model.constant(second.weight).shape[0] == channels):
            pairs.append(Pair(layer, second, groups != 1))
    return tuple(pairs)


def equalised(model: FloatModel) -> tuple[FloatModel, tuple[Pair, ...]]:
    """Return the same network with equalised channels, and the pairs of layers between which they are.

    Args:
        model: the float model.
    """
    values = {name: array.copy() for name, array in constants(model.proto).items()}
    pairs = find_pairs(model)
    largest = {pair.first.bias: float(np.abs(values[pair.first.bias]).max()) for pair in pairs if pair.first.bias}
    for _ in range(_ROUNDS):
        moved = max((_balance(pair, values, largest.get(pair.first.bias, 0.0)) for pair in pairs), default=0.0)
        if moved < _SETTLED:
            break
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    for tensor in proto.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(numpy_helper.from_array(values[tensor.name], tensor.name))
    return replace(model, proto=proto), pairs


def _balance(pair: Pair, values: dict[str, Floats], largest_bias: float) -> float:
    """Equalise one pair; returns how far the largest factor is from 1.

    A channel with hardly any weights is little but its bias. That does not become larger than the layer's largest, or
    its activations would decide the range of all.
    """
    first, second = values[pair.first.weight], values[pair.second.weight]
    range1 = np.abs(first).reshape(first.shape[0], -1).max(axis=1)
    following = second if pair.grouped else np.moveaxis(second, 1, 0)
    range2 = np.abs(following).reshape(following.shape[0], -1).max(axis=1)
    usable = (range1 > 0) & (range2 > 0)
    ratio = np.where(usable, range1, 1) / np.where(usable, range2, 1)
    factor = np.clip(np.sqrt(ratio), 1 / _LARGEST_FACTOR, _LARGEST_FACTOR).astype(np.float32)
    if pair.first.bias:
        bias = values[pair.first.bias]
        factor = np.maximum(factor, np.minimum(np.abs(bias) / (largest_bias or 1.0), 1)).astype(np.float32)
        values[pair.first.bias] = bias / factor
    values[pair.first.weight] = first / _along(factor, first, 0)
    values[pair.second.weight] = second * _along(factor, second, 0 if pair.grouped else 1)
    return float(np.abs(np.log(factor)).max(initial=0.0))


def _along(factor: Floats, array: Floats, axis: int) -> Floats:
    """Shape factors so that they lie along an axis."""
    shape = [1] * array.ndim
    shape[axis] = -1
    return factor.reshape(shape)
