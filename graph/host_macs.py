"""Multiply-accumulates of nodes that are not on the array, so that the array's share of the work can be stated."""

from __future__ import annotations

import math
from collections.abc import Callable

from onnx import NodeProto

from accelsim.graph.context import Context, attributes

Shape = tuple[int, ...]


def host_macs(context: Context, node: NodeProto) -> int:
    """Return the multiply-accumulates that a node's definition asks for; 0 for operators that are no contractions.

    Args:
        context: the normalised graph, for shapes.
        node: a node that runs outside of the machine.
    """
    counter = _COUNTERS.get(node.op_type)
    return counter(context, node) if counter is not None else 0


def _shape(context: Context, name: str) -> Shape:
    return context.types[name].shape


def _product(first: int, second: int) -> Callable[[Context, NodeProto], int]:
    """Return the counter of a matrix product with operands at two input positions."""

    def count(context: Context, node: NodeProto) -> int:
        left = _shape(context, node.input[first])
        transposed = attributes(node).get("transA", 0)
        depth = left[-2] if transposed and len(left) > 1 else left[-1]
        return math.prod(_shape(context, node.output[0])) * depth

    return count


def _packed_product(context: Context, node: NodeProto) -> int:
    """MatMulNBits: K and N are attributes."""
    return math.prod(_shape(context, node.output[0])) * int(attributes(node)["K"])


def _convolution(position: int) -> Callable[[Context, NodeProto], int]:
    """Return the counter of a convolution with weights [filters, channels per group, window...]."""

    def count(context: Context, node: NodeProto) -> int:
        weights = _shape(context, node.input[position])
        return math.prod(_shape(context, node.output[0])) * math.prod(weights[1:])

    return count


def _transposed_convolution(context: Context, node: NodeProto) -> int:
    """ConvTranspose: every input element meets the window of each of its group's filters."""
    weights = _shape(context, node.input[1])
    return math.prod(_shape(context, node.input[0])) * math.prod(weights[1:])


def _recurrent(gates: int) -> Callable[[Context, NodeProto], int]:
    """Return the counter of LSTM, GRU, RNN: x [steps, batch, input], weights [directions, gates * hidden, ...]."""

    def count(context: Context, node: NodeProto) -> int:
        steps, batch, width = _shape(context, node.input[0])
        directions, rows = _shape(context, node.input[1])[:2]
        return steps * batch * directions * rows * (width + rows // gates)

    return count


def _einsum(context: Context, node: NodeProto) -> int:
    """Einsum of several operands: one multiply-accumulate per combination of all indices."""
    equation = attributes(node)["equation"].decode().replace(" ", "")
    terms = equation.split("->")[0].split(",")
    if len(terms) < 2:
        return 0
    sizes: dict[str, int] = {}
    rest = 1
    for term, name in zip(terms, node.input, strict=True):
        shape = _shape(context, name)
        head, dots, tail = term.partition("...")
        sizes.update(zip(head, shape, strict=False))
        sizes.update(zip(reversed(tail), reversed(shape), strict=False))
        rest = max(rest, math.prod(shape[len(head) : len(shape) - len(tail)])) if dots else rest
    return rest * math.prod(sizes.values())


def _attention(context: Context, node: NodeProto) -> int:
    """com.microsoft Attention: x [B, S, D] times weights [D, 3 * H], then scores and their product with the values."""
    batch, length, width = _shape(context, node.input[0])
    columns = _shape(context, node.input[1])[-1]
    return batch * length * (width * columns + 2 * length * (columns // 3))


_COUNTERS: dict[str, Callable[[Context, NodeProto], int]] = {
    **dict.fromkeys(
        (
            "MatMul", "FusedMatMul", "Gemm", "FusedGemm", "MatMulInteger", "DynamicQuantizeMatMul",
            "MatMulIntegerToFloat", "MatMulInteger16", "QGemm",
        ),
        _product(0, 1),
    ),
    "QLinearMatMul": _product(0, 3),
    "MatMulNBits": _packed_product,
    **dict.fromkeys(("Conv", "FusedConv", "ConvInteger", "NhwcFusedConv", "ConvIntegerToFloat"), _convolution(1)),
    "QLinearConv": _convolution(3),
    "ConvTranspose": _transposed_convolution,
    "LSTM": _recurrent(4),
    "GRU": _recurrent(3),
    "RNN": _recurrent(1),
    "Einsum": _einsum,
    "Attention": _attention,
    "QAttention": _attention,
}  # fmt: skip
