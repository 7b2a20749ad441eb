"""QLinearConv, QLinearMatMul, QGemm and MatMulIntegerToFloat: everything that runs on the MAC array."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from accelsim.graph.context import Context, Imported, NotOnTheMachineError, attributes
from accelsim.graph.windows import window_geometry
from accelsim.operators import CodeFormat, Convolution, Epilogue, MatrixMultiply, Requantise, Rescale, Weights

IntArray = NDArray[np.generic]
FloatVector = NDArray[np.float32]


def output_scale(input_scale: np.float32, weight_scales: FloatVector, out_scale: np.float32) -> FloatVector:
    """Return fl32(fl32(s_x * s_w) / s_y), the order of ONNX Runtime semantics section 3.2."""
    with np.errstate(over="ignore"):  # an infinite multiplier saturates every code, in onnxruntime as well
        result: FloatVector = (np.float32(input_scale) * weight_scales.astype(np.float32)) / np.float32(out_scale)
    return result


def make_weights(codes: IntArray, zero_points: IntArray | None, bias: IntArray | None) -> Weights:
    """Subtract zero points from weight codes and pair them with the bias.

    Args:
        codes: uint8 or int8 [N, K].
        zero_points: one, or one per row; None means 0.
        bias: int32 with N elements, or None.

    Raises:
        NotOnTheMachineError: types or sizes that onnxruntime's integer kernels do not take either.
    """
    if codes.dtype not in (np.dtype(np.uint8), np.dtype(np.int8)):
        raise NotOnTheMachineError("weights are not 8-bit codes")
    shift = np.zeros(1, np.int16) if zero_points is None else zero_points.reshape(-1).astype(np.int16)
    if shift.size not in (1, codes.shape[0]):
        raise NotOnTheMachineError("zero points of the weights are neither one nor one per output channel")
    if bias is not None and (bias.dtype != np.int32 or bias.size != codes.shape[0]):
        raise NotOnTheMachineError("the bias is not one int32 per output channel")
    values = np.empty(codes.shape, np.int16)
    np.subtract(codes, shift[:, None], out=values, dtype=np.int16)  # without a second copy in memory
    start = np.zeros(codes.shape[0], np.int32) if bias is None else bias.reshape(-1).astype(np.int32)
    return Weights(values, start)


def import_convolution(context: Context, node: NodeProto) -> Imported:
    """QLinearConv: x, s_x, z_x, w, s_w, z_w, s_y, z_y [, bias]."""
    attribute = attributes(node)
    if attribute.get("channels_last"):
        raise NotOnTheMachineError("channels last")
    weights = context.constant(node, 3)
    spatial = context.types[node.input[0]].shape[2:]
    geometry = window_geometry(attribute, weights.shape[2:], spatial)
    operator = Convolution(
        geometry,
        int(attribute.get("group", 1)),
        make_weights(weights.reshape(weights.shape[0], -1), context.optional(node, 5), context.optional(node, 8)),
        context.code(node.input[0], context.zero_point(node, 2)),
        _requantise(context, node, scales=(1, 4, 6), zero_point=7),
    )
    return Imported(operator, (node.input[0],))


def _requantise(context: Context, node: NodeProto, scales: tuple[int, int, int], zero_point: int) -> Requantise:
    """Build the requantiser of a node from the positions of its scales and its output zero point."""
    input_scale, weight_scales, out_scale = scales
    multiplier = output_scale(
        context.scale(node, input_scale), context.scales(node, weight_scales), context.scale(node, out_scale)
    )
    return Requantise(multiplier, context.code(node.output[0], context.zero_point(node, zero_point)))


def import_matmul(context: Context, node: NodeProto) -> Imported:
    """QLinearMatMul: a, s_a, z_a, b, s_b, z_b, s_y, z_y."""
    epilogue = _requantise(context, node, scales=(1, 4, 6), zero_point=7)
    return _product(context, node, second=3, zero_points=(2, 5), epilogue=epilogue)


def import_matmul_to_float(context: Context, node: NodeProto) -> Imported:
    """MatMulIntegerToFloat: a, b, s_a, s_b, z_a, z_b, bias."""
    scale = context.scale(node, 2) * context.scales(node, 3)
    bias = context.optional(node, 6)
    vector = None if bias is None else bias.reshape(-1).astype(np.float32)
    return _product(context, node, second=1, zero_points=(4, 5), epilogue=Rescale(scale, vector))


def _product(
    context: Context, node: NodeProto, second: int, zero_points: tuple[int, int], epilogue: Epilogue
) -> Imported:
    """Build a matrix product whose second operand is constant or computed."""
    left, right = node.input[0], node.input[second]
    first = context.code(left, context.zero_point(node, zero_points[0]))
    ranks = len(context.types[left].shape), len(context.types[right].shape)
    if min(ranks) < 2:
        raise NotOnTheMachineError("a vector operand")
    if right in context.constants and ranks[1] == 2:
        codes = context.constants[right].T
        weights = make_weights(codes, context.optional(node, zero_points[1]), None)
        return Imported(MatrixMultiply(first, weights, None, epilogue), (left,))
    code = context.code(right, context.zero_point(node, zero_points[1]))
    return Imported(MatrixMultiply(first, None, code, epilogue), (left, right))


def _row_bias(bias: IntArray, columns: int) -> IntArray:
    """Return the bias of a Gemm as one value per output column.

    Raises:
        NotOnTheMachineError: the bias differs from row to row.
    """
    if bias.ndim > 1 and bias.size != bias.shape[-1]:
        raise NotOnTheMachineError("a bias that differs from row to row")
    if bias.size not in (1, columns):
        raise NotOnTheMachineError("a bias that does not match the columns")
    return np.broadcast_to(bias.reshape(-1), (columns,))


def import_gemm(context: Context, node: NodeProto) -> Imported:
    """QGemm: a, s_a, z_a, b, s_b, z_b [, c [, s_y, z_y]]; the scale of c is s_a * s_b by definition."""
    attribute = attributes(node)
    if attribute.get("alpha", 1.0) != 1.0:
        raise NotOnTheMachineError("alpha is not 1")
    codes = context.constant(node, 3)
    bias = context.optional(node, 6)
    rows = codes if attribute.get("transB") else codes.T
    if bias is not None:
        bias = _row_bias(bias, rows.shape[0])
    weights = make_weights(rows, context.optional(node, 5), bias)
    first: CodeFormat = context.code(node.input[0], context.zero_point(node, 2))
    epilogue: Epilogue
    if len(node.input) > 7 and node.input[7]:
        epilogue = _requantise(context, node, scales=(1, 4, 7), zero_point=8)
    else:
        epilogue = Rescale(context.scale(node, 1) * context.scales(node, 4))
    operator = MatrixMultiply(first, weights, None, epilogue, bool(attribute.get("transA")))
    return Imported(operator, (node.input[0],))
