"""Checks of a model's skeleton: its texts, the names of its values, their order, and how much is alive at once."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.message import Message
from onnx import GraphProto, ModelProto, NodeProto

from accelsim.errors import InvalidModelError, ResourceLimitError, printable
from accelsim.graph.load.constraints import node_label
from accelsim.graph.load.limits import Limits

# Text that is no name and may be long.
_PROSE = frozenset({"doc_string", "value"})


def check_text(message: Message, limits: Limits) -> None:
    """Check every string of a model, since the parser hands broken ones on as bytes.

    Args:
        message: the model.
        limits: bounds the length of names.

    Raises:
        InvalidModelError: a string is not UTF-8 or contains a zero character.
        ResourceLimitError: a name is too long.
    """
    pending = [message]
    while pending:
        for field, value in pending.pop().ListFields():
            if field.type == field.TYPE_MESSAGE:
                pending.extend([value] if isinstance(value, Message) else value)
            elif field.type == field.TYPE_STRING:
                for text in [value] if isinstance(value, str | bytes) else value:
                    _check_string(text, field.name, limits)


def _check_string(text: str | bytes, field: str, limits: Limits) -> None:
    """Check one string."""
    if isinstance(text, bytes):
        shown = printable(text.decode("utf-8", "replace"), 40)
        raise InvalidModelError(f"the text '{shown}' in the model is not UTF-8: export the model again")
    if field not in _PROSE and len(text) > limits.name_length:
        raise ResourceLimitError(
            f"the name '{printable(text, 40)}' has {len(text):,} characters, the limit is {limits.name_length:,}: "
            f"shorten it"
        )
    if "\0" in text:
        raise InvalidModelError(f"the name '{printable(text, 40)}' contains a zero character: rename it")


def check_dataflow(graph: GraphProto, name: str) -> None:
    """Demand that every value is written once, before it is read, and that the model has outputs.

    Args:
        graph: the main graph.
        name: the model's name, for messages.

    Raises:
        InvalidModelError: names the node and the value.
    """
    given = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    writers = {output: node for node in graph.node for output in node.output}
    known = set(given)
    for node in graph.node:
        if any(attribute.ref_attr_name for attribute in node.attribute):
            raise InvalidModelError(f"{_shown(node)} refers to the parameter of a function: export the model again")
        for value in filter(None, node.input):
            if value not in known:
                _complain_about_input(node, value, late=value in writers)
        for value in filter(None, node.output):
            if value in known:
                raise InvalidModelError(
                    f"{_shown(node)} writes '{printable(value)}', which exists already: export the model again"
                )
            known.add(value)
    if not graph.output:
        raise InvalidModelError(f"{name} has no outputs, so nothing can be compared: export the model again")
    lost = [value.name for value in graph.output if value.name not in known]
    if lost:
        raise InvalidModelError(f"nothing writes the output '{printable(lost[0])}': export the model again")


def _complain_about_input(node: NodeProto, value: str, *, late: bool) -> None:
    """Say why a node cannot read a value."""
    if late:
        reason = " before it is written, so the nodes form a cycle or are out of order"
    else:
        reason = ", which nothing writes, so a node or a constant is missing"
    raise InvalidModelError(f"{_shown(node)} reads '{printable(value)}'{reason}: export the model again")


def _shown(node: NodeProto) -> str:
    """Return operator and name of a node for a message."""
    return f"{node.op_type} '{printable(node_label(node))}'"


def rename_duplicate_nodes(graph: GraphProto) -> bool:
    """Give equal node names a number, since ONNX allows them and onnxruntime does not; tell whether there were any."""
    taken, changed = {node.name for node in graph.node}, False
    following: dict[str, int] = {}
    for node in graph.node:
        original = node.name
        if original in following:
            while node.name in taken:
                node.name = f"{original}_{following[original]}"
                following[original] += 1
            taken.add(node.name)
            changed = True
        elif original:
            following[original] = 2
    return changed


def with_numbered_nodes(data: bytes) -> bytes:
    """Return a file whose equal node names have numbers."""
    proto = ModelProto.FromString(data)
    rename_duplicate_nodes(proto.graph)
    numbered: bytes = proto.SerializeToString()
    return numbered


def check_live_elements(graph: GraphProto, elements: Mapping[str, int], limits: Limits) -> None:
    """Bound what must be held at once: the constants, and every value until its last reader.

    Args:
        graph: the main graph, in topological order.
        elements: number of elements of every value as far as it is known.
        limits: bounds the sum.

    Raises:
        ResourceLimitError: names the node at which the limit is passed.
    """
    kept = {value.name for value in (*graph.output, *graph.input, *graph.initializer)}
    last = {value: index for index, node in enumerate(graph.node) for value in node.input}
    alive = sum(elements.get(value.name, 0) for value in (*graph.input, *graph.initializer))
    for index, node in enumerate(graph.node):
        alive += sum(elements.get(value, 0) for value in node.output)
        if alive > limits.total_elements:
            raise ResourceLimitError(
                f"at {_shown(node)} the model holds {alive:,} elements at once, the limit is "
                f"{limits.total_elements:,}: use a smaller input or batch"
            )
        ended = {value for value in (*node.input, *node.output) if last.get(value, -1) <= index} - kept
        alive -= sum(elements.get(value, 0) for value in ended)
