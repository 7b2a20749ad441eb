"""Random nodes that no output depends on: taken out, since nothing that is compared can differ by them."""

from __future__ import annotations

from onnx import ModelProto, NodeProto

from accelsim.graph.load.constraints import RANDOM, node_findings
from accelsim.graph.load.functions import nested_nodes


def without_unused_random(proto: ModelProto) -> ModelProto:
    """Return the model without random nodes whose values reach no output, and without what only such nodes feed.

    It is returned as it is where anything of that is refused for another reason, which onnxruntime refuses as well.

    Args:
        proto: the model, functions and decided branches in place; it is not changed.
    """
    if not any(node.op_type in RANDOM for node in proto.graph.node):
        return proto
    needed, kept = {value.name for value in proto.graph.output}, set()
    for index, node in reversed([*enumerate(proto.graph.node)]):
        if needed & {*node.output}:
            kept.add(index)
            needed |= _read(node)
    drawn: set[str] = set()
    opset = max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    for index, node in enumerate(proto.graph.node):
        is_random = node.op_type in RANDOM
        if index not in kept and (is_random or drawn & _read(node)):
            drawn |= {*node.output}
            if not is_random and any(node_findings(node, opset)):
                return proto
    if not drawn:
        return proto
    copy = ModelProto()
    copy.CopyFrom(proto)
    rest = [node for node in proto.graph.node if not drawn & {*node.output}]
    del copy.graph.node[:]
    copy.graph.node.extend(rest)
    return copy


def _read(node: NodeProto) -> set[str]:
    """Return what a node and the subgraphs inside of it read."""
    return {name for part in nested_nodes([node]) for name in part.input if name}
