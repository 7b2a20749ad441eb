"""Importers of float groups: contractions as ideal integers, unary functions as tables, float32 pairs, pads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from accelsim.graph.context import Context, NotOnTheMachineError, attributes
from accelsim.graph.import_contractions import output_scale, signed_zero_points
from accelsim.graph.import_host import apply_unary
from accelsim.graph.import_packed_groups import unpacked_weights
from accelsim.graph.import_vector_groups import VECTOR_GROUPS, import_chain
from accelsim.graph.qdq_groups import Group, GroupImport, Source, quantised_operand
from accelsim.graph.quantiser import all_codes, dequantise_codes, quantise_values
from accelsim.graph.windows import convolution_window, transposed_window
from accelsim.operators import (
    CodeFormat,
    Convolution,
    FloatBinary,
    FloatOperand,
    MatrixMultiply,
    Requantise,
    TableLookup,
    Weights,
)

IntArray = NDArray[np.generic]
Floats = NDArray[np.float32]

# Unary operators whose float kernel gives the same bits at every position of a tensor, so that a table of all codes
# holds what onnxruntime computes (ONNX Runtime semantics, section 6).
TABULATED = frozenset(
    {
        "Sigmoid", "Tanh", "Erf", "Exp", "Sqrt", "Gelu", "QuickGelu", "Relu", "Clip", "Abs", "HardSigmoid", "HardSwish",
        "Reciprocal", "Neg", "Floor", "Ceil", "Round", "Softsign", "LeakyRelu", "Sinh", "Asinh", "Acosh", "Atanh",
        "Tan", "Sign", "ThresholdedRelu", "Shrink",
    }
)  # fmt: skip
BINARY = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu"})


def import_group(context: Context, group: Group) -> GroupImport:
    """Put one group on the machine.

    Raises:
        NotOnTheMachineError: the group has something that the machine cannot do exactly enough.
    """
    importer = _IMPORTERS.get(group.core.op_type)
    if importer is None:
        raise NotOnTheMachineError(group.core.op_type)
    return importer(context, group)


def _constant_weights(context: Context, group: Group, position: int, axis: int) -> tuple[IntArray, Source]:
    """Return weight codes and their source; several scales must lie along an axis."""
    source = group.sources.get(position)
    if source is None or source.name not in context.constants:
        raise NotOnTheMachineError("weights that are not quantised constants")
    codes = context.constants[source.name]
    if source.scales.size > 1 and source.axis % codes.ndim != axis % codes.ndim:
        raise NotOnTheMachineError("scales of the weights along another axis")
    return codes, source


def _bias(context: Context, group: Group, position: int, unit: Floats, columns: int) -> NDArray[np.int32]:
    """Return the bias as int32 in units of s_x * s_w, rounded half to even as onnxruntime does (semantics, 3.2)."""
    name = group.core.input[position] if position < len(group.core.input) else ""
    if not name:
        return np.zeros(columns, np.int32)
    source = group.sources.get(position)
    if source is not None and source.name in context.constants:
        codes = context.constants[source.name].astype(np.int64) - source.zero_points
        values = codes.astype(np.float32) * source.scales
    elif name in context.constants:
        values = context.constants[name].astype(np.float32)
    else:
        raise NotOnTheMachineError("a bias that is not constant")
    if values.size != columns or (values.ndim > 1 and values.shape[-1] != columns):
        raise NotOnTheMachineError("a bias that is not one value per output channel")
    counts = np.rint(values.reshape(-1).astype(np.float64) / unit.astype(np.float64))
    if np.abs(counts).max(initial=0) >= 2**31:
        raise NotOnTheMachineError("a bias beyond int32")
    return counts.astype(np.int32)


def _weights(codes: IntArray, zero_points: NDArray[np.int64], bias: NDArray[np.int32]) -> Weights:
    """Subtract zero points, one or one per row, from weight codes [N, K]."""
    values = np.asarray(codes).astype(np.int32) - zero_points.astype(np.int32)[:, None]
    width = np.int16 if np.abs(values).max(initial=0) < 2**15 else np.int32
    signed = signed_zero_points(zero_points, codes.dtype)
    return Weights(np.ascontiguousarray(values.astype(width)), bias, _code_bits(codes), signed)


def _code_bits(codes: IntArray) -> int:
    """Return the width of weight codes in memory."""
    name = codes.dtype.name
    return int(name.removeprefix("u").removeprefix("int")) if "int" in name else 8


def _requantise(group: Group, multiplier: Floats) -> Requantise:
    """Build the requantiser; a clip becomes bounds of the output code."""
    code = group.output
    lowest, highest = code.lowest, code.highest
    bounds = group.bounds or _fused_bounds(group.core)
    if bounds is not None:
        edges = quantise_values(np.array(bounds, np.float32), group.output_scale, code)
        lowest, highest = int(edges[0]), int(edges[1])
    return Requantise(multiplier, code, lowest, highest)


def _fused_bounds(core: NodeProto) -> tuple[float, float] | None:
    """Return the clip that onnxruntime fused into a float operator."""
    attribute = attributes(core)
    activation = attribute.get("activation", b"").decode()
    if not activation:
        return None
    if activation == "Relu":
        return 0.0, float("inf")
    if activation == "Clip":
        low, high = attribute["activation_params"]
        return float(low), float(high)
    raise NotOnTheMachineError(f"a fused {activation}")


def _convolution(context: Context, group: Group) -> GroupImport:
    """Conv and FusedConv: x, w [, bias]."""
    core = group.core
    if len(core.input) > 3 and core.input[3]:
        raise NotOnTheMachineError("a fused addition")
    source, code = quantised_operand(context, group, 0)
    codes, weight = _constant_weights(context, group, 1, 0)
    unit = np.asarray(source.scale * weight.scales, np.float32)
    columns = codes.shape[0]
    bias = _bias(context, group, 2, np.broadcast_to(unit, (columns,)), columns)
    attribute = attributes(core)
    geometry, depth = convolution_window(attribute, codes.shape[2:], context.types[source.name].shape[2:])
    operator = Convolution(
        geometry,
        int(attribute.get("group", 1)),
        _weights(codes.reshape(columns, -1), weight.zero_points, bias),
        code,
        _requantise(group, output_scale(source.scale, weight.scales, group.output_scale)),
        depth,
    )
    return GroupImport(operator, (source.name,), True)


def _transposed_convolution(context: Context, group: Group) -> GroupImport:
    """ConvTranspose: x, w[Cin, Cout / groups, kh, kw] [, bias], as a convolution of the map with zeros inserted."""
    attribute = attributes(group.core)
    source, code = quantised_operand(context, group, 0)
    codes, weight = _constant_weights(context, group, 1, 1)
    geometry = transposed_window(attribute, codes.shape[2:])
    groups = int(attribute.get("group", 1))
    per_group, columns = codes.shape[1], codes.shape[1] * groups
    scales, shift = (_per_column(part, per_group, groups) for part in (weight.scales, weight.zero_points))
    unit = np.broadcast_to(np.asarray(source.scale * scales, np.float32), (columns,))
    turned = np.flip(codes, tuple(range(2, codes.ndim)))
    grouped = turned.reshape(groups, codes.shape[0] // groups, per_group, -1).swapaxes(1, 2)
    weights = _weights(grouped.reshape(columns, -1), shift, _bias(context, group, 2, unit, columns))
    requantise = _requantise(group, output_scale(source.scale, scales, group.output_scale))
    return GroupImport(Convolution(geometry, groups, weights, code, requantise), (source.name,), True)


def _per_column(values: NDArray[Any], per_group: int, groups: int) -> NDArray[Any]:
    """Repeat per-channel parameters, which all groups of a transposed convolution share."""
    return np.tile(values, groups) if values.size == per_group else values


def _matrix_product(context: Context, group: Group) -> GroupImport:
    """MatMul and Gemm with constant weights, MatMul of two activations."""
    core, attribute = group.core, attributes(group.core)
    if attribute.get("alpha", 1.0) != 1.0 or attribute.get("beta", 1.0) != 1.0:
        raise NotOnTheMachineError("alpha or beta is not 1")
    source, code = quantised_operand(context, group, 0)
    if len(context.types[source.name].shape) < 2:
        raise NotOnTheMachineError("a vector operand")
    second = group.sources.get(1)
    if second is not None and second.name not in context.constants and core.op_type == "MatMul":
        other, other_code = quantised_operand(context, group, 1)
        multiplier = output_scale(source.scale, np.array([other.scale], np.float32), group.output_scale)
        product = MatrixMultiply(code, None, other_code, _requantise(group, multiplier))
        return GroupImport(product, (source.name, other.name), True)
    transposed = bool(attribute.get("transB"))
    codes, weight = _constant_weights(context, group, 1, 0 if transposed else 1)
    if codes.ndim != 2:
        raise NotOnTheMachineError("weights that are not a matrix")
    rows = codes if transposed else codes.T
    unit = np.broadcast_to(np.asarray(source.scale * weight.scales, np.float32), (rows.shape[0],))
    weights = _weights(rows, weight.zero_points, _bias(context, group, 2, unit, rows.shape[0]))
    multiplier = output_scale(source.scale, weight.scales, group.output_scale)
    operator = MatrixMultiply(code, weights, None, _requantise(group, multiplier), bool(attribute.get("transA")))
    return GroupImport(operator, (source.name,), True)


def _packed_product(context: Context, group: Group) -> GroupImport:
    """MatMulNBits of 16-bit activations: a, packed weights, scales, zero points, group indices, bias."""
    source, code = quantised_operand(context, group, 0)
    codes, scales, zero_points = unpacked_weights(context, group)
    bits = int(attributes(group.core).get("bits", 4))
    bias = _bias(context, group, 5, np.asarray(source.scale * scales, np.float32), codes.shape[0])
    weights = replace(_weights(codes, zero_points, bias), bits=bits)
    multiplier = output_scale(source.scale, scales, group.output_scale)
    return GroupImport(MatrixMultiply(code, weights, None, _requantise(group, multiplier)), (source.name,), True)


def _table(context: Context, group: Group) -> GroupImport:
    """A unary function: onnxruntime's own float kernel on all codes, then the quantiser."""
    source, code = quantised_operand(context, group, 0)
    values = _apply(context, group.core, dequantise_codes(all_codes(code.dtype), source.scale, code.zero_point))
    if group.bounds is not None:
        values = np.clip(values, np.float32(group.bounds[0]), np.float32(group.bounds[1]))
    table = quantise_values(values, group.output_scale, group.output)
    return GroupImport(TableLookup(group.core.op_type.lower(), table), (source.name,), False)


def _apply(context: Context, core: NodeProto, values: Floats) -> Floats:
    """Run a unary node alone on values; its other inputs must be constant."""
    extra = [name for name in core.input[1:] if name]
    if any(name not in context.tensors for name in extra):
        raise NotOnTheMachineError("parameters that are not constant")
    return apply_unary(core, values, context.proto.opset_import, [context.tensors[name] for name in extra])


def _power(context: Context, group: Group) -> GroupImport:
    """Pow by a constant scalar; the cube is left out, since its rounding depends on the element's position."""
    exponent = context.constant(group.core, 1)
    if exponent.size != 1 or exponent.ndim > 1 or float(exponent.reshape(-1)[0]) == 3.0:
        raise NotOnTheMachineError("an exponent that is 3 or no scalar")
    return _table(context, group)


def _binary(context: Context, group: Group) -> GroupImport:
    """Add, Sub, Mul, Div, Max, Min: dequantise both, one float32 operation, quantise (semantics, 3.9)."""
    core = group.core
    if core.op_type in ("Max", "Min") and len(core.input) > 2:
        return import_chain(context, group)
    if (
        len([name for name in core.input if name]) != 2
        or group.bounds is not None
        or attributes(core).get("activation")
    ):
        raise NotOnTheMachineError("not two operands")
    operands, names = [], []
    for position, name in enumerate(core.input):
        source = group.sources.get(position)
        if source is None and name not in context.constants:
            raise NotOnTheMachineError("an operand that is neither quantised nor constant")
        if source is None:
            operands.append(FloatOperand(None, np.float32(1)))
            names.append(name)
        else:
            code = CodeFormat(context.types[source.name].dtype, int(source.zero_points[0]))
            operands.append(FloatOperand(code, source.scale))
            names.append(source.name)
    operator = FloatBinary(core.op_type, operands[0], operands[1], group.output_scale, group.output)
    return GroupImport(operator, tuple(names), False)


_IMPORTERS: dict[str, Callable[[Context, Group], GroupImport]] = {
    "Conv": _convolution,
    "FusedConv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "MatMul": _matrix_product,
    "Gemm": _matrix_product,
    "MatMulNBits": _packed_product,
    **dict.fromkeys(TABULATED, _table),
    **dict.fromkeys(BINARY, _binary),
    "Pow": _power,
    **VECTOR_GROUPS,
}

GROUPED = frozenset(_IMPORTERS)
