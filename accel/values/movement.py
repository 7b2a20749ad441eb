"""Values of operators that copy elements: by positions per axis, by shuffled axes, by index tensors, by a condition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim import operators
from accelsim.errors import UnsupportedModelError
from accelsim.operators import vector as ops
from accelsim.operators.tensors import TensorType

Array = NDArray[np.generic]
Arrays = Sequence[Array]
Types = Sequence[TensorType]


def rearrange(op: ops.Rearrange, inputs: Arrays, types: Types) -> list[Array]:
    """Take the positions of each axis that they change; then overwrite what lies outside."""
    result = np.asarray(inputs[0]).reshape(op.view)
    for axis, positions in enumerate(op.positions):
        if positions.size != op.view[axis] or (positions != np.arange(positions.size)).any():
            result = np.take(result, np.maximum(positions, 0), axis=axis)
    result = np.array(result, order="C")
    for axis, positions in enumerate(op.positions):
        outside = positions < 0
        if outside.any():
            result[(slice(None),) * axis + (outside,)] = op.fill
    return [result]


def shuffle(op: ops.Shuffle, inputs: Arrays, types: Types) -> list[Array]:
    """Reshape, transpose, reshape."""
    parts = np.ascontiguousarray(inputs[0]).reshape(op.parts)
    return [np.ascontiguousarray(parts.transpose(op.permutation)).reshape(op.shape)]


def pick(op: ops.Pick, inputs: Arrays, types: Types) -> list[Array]:
    """Read positions of the flattened tensor."""
    return [np.asarray(np.ascontiguousarray(inputs[0]).reshape(-1)[op.positions])]


def indexed_read(op: ops.IndexedRead, inputs: Arrays, types: Types) -> list[Array]:
    """Gather, GatherElements, GatherND by computed indices, which count from the end when negative.

    Raises:
        UnsupportedModelError: an index is out of range.
    """
    data, indices = inputs[0], inputs[1].astype(np.int64)
    if op.form == "Gather":
        return [np.ascontiguousarray(np.take(data, _counted(indices, data.shape[op.axis]), axis=op.axis))]
    if op.form == "GatherElements":
        chosen = _counted(indices, data.shape[op.axis])
        grid: list[Any] = list(np.indices(indices.shape, sparse=True))
        grid[op.axis] = chosen
        return [np.ascontiguousarray(data[tuple(grid)])]
    return [_gather_nd(data, indices, op.axis, types[0].shape)]


def _gather_nd(data: Array, indices: NDArray[np.int64], batch: int, shape: tuple[int, ...]) -> Array:
    """Read one slice per tuple of indices, batch by batch."""
    depth = indices.shape[-1]
    batches = int(np.prod(data.shape[:batch]))
    rows = indices.reshape(batches, int(np.prod(indices.shape[batch:-1])), depth)
    flat = data.reshape(batches, *data.shape[batch:])
    columns = [_counted(rows[..., part], data.shape[batch + part]) for part in range(depth)]
    return np.ascontiguousarray(flat[(np.arange(batches)[:, None], *columns)]).reshape(shape)


def _counted(indices: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Return indices counted from the front."""
    if indices.size and (indices.min() < -size or indices.max() >= size):
        wrong = indices[(indices < -size) | (indices >= size)].reshape(-1)[0]
        raise UnsupportedModelError(
            f"a computed index {wrong} is outside of an axis of {size} elements: feed other inputs"
        )
    return np.where(indices < 0, indices + size, indices)


def select(op: ops.Select, inputs: Arrays, types: Types) -> list[Array]:
    """Take from the first tensor where the condition holds, else from the second; through tables of codes if any."""
    sides = [lookup(table, codes) for table, codes in zip(op.tables, inputs[1:], strict=True)]
    return [np.ascontiguousarray(np.where(inputs[0], *sides))]


def lookup(table: Array | None, codes: Array) -> Array:
    """Replace codes by table entries; None leaves them as they are."""
    if table is None:
        return codes
    index = np.ascontiguousarray(codes).view(np.dtype(f"u{codes.dtype.itemsize}")).reshape(codes.shape)
    return np.asarray(table[index])


def _concatenate(op: operators.Concatenate, inputs: Arrays, types: Types) -> list[Array]:
    parts = [lookup(table, codes) for table, codes in zip(op.tables, inputs, strict=True)]
    return [np.concatenate(parts, axis=op.axis)]


def _view(op: operators.View, inputs: Arrays, types: Types) -> list[Array]:
    return [np.ascontiguousarray(inputs[0]).reshape(op.shape)]


def _transpose(op: operators.Transpose, inputs: Arrays, types: Types) -> list[Array]:
    return [np.asarray(inputs[0].transpose(op.permutation), order="C")]  # may be a scalar


def _slice(op: operators.Slice, inputs: Arrays, types: Types) -> list[Array]:
    return [np.ascontiguousarray(inputs[0][tuple(slice(*part) for part in op.ranges)])]


def _split(op: operators.Split, inputs: Arrays, types: Types) -> list[Array]:
    cuts = np.cumsum(op.sizes)[:-1]
    return [np.ascontiguousarray(part) for part in np.split(inputs[0], cuts, axis=op.axis)]


def _gather(op: operators.Gather, inputs: Arrays, types: Types) -> list[Array]:
    return [np.asarray(np.take(inputs[0], op.indices, axis=op.axis), order="C")]  # may be a scalar


def _pad(op: operators.Pad, inputs: Arrays, types: Types) -> list[Array]:
    return [np.pad(inputs[0], op.widths, constant_values=op.value)]


FUNCTIONS: dict[type[Any], Callable[[Any, Arrays, Types], list[Array]]] = {
    ops.Rearrange: rearrange,
    ops.Shuffle: shuffle,
    ops.Pick: pick,
    ops.IndexedRead: indexed_read,
    ops.Select: select,
    operators.Concatenate: _concatenate,
    operators.View: _view,
    operators.Transpose: _transpose,
    operators.Slice: _slice,
    operators.Split: _split,
    operators.Gather: _gather,
    operators.Pad: _pad,
}
