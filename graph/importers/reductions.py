"""Reductions of codes, and float32 arithmetic outside of groups: operators of one node."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import NodeProto

from accelsim.graph.context import Context, Imported, attributes
from accelsim.graph.quantised.tensor import NotOnTheMachineError
from accelsim.operators.vector import ArgExtreme, FloatArithmetic, ReduceExtreme

# Float operators of one IEEE 754 operation per element: numpy rounds as onnxruntime does (ONNX Runtime semantics,
# section 6).
ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div", "Sqrt", "Reciprocal", "Neg", "Abs"})


def reduced_axes(context: Context, node: NodeProto) -> tuple[int, ...]:
    """Return the axes that a reduction goes over, all of them when none are given.

    Raises:
        NotOnTheMachineError: they are computed, or their absence means to do nothing.
    """
    attribute = attributes(node)
    rank = len(context.types[node.input[0]].shape)
    given = attribute.get("axes")
    if given is None:
        constant = context.optional(node, 1)
        given = None if constant is None else constant.reshape(-1).tolist()
    if not given:
        if attribute.get("noop_with_empty_axes"):
            raise NotOnTheMachineError("a reduction that does nothing")
        return tuple(range(rank))
    return tuple(sorted({int(axis) % rank for axis in given}))


def import_reduce_extreme(context: Context, node: NodeProto) -> Imported:
    """ReduceMax and ReduceMin of integers."""
    source = context.types[node.input[0]]
    if source.dtype.kind not in "iu" or not source.elements or not source.shape:
        raise NotOnTheMachineError("not integers")
    function = node.op_type.removeprefix("Reduce").lower()
    keep = bool(attributes(node).get("keepdims", 1))
    return Imported(ReduceExtreme(function, reduced_axes(context, node), keep), (node.input[0],))


def import_arg_extreme(context: Context, node: NodeProto) -> Imported:
    """ArgMax and ArgMin of integers, or of dequantised codes, which are never NaN."""
    source, attribute = context.types[node.input[0]], attributes(node)
    ordered = source.dtype.kind in "iu" or _is_dequantised(context, node.input[0])
    if not ordered or not source.elements or not source.shape:
        raise NotOnTheMachineError("not integers")
    axis = int(attribute.get("axis", 0)) % len(source.shape)
    operator = ArgExtreme(
        node.op_type.removeprefix("Arg").lower(),
        axis,
        bool(attribute.get("keepdims", 1)),
        bool(attribute.get("select_last_index", 0)),
    )
    return Imported(operator, (node.input[0],))


def _is_dequantised(context: Context, name: str) -> bool:
    """Tell whether a tensor is the output of a DequantizeLinear."""
    producer = context.producer(name)
    return producer is not None and producer.op_type == "DequantizeLinear"


def import_arithmetic(context: Context, node: NodeProto) -> Imported:
    """One float32 operation per element on float tensors."""
    names = tuple(filter(None, node.input))
    if any(context.types[name].dtype != np.float32 for name in names) or attributes(node):
        raise NotOnTheMachineError("not plain float32")
    return Imported(FloatArithmetic(node.op_type), names)


REDUCTIONS: dict[str, Callable[[Context, NodeProto], Imported]] = {
    "ReduceMax": import_reduce_extreme,
    "ReduceMin": import_reduce_extreme,
    "ArgMax": import_arg_extreme,
    "ArgMin": import_arg_extreme,
    **dict.fromkeys(ARITHMETIC, import_arithmetic),
}
