"""Values: executes lowered operators on arrays; exact codes out, overflow statistics beside them.

Nothing here knows about time. Each operator type has one short function; `execute` picks it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim import operators as ops
from accelsim.errors import UnsupportedModelError
from accelsim.kernels.values import elementwise
from accelsim.operators import fixed_point
from accelsim.operators.tensors import TensorType
from accelsim.operators.thresholds import DequantiseUniform, QuantiseUniform, SumCodes, SumPool
from accelsim.operators.uniform import decode
from accelsim.program.layers import Layer, Program
from accelsim.reference.host import run_host_operator
from accelsim.values import fixed_point as fixed_point_values
from accelsim.values import movement, reductions
from accelsim.values.contraction import AccumulatorFormat, AccumulatorUse, convolve, multiply
from accelsim.values.runtime import complete, dynamic_parameters
from accelsim.values.sums import add_codes, pool_codes

Array = NDArray[np.generic]
Arrays = Sequence[Array]


@dataclass(frozen=True)
class LayerValues:
    """What one layer consumed and produced; acc is None where no accumulator is involved."""

    layer: Layer
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    acc: AccumulatorUse | None

    def named_outputs(self) -> list[tuple[str, Array]]:
        """Return the outputs with their tensor names."""
        return list(zip(self.layer.outputs, self.outputs, strict=True))


def execute(
    op: ops.Operator, inputs: Arrays, out_types: Sequence[TensorType], accumulator: AccumulatorFormat
) -> tuple[list[Array], AccumulatorUse | None]:
    """Execute one operator.

    Args:
        op: the operator with its constants.
        inputs: its dynamic inputs.
        out_types: dtype and shape of each output.
        accumulator: width and behaviour of the accumulators.

    Returns:
        The outputs, and the accumulators' use for operators that have accumulators.
    """
    if isinstance(op, ops.Convolution | ops.MatrixMultiply):
        op = complete(op, inputs)
    if isinstance(op, ops.Convolution):
        result, use = convolve(inputs[0], op, out_types[0].shape, accumulator)
        return [result], use
    if isinstance(op, ops.MatrixMultiply):
        second = inputs[1] if op.weights is None else None
        result, use = multiply(inputs[0], second, op, out_types[0].shape, accumulator)
        return [result], use
    return _FUNCTIONS[type(op)](op, inputs, out_types), None


def run_program(program: Program, inputs: Mapping[str, Array], accumulator: AccumulatorFormat) -> Iterator[LayerValues]:
    """Execute a program layer by layer, dropping every tensor after its last use.

    Args:
        program: the lowered program.
        inputs: one array per program input.
        accumulator: width and behaviour of the accumulators.

    Yields:
        The values of each layer, in order; the caller keeps what it needs.
    """
    values: dict[str, Array] = {**program.constants, **inputs}
    last_use = {name: index for index, layer in enumerate(program.layers) for name in layer.inputs}
    kept = {*program.outputs, *program.constants}
    for index, layer in enumerate(program.layers):
        arguments = tuple(values[name] for name in layer.inputs)
        results, use = execute(layer.operator, arguments, layer.output_types, accumulator)
        values.update(zip(layer.outputs, results, strict=True))
        yield LayerValues(layer, arguments, tuple(results), use)
        for name in {*layer.inputs, *layer.outputs}:
            if last_use.get(name, -1) <= index and name not in kept:
                values.pop(name, None)


def _add(op: ops.ElementwiseAdd, inputs: Arrays, types: Sequence[TensorType]) -> list[Array]:
    operands = [
        (_flat(inputs[0], types[0].shape), op.first.zero_point, op.ratio_first),
        (_flat(inputs[1], types[0].shape), op.second.zero_point, op.ratio_second),
    ]
    (a, zero_a, ratio_a), (b, zero_b, ratio_b) = reversed(operands) if op.swap else operands
    out, code = np.empty(types[0].elements, op.output.dtype), op.output
    elementwise.add_codes(a, b, zero_a, zero_b, ratio_a, ratio_b, code.zero_point, code.lowest, code.highest, out)
    return [out.reshape(types[0].shape)]


def _multiply(op: ops.ElementwiseMultiply, inputs: Arrays, types: Sequence[TensorType]) -> list[Array]:
    a, b = (_flat(array, types[0].shape) for array in inputs)
    out, code = np.empty(types[0].elements, op.output.dtype), op.output
    zeros = (op.first.zero_point, op.second.zero_point)
    elementwise.multiply_codes(a, b, *zeros, op.ratio, code.zero_point, code.lowest, code.highest, out)
    return [out.reshape(types[0].shape)]


def _flat(array: Array, shape: tuple[int, ...]) -> Array:
    """Broadcast to a shape and flatten."""
    return np.ascontiguousarray(np.broadcast_to(array, shape)).reshape(-1)


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


_FLOAT_FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Max": np.maximum,
    "Min": np.minimum,
    "PRelu": lambda values, slope: np.where(values > 0, values, np.multiply(values, slope)),
}


def _float_binary(op: ops.FloatBinary, inputs: Arrays, types: Sequence[TensorType]) -> list[Array]:
    operands = zip((op.first, op.second), inputs, strict=True)
    first, second = (reductions.dequantise(array, operand.code, operand.scale) for operand, array in operands)
    with np.errstate(all="ignore"):
        result = _FLOAT_FUNCTIONS[op.function](first, second)
    return _quantise(ops.Quantise(op.output_scale, op.output), [result], types)


def _table_lookup(op: ops.TableLookup, inputs: Arrays, types: Sequence[TensorType]) -> list[Array]:
    return [movement.lookup(op.table, inputs[0])]


def _concatenate(op: ops.Concatenate, inputs: Arrays, types: Sequence[TensorType]) -> list[Array]:
    parts = [movement.lookup(table, codes) for table, codes in zip(op.tables, inputs, strict=True)]
    return [np.concatenate(parts, axis=op.axis)]


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


def _view(op: ops.View, inputs: Arrays, types: Sequence[TensorType]) -> list[Array]:
    return [np.ascontiguousarray(inputs[0]).reshape(op.shape)]


def _transpose(op: ops.Transpose, inputs: Arrays, types: Sequence[TensorType]) -> list[Array]:
    return [np.asarray(inputs[0].transpose(op.permutation), order="C")]  # may be a scalar


def _slice(op: ops.Slice, inputs: Arrays, types: Sequence[TensorType]) -> list[Array]:
    return [np.ascontiguousarray(inputs[0][tuple(slice(*part) for part in op.ranges)])]


def _split(op: ops.Split, inputs: Arrays, types: Sequence[TensorType]) -> list[Array]:
    cuts = np.cumsum(op.sizes)[:-1]
    return [np.ascontiguousarray(part) for part in np.split(inputs[0], cuts, axis=op.axis)]


def _gather(op: ops.Gather, inputs: Arrays, types: Sequence[TensorType]) -> list[Array]:
    return [np.asarray(np.take(inputs[0], op.indices, axis=op.axis), order="C")]  # may be a scalar


def _pad(op: ops.Pad, inputs: Arrays, types: Sequence[TensorType]) -> list[Array]:
    return [np.pad(inputs[0], op.widths, constant_values=op.value)]


def _host(op: ops.HostOperator, inputs: Arrays, types: Sequence[TensorType]) -> list[Array]:
    results = run_host_operator(op, inputs[op.priced_inputs :])
    for array, kind in zip(results, types, strict=True):
        if array.shape != kind.shape:
            raise UnsupportedModelError(
                f"{op.kind} gives a tensor of the shape {list(array.shape)} here and of {list(kind.shape)} in the run "
                f"of onnxruntime that the machine was planned for: cut the model in front of it"
            )
    return results


def _part(op: ops.Part, inputs: Arrays, types: Sequence[TensorType]) -> list[Array]:
    """Results of a part exist inside of onnxruntime's kernel only: zeros that take no memory stand for them."""
    return [np.broadcast_to(np.zeros((), kind.dtype), kind.shape) for kind in types]


_FUNCTIONS: dict[type[Any], Callable[[Any, Arrays, Sequence[TensorType]], list[Array]]] = {
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
    ops.Concatenate: _concatenate,
    ops.Quantise: _quantise,
    ops.DynamicQuantise: _dynamic_quantise,
    ops.Dequantise: _dequantise,
    QuantiseUniform: _quantise_uniform,
    DequantiseUniform: _dequantise_uniform,
    SumCodes: _sum_codes,
    SumPool: _sum_pool,
    ops.View: _view,
    ops.Transpose: _transpose,
    ops.Slice: _slice,
    ops.Split: _split,
    ops.Gather: _gather,
    ops.Pad: _pad,
    ops.HostOperator: _host,
    ops.ProductPart: _part,
    ops.VectorPart: _part,
    **movement.FUNCTIONS,
    **reductions.FUNCTIONS,
}
