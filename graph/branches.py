"""If with a condition that constants decide: the branch that is taken, in its place; the other one never runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

from accelsim.errors import reason_of
from accelsim.graph.limits import Limits
from accelsim.graph.tensor_checks import check_tensor, model_constants
from accelsim.host import open_session

# What a condition may be computed with: results no larger than operands, so that nothing hostile can grow.
_SIMPLE = frozenset(
    {
        "Constant", "Identity", "Cast", "Equal", "Not", "And", "Or", "Xor", "Greater", "Less", "GreaterOrEqual",
        "LessOrEqual", "Add", "Sub", "Mul", "Squeeze", "Unsqueeze", "Reshape", "Gather",
    }
)  # fmt: skip
_MOST_NODES, _MOST_ELEMENTS = 64, 64


def check_branches(proto: ModelProto, limits: Limits) -> None:
    """Check the constants of all subgraphs, taken or not, before any is looked into.

    Args:
        proto: the model.
        limits: budgets.

    Raises:
        InvalidModelError: a constant is broken.
        ResourceLimitError: a constant is too large.
    """
    for graph in _subgraphs(proto.graph):
        for tensor in graph.initializer:
            check_tensor(tensor.name or "(unnamed)", tensor, limits)
        for node in graph.node:
            for attribute in node.attribute:
                for tensor in (attribute.t, *attribute.tensors):
                    if tensor.ListFields():
                        check_tensor(f"{attribute.name} of {node.op_type}", tensor, limits)


def _subgraphs(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield every graph inside of a graph."""
    pending = [graph]
    while pending:
        for node in pending.pop().node:
            for attribute in node.attribute:
                inner = [attribute.g] if attribute.type == AttributeProto.GRAPH else list(attribute.graphs)
                yield from inner
                pending.extend(inner)


def fold_branches(proto: ModelProto, limits: Limits, refused: dict[str, str] | None = None) -> ModelProto:
    """Return the model with the taken branch in place of each If whose condition constants decide.

    Args:
        proto: a model whose texts and constants were checked; it is not changed.
        limits: bounds the nodes of the result.
        refused: receives, by output of each If whose condition onnxruntime cannot compute, its reason.
    """
    if not any(node.op_type == "If" for node in proto.graph.node):
        return proto
    folded = ModelProto()
    folded.CopyFrom(proto)
    undecided: set[str] = set()
    while len(folded.graph.node) <= limits.nodes:
        choices = [
            (index, node) for index, node in enumerate(folded.graph.node)
            if node.op_type == "If" and not node.domain and not undecided & {*node.output}
        ]  # fmt: skip
        if not choices:
            return folded
        index, node = choices[0]
        taken = _condition(folded, node, model_constants(folded))
        if isinstance(taken, str) and refused is not None:
            refused.update(dict.fromkeys(node.output, taken))
        if not isinstance(taken, bool):
            undecided.update(node.output)
        else:
            _replace(folded.graph, index, taken)
    return proto


def _condition(proto: ModelProto, node: NodeProto, constants: Mapping[str, TensorProto]) -> bool | str | None:
    """Return the value of an If's condition, None where an input decides it, a reason where it cannot be computed."""
    if {a.name for a in node.attribute if a.type == AttributeProto.GRAPH} != {"then_branch", "else_branch"}:
        return None
    writers = {name: other for other in proto.graph.node for name in other.output}
    cone: dict[int, NodeProto] = {}
    read: set[str] = set()
    pending = list(node.input[:1])
    while pending:
        name = pending.pop()
        writer = writers.get(name)
        if name in constants and (writer is None or writer.op_type != "Constant"):
            read.add(name)
        elif writer is None or writer.op_type not in _SIMPLE or writer.domain or len(cone) > _MOST_NODES:
            return None
        elif id(writer) not in cone:
            cone[id(writer)] = writer
            pending.extend(filter(None, writer.input))
    if any(int(np.prod(constants[name].dims)) > _MOST_ELEMENTS for name in read):
        return None
    wanted = {output for part in cone.values() for output in part.output}
    return _evaluate(proto, node.input[0], [other for other in proto.graph.node if wanted & {*other.output}], read)


def _evaluate(proto: ModelProto, name: str, nodes: list[NodeProto], read: set[str]) -> bool | str:
    """Execute the few nodes that decide a condition; returns a reason where onnxruntime refuses them."""
    tensors = [tensor for tensor in proto.graph.initializer if tensor.name in read]
    result = "condition" if name in read else name
    nodes = [*nodes, helper.make_node("Identity", [name], [result])] if name in read else nodes
    value = helper.make_tensor_value_info(result, TensorProto.BOOL, None)
    graph = helper.make_graph(nodes, "condition", [], [value], tensors)
    model = helper.make_model(graph, opset_imports=proto.opset_import, ir_version=min(proto.ir_version, 10))
    try:
        answer = open_session(model.SerializeToString()).run(None, {})[0]
    except Exception as error:  # onnxruntime's errors have no common base class
        return reason_of(error)
    return bool(answer) if answer.size == 1 else f"it has {answer.size:,} values"


def _replace(graph: GraphProto, index: int, taken: bool) -> None:
    """Put a branch in the place of an If."""
    node = graph.node[index]
    wanted = "then_branch" if taken else "else_branch"
    branch = next(attribute.g for attribute in node.attribute if attribute.name == wanted)
    known = {name for other in graph.node for name in other.output}
    known |= {value.name for value in (*graph.input, *graph.initializer)}
    inner = [tensor.name for tensor in branch.initializer] + [name for part in branch.node for name in part.output]
    renamed = {name: _fresh(name, known) for name in inner if name in known}
    body = [*branch.node]
    for value, output in zip(branch.output, node.output, strict=False):
        if value.name in inner and value.name not in [tensor.name for tensor in branch.initializer]:
            if renamed.get(value.name) in node.output:  # one inner value leaves twice
                body.append(helper.make_node("Identity", [renamed[value.name]], [output]))
                continue
            renamed[value.name] = output
        else:
            body.append(helper.make_node("Identity", [value.name], [output]))
    parts = [_with_names(part, renamed) for part in body]
    for tensor in branch.initializer:
        graph.initializer.add().CopyFrom(tensor)
        graph.initializer[-1].name = renamed.get(tensor.name, tensor.name)
    nodes = [*graph.node[:index], *parts, *graph.node[index + 1 :]]
    copies = [_with_names(part, {}) for part in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _fresh(name: str, known: set[str]) -> str:
    while name in known:
        name += "_"
    known.add(name)
    return name


def _with_names(node: NodeProto, renamed: Mapping[str, str]) -> NodeProto:
    """Return a node that reads and writes values under their new names, in its own subgraphs as well."""
    copy = NodeProto()
    copy.CopyFrom(node)
    for names in (copy.input, copy.output):
        for place, name in enumerate(names):
            names[place] = renamed.get(name, name)
    for attribute in copy.attribute:
        for graph in [attribute.g] if attribute.type == AttributeProto.GRAPH else list(attribute.graphs):
            parts = [_with_names(part, renamed) for part in graph.node]
            del graph.node[:]
            graph.node.extend(parts)
            for value in graph.output:
                value.name = renamed.get(value.name, value.name)
    return copy
