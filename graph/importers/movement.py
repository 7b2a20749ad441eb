"""Data movement: operators that copy elements without looking at them."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from accelsim.graph.context import Context, Imported, attributes
from accelsim.graph.quantised.tensor import NotOnTheMachineError
from accelsim.operators import Concatenate, Gather, Pad, Slice, Split, Transpose, View


def import_view(context: Context, node: NodeProto) -> Imported:
    """Reshape, Flatten, Squeeze, Unsqueeze, Identity: the shape is the one onnxruntime inferred."""
    return Imported(View(context.types[node.output[0]].shape), (node.input[0],))


VIEWS = dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"), import_view)


def import_transpose(context: Context, node: NodeProto) -> Imported:
    """Transpose; without perm the axes are reversed."""
    rank = len(context.types[node.input[0]].shape)
    permutation = attributes(node).get("perm") or list(reversed(range(rank)))
    return Imported(Transpose(tuple(int(axis) for axis in permutation)), (node.input[0],))


def import_slice(context: Context, node: NodeProto) -> Imported:
    """Slice with constant starts, ends, axes, steps (as inputs, opset 10 and later)."""
    shape = context.types[node.input[0]].shape
    starts, ends = (context.constant(node, position).astype(np.int64).tolist() for position in (1, 2))
    axes, steps = (context.optional(node, position) for position in (3, 4))
    chosen = range(len(starts)) if axes is None else [int(axis) % len(shape) for axis in axes]
    strides = [1] * len(starts) if steps is None else [int(step) for step in steps]
    ranges: list[tuple[int, int | None, int]] = [(0, size, 1) for size in shape]
    for axis, start, end, step in zip(chosen, starts, ends, strides, strict=True):
        first, last, stride = slice(start, end, step).indices(shape[axis])
        ranges[axis] = (first, None if last < 0 else last, stride)
    return Imported(Slice(tuple(ranges)), (node.input[0],))


def import_split(context: Context, node: NodeProto) -> Imported:
    """Split into pieces whose sizes are those of the inferred output types."""
    if not all(node.output):
        raise NotOnTheMachineError("a piece that is left out")
    axis = int(attributes(node).get("axis", 0)) % len(context.types[node.input[0]].shape)
    sizes = tuple(context.types[name].shape[axis] for name in node.output)
    return Imported(Split(axis, sizes), (node.input[0],))


def import_gather(context: Context, node: NodeProto) -> Imported:
    """Gather with constant indices."""
    shape = context.types[node.input[0]].shape
    axis = int(attributes(node).get("axis", 0)) % len(shape)
    indices = context.constant(node, 1).astype(np.int64)
    if indices.size and (indices.min() < -shape[axis] or indices.max() >= shape[axis]):
        raise NotOnTheMachineError("an index out of range")
    return Imported(Gather(axis, indices % shape[axis]), (node.input[0],))


def import_concat(context: Context, node: NodeProto) -> Imported:
    """Concat of equal element types."""
    names = tuple(node.input)
    axis = int(attributes(node)["axis"]) % len(context.types[names[0]].shape)
    return Imported(Concatenate(axis, (None,) * len(names)), names)


def import_pad(context: Context, node: NodeProto) -> Imported:
    """Pad in constant mode: data, pads [, value [, axes]] (opset 11 and later)."""
    if attributes(node).get("mode", b"constant") != b"constant" or context.opset < 11:
        raise NotOnTheMachineError("a mode other than constant")
    rank = len(context.types[node.input[0]].shape)
    pads = context.constant(node, 1).astype(np.int64).tolist()
    value, axes = (context.optional(node, position) for position in (2, 3))
    chosen = list(range(rank)) if axes is None else [int(axis) % rank for axis in axes]
    widths = [(0, 0)] * rank
    for index, axis in enumerate(chosen):
        widths[axis] = (int(pads[index]), int(pads[index + len(chosen)]))
    if min(min(pair) for pair in widths) < 0:
        raise NotOnTheMachineError("negative pads")
    fill = 0 if value is None or value.size == 0 else value.reshape(-1)[0].item()
    return Imported(Pad(tuple(widths), fill), (node.input[0],))
