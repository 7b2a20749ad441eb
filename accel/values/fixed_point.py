"""What the operators of the requantiser without float compute (timing contract, section 2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from accelsim.kernels.values import elementwise
from accelsim.operators.fixed_point import (
    ADDITION_HEADROOM,
    FixedAdd,
    FixedGlobalAveragePool,
    FixedMultiply,
    FixedRequantise,
)
from accelsim.operators.tensors import TensorType

IntArray = NDArray[np.generic]


def requantise(acc: IntArray, epilogue: FixedRequantise) -> IntArray:
    """Turn accumulators int32 or int64 [N, M] into codes, row n with its own multiplier."""
    out = np.empty(acc.shape, epilogue.output.dtype)
    mantissa, shift = epilogue.fixed.rows(acc.shape[0])
    elementwise.requantise_rows_fixed(acc, mantissa, shift, epilogue.output.zero_point, *epilogue.bounds, out)
    return out


def add(op: FixedAdd, inputs: Sequence[IntArray], types: Sequence[TensorType]) -> list[IntArray]:
    """Execute an addition of codes; operands are broadcast."""
    a, b = (flat(array, types[0].shape) for array in inputs)
    out, code = np.empty(types[0].elements, op.output.dtype), op.output
    elementwise.add_codes_fixed(
        a, b, op.first.zero_point, op.second.zero_point, ADDITION_HEADROOM, *op.fixed.rows(3),
        code.zero_point, code.lowest, code.highest, out,
    )  # fmt: skip
    return [out.reshape(types[0].shape)]


def multiply(op: FixedMultiply, inputs: Sequence[IntArray], types: Sequence[TensorType]) -> list[IntArray]:
    """Execute a product of codes; operands are broadcast."""
    a, b = (flat(array, types[0].shape) for array in inputs)
    out, code = np.empty(types[0].elements, op.output.dtype), op.output
    elementwise.multiply_codes_fixed(
        a, b, op.first.zero_point, op.second.zero_point, op.fixed.mantissa[0], op.fixed.shift[0],
        code.zero_point, code.lowest, code.highest, out,
    )  # fmt: skip
    return [out.reshape(types[0].shape)]


def global_average_pool(
    op: FixedGlobalAveragePool, inputs: Sequence[IntArray], types: Sequence[TensorType]
) -> list[IntArray]:
    """Execute a global average: exact sums of shifted codes, then the requantiser."""
    codes = inputs[0].reshape(*inputs[0].shape[:2], -1)
    sums = codes.sum(axis=-1, dtype=np.int64) - op.input.zero_point * codes.shape[-1]
    epilogue = FixedRequantise(np.ones(1, np.float32), op.output, fixed=op.fixed)
    return [requantise(sums, epilogue).reshape(types[0].shape)]


def flat(array: IntArray, shape: tuple[int, ...]) -> IntArray:
    """Broadcast to a shape and flatten."""
    return np.ascontiguousarray(np.broadcast_to(array, shape)).reshape(-1)
