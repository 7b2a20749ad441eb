"""Weights that several layers share: one constant where they agree on its codes, copies where they do not."""

from __future__ import annotations

from dataclasses import replace

from onnx import ModelProto

from accelsim.quantise.network.source import FloatLayer, FloatModel
from accelsim.quantise.scheme import Scheme


def separated(model: FloatModel, scheme: Scheme) -> FloatModel:
    """Return a model in which layers share weights only if the same codes and scales serve them all.

    Scales lie along the output channels, and MatMul and Gemm may see those along different axes of one matrix; widths
    may differ by layer; and what is no layer, such as a Gather from an embedding table that is tied to the last layer,
    keeps the constant for itself.

    Args:
        model: the float model.
        scheme: says the widths.
    """
    elsewhere = _read_elsewhere(model)
    owners: dict[str, FloatLayer] = {}
    copies: dict[tuple[object, ...], str] = {}
    layers = []
    for layer in model.layers:
        first = owners.setdefault(layer.weight, layer)
        if _needs(layer, scheme) == _needs(first, scheme) and layer.weight not in elsewhere:
            layers.append(layer)
            continue
        name = copies.setdefault((layer.weight, *_needs(layer, scheme)), f"{layer.weight}~{layer.name}")
        layers.append(replace(layer, weight=name))
    if not copies:
        return model
    return replace(model, proto=_with_copies(model, layers), layers=tuple(layers))


def _read_elsewhere(model: FloatModel) -> set[str]:
    """Return the weights that are an output, or that something else reads than layers read their weights."""
    weights = {(layer.name, layer.weight) for layer in model.layers}
    read = {
        name
        for node in model.proto.graph.node
        for place, name in enumerate(node.input)
        if place != 1 or (node.name, name) not in weights
    }
    return read | set(model.outputs)


def _needs(layer: FloatLayer, scheme: Scheme) -> tuple[object, ...]:
    """Return what the codes and scales of a layer's weights depend on."""
    kept = bool({layer.name, layer.kind} & set(scheme.keep_float))
    return kept, scheme.weight_bits_of(layer.name), layer.channel_axis, layer.depth_axis


def _with_copies(model: FloatModel, layers: list[FloatLayer]) -> ModelProto:
    """Return the graph in which every layer reads the weights that it names."""
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    tensors = {tensor.name: tensor for tensor in model.proto.graph.initializer}
    nodes = {node.name: node for node in proto.graph.node}
    made = set()
    for before, layer in zip(model.layers, layers, strict=True):
        if layer.weight == before.weight:
            continue
        nodes[layer.name].input[1] = layer.weight
        if layer.weight not in made:
            made.add(layer.weight)
            fresh = proto.graph.initializer.add()
            fresh.CopyFrom(tensors[before.weight])
            fresh.name = layer.weight
    return proto
