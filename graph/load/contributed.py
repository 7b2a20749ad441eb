"""Operators that onnxruntime adds to ONNX, some of them in the standard domain, where onnx does not know them."""

from __future__ import annotations

from onnx import ModelProto, defs, helper

from accelsim.reference.schemas import CONTRIBUTED

# The other name of the standard domain, which is "".
_SPELLED = "ai.onnx"


def unify_standard_domain(proto: ModelProto) -> None:
    """Write the standard domain as "" where the main graph spells it "ai.onnx", as onnxruntime reads it there.

    Branches and local functions are left as they are: onnxruntime refuses it in them.

    Args:
        proto: a model whose texts were checked, changed in place.
    """
    if any(function.domain == _SPELLED for function in proto.functions):  # then it names these functions
        return
    for node in proto.graph.node:
        if node.domain == _SPELLED:
            node.domain = ""
    if all(entry.domain for entry in proto.opset_import):
        for entry in proto.opset_import:
            if entry.domain == _SPELLED:
                entry.domain = ""


def has_contributed(proto: ModelProto) -> bool:
    """Tell whether a model holds operators of onnxruntime's own in the standard domain."""
    return any(not node.domain and not defs.has(node.op_type, "") for node in proto.graph.node)


def move_contributed(proto: ModelProto) -> None:
    """Put operators that onnx does not know into onnxruntime's own domain, so that onnx can check all others.

    Args:
        proto: a copy of a model, changed in place.
    """
    if not has_contributed(proto):
        return
    for node in proto.graph.node:
        if not node.domain and not defs.has(node.op_type, ""):
            node.domain = CONTRIBUTED
    if all(entry.domain != CONTRIBUTED for entry in proto.opset_import):
        proto.opset_import.append(helper.make_opsetid(CONTRIBUTED, 1))
