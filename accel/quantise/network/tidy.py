"""Changes that a float graph needs before quantisers go into it: names that stay free, biases that are vectors."""

from __future__ import annotations

import re
from collections.abc import Iterable

from onnx import GraphProto, NodeProto, TensorProto, helper

from accelsim.errors import UnsupportedModelError, printable

# What quantisers and their analysis append to the name of a tensor or a node.
_APPENDED = re.compile(
    r"_(scale|zero_point|quantized(_scale|_zero_point)?|dequantized|QuantizeLinear(_Input|_Output)?"
    r"|DequantizeLinear(_Output)?|float_bias|int32_bias(_scale|_zero_point|_dequantized|_DequantizeLinear)?"
    r"|rounding_error|input_(scale|zero|codes|restored|q|dq))"
)
_MOST_ROUNDS = 8  # a new name is never taken, so that a second round is rare


def free_names(graph: GraphProto, model: str) -> None:
    """Rename what bears a name that a quantiser will give to something new: "x_scale" beside a tensor "x".

    Args:
        graph: changed in place; inputs and outputs keep their names.
        model: its name, for messages.

    Raises:
        UnsupportedModelError: two inputs or outputs have such names.
    """
    for _ in range(_MOST_ROUNDS):
        taken = _taken(graph)
        fixed = {value.name for value in (*graph.input, *graph.output)}
        changes: dict[str, str] = {}
        for name in sorted(taken):
            for base in _bases(name, taken):
                chosen = name if name not in fixed else base
                if chosen in fixed:
                    raise UnsupportedModelError(
                        f"{model} has inputs or outputs '{printable(base, 60)}' and '{printable(name, 60)}', and the "
                        f"second is what the quantiser of the first is called: rename one of them"
                    )
                changes.setdefault(chosen, _unused(chosen, {*taken, *changes.values()}))
        if not changes:
            return
        _rename(graph, changes)


def rename_made(graph: GraphProto, before: GraphProto) -> None:
    """Rename the tensors that onnxruntime's optimiser has made, since it makes others of the same names next time.

    Args:
        graph: changed in place.
        before: the graph that was optimised.
    """
    taken, known = _taken(graph), _taken(before)
    made = [tensor.name for tensor in graph.initializer] + [name for node in graph.node for name in node.output]
    changes: dict[str, str] = {}
    for name in made:
        if name and name not in known:
            changes[name] = _unused(name, {*taken, *changes.values()})
    _rename(graph, changes)


def _taken(graph: GraphProto) -> set[str]:
    """Return the names of all tensors and nodes."""
    names = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}
    for node in graph.node:
        names.update((node.name, *node.input, *node.output))
    return names - {""}


def _bases(name: str, taken: set[str]) -> Iterable[str]:
    """Yield the names to which one may append something that gives this name."""
    for match in re.finditer("_", name):
        base = name[: match.start()]
        if base in taken and _APPENDED.fullmatch(name, match.start()):
            yield base


def _unused(name: str, taken: set[str]) -> str:
    """Return a name that nothing bears."""
    number = 2
    while f"{name}~{number}" in taken:
        number += 1
    return f"{name}~{number}"


def _rename(graph: GraphProto, changes: dict[str, str]) -> None:
    """Give tensors and nodes new names."""
    for tensor in graph.initializer:
        tensor.name = changes.get(tensor.name, tensor.name)
    for value in graph.value_info:
        value.name = changes.get(value.name, value.name)
    for node in graph.node:
        node.name = changes.get(node.name, node.name)
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = changes.get(name, name)


def split_odd_biases(graph: GraphProto) -> None:
    """Add the bias of a Gemm behind it where it is no vector of its outputs: quantisers expect one value per output.

    That is a constant of another shape, or an activation, as onnxruntime makes one of MatMul and Add.

    Args:
        graph: changed in place.
    """
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for place in reversed(range(len(graph.node))):
        node = graph.node[place]
        bias = node.input[2] if node.op_type == "Gemm" and len(node.input) > 2 else ""
        weight = shapes.get(node.input[1]) if bias else None
        if weight is None or (bias in shapes and _is_vector(shapes[bias], set(weight))):
            continue
        target, inner = node.output[0], f"{node.output[0]}~product"
        node.output[0] = inner
        kept = [node.input[0], node.input[1]]
        del node.input[:]
        node.input.extend(kept)
        behind = _beta_of(graph, node, bias)
        added = behind[-1].output[0] if behind else bias
        for fresh in (_add(f"{node.name}~bias", inner, added, target), *reversed(behind)):
            graph.node.insert(place + 1, fresh)


def _beta_of(graph: GraphProto, node: NodeProto, bias: str) -> list[NodeProto]:
    """Take the factor of an activation off a Gemm, as a node of its own; those of constants are multiplied in."""
    beta = next((entry for entry in node.attribute if entry.name == "beta"), None)
    if beta is None or beta.f == 1:
        return []
    factor = f"{node.name}~beta"
    graph.initializer.append(helper.make_tensor(factor, TensorProto.FLOAT, [], [beta.f]))
    beta.f = 1.0
    return [helper.make_node("Mul", [bias, factor], [f"{bias}~of~{node.name}"], f"{node.name}~factor")]


def _is_vector(shape: tuple[int, ...], widths: set[int]) -> bool:
    """Tell whether a bias has one value for all outputs, or one for each."""
    *rest, last = shape or (1,)
    return all(size == 1 for size in rest) and (last == 1 or last in widths)


def _add(name: str, first: str, second: str, target: str) -> NodeProto:
    """Return an addition."""
    return helper.make_node("Add", [first, second], [target], name)
