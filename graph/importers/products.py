"""Importers of contractions whose operands are both codes: ideal integers, whoever reads the result.

In front of a quantiser the accumulators are requantised, and the bias is an integer in them. For any other reader they
are rescaled to float32, with the float bias added behind, which is nearer to what onnxruntime computes. What
onnxruntime fused behind a product (an addition, an activation, a cast) follows as a layer of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from accelsim.graph.context import MATRIX_PRODUCTS, Context, attributes
from accelsim.graph.importers.contractions import signed_zero_points
from accelsim.graph.importers.packed_groups import unpacked_weights
from accelsim.graph.importers.product_endings import (
    Added,
    Operands,
    channel_bias,
    constant_bias,
    epilogue_of,
    finish,
    gemm_bias,
    integer_bias,
)
from accelsim.graph.importers.windows import convolution_window, transposed_window
from accelsim.graph.load.constraints import node_label
from accelsim.graph.quantised.analysis import Quantisation
from accelsim.graph.quantised.groups import Group, GroupImport, quantised_operand
from accelsim.graph.quantised.tensor import NotOnTheMachineError, QuantisedTensor
from accelsim.operators import (
    CodeFormat,
    Convolution,
    MatrixMultiply,
    Transpose,
    Weights,
)

IntArray = NDArray[np.generic]
Entry = TypeVar("Entry", bound=np.generic)


def _first_operand(context: Context, group: Group, position: int = 0) -> tuple[QuantisedTensor, CodeFormat]:
    """Return the operand of one scale, which may be known at run time only where the result stays float."""
    source = group.sources.get(position)
    if source is not None and (source.late_scale or source.late_zero_point) and not source.block:
        if group.ending is not None:
            raise NotOnTheMachineError("scales known at run time only, in front of a quantiser")
        return source, context.format_of(source.name, source.zero)
    return quantised_operand(context, group, position)


def _constant_weights(context: Context, group: Group, position: int, axis: int) -> tuple[IntArray, QuantisedTensor]:
    """Return weight codes and their source; several scales must lie along an axis."""
    source = group.sources.get(position)
    if source is None or source.name not in context.constants:
        raise NotOnTheMachineError("weights that are computed")
    codes = context.constants[source.name]
    if source.block:
        raise NotOnTheMachineError("weights with a scale for every block")
    if source.late_scale or source.late_zero_point:
        raise NotOnTheMachineError("weights whose scale is known at run time only")
    if max(source.scales.size, source.zero_points.size) > 1 and source.axis % codes.ndim != axis % codes.ndim:
        raise NotOnTheMachineError("weights whose scales lie along another axis than the outputs")
    return codes, source


def _weights(
    codes: IntArray, source: QuantisedTensor, zero_points: NDArray[np.int64], bias: NDArray[np.int32], code: CodeFormat
) -> Weights:
    """Subtract zero points, one or one per row, from weight codes [N, K]."""
    values = np.asarray(codes).astype(np.int32) - zero_points.astype(np.int32)[:, None]
    width = np.int16 if np.abs(values).max(initial=0) < 2**15 else np.int32
    signed = signed_zero_points(zero_points, codes.dtype)
    bits = code.bits or _code_bits(codes)
    return Weights(np.ascontiguousarray(values.astype(width)), bias, bits, signed)


def _code_bits(codes: IntArray) -> int:
    """Return the width of weight codes in memory."""
    name = codes.dtype.name
    return int(name.removeprefix("u").removeprefix("int")) if "int" in name else 8


def _convolution(context: Context, found: Quantisation, group: Group) -> GroupImport:
    """Conv and FusedConv: x, w [, bias [, z]]."""
    core = group.core
    source, code = _first_operand(context, group)
    codes, weight = _constant_weights(context, group, 1, 0)
    columns = codes.shape[0]
    unit = np.asarray(source.scales[0] * weight.scales, np.float32)
    constant, added = channel_bias(found, core, 2, columns)
    operands = Operands(source, code, unit, columns, constant)
    bias = np.zeros(columns, np.int32) if group.ending is None else integer_bias(operands)
    attribute = attributes(core)
    geometry, depth = convolution_window(attribute, codes.shape[2:], context.types[source.name].shape[2:])
    form = context.format_of(weight.name, 0)
    operator = Convolution(
        geometry,
        int(attribute.get("group", 1)),
        _weights(codes.reshape(columns, -1), weight, weight.zero_points, bias, form),
        code,
        epilogue_of(group, operands, weight.scales, np.float32(1)),
        depth,
    )
    if len(core.input) > 3 and core.input[3]:
        if added.name:
            raise NotOnTheMachineError("a bias that is computed, and something else that is added")
        added = Added(core.input[3])
    return finish(context, group, operator, [source.name], source, _described(code, weight, codes), added)


def _described(code: CodeFormat, second: QuantisedTensor, codes: IntArray) -> str:
    """Say which codes are multiplied."""
    scales = "one scale" if second.scales.size == 1 else f"{second.scales.size} scales"
    return f"{_named(code, code.dtype)} codes x {_named(None, codes.dtype)} codes with {scales}"


def _named(code: CodeFormat | None, dtype: np.dtype[np.generic]) -> str:
    bits = None if code is None else code.bits
    return dtype.name if bits is None else f"{dtype.name.rstrip('0123456789')}{bits}"


def _transposed_convolution(context: Context, found: Quantisation, group: Group) -> GroupImport:
    """ConvTranspose: x, w[Cin, Cout / groups, kh, kw] [, bias], as a convolution of the map with zeros inserted."""
    attribute = attributes(group.core)
    source, code = _first_operand(context, group)
    codes, weight = _constant_weights(context, group, 1, 1)
    geometry = transposed_window(attribute, codes.shape[2:])
    groups = int(attribute.get("group", 1))
    per_group, columns = codes.shape[1], codes.shape[1] * groups
    scales = _per_column(weight.scales, per_group, groups)
    shift = _per_column(weight.zero_points, per_group, groups)
    unit = np.asarray(source.scales[0] * scales, np.float32)
    turned = np.flip(codes, tuple(range(2, codes.ndim)))
    grouped = turned.reshape(groups, codes.shape[0] // groups, per_group, -1).swapaxes(1, 2)
    constant, added = channel_bias(found, group.core, 2, columns)
    operands = Operands(source, code, unit, columns, constant)
    bias = np.zeros(columns, np.int32) if group.ending is None else integer_bias(operands)
    weights = _weights(grouped.reshape(columns, -1), weight, shift, bias, context.format_of(weight.name, 0))
    epilogue = epilogue_of(group, operands, scales, np.float32(1))
    operator = Convolution(geometry, groups, weights, code, epilogue)
    return finish(context, group, operator, [source.name], source, _described(code, weight, codes), added)


def _per_column(values: NDArray[Entry], per_group: int, groups: int) -> NDArray[Entry]:
    """Repeat per-channel parameters, which all groups of a transposed convolution share."""
    return np.tile(values, groups) if values.size == per_group else values


def _matrix_product(context: Context, found: Quantisation, group: Group) -> GroupImport:
    """MatMul, Gemm and their fused forms: constant weights, or two operands of one scale each."""
    attribute = attributes(group.core)
    alpha = np.float32(attribute.get("alpha", 1.0))
    if not (np.isfinite(alpha) and alpha > 0):
        raise NotOnTheMachineError(f"alpha {alpha:g}")
    if attribute.get("transBatchA") or attribute.get("transBatchB"):
        raise NotOnTheMachineError("batches that are transposed")
    second = group.sources[1]
    rank = len(context.types[second.name].shape)
    if second.name in context.constants and rank == 2 and group.sources[0].name not in context.constants:
        return _weighted_product(context, found, group, alpha)
    return _product_of_activations(context, found, group, alpha)


def _weighted_product(context: Context, found: Quantisation, group: Group, alpha: np.float32) -> GroupImport:
    """A product whose second operand is a constant matrix."""
    core, attribute = group.core, attributes(group.core)
    source, code = _first_operand(context, group)
    transposed = bool(attribute.get("transB"))
    codes, weight = _constant_weights(context, group, 1, 0 if transposed else 1)
    rows = codes if transposed else codes.T
    unit = np.asarray(np.float32(alpha * source.scales[0]) * weight.scales, np.float32)
    bias, added = gemm_bias(found, core, rows.shape[0])
    operands = Operands(source, code, unit, rows.shape[0], bias)
    start = np.zeros(rows.shape[0], np.int32) if group.ending is None else integer_bias(operands)
    weights = _weights(rows, weight, weight.zero_points, start, context.format_of(weight.name, 0))
    epilogue = epilogue_of(group, operands, weight.scales, alpha)
    first_transposed = bool(attribute.get("transA")) and len(context.types[source.name].shape) > 1
    operator = MatrixMultiply(code, weights, None, epilogue, first_transposed)
    return finish(context, group, operator, [source.name], source, _described(code, weight, codes), added)


def _packed_product(context: Context, found: Quantisation, group: Group) -> GroupImport:
    """MatMulNBits of codes: a, packed weights, scales, zero points, group indices, bias."""
    source, code = quantised_operand(context, group, 0)
    codes, scales, zero_points = unpacked_weights(context, group)
    columns = codes.shape[0]
    unit = np.asarray(source.scale * scales, np.float32)
    operands = Operands(source, code, unit, columns, constant_bias(found, group.core, 5, columns))
    start = np.zeros(columns, np.int32) if group.ending is None else integer_bias(operands)
    form = replace(context.format_of(group.core.input[1], 0), bits=int(attributes(group.core).get("bits", 4)))
    weight = QuantisedTensor(group.core.input[1], scales, zero_points, 0)
    weights = _weights(codes, weight, zero_points, start, form)
    epilogue = epilogue_of(group, operands, scales, np.float32(1))
    operator = MatrixMultiply(code, weights, None, epilogue)
    return finish(context, group, operator, [source.name], source, _described(code, weight, codes))


def _product_of_activations(context: Context, found: Quantisation, group: Group, alpha: np.float32) -> GroupImport:
    """A product of two tensors with one scale each, computed or constant; a constant may have one per column."""
    core, attribute = group.core, attributes(group.core)
    source, code = _first_operand(context, group)
    second, second_code = _second_operand(context, group, transposed=bool(attribute.get("transB")))
    name = second.name
    if attribute.get("transB") and len(context.types[name].shape) > 1:
        shape = context.types[name].shape
        order = (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)
        turned = tuple(shape[axis] for axis in order)
        node = helper.make_node("Transpose", [], [], name=f"{node_label(core)}/transpose")
        name = found.derive(core.input[1], Transpose(order), (name,), node, turned)
    columns = context.types[core.output[0]].shape[-1:] or (1,)
    bias, added = gemm_bias(found, core, columns[0])
    unit = np.asarray(np.float32(alpha * source.scales[0]) * second.scales, np.float32)
    operands = Operands(source, code, unit, columns[0], bias)
    if group.ending is not None and bias is not None:
        raise NotOnTheMachineError("a bias of a product of two activations, in front of a quantiser")
    epilogue = epilogue_of(group, operands, second.scales, alpha)
    first_transposed = bool(attribute.get("transA")) and len(context.types[source.name].shape) > 1
    operator = MatrixMultiply(code, None, second_code, epilogue, first_transposed)
    remark = f"{_named(code, code.dtype)} codes x {_named(second_code, second_code.dtype)} codes with "
    remark += "one scale" if second.scales.size == 1 else f"{second.scales.size} scales"
    return finish(context, group, operator, [source.name, name], source, remark, added, second)


def _second_operand(context: Context, group: Group, *, transposed: bool) -> tuple[QuantisedTensor, CodeFormat]:
    """Return the second operand of a product that takes it as it comes, and the format of its codes."""
    second = group.sources[1]
    late = second.late_scale or second.late_zero_point
    rank = len(context.types[second.name].shape)
    columns = rank - 2 if transposed else rank - 1
    along = second.scales.size == 1 or (second.name in context.constants and second.axis % max(rank, 1) == columns)
    if late and group.ending is not None:
        raise NotOnTheMachineError("scales known at run time only, in front of a quantiser")
    if second.block or not along:
        raise NotOnTheMachineError("a second operand with several scales that are not those of its columns")
    if (second.zero_points != second.zero_points[0]).any():
        raise NotOnTheMachineError("a second operand with several zero points")
    return second, context.format_of(second.name, second.zero)


def _with_fallback(
    importer: Callable[[Context, Quantisation, Group], GroupImport],
) -> Callable[[Context, Quantisation, Group], GroupImport]:
    """Return an importer that leaves the quantiser behind a product to the vector unit where it cannot take it in."""

    def imported(context: Context, found: Quantisation, group: Group) -> GroupImport:
        if group.ending is not None:
            try:
                return importer(context, found, group)
            except NotOnTheMachineError:
                return replace(importer(context, found, group.as_float()), floating=True)
        return importer(context, found, group)

    return imported


PRODUCTS: dict[str, Callable[[Context, Quantisation, Group], GroupImport]] = {
    name: _with_fallback(importer)
    for name, importer in {
        "Conv": _convolution,
        "FusedConv": _convolution,
        "ConvTranspose": _transposed_convolution,
        **dict.fromkeys(MATRIX_PRODUCTS, _matrix_product),
        "MatMulNBits": _packed_product,
    }.items()
}
