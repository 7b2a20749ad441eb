"""Data movement by constant or computed positions: Resize nearest, Tile, Expand, DepthToSpace, gathers, Where."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from accelsim.graph.context import Context, Imported, attributes
from accelsim.graph.importers.movement import import_gather, import_pad as import_constant_pad
from accelsim.graph.importers.resize import nearest_positions, resize_geometry
from accelsim.graph.quantised.quantiser import all_codes, dequantise_codes, quantise_values
from accelsim.graph.quantised.tensor import NotOnTheMachineError
from accelsim.operators import CodeFormat
from accelsim.operators.vector import IndexedRead, Pick, Rearrange, Select, Shuffle

_PAD_MODES = {b"edge": "edge", b"reflect": "reflect", b"wrap": "wrap"}


def import_resize(context: Context, node: NodeProto) -> Imported:
    """Resize in nearest mode: an index per axis."""
    geometry = resize_geometry(context, node)
    shape = context.types[node.input[0]].shape
    if geometry.is_copy:
        return Imported(Rearrange(shape, _whole(shape)), (node.input[0],))
    if geometry.mode != "nearest":
        raise NotOnTheMachineError(f"mode {geometry.mode}")
    positions = tuple(nearest_positions(axis, geometry) for axis in geometry.axes)
    fill: float | int = 0
    if any((part < 0).any() for part in positions):
        fill = _fill(context.types[node.input[0]].dtype, geometry.fill)
    return Imported(Rearrange(shape, positions, fill), (node.input[0],))


def _fill(dtype: np.dtype[np.generic], value: float) -> float | int:
    """Return the value outside of the region in the tensor's own type, as a C++ cast gives it."""
    if dtype.kind == "f":
        return value
    limits = np.iinfo(dtype.name)
    if not limits.min <= math.trunc(value) <= limits.max:
        raise NotOnTheMachineError("an extrapolation value outside of the codes")
    return math.trunc(value)


def _whole(shape: tuple[int, ...]) -> tuple[NDArray[np.int32], ...]:
    return tuple(np.arange(size, dtype=np.int32) for size in shape)


def import_expand(context: Context, node: NodeProto) -> Imported:
    """Expand: axes of one element are repeated."""
    shape, target = context.types[node.input[0]].shape, context.types[node.output[0]].shape
    view = (1,) * (len(target) - len(shape)) + shape
    positions = tuple(
        np.arange(new, dtype=np.int32) if old == new else np.zeros(new, np.int32)
        for old, new in zip(view, target, strict=True)
    )
    return Imported(Rearrange(view, positions), (node.input[0],))


def import_tile(context: Context, node: NodeProto) -> Imported:
    """Tile: each axis is repeated as a whole."""
    shape, target = context.types[node.input[0]].shape, context.types[node.output[0]].shape
    if 0 in shape:
        raise NotOnTheMachineError("an empty tensor")
    pairs = zip(shape, target, strict=True)
    positions = tuple(np.arange(new, dtype=np.int32) % np.int32(old) for old, new in pairs)
    return Imported(Rearrange(shape, positions), (node.input[0],))


def import_pad(context: Context, node: NodeProto) -> Imported:
    """Pad with a constant, or with elements of the tensor (edge, reflect, wrap) by constant widths."""
    mode = attributes(node).get("mode", b"constant")
    if mode not in _PAD_MODES or context.opset < 11:
        return import_constant_pad(context, node)
    shape = context.types[node.input[0]].shape
    pads = context.constant(node, 1).astype(np.int64).tolist()
    axes = context.optional(node, 3)
    chosen = list(range(len(shape))) if axes is None else [int(axis) % len(shape) for axis in axes]
    positions = list(_whole(shape))
    for index, axis in enumerate(chosen):
        widths = (int(pads[index]), int(pads[index + len(chosen)]))
        if min(widths) < 0 or (any(widths) and max(widths) >= shape[axis]):
            raise NotOnTheMachineError("pads that are negative or as wide as the tensor")
        if any(widths):
            positions[axis] = np.pad(positions[axis], widths, mode=_PAD_MODES[mode])  # type: ignore[call-overload]
    return Imported(Rearrange(shape, tuple(positions)), (node.input[0],))


def import_depth_to_space(context: Context, node: NodeProto) -> Imported:
    """DepthToSpace: depth-column-row or column-row-depth order of the blocks."""
    attribute, (batch, channels, height, width) = attributes(node), context.types[node.input[0]].shape
    block = int(attribute["blocksize"])
    depth = channels // block**2
    if attribute.get("mode", b"DCR") == b"CRD":
        parts, permutation = (batch, depth, block, block, height, width), (0, 1, 4, 2, 5, 3)
    else:
        parts, permutation = (batch, block, block, depth, height, width), (0, 3, 4, 1, 5, 2)
    return Imported(Shuffle(parts, permutation, context.types[node.output[0]].shape), (node.input[0],))


def import_space_to_depth(context: Context, node: NodeProto) -> Imported:
    """SpaceToDepth: blocks of pixels become channels, the pixel's place in the block being the outer one."""
    batch, channels, height, width = context.types[node.input[0]].shape
    block = int(attributes(node)["blocksize"])
    parts = (batch, channels, height // block, block, width // block, block)
    return Imported(Shuffle(parts, (0, 3, 5, 1, 2, 4), context.types[node.output[0]].shape), (node.input[0],))


def import_any_gather(context: Context, node: NodeProto) -> Imported:
    """Gather along an axis; indices that are computed are a second input."""
    if node.input[1] in context.constants and node.input[0] not in context.constants:
        return import_gather(context, node)
    axis = int(attributes(node).get("axis", 0)) % len(context.types[node.input[0]].shape)
    return Imported(IndexedRead("Gather", axis), tuple(node.input))


def import_gather_elements(context: Context, node: NodeProto) -> Imported:
    """GatherElements: one index per output element."""
    shape = context.types[node.input[0]].shape
    axis = int(attributes(node).get("axis", 0)) % len(shape)
    if node.input[1] not in context.constants:
        return Imported(IndexedRead("GatherElements", axis), tuple(node.input))
    indices = _within(context.constants[node.input[1]], shape[axis])
    grid: list[NDArray[np.int64]] = list(np.indices(indices.shape, np.int64, sparse=True))
    grid[axis] = indices
    return Imported(Pick(_flat_positions(grid, shape)), (node.input[0],))


def import_gather_nd(context: Context, node: NodeProto) -> Imported:
    """GatherND: a tuple of indices per slice, behind common batch dimensions."""
    shape = context.types[node.input[0]].shape
    batch = int(attributes(node).get("batch_dims", 0))
    if node.input[1] not in context.constants:
        return Imported(IndexedRead("GatherND", batch), tuple(node.input))
    indices = context.constants[node.input[1]].astype(np.int64)
    depth = indices.shape[-1]
    outer = indices.shape[:-1]
    tail = shape[batch + depth :]
    rank = len(outer) + len(tail)
    grid: list[NDArray[np.int64]] = []
    for axis in range(batch):
        grid.append(_along(np.arange(shape[axis]), axis, rank))
    for part in range(depth):
        chosen = _within(indices[..., part], shape[batch + part])
        grid.append(chosen.reshape(*outer, *[1] * len(tail)))
    for offset, size in enumerate(tail):
        grid.append(_along(np.arange(size), len(outer) + offset, rank))
    full = np.broadcast_to(_flat_positions(grid, shape), context.types[node.output[0]].shape)
    return Imported(Pick(np.ascontiguousarray(full)), (node.input[0],))


def _within(indices: NDArray[np.generic], size: int) -> NDArray[np.int64]:
    """Return indices counted from the front.

    Raises:
        NotOnTheMachineError: one is out of range, which onnxruntime reports when it runs.
    """
    wide = indices.astype(np.int64)
    if wide.size and (wide.min() < -size or wide.max() >= size):
        raise NotOnTheMachineError("an index out of range")
    return np.where(wide < 0, wide + size, wide)


def _along(values: NDArray[np.generic], axis: int, rank: int) -> NDArray[np.int64]:
    """Return values as an array of a rank that varies along one axis."""
    shape = [1] * rank
    shape[axis] = values.size
    return values.astype(np.int64).reshape(shape)


def _flat_positions(grid: list[NDArray[np.int64]], shape: tuple[int, ...]) -> NDArray[np.int32] | NDArray[np.int64]:
    """Combine indices per axis to positions in the flattened tensor, in the smallest type that holds them."""
    total: NDArray[np.int64] = np.zeros((), np.int64)
    for indices, size in zip(grid, shape, strict=True):
        total = total * size + indices
    return total.astype(np.int32) if math.prod(shape) < 2**31 else total


def import_where(context: Context, node: NodeProto) -> Imported:
    """Where on tensors of one type."""
    return Imported(Select((None, None)), tuple(node.input))


def import_quantised_where(context: Context, node: NodeProto) -> Imported:
    """QLinearWhere: condition, x, s_x, z_x, y, s_y, z_y, s, z; a table per side that has another scale."""
    out_scale = context.scale(node, 7)
    output = context.code(node.output[0], context.zero_point(node, 8))
    tables = []
    for position in (1, 4):
        code = context.code(node.input[position], context.zero_point(node, position + 2))
        tables.append(rescaling_table(code, context.scale(node, position + 1), output, out_scale))
    return Imported(Select((tables[0], tables[1])), (node.input[0], node.input[1], node.input[4]))


def rescaling_table(
    code: CodeFormat, scale: np.float32, output: CodeFormat, output_scale: np.float32
) -> NDArray[np.generic] | None:
    """Return Q(DQ(code)) for all codes, None where both have the same scale and zero point."""
    if code == output and scale == output_scale:
        return None
    return quantise_values(dequantise_codes(all_codes(code.dtype), scale, code.zero_point), output_scale, output)


REARRANGEMENTS: dict[str, Callable[[Context, NodeProto], Imported]] = {
    "Resize": import_resize,
    "Expand": import_expand,
    "Tile": import_tile,
    "Pad": import_pad,
    "DepthToSpace": import_depth_to_space,
    "SpaceToDepth": import_space_to_depth,
    "Gather": import_any_gather,
    "GatherElements": import_gather_elements,
    "GatherND": import_gather_nd,
    "Where": import_where,
    "QLinearWhere": import_quantised_where,
}
