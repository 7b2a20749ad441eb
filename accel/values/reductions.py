"""Values of reductions, chains, affine maps and interpolation: float32 between codes, or comparisons of codes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.kernels.values import elementwise, reductions
from accelsim.operators import CodeFormat, FloatOperand, vector as ops
from accelsim.operators.tensors import TensorType

Array = NDArray[np.generic]
Arrays = Sequence[Array]
Types = Sequence[TensorType]
Floats = NDArray[np.float32]

_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Sqrt": np.sqrt,
    "Reciprocal": lambda values: np.divide(np.float32(1), values),
    "Neg": np.negative,
    "Abs": np.abs,
}
_CHAINS: dict[str, Callable[..., Any]] = {"Max": np.maximum, "Min": np.minimum, "Sum": np.add}


def dequantise(values: Array, code: CodeFormat | None, scale: np.float32) -> Floats:
    """Return reals of codes, or floats as they are."""
    if code is None:
        return np.asarray(values, np.float32)
    out = np.empty(values.size, np.float32)
    elementwise.dequantise_all(np.ascontiguousarray(values).reshape(-1), scale, code.zero_point, out)
    return out.reshape(values.shape)


def quantise(values: Floats, code: CodeFormat, scale: np.float32) -> Array:
    """Return codes of reals."""
    out = np.empty(values.size, code.dtype)
    flat = np.ascontiguousarray(values).reshape(-1)
    elementwise.quantise_all(flat, scale, code.zero_point, code.lowest, code.highest, out)
    return out.reshape(values.shape)


def _ends(
    op: ops.FloatReduce | ops.ChannelAffine | ops.ResizeLinear,
) -> tuple[tuple[np.float32, int], tuple[np.float32, int, int, int]]:
    """Return what kernels need to dequantise and to quantise."""
    code = op.output
    return (op.input_scale, op.input.zero_point), (op.output_scale, code.zero_point, code.lowest, code.highest)


def reduce_extreme(op: ops.ReduceExtreme, inputs: Arrays, types: Types) -> list[Array]:
    """Largest or smallest code over axes."""
    function: Callable[..., Any] = np.max if op.function == "max" else np.min
    return [np.asarray(function(inputs[0], axis=op.axes, keepdims=op.keep))]


def arg_extreme(op: ops.ArgExtreme, inputs: Arrays, types: Types) -> list[Array]:
    """Index of the largest or smallest code; numpy finds the first, so the last is found backwards."""
    function: Callable[..., Any] = np.argmax if op.function == "max" else np.argmin
    codes = np.flip(inputs[0], op.axis) if op.last else inputs[0]
    index = function(codes, axis=op.axis, keepdims=op.keep).astype(np.int64)
    return [np.asarray(codes.shape[op.axis] - 1 - index if op.last else index)]


def float_reduce(op: ops.FloatReduce, inputs: Arrays, types: Types) -> list[Array]:
    """Sum or mean of dequantised codes."""
    kept, reduced, after = op.view
    codes = np.ascontiguousarray(inputs[0])
    source, target = _ends(op)
    divisor = np.float32(reduced if op.function == "mean" else 1)
    out = np.empty(kept * after, op.output.dtype)
    if after == 1:
        reductions.reduce_rows(codes.reshape(kept, reduced), *source, divisor, *target, out)
    else:
        reductions.reduce_columns(codes.reshape(reduced, after), *source, divisor, *target, out)
    return [out.reshape(op.shape)]


def float_chain(op: ops.FloatChain, inputs: Arrays, types: Types) -> list[Array]:
    """Combine operands from left to right."""
    reals = [_operand(operand, array) for operand, array in zip(op.operands, inputs, strict=True)]
    total = reals[0]
    with np.errstate(all="ignore"):
        for real in reals[1:]:
            total = _CHAINS[op.function](total, real)
    return [quantise(np.broadcast_to(total, types[0].shape), op.output, op.output_scale)]


def _operand(operand: FloatOperand, array: Array) -> Floats:
    return dequantise(array, operand.code, operand.scale)


def float_arithmetic(op: ops.FloatArithmetic, inputs: Arrays, types: Types) -> list[Array]:
    """One float32 operation per element."""
    with np.errstate(all="ignore"):
        return [np.asarray(_ARITHMETIC[op.function](*inputs), np.float32)]


def channel_affine(op: ops.ChannelAffine, inputs: Arrays, types: Types) -> list[Array]:
    """Multiply and add per channel."""
    shape = types[0].shape
    planes = np.ascontiguousarray(inputs[0]).reshape(shape[0], shape[1], math.prod(shape[2:]))
    out = np.empty(planes.shape, op.output.dtype)
    source, target = _ends(op)
    reductions.affine_channels(planes, op.factor, op.offset, *source, *target, out)
    return [out.reshape(shape)]


def resize_linear(op: ops.ResizeLinear, inputs: Arrays, types: Types) -> list[Array]:
    """Interpolate between four neighbours."""
    source, target = _ends(op)
    old, new = ((*array, 1) if not op.channels_last else array for array in (inputs[0].shape, types[0].shape))
    planes = np.ascontiguousarray(inputs[0]).reshape(-1, *old[-3:])
    out = np.empty((planes.shape[0], *new[-3:]), op.output.dtype)
    rows, columns = ((axis.first, axis.second, axis.first_weight, axis.second_weight) for axis in (op.rows, op.columns))
    reductions.blend(planes, rows, columns, *source, *target, out)
    return [out.reshape(types[0].shape)]


FUNCTIONS: dict[type[Any], Callable[[Any, Arrays, Types], list[Array]]] = {
    ops.ReduceExtreme: reduce_extreme,
    ops.ArgExtreme: arg_extreme,
    ops.FloatReduce: float_reduce,
    ops.FloatChain: float_chain,
    ops.FloatArithmetic: float_arithmetic,
    ops.ChannelAffine: channel_affine,
    ops.ResizeLinear: resize_linear,
}
