"""Which tensors are codes times a scale: what a product can take as integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import NodeProto

from accelsim.graph.context import Context, attributes
from accelsim.graph.load.element_types import ELEMENT_BITS

if TYPE_CHECKING:
    from accelsim.graph.quantised.tensor import QuantisedTensor

# Operators that quantisers are spelled in: the codes are made of what the first of them reads.
_SPELLED = frozenset({"Round", "Clip", "Div", "Add", "Sub"})
_CODES = (np.dtype(np.uint8), np.dtype(np.int8))


@dataclass(frozen=True, eq=False)
class Codes:
    """A float tensor that is codes times a scale."""

    name: str
    """Tensor of the codes."""
    bits: int
    """Of a code."""
    scales: int
    """How many there are."""
    nodes: tuple[NodeProto, ...]
    """What makes the float tensor of codes of the graph, in topological order."""
    constant: bool
    """Whether the codes are."""


def codes_of(context: Context, name: str) -> Codes | None:
    """Return the codes behind a float tensor, known before the run but for what they hold.

    Args:
        context: the normalised graph.
        name: the float tensor.

    Returns:
        None where it is no such tensor, its codes have more than 8 bits, or blocks of them share a scale.
    """
    node, known = context.producer(name), context.quantised.get(name)
    if known is not None and (node is None or node.op_type != "DequantizeLinear"):
        return _behind_others(context, name, known)
    if node is None or node.op_type != "DequantizeLinear" or attributes(node).get("block_size"):
        return None
    if any(given and given not in context.constants for given in node.input[1:]):
        return None
    source, scales = node.input[0], int(context.constants[node.input[1]].size)
    if source in context.tensors:
        bits = ELEMENT_BITS.get(context.tensors[source].data_type, 32)
        return Codes(source, bits, scales, (node,), True) if bits <= 8 else None
    return Codes(source, 8, scales, (node,), False) if context.types[source].dtype in _CODES else None


def _behind_others(context: Context, name: str, tensor: QuantisedTensor) -> Codes | None:
    """Return the codes of a tensor that other nodes made of dequantised ones."""
    late = tensor.late_scale is not None or tensor.late_zero_point is not None
    bits = context.format_of(tensor.name, 0).width
    if late or tensor.block or bits > 8:
        return None
    nodes: dict[str, NodeProto] = {}
    _collect(context, name, nodes)
    return Codes(tensor.name, bits, tensor.scales.size, tuple(nodes.values()), tensor.name in context.constants)


def _collect(context: Context, name: str, nodes: dict[str, NodeProto]) -> None:
    """Collect what makes a quantised float tensor, back to the nodes that dequantise, or that round what they read."""
    node = context.producer(name)
    if node is None or node.output[0] in nodes:
        return
    if node.op_type != "DequantizeLinear":
        for source in node.input:
            if source in context.quantised or (node.op_type in _SPELLED and source not in context.constants):
                _collect(context, source, nodes)
    nodes[node.output[0]] = node
