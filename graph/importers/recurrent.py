"""Recurrent layers in parts: the input of all steps as one product, then a product and the gates of each step (5.9).

Values are onnxruntime's own. The product with the state and the gates are done once per step, each step behind the one
before. Both directions of a bidirectional layer take their steps together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from accelsim.graph.context import Context, Imported, attributes
from accelsim.graph.importers.part_list import UNSCALED, PartList, float_name, pair_of
from accelsim.graph.quantised.tensor import NotOnTheMachineError
from accelsim.machine.vector_costs import vector_costs
from accelsim.operators import ProductPart, VectorPart
from accelsim.operators.parts import Step


@dataclass(frozen=True)
class _Sizes:
    """Sizes of a recurrent layer: gates of `hidden` units each, in one or two directions."""

    steps: int
    batch: int
    width: int
    directions: int
    hidden: int
    gates: int

    @property
    def units(self) -> int:
        """Units of one step."""
        return self.batch * self.directions * self.hidden


@dataclass(frozen=True)
class _Weights:
    """Both weights as the array multiplies them."""

    arithmetic: tuple[str, str]
    bits: tuple[tuple[int, int], tuple[int, int]]
    """arithmetic and bits: of the product with the input, and of the one with the state."""
    parameters: tuple[int, int]
    """Bytes per column."""
    dynamic: tuple[bool, bool]
    """The weights are computed."""
    source: str
    """What is multiplied with the input's weights."""
    names: tuple[str, str]
    subtracts: tuple[bool, bool] = (False, False)


def _sizes(context: Context, node: NodeProto, gates: int, *, turned: bool = False) -> _Sizes:
    """Read the sizes off the inputs; turned weights are [directions, input, gates * hidden]."""
    source, weights = (context.types[node.input[place]].shape for place in (0, 1))
    first, second, width = source
    steps, batch = (second, first) if attributes(node).get("layout") else (first, second)
    found = _Sizes(steps, batch, width, weights[0], weights[2 if turned else 1] // gates, gates)
    if not min(found.steps, found.batch, found.width, found.hidden):
        raise NotOnTheMachineError("an empty tensor")
    return found


def _plain(parts: PartList, biased: bool) -> _Weights:
    """Weights of LSTM, GRU, RNN: floats, or codes times scales, which then enter the array as codes."""
    context, node = parts.context, parts.node
    if float_name(context, node.input[0]) != "float32":
        raise NotOnTheMachineError("no float32")
    first, second = pair_of(context, node.input[0], node.input[1]), pair_of(context, node.input[0], node.input[2])
    if second.arithmetic == "integer":  # the state is made of no codes
        second = pair_of(context, next(filter(None, node.output)), node.input[2])
    parts.inside += first.inside + second.inside
    scaled = [pair.second.bits < 32 for pair in (first, second)]
    known = {*context.constants, *context.tensors}
    dynamic = first.second.name not in known, second.second.name not in known
    return _Weights(
        (first.arithmetic, second.arithmetic),
        ((first.first.bits, first.second.bits), (32, second.second.bits)),
        (4 * biased + 4 * scaled[0], 4 * scaled[1]),
        dynamic,
        first.first.name,
        (first.second.name, second.second.name),
    )


def _quantised(parts: PartList, biased: bool) -> _Weights:
    """Weights of DynamicQuantizeLSTM: 8-bit codes; the input is quantised before, with its extremes as they are."""
    context, node = parts.context, parts.node
    source = node.input[0]
    kind = context.types[source]
    if kind.dtype != np.float32 or any(node.input[place] not in context.constants for place in (1, 2, 9, 11)):
        raise NotOnTheMachineError("weights or zero points that are computed")
    part = VectorPart((Step("DynamicQuantizeLinear", kind.elements),), ((1, kind.size_bytes),) * 2, quantises=True)
    (codes,) = parts.vector("quantise", part, [source], [("codes", "uint8", kind.shape)])
    zero = tuple(bool(context.constants[node.input[place]].any()) for place in (9, 11))
    return _Weights(
        ("integer", "integer"),
        ((8, 8), (8, 8)),
        (4 * biased + 4, 4),
        (False, False),
        codes,
        ("", ""),
        (zero[0], zero[1]),
    )


def _product_with_input(parts: PartList, sizes: _Sizes, weights: _Weights) -> str:
    """Add the product of all steps at once."""
    rows, columns = sizes.steps * sizes.batch, sizes.directions * sizes.gates * sizes.hidden
    part = ProductPart(
        rows, sizes.width, columns, 1, weights.arithmetic[0], *weights.bits[0], weights.dynamic[0], 4,
        0 if weights.dynamic[0] else weights.parameters[0], 1, UNSCALED, weights.subtracts[0],
    )  # fmt: skip
    inputs = [weights.source, *([weights.names[0]] if weights.dynamic[0] else [])]
    return parts.product("input", part, inputs, (rows, columns), "float32")


def _state(parts: PartList, sizes: _Sizes, count: int) -> list[str]:
    """Add the first state, which is loaded where it is given, and else is zero; later ones take its place."""
    node = parts.node
    given = [node.input[place] for place in (5, 6)[:count] if place < len(node.input) and node.input[place]]
    shape = sizes.directions, sizes.batch, sizes.hidden
    results = [(name, "float32", shape) for name in ("state", "cells")[:count]]
    return parts.vector("state", VectorPart(), given, results)


def _product_with_state(
    parts: PartList, sizes: _Sizes, weights: _Weights, state: str, gates: int, kind: str = "recurrent"
) -> str:
    """Add the product of each step with some of the gates; codes of the state are made step by step."""
    first = state
    if weights.arithmetic[1] == "integer":
        both = ((1, 4 * sizes.units),) * 2  # the extremes must be known before the first code
        step = Step("DynamicQuantizeLinear", sizes.units)
        part = VectorPart((step,), both, None, sizes.units, sizes.steps, quantises=True)
        shape = sizes.directions, sizes.batch, sizes.hidden
        (first,) = parts.vector("quantise_state", part, [state], [("state_codes", "uint8", shape)])
    columns = gates * sizes.hidden
    product = ProductPart(
        sizes.batch, sizes.hidden, columns, sizes.directions, weights.arithmetic[1], *weights.bits[1],
        weights.dynamic[1], 4, 0 if weights.dynamic[1] else weights.parameters[1], sizes.steps, UNSCALED,
        weights.subtracts[1],
    )  # fmt: skip
    inputs = [first, *([weights.names[1]] if weights.dynamic[1] else [])]
    return parts.product(kind, product, inputs, (sizes.directions, sizes.batch, columns), "float32")


def _activations(node: NodeProto, defaults: Sequence[str]) -> list[str]:
    """Return the activations of one direction, all of which the vector unit must have."""
    names = [name.decode() for name in attributes(node).get("activations", ())] or list(defaults)
    chosen = names[: len(defaults)]
    if names not in (chosen, chosen * 2) or any(name not in vector_costs()[1] for name in chosen):
        raise NotOnTheMachineError("activations that have no price, or other ones per direction")
    return chosen


def _gates(parts: PartList, sizes: _Sizes, read: Sequence[tuple[str, int]], steps: Sequence[Step]) -> Imported:
    """Finish with the gates of each step, which write one step of the output; `read`: tensors and bytes per step."""
    runs = tuple((1, size) for _, size in read)
    part = VectorPart(tuple(steps), runs, ((1, 4 * sizes.units),), max(sizes.units, 1), sizes.steps)
    return parts.finish(part, [name for name, _ in read])


def _biased(node: NodeProto) -> bool:
    return len(node.input) > 3 and bool(node.input[3])


def import_lstm(context: Context, node: NodeProto) -> Imported:
    """LSTM: x, W, R [, bias, lengths, state, cells, peepholes]."""
    return _lstm(PartList(context, node), _sizes(context, node, 4), quantised=False)


def import_quantised_lstm(context: Context, node: NodeProto) -> Imported:
    """DynamicQuantizeLSTM: the same with the weights' scales and zero points behind."""
    return _lstm(PartList(context, node), _sizes(context, node, 4, turned=True), quantised=True)


def _lstm(parts: PartList, sizes: _Sizes, *, quantised: bool) -> Imported:
    """Four gates, the cells, and the state: i, o, f, then c = f * c + i * g and h = o * tanh(c)."""
    node = parts.node
    gate, middle, last = _activations(node, ("Sigmoid", "Tanh", "Tanh"))
    weights = _quantised(parts, _biased(node)) if quantised else _plain(parts, _biased(node))
    given = _product_with_input(parts, sizes, weights)
    state, cells = _state(parts, sizes, 2)
    product = _product_with_state(parts, sizes, weights, state, 4)
    count = sizes.units
    peepholes = 3 * count if len(node.input) > 7 and node.input[7] else 0
    steps = [
        Step("Add", 4 * count + peepholes), Step(gate, 3 * count), Step(middle, count), Step(last, count),
        Step("Mul", 3 * count + peepholes), Step("Add", count),
    ]  # fmt: skip
    return _gates(parts, sizes, [(product, 16 * count), (cells, 4 * count), (given, 16 * count)], steps)


def import_gru(context: Context, node: NodeProto) -> Imported:
    """GRU: z and r, then the candidate from r * h, before its product (a product of its own) or behind it."""
    parts, sizes = PartList(context, node), _sizes(context, node, 3)
    gate, middle = _activations(node, ("Sigmoid", "Tanh"))
    weights = _plain(parts, _biased(node))
    given = _product_with_input(parts, sizes, weights)
    (state,) = _state(parts, sizes, 1)
    count = sizes.units
    final = [Step(middle, count), Step("Mul", 2 * count), Step("Add", 2 * count)]  # h = (1 - z) * candidate + z * h
    if attributes(node).get("linear_before_reset"):
        product = _product_with_state(parts, sizes, weights, state, 3)
        steps = [Step("Add", 3 * count), Step(gate, 2 * count), Step("Mul", count), *final]
        return _gates(parts, sizes, [(product, 12 * count), (state, 4 * count), (given, 12 * count)], steps)
    product = _product_with_state(parts, sizes, weights, state, 2)
    shape = sizes.directions, sizes.batch, sizes.hidden
    reset = VectorPart(
        (Step("Add", 2 * count), Step(gate, 2 * count), Step("Mul", count)),
        ((1, 8 * count), (1, 4 * count), (1, 8 * count)), None, 1, sizes.steps,
    )  # fmt: skip
    less, update = parts.vector(
        "reset", reset, [product, state, given], [("reset", "float32", shape), ("update", "float32", shape)]
    )
    candidate = _product_with_state(parts, sizes, weights, less, 1, "candidate")
    read = [(candidate, 4 * count), (update, 4 * count), (state, 4 * count), (given, 4 * count)]
    return _gates(parts, sizes, read, [Step("Add", count), *final])


def import_rnn(context: Context, node: NodeProto) -> Imported:
    """RNN: one activation of the sum of both products."""
    parts, sizes = PartList(context, node), _sizes(context, node, 1)
    (function,) = _activations(node, ("Tanh",))
    weights = _plain(parts, _biased(node))
    given = _product_with_input(parts, sizes, weights)
    (state,) = _state(parts, sizes, 1)
    product = _product_with_state(parts, sizes, weights, state, 1)
    count = sizes.units
    return _gates(parts, sizes, [(product, 4 * count), (given, 4 * count)], [Step("Add", count), Step(function, count)])


RECURRENT: dict[tuple[str, str], Callable[[Context, NodeProto], Imported]] = {
    ("", "LSTM"): import_lstm,
    ("", "GRU"): import_gru,
    ("", "RNN"): import_rnn,
    ("com.microsoft", "DynamicQuantizeLSTM"): import_quantised_lstm,
}
