"""Operators on codes, element by element: sums, products, pools, tables, quantisers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim import operators as ops
from accelsim.kernels.values import elementwise
from accelsim.operators import fixed_point
from accelsim.operators.tensors import TensorType
from accelsim.operators.thresholds import DequantiseUniform, QuantiseUniform, SumCodes, SumPool
from accelsim.operators.uniform import decode
from accelsim.values import fixed_point as fixed_point_values, reductions
from accelsim.values.movement import lookup
from accelsim.values.runtime import dynamic_parameters
from accelsim.values.sums import add_codes, pool_codes

Array = NDArray[np.generic]
Arrays = Sequence[Array]

_FLOAT_FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Max": np.maximum,
    "Min": np.minimum,
    "PRelu": lambda values, slope: np.where(values > 0, values, np.multiply(values, slope)),
}


def _add(op: ops.ElementwiseAdd, inputs: Arrays, types: Sequence[TensorType]) -> list[Array]:
    operands = [
        (fixed_point_values.flat(inputs[0], types[0].shape), op.first.zero_point, op.ratio_first),
        (fixed_point_values.flat(inputs[1], types[0].shape), op.second.zero_point, op.ratio_second),
    ]
    (a, zero_a, ratio_a), (b, zero_b, ratio_b) = reversed(operands) if op.swap else operands
    out, code = np.empty(types[0].elements, op.output.dtype), op.output
    elementwise.add_codes(a, b, zero_a, zero_b, ratio_a, ratio_b, code.zero_point, code.lowest, code.highest, out)
    return [out.reshape(types[0].shape)]


def _multiply(op: ops.ElementwiseMultiply, inputs: Arrays, types: Sequence[TensorType]) -> list[Array]:
    a, b = (fixed_point_values.flat(array, types[0].shape) for array in inputs)
    out, code = np.empty(types[0].elements, op.output.dtype), op.output
    zeros = (op.first.zero_point, op.second.zero_point)
    elementwise.multiply_codes(a, b, *zeros, op.ratio, code.zero_point, code.lowest, code.highest, out)
    return [out.reshape(types[0].shape)]


def _planes(array: Array) -> Array:
    """View [B, C, H, W] or [B, C, W] as planes [B * C, H, W]."""
    height = 1 if array.ndim == 3 else array.shape[2]
    return np.ascontiguousarray(array).reshape(-1, height, array.shape[-1])


def _average_pool(op: ops.AveragePool, inputs: Arrays, types: Sequence[TensorType]) -> list[Array]:
    out = np.empty(types[0].shape, op.output.dtype)
    shape, code = op.geometry, op.output
    elementwise.average_pool(
        _planes(inputs[0]), shape.kernel, shape.strides, shape.pads[:2], op.input_scale, op.input.zero_point,
        op.output_scale, code.zero_point, code.lowest, code.highest, op.count_include_pad, _planes(out),
    )  # fmt: skip
    return [out]


def _global_average_pool(op: ops.GlobalAveragePool, inputs: Arrays, types: Sequence[TensorType]) -> list[Array]:
    codes = inputs[0].reshape(*inputs[0].shape[:2], -1)
    sums = codes.sum(axis=-1, dtype=np.int64) - op.input.zero_point * codes.shape[-1]
    out, code = np.empty(sums.shape, op.output.dtype), op.output
    multiplier = np.full(sums.shape[0], op.multiplier, np.float32)
    elementwise.requantise_rows(sums.astype(np.int32), multiplier, code.zero_point, code.lowest, code.highest, out)
    return [out.reshape(types[0].shape)]


def _max_pool(op: ops.MaxPool, inputs: Arrays, types: Sequence[TensorType]) -> list[Array]:
    out = np.empty(types[0].shape, types[0].dtype)
    shape = op.geometry
    lowest = ops.CodeFormat(types[0].dtype, 0).lowest
    elementwise.max_pool(
        _planes(inputs[0]), shape.kernel, shape.strides, shape.dilations, shape.pads[:2], lowest, _planes(out)
    )
    return [out]


def _softmax(op: ops.Softmax, inputs: Arrays, types: Sequence[TensorType]) -> list[Array]:
    codes, shape = inputs[0], types[0].shape
    moved = codes if op.flatten else np.moveaxis(codes, op.axis, -1)
    length = int(np.prod(shape[op.axis :])) if op.flatten else shape[op.axis]
    rows = np.ascontiguousarray(moved).reshape(-1, length)
    out, code = np.empty(rows.shape, op.output.dtype), op.output
    if op.arithmetic == "float64":
        elementwise.softmax_rows_in_double(
            rows, op.exponentials, op.inverse_scale, code.zero_point, code.lowest, code.highest, out
        )
    else:
        limits = (0, 255) if op.arithmetic == "float32-low-byte" else (code.lowest, code.highest)
        elementwise.softmax_rows(rows, op.exponentials, op.inverse_scale, code.zero_point, *limits, out)
    result = out.reshape(moved.shape)
    return [result if op.flatten else np.ascontiguousarray(np.moveaxis(result, -1, op.axis))]


def _float_binary(op: ops.FloatBinary, inputs: Arrays, types: Sequence[TensorType]) -> list[Array]:
    operands = zip((op.first, op.second), inputs, strict=True)
    first, second = (reductions.dequantise(array, operand.code, operand.scale) for operand, array in operands)
    with np.errstate(all="ignore"):
        result = _FLOAT_FUNCTIONS[op.function](first, second)
    return _quantise(ops.Quantise(op.output_scale, op.output), [result], types)


def _table_lookup(op: ops.TableLookup, inputs: Arrays, types: Sequence[TensorType]) -> list[Array]:
    return [lookup(op.table, inputs[0])]


def _quantise(op: ops.Quantise, inputs: Arrays, types: Sequence[TensorType]) -> list[Array]:
    values, code = np.ascontiguousarray(inputs[0]).reshape(-1), op.output
    out = np.empty(values.size, code.dtype)
    elementwise.quantise_all(values, op.scale, code.zero_point, code.lowest, code.highest, out)
    return [out.reshape(types[0].shape)]


def _dynamic_quantise(op: ops.DynamicQuantise, inputs: Arrays, types: Sequence[TensorType]) -> list[Array]:
    scale, zero_point = dynamic_parameters(inputs[0])
    codes = _quantise(ops.Quantise(scale, ops.CodeFormat(types[0].dtype, zero_point)), inputs, types)
    return [*codes, np.array(scale, np.float32), np.array(zero_point, np.uint8)]


def _dequantise(op: ops.Dequantise, inputs: Arrays, types: Sequence[TensorType]) -> list[Array]:
    codes = np.ascontiguousarray(inputs[0]).reshape(-1)
    out = np.empty(codes.size, np.float32)
    elementwise.dequantise_all(codes, op.scale, op.input.zero_point, out)
    return [out.reshape(types[0].shape)]


def _quantise_uniform(op: QuantiseUniform, inputs: Arrays, types: Sequence[TensorType]) -> list[Array]:
    return [op.quantiser.codes(inputs[0])]


def _dequantise_uniform(op: DequantiseUniform, inputs: Arrays, types: Sequence[TensorType]) -> list[Array]:
    return [decode(inputs[0], op.scale, op.zero_point)]


def _sum_codes(op: SumCodes, inputs: Arrays, types: Sequence[TensorType]) -> list[Array]:
    return [add_codes(op, inputs[0], inputs[1] if len(inputs) > 1 else None, types[0].shape)]


def _sum_pool(op: SumPool, inputs: Arrays, types: Sequence[TensorType]) -> list[Array]:
    return [pool_codes(op, inputs[0])]


FUNCTIONS: Mapping[type[Any], Callable[[Any, Arrays, Sequence[TensorType]], list[Array]]] = {
    ops.ElementwiseAdd: _add,
    ops.ElementwiseMultiply: _multiply,
    fixed_point.FixedAdd: fixed_point_values.add,
    fixed_point.FixedMultiply: fixed_point_values.multiply,
    fixed_point.FixedGlobalAveragePool: fixed_point_values.global_average_pool,
    ops.AveragePool: _average_pool,
    ops.GlobalAveragePool: _global_average_pool,
    ops.MaxPool: _max_pool,
    ops.Softmax: _softmax,
    ops.FloatBinary: _float_binary,
    ops.TableLookup: _table_lookup,
    ops.Quantise: _quantise,
    ops.DynamicQuantise: _dynamic_quantise,
    ops.Dequantise: _dequantise,
    QuantiseUniform: _quantise_uniform,
    DequantiseUniform: _dequantise_uniform,
    SumCodes: _sum_codes,
    SumPool: _sum_pool,
}
