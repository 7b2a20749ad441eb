"""Checks of operators against the shapes of their operands, where onnxruntime would fail only while it runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from onnx import NodeProto

from accelsim.errors import InvalidModelError, UnsupportedModelError, printable
from accelsim.graph.context import attributes as attributes_of
from accelsim.graph.load.constraints import node_label

# A shape as far as it is known: None stands for a dimension that is not.
Shape = tuple[int | None, ...]

# Input position of the weights of convolutions.
_CONVOLUTIONS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}
_POOLS = frozenset({"MaxPool", "AveragePool", "LpPool", "QLinearAveragePool", "NhwcMaxPool"})
_QUANTISERS = frozenset({"QuantizeLinear", "DequantizeLinear"})
_LARGEST = 2**31 - 1

# What onnxruntime's own layouts are made of: blocks of channels, in a domain of their own, and channels last.
BLOCKED_DOMAIN = "com.microsoft.nchwc"
_CHANNELS_LAST = frozenset({"QLinearConv", "QLinearAveragePool", "QLinearGlobalAveragePool"})


def is_channels_last(node: NodeProto) -> bool:
    """Tell whether an operator reads and writes [batch, spatial dimensions, channels].

    Args:
        node: any node.
    """
    if node.domain != "com.microsoft":
        return False
    return node.op_type == "NhwcMaxPool" or (
        node.op_type in _CHANNELS_LAST and any(a.name == "channels_last" and a.i for a in node.attribute)
    )


def check_operator(node: NodeProto, shapes: Mapping[str, Shape]) -> None:
    """Compare a node's attributes with the shapes of its inputs.

    Args:
        node: a node that onnx.checker has accepted.
        shapes: shapes of constants, inputs and results, as far as they are known.

    Raises:
        InvalidModelError: names the node and what contradicts what.
        UnsupportedModelError: onnxruntime does not execute such attributes.
    """
    if node.domain == BLOCKED_DOMAIN:  # its weights and maps hold blocks of channels, which only onnxruntime reads
        return
    operands = [shapes.get(name) for name in node.input]
    if is_channels_last(node) and operands and operands[0] is not None:
        operands[0] = (*operands[0][:1], *operands[0][-1:], *operands[0][1:-1])
    if node.op_type in _CONVOLUTIONS and len(operands) > _CONVOLUTIONS[node.op_type]:
        _check_convolution(node, operands[0], operands[_CONVOLUTIONS[node.op_type]])
    elif node.op_type in _POOLS and operands:
        attributes = attributes_of(node)
        _check_window(node, attributes, operands[0], tuple(attributes.get("kernel_shape", ())))
    elif node.op_type in _QUANTISERS and len(operands) > 1:
        _check_parameters(node, operands)


def _refuse(node: NodeProto, problem: str) -> InvalidModelError:
    """Return the error for a node."""
    return InvalidModelError(f"{node.op_type} '{printable(node_label(node))}' {problem}: export the model again")


def _check_convolution(node: NodeProto, data: Shape | None, weights: Shape | None) -> None:
    """Check channels, groups and the window of a convolution."""
    attributes = attributes_of(node)
    groups = int(attributes.get("group", 1))
    if groups < 1:
        raise _refuse(node, f"has {groups} groups")
    if weights is None:
        return
    if len(weights) < 3 or (data is not None and len(data) != len(weights)):
        rank = "" if data is None else f" for data of {len(data)}"
        raise _refuse(node, f"has weights of {len(weights)} dimensions{rank}")
    if 0 in weights:
        raise _refuse(node, "has empty weights")
    filters, depth, *kernel = weights
    channels = None if data is None else data[1]
    if None not in (channels, depth) and channels != depth * groups:  # type: ignore[operator]
        raise _refuse(node, f"has {groups} groups of {depth} channels for data of {channels}")
    if filters is not None and filters % groups:
        raise _refuse(node, f"has {filters} filters in {groups} groups")
    stated = tuple(attributes.get("kernel_shape", kernel))
    if None not in kernel and stated != tuple(kernel):
        raise _refuse(node, f"states the kernel {list(stated)} but its weights have {kernel}")
    _check_window(node, attributes, data, stated)


def _check_window(node: NodeProto, attributes: Mapping[str, Any], data: Shape | None, kernel: Shape) -> None:
    """Check that a window has sensible sizes and fits into its padded data."""
    rank = len(kernel)
    strides = tuple(attributes.get("strides", ())) or (1,) * rank
    dilations = tuple(attributes.get("dilations", ())) or (1,) * rank
    pads = tuple(attributes.get("pads", ())) or (0,) * (2 * rank)
    for name, values, wanted in (("strides", strides, rank), ("dilations", dilations, rank), ("pads", pads, 2 * rank)):
        if len(values) != wanted:
            raise _refuse(node, f"has {len(values)} {name} for {rank} spatial dimensions")
        if any(not (-1 if name == "pads" else 0) < value <= _LARGEST for value in values):
            raise _refuse(node, f"has {name} out of range: {list(values)}")
    if any(size is not None and not 0 < size <= _LARGEST for size in kernel):
        raise _refuse(node, f"has a kernel out of range: {list(kernel)}")
    mode = attributes.get("auto_pad", b"NOTSET")
    if mode in (b"SAME_UPPER", b"SAME_LOWER"):
        if node.op_type in _CONVOLUTIONS and set(dilations) != {1}:
            raise UnsupportedModelError(
                f"{node.op_type} '{printable(node_label(node))}' combines dilations with auto_pad, which onnxruntime "
                f"does not execute: export it with explicit pads"
            )
        return
    if data is None:
        return
    if len(data) != rank + 2:
        raise _refuse(node, f"has a window of {rank} dimensions for data of {len(data)}")
    for axis, (size, window) in enumerate(zip(data[2:], kernel, strict=True)):
        padding = 0 if mode == b"VALID" else pads[axis] + pads[axis + rank]
        if size is not None and window is not None and size + padding < dilations[axis] * (window - 1) + 1:
            raise _refuse(node, f"has a window of {dilations[axis] * (window - 1) + 1} for data of {size + padding}")


def _check_parameters(node: NodeProto, operands: list[Shape | None]) -> None:
    """Demand one scale per tensor, per channel or per block, and as many zero points as scales."""
    data, scale, *rest = operands
    if scale is None or None in scale:
        return
    count, attributes = _elements(scale), attributes_of(node)
    block, axis = int(attributes.get("block_size", 0)), int(attributes.get("axis", 1))
    if not block and len(scale) > 1 and count != 1:
        raise _refuse(node, f"has scales of {len(scale)} dimensions without a block size")
    if rest and rest[0] is not None and _elements(rest[0]) not in (None, count):
        raise _refuse(node, f"has {count} scales but zero points of shape {list(rest[0])}")
    if data is None or (count == 1 and not block):
        return
    if not -len(data) <= axis < len(data):
        raise _refuse(node, f"quantises axis {axis} of {len(data)}")
    if block:
        _check_blocks(node, data, scale, axis, block)
    elif data[axis] not in (None, count):
        raise _refuse(node, f"has {count} scales for axis {axis} of size {data[axis]}")


def _check_blocks(node: NodeProto, data: Shape, scale: Shape, axis: int, block: int) -> None:
    """Demand one scale per block of an axis, for every position on the other axes."""
    if block < 0:
        raise _refuse(node, f"has a block size of {block}")
    wanted = list(data)
    size = data[axis]
    wanted[axis] = None if size is None else -(-size // block)
    if len(scale) != len(data) or any(w not in (None, s) for w, s in zip(wanted, scale, strict=True)):
        raise _refuse(node, f"has scales of shape {list(scale)} for blocks of {block} on axis {axis} of {list(data)}")


def _elements(shape: Shape) -> int | None:
    """Return the number of elements of a shape, or None while it is not known."""
    known = [size for size in shape if size is not None]
    return math.prod(known) if len(known) == len(shape) else None
