"""Types that the operators of `accelsim.operators.vector` compute."""

from __future__ import annotations

import numpy as np

from accelsim.operators import vector as ops
from accelsim.operators.tensors import TensorType

Types = tuple[TensorType, ...]
Shape = tuple[int, ...]


def vector_type(op: ops.VectorOperator, inputs: Types) -> TensorType:
    """Return the type of the one output of an operator.

    Args:
        op: the operator.
        inputs: types of its dynamic inputs.
    """
    return TensorType(_dtype(op, inputs), _shape(op, inputs))


def _dtype(op: ops.VectorOperator, inputs: Types) -> np.dtype[np.generic]:
    if isinstance(op, ops.ArgExtreme):
        return np.dtype(np.int64)
    if isinstance(op, ops.Select):
        return inputs[1].dtype if op.tables[0] is None else op.tables[0].dtype
    if isinstance(op, ops.FloatReduce | ops.FloatChain | ops.ChannelAffine | ops.ResizeLinear):
        return op.output.dtype
    return inputs[0].dtype


def _shape(op: ops.VectorOperator, inputs: Types) -> Shape:
    first = inputs[0].shape
    if isinstance(op, ops.Rearrange):
        return tuple(positions.size for positions in op.positions)
    if isinstance(op, ops.Shuffle | ops.FloatReduce):
        return op.shape
    if isinstance(op, ops.Pick):
        return op.positions.shape
    if isinstance(op, ops.IndexedRead):
        return _indexed(op, first, inputs[1].shape)
    if isinstance(op, ops.ReduceExtreme):
        return _reduced(first, op.axes, keep=op.keep)
    if isinstance(op, ops.ArgExtreme):
        return _reduced(first, (op.axis,), keep=op.keep)
    if isinstance(op, ops.ResizeLinear):
        return _resized(op, first)
    return first if isinstance(op, ops.ChannelAffine) else np.broadcast_shapes(*(kind.shape for kind in inputs))


def _indexed(op: ops.IndexedRead, data: Shape, indices: Shape) -> Shape:
    if op.form == "Gather":
        return (*data[: op.axis], *indices, *data[op.axis + 1 :])
    return indices if op.form == "GatherElements" else (*indices[:-1], *data[op.axis + indices[-1] :])


def _reduced(shape: Shape, axes: tuple[int, ...], *, keep: bool) -> Shape:
    if keep:
        return tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


def _resized(op: ops.ResizeLinear, shape: Shape) -> Shape:
    sizes = op.rows.first.size, op.columns.first.size
    return (shape[0], *sizes, shape[3]) if op.channels_last else (*shape[:-2], *sizes)
