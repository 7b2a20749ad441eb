"""Multiply-accumulates of nodes that are not on the array, so that the array's share of the work can be stated.

They are counted by what an operator does: by its domain, its name and its version. What may multiply-accumulate and has
no counter is not counted as nothing, but as unknown.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from onnx import NodeProto

from accelsim.graph.context import Context, attributes
from accelsim.graph.importers.attention_sizes import ATTENTION, shape_at
from accelsim.graph.importers.without_macs import WITHOUT_MACS

Shape = tuple[int, ...]
Counter = Callable[[Context, NodeProto], int | None]


def host_macs(context: Context, node: NodeProto) -> int | None:
    """Return the multiply-accumulates that a node's definition asks for; None where nobody knows.

    Args:
        context: the normalised graph, for shapes and versions.
        node: a node that runs outside of the machine.
    """
    key = domain_of(node), node.op_type
    if key in WITHOUT_MACS:
        return 0
    if key in ATTENTION:
        sizes = ATTENTION[key](context, node) if key[0] or context.opset >= _ATTENTION_SINCE else None
        return None if sizes is None else sizes.macs
    counter = _COUNTERS.get(key)
    return None if counter is None else counter(context, node)


def domain_of(node: NodeProto) -> str:
    """Return the domain of a node, "" for the standard one in both of its spellings."""
    return "" if node.domain == "ai.onnx" else str(node.domain)


# Attention of the standard domain exists since this opset.
_ATTENTION_SINCE = 23


def _shape(context: Context, name: str) -> Shape:
    return context.types[name].shape


def _product(first: int, second: int) -> Counter:
    """Return the counter of a matrix product with operands at two input positions, vectors included."""

    def count(context: Context, node: NodeProto) -> int:
        left, right = _shape(context, node.input[first]), _shape(context, node.input[second])
        return math.prod(_shape(context, node.output[0])) * _depth(node, left, right)

    return count


def _depth(node: NodeProto, left: Shape, right: Shape) -> int:
    """Return K; transBatchA moves the first axis of the first operand behind its batch."""
    attribute = attributes(node)
    if not left or not right:  # a scalar scales, which contracts nothing
        return 0
    if not attribute.get("transA", 0) or len(left) == 1:
        return left[-1]
    return left[0] if attribute.get("transBatchA", 0) else left[-2]


def _packed_product(context: Context, node: NodeProto) -> int:
    """MatMulNBits and MatMulBnb4: K and N are attributes."""
    return math.prod(_shape(context, node.output[0])) * int(attributes(node)["K"])


def _convolution(position: int) -> Counter:
    """Return the counter of a convolution with weights [filters, channels per group, window...].

    With channels last the weights keep this order; blocked weights are padded to whole blocks, and so is the count.
    """

    def count(context: Context, node: NodeProto) -> int:
        weights = _shape(context, node.input[position])
        return math.prod(_shape(context, node.output[0])) * math.prod(weights[1:])

    return count


def _transposed_convolution(context: Context, node: NodeProto) -> int:
    """ConvTranspose: every input element meets the window of each of its group's filters."""
    weights = _shape(context, node.input[1])
    return math.prod(_shape(context, node.input[0])) * math.prod(weights[1:])


def _recurrent(gates: int) -> Counter:
    """Return the counter of LSTM, GRU, RNN: x [steps, batch, input], weights [directions, gates * hidden, ...].

    Shorter sequences of a batch count as long ones; with batches first x is [batch, steps, input].
    """

    def count(context: Context, node: NodeProto) -> int:
        steps, batch, width = _shape(context, node.input[0])
        directions, rows = _shape(context, node.input[1])[:2]
        return steps * batch * directions * rows * (width + rows // gates)

    return count


def _quantised_recurrent(context: Context, node: NodeProto) -> int:
    """DynamicQuantizeLSTM: the weights are transposed, [directions, input, 4 * hidden]."""
    steps, batch, width = _shape(context, node.input[0])
    directions, _, columns = _shape(context, node.input[1])
    return steps * batch * directions * columns * (width + columns // 4)


def _einsum(context: Context, node: NodeProto) -> int:
    """Einsum: operands are joined from left to right, as onnxruntime does it.

    Joining contracts the indices that nothing behind it needs; a joint without any is a multiplication by elements.
    """
    left, _, result = attributes(node)["equation"].decode().replace(" ", "").partition("->")
    terms = [term.replace("...", ".") for term in left.split(",")]
    sizes: dict[str, int] = {}
    dots = 1
    for term, name in zip(terms, node.input, strict=True):
        shape = _shape(context, name)
        head, dotted, tail = term.partition(".")
        sizes.update(zip(head, shape, strict=False))
        sizes.update(zip(reversed(tail), reversed(shape), strict=False))
        dots = max(dots, math.prod(shape[len(head) : len(shape) - len(tail)])) if dotted else dots
    sizes["."] = dots
    wanted = set(result.replace("...", ".")) if result else _kept_without_result(left)
    joined, total = set(terms[0]), 0
    for number, term in enumerate(terms[1:], 2):
        both = joined | set(term)
        needed = wanted.union(*terms[number:])
        total += math.prod(sizes[index] for index in both) if joined & set(term) - needed else 0
        joined = both & needed
    return total


def _kept_without_result(left: str) -> set[str]:
    """Return the indices of an implicit result: those that occur once, and the dots."""
    return {index for index in left.replace("...", ".") if index == "." or left.count(index) == 1}


def _small_grid(context: Context, node: NodeProto) -> int | None:
    """AffineGrid: homogeneous coordinates [..., axes + 1] times theta [N, axes, axes + 1]."""
    theta = shape_at(context, node, 0)
    return None if theta is None else math.prod(_shape(context, node.output[0])) * theta[-1]


_MATRIX = _product(0, 1)
_COUNTERS: dict[tuple[str, str], Counter] = {
    **dict.fromkeys([("", name) for name in ("MatMul", "Gemm", "MatMulInteger")], _MATRIX),
    **dict.fromkeys(
        [
            ("com.microsoft", name)
            for name in (
                "FusedMatMul", "FusedGemm", "TransposeMatMul", "GemmFastGelu", "DynamicQuantizeMatMul",
                "MatMulIntegerToFloat", "MatMulInteger16",
            )
        ],
        _MATRIX,
    ),
    ("", "QLinearMatMul"): _product(0, 3),
    ("com.microsoft", "QGemm"): _product(0, 3),
    ("com.microsoft", "MatMulNBits"): _packed_product,
    ("com.microsoft", "MatMulBnb4"): _packed_product,
    **dict.fromkeys([("", name) for name in ("Conv", "ConvInteger", "DeformConv")], _convolution(1)),
    **dict.fromkeys(
        [("com.microsoft", name) for name in ("FusedConv", "NhwcConv", "NhwcFusedConv")], _convolution(1)
    ),
    ("com.microsoft.nchwc", "Conv"): _convolution(1),
    ("com.ms.internal.nhwc", "Conv"): _convolution(1),
    **dict.fromkeys(
        [(domain, "QLinearConv") for domain in ("", "com.microsoft", "com.ms.internal.nhwc")], _convolution(3)
    ),
    ("", "ConvTranspose"): _transposed_convolution,
    ("com.microsoft", "ConvTransposeWithDynamicPads"): _transposed_convolution,
    ("", "LSTM"): _recurrent(4),
    ("", "GRU"): _recurrent(3),
    ("", "RNN"): _recurrent(1),
    ("com.microsoft", "DynamicQuantizeLSTM"): _quantised_recurrent,
    ("", "Einsum"): _einsum,
    ("", "AffineGrid"): _small_grid,
}  # fmt: skip
