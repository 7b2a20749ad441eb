"""Local functions of a model: put in place of their calls by onnx's own inliner, once it is known that they fit."""

from __future__ import annotations

from onnx import FunctionProto, ModelProto, inliner

from accelsim.errors import InvalidModelError, ResourceLimitError, printable, reason_of
from accelsim.graph.limits import Limits

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
        flat: ModelProto = inliner.inline_local_functions(proto)
    except Exception as error:  # the inliner raises several unrelated types
        raise InvalidModelError(
            f"the local functions of {name} cannot be put in place ({reason_of(error)}): export it without functions"
        ) from None
    return flat


def _check_expansion(proto: ModelProto, limits: Limits, name: str) -> None:
    """Count what the model holds once every call is replaced, without replacing any."""
    functions = {(function.domain, function.name): function for function in proto.functions}
    sizes: dict[Key, tuple[int, int]] = {}
    nodes, size = 0, 0
    for node in proto.graph.node:
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
        for node in functions[key].node:
            inner = (node.domain, node.op_type)
            more = _expanded(inner, functions, sizes, (*callers, key), name) if inner in functions else (1, 0)
            nodes, size = nodes + more[0], size + more[1]
        sizes[key] = nodes, size
    return sizes[key]
