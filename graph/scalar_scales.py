"""Scales and zero points of one element become scalars, which is what they mean and what onnxruntime's fusions want.

PyTorch writes scales of shape [1]. onnxruntime accepts them in QuantizeLinear and DequantizeLinear, fuses those
into QLinearAdd and the like, and then refuses its own graph, because these take scalars only.
"""

from __future__ import annotations

from collections import defaultdict

from onnx import ModelProto, NodeProto

_QUANTISERS = ("QuantizeLinear", "DequantizeLinear")


def with_scalar_scales(model: ModelProto) -> ModelProto | None:
    """Return a copy in which constants of shape [1] that serve as scales or zero points alone are scalars.

    Args:
        model: its other constants and its nodes stay as they are.

    Returns:
        The copy, or None where the model has no such constant.
    """
    proto, changed = ModelProto(), False
    proto.CopyFrom(model)
    uses: dict[str, set[bool]] = defaultdict(set)  # by name: whether each use is as a scale or a zero point
    for node in reversed(proto.graph.node):
        for place, name in enumerate(node.input):
            uses[name].add(place > 0 if _is_per_tensor(node) else _only_forwards(node, uses))
    for value in proto.graph.output:
        uses[value.name].add(False)
    for tensor in proto.graph.initializer:
        if list(tensor.dims) == [1] and uses[tensor.name] == {True}:
            del tensor.dims[:]
            changed = True
    return proto if changed else None


def _is_per_tensor(node: NodeProto) -> bool:
    """Tell whether a node quantises or dequantises without blocks."""
    blocked = any(attribute.name == "block_size" and attribute.i for attribute in node.attribute)
    return node.op_type in _QUANTISERS and not blocked


def _only_forwards(node: NodeProto, uses: dict[str, set[bool]]) -> bool:
    """Tell whether a node hands a constant on to such uses alone."""
    return node.op_type == "Identity" and all(uses[name] == {True} for name in node.output)
