"""Local functions of a model: put in place of their calls by onnx's own inliner, once it is known that they fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from onnx import FunctionProto, ModelProto, NodeProto, inliner

from accelsim.errors import InvalidModelError, ResourceLimitError, printable, reason_of
from accelsim.graph.load.limits import Limits

Key = tuple[str, str]

# Functions that call each other deeper than this are not written by any exporter.
_DEEPEST = 64


def inline_functions(proto: ModelProto, limits: Limits, name: str) -> ModelProto:
    """Return the model without local functions; one that has none is returned as it is.

    Args:
        proto: a model whose texts were checked.
        limits: bounds the nodes and bytes after inlining, before anything is expanded.
        name: of the model, for messages.

    Raises:
        InvalidModelError: functions call themselves, or onnx cannot inline them.
        ResourceLimitError: the expanded model is too large.
    """
    if not proto.functions:
        return proto
    _check_expansion(proto, limits, name)
    try:
        flat = _put_in_place(proto)
    except Exception as error:  # the inliner raises several unrelated types
        raise InvalidModelError(
            f"the local functions of {name} cannot be put in place ({reason_of(error)}): export it without functions"
        ) from None
    return flat


def _put_in_place(proto: ModelProto) -> ModelProto:
    """Replace all calls; where functions have default attributes, from the outside in.

    onnx's inliner forgets a default, so it is written into every call that lacks it. What a call inside of a function
    lacks is known once that function is in place, since it may hand on an attribute that it was not given itself.
    """
    functions = {(function.domain, function.name): function for function in proto.functions}
    if any(function.attribute_proto for function in proto.functions):
        for keys in _callers_first(proto, functions):
            flat = ModelProto()
            flat.CopyFrom(proto)
            for node in nested_nodes(flat.graph.node):
                _add_defaults(node, functions.get((node.domain, node.op_type)))
            proto = inliner.inline_selected_functions(flat, keys)
    return inliner.inline_local_functions(proto)


def _callers_first(proto: ModelProto, functions: dict[Key, FunctionProto]) -> list[list[Key]]:
    """Return the functions in groups, each called by the graph and by groups before it only."""
    depths: dict[Key, int] = {}
    called = _called(proto.graph.node, functions)
    for depth in range(len(functions)):
        depths |= dict.fromkeys(called, depth)
        called = {key for caller in called for key in _called(functions[caller].node, functions)}
    groups: list[list[Key]] = [[] for _ in range(max(depths.values(), default=-1) + 1)]
    for key, depth in depths.items():
        groups[depth].append(key)
    return groups


def _called(nodes: Iterable[NodeProto], functions: dict[Key, FunctionProto]) -> set[Key]:
    return {(node.domain, node.op_type) for node in nested_nodes(nodes)} & functions.keys()


def nested_nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """Yield nodes with all nodes of the subgraphs inside of them.

    Args:
        nodes: those of a graph or function.
    """
    pending = [*nodes]
    while pending:
        node = pending.pop()
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                pending.extend(graph.node)


def _add_defaults(node: NodeProto, function: FunctionProto | None) -> None:
    """Write the default attributes of the function that a node calls into it, unless it has them."""
    given = {attribute.name for attribute in node.attribute}
    for default in () if function is None else function.attribute_proto:
        if default.name not in given:
            node.attribute.add().CopyFrom(default)


def _check_expansion(proto: ModelProto, limits: Limits, name: str) -> None:
    """Count what the model holds once every call is replaced, without replacing any."""
    functions = {(function.domain, function.name): function for function in proto.functions}
    sizes: dict[Key, tuple[int, int]] = {}
    nodes, size = 0, 0
    for node in nested_nodes(proto.graph.node):
        key = (node.domain, node.op_type)
        more = _expanded(key, functions, sizes, (), name) if key in functions else (1, 0)
        nodes, size = nodes + more[0], size + more[1]
    if nodes > limits.nodes or size > limits.file_bytes:
        raise ResourceLimitError(
            f"{name} has {nodes:,} nodes and {size:,} bytes once its functions are put in place, the limits are "
            f"{limits.nodes:,} and {limits.file_bytes:,}: use a smaller model"
        )


def _expanded(
    key: Key,
    functions: dict[Key, FunctionProto],
    sizes: dict[Key, tuple[int, int]],
    callers: tuple[Key, ...],
    name: str,
) -> tuple[int, int]:
    """Return the nodes and bytes of a function with everything that it calls."""
    if key in callers or len(callers) > _DEEPEST:
        raise InvalidModelError(
            f"function '{printable(key[1], 60)}' of {name} calls itself, or others too deep: export it without "
            f"functions"
        )
    if key not in sizes:
        nodes, size = 0, functions[key].ByteSize()
        for node in nested_nodes(functions[key].node):
            inner = (node.domain, node.op_type)
            more = _expanded(inner, functions, sizes, (*callers, key), name) if inner in functions else (1, 0)
            nodes, size = nodes + more[0], size + more[1]
        sizes[key] = nodes, size
    return sizes[key]
