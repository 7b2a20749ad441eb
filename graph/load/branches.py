"""If with a condition that constants and known shapes decide: the branch that is taken, in its place, and no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from accelsim.errors import reason_of
from accelsim.graph.load.limits import Limits
from accelsim.graph.load.tensor_checks import check_tensor, model_constants
from accelsim.reference.session import open_session

# What a condition may be computed with: results no larger than operands, so that nothing hostile can grow.
_SIMPLE = frozenset(
    {
        "Constant", "Identity", "Cast", "Equal", "Not", "And", "Or", "Xor", "Greater", "Less", "GreaterOrEqual",
        "LessOrEqual", "Add", "Sub", "Mul", "Squeeze", "Unsqueeze", "Reshape", "Gather",
    }
)  # fmt: skip
Shapes = Mapping[str, tuple[int | None, ...]]

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


def fold_branches(
    proto: ModelProto,
    limits: Limits,
    infer: Callable[[ModelProto], Shapes],
    refused: dict[str, str] | None = None,
) -> ModelProto:
    """Return the model with the taken branch in place of each If whose condition constants and known shapes decide.

    Args:
        proto: a model whose texts and constants were checked; it is not changed.
        limits: bounds the nodes of the result.
        infer: gives the shapes of a model's tensors, None for sizes that only a run decides.
        refused: receives, by output of each If whose condition onnxruntime cannot compute, its reason.
    """
    if not any(node.op_type == "If" for node in proto.graph.node):
        return proto
    folded = ModelProto()
    folded.CopyFrom(proto)
    undecided: set[str] = set()
    shapes = _KnownShapes(folded, infer)
    while len(folded.graph.node) <= limits.nodes:
        choices = [
            (index, node) for index, node in enumerate(folded.graph.node)
            if node.op_type == "If" and not node.domain and not undecided & {*node.output}
        ]  # fmt: skip
        if not choices:
            return folded
        index, node = choices[0]
        taken = _condition(folded, node, shapes)
        if isinstance(taken, str) and refused is not None:
            refused.update(dict.fromkeys(node.output, taken))
        if not isinstance(taken, bool):
            undecided.update(node.output)
        else:
            _replace(folded.graph, index, taken)
            shapes.fresh = False
    return proto


@dataclass(eq=False)
class _KnownShapes:
    """Shapes of a model's tensors, inferred when one is asked for, and again once a branch has taken its place."""

    proto: ModelProto
    infer: Callable[[ModelProto], Shapes]
    known: Shapes = field(default_factory=dict)
    fresh: bool = False
    """Nothing has changed since the last time."""
    left: int = 256
    """How often it may be done, since it looks at the whole model."""

    def of(self, name: str) -> tuple[int | None, ...] | None:
        """Return a shape, None if not even the rank is known."""
        if not self.fresh and self.left and None in (self.known.get(name) or (None,)):
            self.known, self.fresh, self.left = self.infer(self.proto), True, self.left - 1
        return self.known.get(name)


def _condition(proto: ModelProto, node: NodeProto, shapes: _KnownShapes) -> bool | str | None:
    """Return the value of an If's condition, None where an input decides it, a reason where it cannot be computed."""
    if {a.name for a in node.attribute if a.type == AttributeProto.GRAPH} != {"then_branch", "else_branch"}:
        return None
    constants = model_constants(proto)
    writers = {name: other for other in proto.graph.node for name in other.output}
    cone: dict[int, NodeProto] = {}
    read: dict[str, TensorProto] = {}
    pending = list(node.input[:1])
    while pending:
        name = pending.pop()
        writer = writers.get(name)
        if name in constants and (writer is None or writer.op_type != "Constant"):
            read[name] = constants[name]
            continue
        if writer is None or writer.domain or len(cone) > _MOST_NODES:
            return None
        measured = _measured(writer, writers)
        if measured is not None:
            sizes = _sizes(writer, measured, shapes, constants)
            if sizes is None:
                return None
            read[name] = numpy_helper.from_array(sizes, name)
        elif writer.op_type not in _SIMPLE:
            return None
        elif id(writer) not in cone:
            cone[id(writer)] = writer
            pending.extend(filter(None, writer.input))
    if any(int(np.prod(tensor.dims)) > _MOST_ELEMENTS for tensor in read.values()):
        return None
    wanted = {output for part in cone.values() for output in part.output}
    nodes = [other for other in proto.graph.node if wanted & {*other.output}]
    return _evaluate(proto, node.input[0], nodes, read)


def _measured(node: NodeProto, writers: Mapping[str, NodeProto]) -> NodeProto | None:
    """Return the Shape or Size whose result a node is, or picks from along its only axis."""
    source = writers.get(next(iter(node.input), "")) if node.op_type == "Gather" else node
    kinds = ("Shape", "Size") if source is node else ("Shape",)
    return source if source is not None and source.op_type in kinds and not source.domain else None


def _sizes(
    node: NodeProto, measured: NodeProto, shapes: _KnownShapes, constants: Mapping[str, TensorProto]
) -> NDArray[np.int64] | None:
    """Return the sizes that a node gives, None where only a run decides one of them."""
    shape = shapes.of(next(iter(measured.input), ""))
    if shape is None:
        return None
    if measured.op_type == "Size":
        return None if None in shape else np.array(np.prod([size or 0 for size in shape]), np.int64)
    limits = {attribute.name: int(attribute.i) for attribute in measured.attribute}
    known = np.array(shape, object)[limits.get("start", 0) : limits.get("end", len(shape))]
    if node is not measured:
        places = constants.get(next(iter(node.input[1:]), ""))
        indices: Any = None if places is None else numpy_helper.to_array(places)
        if indices is None or indices.size > _MOST_ELEMENTS:
            return None
        if not ((-len(known) <= indices) & (indices < len(known))).all():
            return None
        known = np.asarray(known[indices], object)
    return None if any(size is None for size in known.flat) else known.astype(np.int64)


def _evaluate(proto: ModelProto, name: str, nodes: list[NodeProto], read: Mapping[str, TensorProto]) -> bool | str:
    """Execute the few nodes that decide a condition; returns a reason where onnxruntime refuses them."""
    tensors = []
    for label, tensor in read.items():
        tensors.append(TensorProto())
        tensors[-1].CopyFrom(tensor)
        tensors[-1].name = label
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
