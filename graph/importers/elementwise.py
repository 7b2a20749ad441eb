"""Operators of the vector unit: additions, products, poolings, tables, softmax, quantisers at the borders."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from accelsim.graph.context import Context, Imported, attributes
from accelsim.graph.importers.host import apply_unary
from accelsim.graph.importers.windows import window_geometry
from accelsim.graph.quantised.quantiser import all_codes, dequantise_codes, quantise_values
from accelsim.graph.quantised.tensor import NotOnTheMachineError
from accelsim.operators import (
    CLIP_CODES,
    AveragePool,
    CodeFormat,
    Concatenate,
    Dequantise,
    ElementwiseAdd,
    ElementwiseMultiply,
    GlobalAveragePool,
    MaxPool,
    Quantise,
    Softmax,
    TableLookup,
)
from accelsim.reference.probes import softmax_arithmetic

Codes = NDArray[np.generic]
Floats = NDArray[np.float32]


def first_is_scalar(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    """Tell whether onnxruntime treats operand A as the scalar of its innermost broadcast span.

    ONNX Runtime semantics, section 3.4.
    """
    if not first or not second:
        return not first or first[-1] == 1
    for a, b in zip(reversed(first), reversed(second), strict=False):
        if max(a, b) > 1:
            return a == 1
    return True


def import_add(context: Context, node: NodeProto) -> Imported:
    """QLinearAdd: a, s_a, z_a, b, s_b, z_b, s_y, z_y."""
    first, second = node.input[0], node.input[3]
    out_scale = context.scale(node, 6)
    operator = ElementwiseAdd(
        context.code(first, context.zero_point(node, 2)),
        context.code(second, context.zero_point(node, 5)),
        np.float32(context.scale(node, 1) / out_scale),
        np.float32(context.scale(node, 4) / out_scale),
        first_is_scalar(context.types[first].shape, context.types[second].shape),
        context.code(node.output[0], context.zero_point(node, 7)),
    )
    return Imported(operator, (first, second))


def import_multiply(context: Context, node: NodeProto) -> Imported:
    """QLinearMul: a, s_a, z_a, b, s_b, z_b, s_y, z_y."""
    first, second = node.input[0], node.input[3]
    ratio = np.float32(np.float32(context.scale(node, 1) * context.scale(node, 4)) / context.scale(node, 6))
    operator = ElementwiseMultiply(
        context.code(first, context.zero_point(node, 2)),
        context.code(second, context.zero_point(node, 5)),
        ratio,
        context.code(node.output[0], context.zero_point(node, 7)),
    )
    return Imported(operator, (first, second))


def import_average_pool(context: Context, node: NodeProto) -> Imported:
    """QLinearAveragePool: x, s_x, z_x, s_y, z_y; a window over the whole image runs as a global pool."""
    attribute = attributes(node)
    shape = context.types[node.input[0]].shape
    geometry = window_geometry(attribute, tuple(attribute["kernel_shape"]), shape[2:], pooling=True)
    if geometry.dilations != (1, 1):
        raise NotOnTheMachineError("a dilated average pool")
    if tuple(attribute["kernel_shape"]) == shape[2:] and not any(geometry.pads):
        return import_global_average_pool(context, node)
    operator = AveragePool(
        geometry,
        context.code(node.input[0], context.zero_point(node, 2)),
        context.scale(node, 1),
        context.scale(node, 3),
        context.code(node.output[0], context.zero_point(node, 4)),
        bool(attribute.get("count_include_pad", 0)),
        bool(attribute.get("ceil_mode", 0)),
    )
    return Imported(operator, (node.input[0],))


def import_global_average_pool(context: Context, node: NodeProto) -> Imported:
    """QLinearGlobalAveragePool: x, s_x, z_x, s_y, z_y; multiplier fl32(s_x / fl32(s_y * N))."""
    count = math.prod(context.types[node.input[0]].shape[2:])
    multiplier = context.scale(node, 1) / np.float32(context.scale(node, 3) * np.float32(count))
    operator = GlobalAveragePool(
        context.code(node.input[0], context.zero_point(node, 2)),
        np.float32(multiplier),
        context.code(node.output[0], context.zero_point(node, 4)),
    )
    return Imported(operator, (node.input[0],))


def import_max_pool(context: Context, node: NodeProto) -> Imported:
    """MaxPool on 8-bit codes."""
    attribute = attributes(node)
    context.code(node.input[0], 0)
    if attribute.get("storage_order") or len([name for name in node.output if name]) > 1:
        raise NotOnTheMachineError("indices of maxima")
    spatial = context.types[node.input[0]].shape[2:]
    geometry = window_geometry(attribute, tuple(attribute["kernel_shape"]), spatial, pooling=True)
    return Imported(MaxPool(geometry, bool(attribute.get("ceil_mode", 0))), (node.input[0],))


def softmax_table(length: int, scale: np.float32) -> Floats:
    """Return the 256 exponentials of QLinearSoftmax: float64 inside, float32 entries.

    ONNX Runtime semantics, section 3.8.
    """
    limit = float(np.float32(math.log(np.finfo(np.float32).max / np.float32(length))))
    shift = max(0.0, limit - 5.0) / float(scale)
    with np.errstate(over="ignore"):
        table = [math.exp(min((i - 255.0 + shift) * float(scale), 700.0)) for i in range(256)]
        return np.array(table, np.float64).astype(np.float32)


def import_softmax(context: Context, node: NodeProto) -> Imported:
    """QLinearSoftmax: x, s_x, z_x, s_y, z_y; opset below 13 flattens from the axis."""
    attribute = attributes(node)
    opset = int(attribute.get("opset", context.opset))
    flatten = opset < 13
    shape = context.types[node.input[0]].shape
    axis = int(attribute.get("axis", 1 if flatten else -1)) % len(shape)
    length = math.prod(shape[axis:]) if flatten else shape[axis]
    context.code(node.input[0], 0)
    operator = Softmax(
        softmax_table(length, context.scale(node, 1)),
        np.float32(np.floor(np.float32(1.0) / context.scale(node, 3))),
        softmax_arithmetic(),
        axis,
        flatten,
        context.code(node.output[0], context.zero_point(node, 4)),
    )
    return Imported(operator, (node.input[0],))


def _table(context: Context, node: NodeProto, function: str, values: Floats) -> Imported:
    """Build a table lookup from the float results for all codes; x, s_x, z_x, s_y, z_y."""
    code = context.code(node.output[0], context.zero_point(node, 4))
    return Imported(TableLookup(function, quantise_values(values, context.scale(node, 3), code)), (node.input[0],))


def _table_inputs(context: Context, node: NodeProto) -> Floats:
    """Dequantise all 256 codes of a node's input."""
    code = context.code(node.input[0], context.zero_point(node, 2))
    return dequantise_codes(all_codes(code.dtype), context.scale(node, 1), code.zero_point)


def import_sigmoid(context: Context, node: NodeProto) -> Imported:
    """QLinearSigmoid through onnxruntime's own float Sigmoid on the 256 possible inputs."""
    sigmoid = helper.make_node("Sigmoid", ["x"], ["y"])
    values = apply_unary(sigmoid, _table_inputs(context, node), [helper.make_opsetid("", 13)])
    return _table(context, node, "sigmoid", values)


def import_leaky_relu(context: Context, node: NodeProto) -> Imported:
    """QLinearLeakyRelu: t >= 0 ? t : fl32(alpha * t) on the 256 possible inputs."""
    alpha = np.float32(attributes(node).get("alpha", 0.01))
    values = _table_inputs(context, node)
    return _table(context, node, "leaky_relu", np.where(values >= 0, values, alpha * values).astype(np.float32))


def import_quantised_concat(context: Context, node: NodeProto) -> Imported:
    """QLinearConcat: s_y, z_y, then x, s_x, z_x per input; a table per input whose scale or zero point differs."""
    out_scale = context.scale(node, 0)
    output = context.code(node.output[0], context.zero_point(node, 1))
    tables: list[Codes | None] = []
    names = []
    for position in range(2, len(node.input), 3):
        code = context.code(node.input[position], context.zero_point(node, position + 2))
        scale = context.scale(node, position + 1)
        same = scale == out_scale and code == output
        values = dequantise_codes(all_codes(code.dtype), scale, code.zero_point)
        tables.append(None if same else quantise_values(values, out_scale, output))
        names.append(node.input[position])
    axis = int(attributes(node)["axis"]) % len(context.types[names[0]].shape)
    return Imported(Concatenate(axis, tuple(tables)), tuple(names))


def import_clip(context: Context, node: NodeProto) -> Imported:
    """Clip of 8- or 16-bit codes with constant bounds; absent ones are those of the type."""
    kind = context.types[node.input[0]].dtype
    if kind not in map(np.dtype, ("u1", "i1", "u2", "i2")):
        raise NotOnTheMachineError("not 8- or 16-bit codes")
    low, high = (context.optional(node, position) for position in (1, 2))
    codes = all_codes(kind)
    lowest = codes.min() if low is None else low.reshape(-1)[0]
    highest = codes.max() if high is None else high.reshape(-1)[0]
    if lowest > highest:
        raise NotOnTheMachineError("bounds that leave nothing")
    return Imported(TableLookup(CLIP_CODES, np.clip(codes, lowest, highest).astype(kind)), (node.input[0],))


def import_quantise(context: Context, node: NodeProto) -> Imported:
    """QuantizeLinear of float32 with one scale: x, s, z."""
    kind = context.types[node.output[0]].dtype
    if context.types[node.input[0]].dtype != np.float32 or kind not in map(np.dtype, ("u1", "i1", "u2", "i2")):
        raise NotOnTheMachineError("not float32 to 8- or 16-bit codes")
    operator = Quantise(context.scale(node, 1), CodeFormat(kind, context.zero_point(node, 2)))
    return Imported(operator, (node.input[0],))


def import_dequantise(context: Context, node: NodeProto) -> Imported:
    """DequantizeLinear to float32 with one scale: x, s [, z]."""
    kind = context.types[node.input[0]].dtype
    if context.types[node.output[0]].dtype != np.float32 or kind not in map(np.dtype, ("u1", "i1", "u2", "i2", "i4")):
        raise NotOnTheMachineError("not 8-, 16- or 32-bit codes to float32")
    operator = Dequantise(context.scale(node, 1), CodeFormat(kind, context.zero_point(node, 2)))
    return Imported(operator, (node.input[0],))
