"""Which types of codes a file quantises its activations to, wherever zero points and types are stated."""

from __future__ import annotations

from onnx import ModelProto, NodeProto, TensorProto

from accelsim.graph.normalise.inference import element_types


def activation_types(proto: ModelProto) -> frozenset[int]:
    """Return the element types of codes that depend on an input and are quantised to, or dequantised.

    Args:
        proto: a model that the loader has checked.
    """
    known, computed = element_types(proto), _computed(proto)
    found = set()
    for node in proto.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.input[0] in computed:
            found.add(_code_type(node, known))
    return frozenset(found)


def _code_type(node: NodeProto, known: dict[str, int]) -> int:
    """Return the type of the codes that a quantiser writes or reads: inferred, that of its zero point, or the default.

    The inference of onnx knows nothing behind operators of onnxruntime's own.
    """
    quantises = node.op_type == "QuantizeLinear"
    zero_point = node.input[2] if len(node.input) > 2 else ""
    codes = node.output[0] if quantises else node.input[0]
    stated = [attribute.i for attribute in node.attribute if attribute.name == "output_dtype" and quantises]
    return known.get(zero_point) or known.get(codes) or next(filter(None, stated), TensorProto.UINT8)


def _computed(proto: ModelProto) -> set[str]:
    """Return the tensors that depend on an input, which are no weights."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    found = {value.name for value in proto.graph.input} - constants
    for node in proto.graph.node:
        if any(name in found for name in node.input):
            found.update(name for name in node.output if name)
    return found
