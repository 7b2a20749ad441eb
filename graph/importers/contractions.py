"""QLinearConv, QLinearMatMul and QGemm: contractions on the MAC array whose parameters are constant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from accelsim.graph.context import Context, Imported, Prelude, attributes
from accelsim.graph.importers.windows import convolution_window
from accelsim.graph.quantised.tensor import NotOnTheMachineError
from accelsim.operators import (
    CodeFormat,
    Contraction,
    Convolution,
    Epilogue,
    MatrixMultiply,
    Requantise,
    Rescale,
    RuntimeParameters,
    Transpose,
    Weights,
)
from accelsim.operators.tensors import TensorType

IntArray = NDArray[np.generic]
FloatVector = NDArray[np.float32]


def output_scale(input_scale: np.float32, weight_scales: FloatVector, out_scale: np.float32) -> FloatVector:
    """Return fl32(fl32(s_x * s_w) / s_y), the order of ONNX Runtime semantics, section 3.2."""
    with np.errstate(over="ignore"):  # an infinite multiplier saturates every code, in onnxruntime as well
        result: FloatVector = (np.float32(input_scale) * weight_scales.astype(np.float32)) / np.float32(out_scale)
    return result


def make_weights(
    codes: IntArray, zero_points: IntArray | None, bias: IntArray | None, bits: int | None = None
) -> Weights:
    """Subtract zero points from weight codes and pair them with the bias.

    Args:
        codes: uint8 or int8 [N, K].
        zero_points: one, or one per row; None means 0.
        bias: int32 with N elements, or None.
        bits: width of a code where it is less than 8.

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
    return Weights(values, start, bits or 8, signed_zero_points(shift, codes.dtype))


def signed_zero_points(zero_points: IntArray, code: np.dtype[np.generic]) -> NDArray[np.int32]:
    """Return zero points of weights as those of signed codes: unsigned codes lie half their range lower then."""
    name = code.name
    half = 1 << (int(name.removeprefix("uint")) - 1) if name.startswith("uint") else 0
    return zero_points.reshape(-1).astype(np.int32) - np.int32(half)


def import_convolution(context: Context, node: NodeProto) -> Imported:
    """QLinearConv: x, s_x, z_x, w, s_w, z_w, s_y, z_y [, bias]."""
    attribute = attributes(node)
    weights = context.constant(node, 3)
    spatial = context.types[node.input[0]].shape[2:]
    geometry, depth = convolution_window(attribute, weights.shape[2:], spatial)
    operator = Convolution(
        geometry,
        int(attribute.get("group", 1)),
        make_weights(
            weights.reshape(weights.shape[0], -1),
            context.optional(node, 5),
            context.optional(node, 8),
            context.bits(node.input[3]),
        ),
        context.code(node.input[0], context.zero_point(node, 2)),
        _requantise(context, node, scales=(1, 4, 6), zero_point=7),
        depth,
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
    return import_product(context, node, second=3, zero_points=(2, 5), epilogue=epilogue)


def import_product(
    context: Context, node: NodeProto, second: int, zero_points: tuple[int | None, int], epilogue: Epilogue
) -> Imported:
    """Build a matrix product whose second operand and zero points are constant or computed.

    Args:
        context: the normalised graph.
        node: the product.
        second: input position of the second operand.
        zero_points: input positions of the zero points of the operands; None for a first operand that is quantised
            to uint8 before it is multiplied.
        epilogue: what follows the accumulators.

    Raises:
        NotOnTheMachineError: several zero points that are known at run time only.
    """
    left, right = node.input[0], node.input[second]
    names = [left]
    weights, code = None, None
    late_first = None if zero_points[0] is None else context.computed_scalar(node, zero_points[0])
    late_second = context.computed_scalar(node, zero_points[1])
    first = CodeFormat(np.dtype(np.uint8), 0)
    if zero_points[0] is not None:
        first = context.code(left, 0 if late_first else context.zero_point(node, zero_points[0]))
    if right in context.constants and len(context.types[right].shape) == 2 and late_second is None:
        codes = context.constants[right].T
        weights = make_weights(codes, context.optional(node, zero_points[1]), None, context.bits(right))
    else:
        code = context.code(right, 0 if late_second else context.zero_point(node, zero_points[1]))
        names.append(right)
    operator = MatrixMultiply(first, weights, code, epilogue)
    return with_runtime(operator, names, zero_point=late_first, second_zero_point=late_second)


def with_runtime(op: Contraction, names: Sequence[str], **late: str | None) -> Imported:
    """Attach parameters that are computed at run time as further inputs.

    Args:
        op: the operator.
        names: what it reads already.
        late: tensor names by field of RuntimeParameters; None where a parameter is constant.
    """
    given = {field: name for field, name in late.items() if name is not None}
    if not given:
        return Imported(op, tuple(names))
    places = {field: len(names) + index for index, field in enumerate(given)}
    known = op.runtime or RuntimeParameters()
    return Imported(replace(op, runtime=replace(known, **places)), (*names, *given.values()))


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
    """QGemm: a, s_a, z_a, b, s_b, z_b [, c [, s_y, z_y]]; y = (A + c) * fl32(fl32(alpha * s_a) * s_b) by definition."""
    attribute = attributes(node)
    input_scale = np.float32(attribute.get("alpha", 1.0)) * context.scale(node, 1)
    if node.input[3] not in context.constants:
        return _gemm_of_activations(context, node, input_scale)
    codes = context.constant(node, 3)
    bias = context.optional(node, 6)
    rows = codes if attribute.get("transB") else codes.T
    if bias is not None:
        bias = _row_bias(bias, rows.shape[0])
    weights = make_weights(rows, context.optional(node, 5), bias, context.bits(node.input[3]))
    first: CodeFormat = context.code(node.input[0], context.zero_point(node, 2))
    epilogue = _gemm_epilogue(context, node, input_scale)
    operator = MatrixMultiply(first, weights, None, epilogue, bool(attribute.get("transA")))
    return Imported(operator, (node.input[0],))


def _gemm_epilogue(context: Context, node: NodeProto, input_scale: np.float32) -> Epilogue:
    """Return what follows the accumulators of a QGemm: codes, or floats."""
    if len(node.input) > 7 and node.input[7]:
        multiplier = output_scale(input_scale, context.scales(node, 4), context.scale(node, 7))
        return Requantise(multiplier, context.code(node.output[0], context.zero_point(node, 8)))
    return Rescale(input_scale * context.scales(node, 4))


def _gemm_of_activations(context: Context, node: NodeProto, input_scale: np.float32) -> Imported:
    """QGemm whose second operand is computed: transposed first, where the node asks for it."""
    if len(node.input) > 6 and node.input[6]:
        raise NotOnTheMachineError("a bias of a product of two activations")
    attribute, second = attributes(node), node.input[3]
    first: CodeFormat = context.code(node.input[0], context.zero_point(node, 2))
    code: CodeFormat = context.code(second, context.zero_point(node, 5))
    preludes: tuple[Prelude, ...] = ()
    if attribute.get("transB"):
        kind, name = context.types[second], context.fresh(f"{node.output[0]}/transposed")
        turned = TensorType.of(kind.dtype, kind.shape[::-1])
        preludes = (Prelude("transpose", Transpose((1, 0)), (second,), (name,), (turned,)),)
        second = name
    epilogue = _gemm_epilogue(context, node, input_scale)
    operator = MatrixMultiply(first, None, code, epilogue, bool(attribute.get("transA")))
    return Imported(operator, (node.input[0], second), preludes)
