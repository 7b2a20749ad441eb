"""Steps that reduce: pools, means, largest values and their places."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from tests.generator.contractions import draw_window
from tests.generator.growth import Growth, Tensor, operator
from tests.generator.values import POINTS, Array, lively, means
from tests.strategies import Draw, Shape


def largest(draw: Draw, sample: Array, count: int) -> Array:
    """Return a sample of maxima of `count` values."""
    return np.asarray(draw.rng.choice(sample, (POINTS, max(count, 1))).max(axis=1))


def draw_dilated(draw: Draw, spatial: Shape) -> tuple[dict[str, Any], Shape]:
    """Draw a window with holes, without pads."""
    kernel = [2 if size > 2 else 1 for size in spatial]
    dilations = [draw.integer(1, 2) if size > 2 else 1 for size in spatial]
    reach = [dilation * (size - 1) + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    sizes = tuple(size - k + 1 for size, k in zip(spatial, reach, strict=True))
    return {"kernel_shape": kernel, "dilations": dilations}, sizes


def rounded_up(growth: Growth, attributes: dict[str, Any], spatial: Shape, sizes: Shape) -> Shape:
    """Let the size of the result round up in a quarter of the cases.

    Not where the last window would begin in the padding: there onnxruntime computes another shape than it infers.
    """
    if "pads" not in attributes or not growth.draw.chance(25):
        return sizes
    rank, result = len(spatial), []
    for axis, size in enumerate(spatial):
        begin, stride = attributes["pads"][axis], attributes["strides"][axis]
        padded = size + begin + attributes["pads"][axis + rank] - attributes["kernel_shape"][axis]
        result.append(-(-padded // stride) + 1)
        if (result[-1] - 1) * stride >= size + begin:
            return sizes
    attributes["ceil_mode"] = 1
    return tuple(result)


@operator("MaxPool", 3)
def max_pool(growth: Growth) -> Tensor | None:
    """MaxPool of one or two dimensions."""
    tensor = growth.pick(3, 4)
    if tensor is None:
        return None
    attributes, sizes = draw_window(growth.draw, tensor.shape[2:], dilated=False)
    if "auto_pad" not in attributes and growth.draw.chance(20):
        attributes, sizes = draw_dilated(growth.draw, tensor.shape[2:])
    sizes = rounded_up(growth, attributes, tensor.shape[2:], sizes)
    made = growth.moved(tensor, "MaxPool", [], (*tensor.shape[:2], *sizes), **attributes)
    made.sample = largest(growth.draw, tensor.sample, math.prod(attributes["kernel_shape"]))
    return made


@operator("AveragePool", 4)
def average_pool(growth: Growth) -> Tensor | None:
    """AveragePool of one or two dimensions."""
    tensor = growth.pick(3, 4)
    if tensor is None:
        return None
    draw = growth.draw
    attributes, sizes = draw_window(draw, tensor.shape[2:], dilated=False)
    sizes = rounded_up(growth, attributes, tensor.shape[2:], sizes)
    if draw.chance(40):
        attributes["count_include_pad"] = 1
    result = growth.build.node("AveragePool", [growth.real(tensor)], **attributes)
    sample = means(draw, tensor.sample, math.prod(attributes["kernel_shape"]))
    return growth.result(result, (*tensor.shape[:2], *sizes), sample, float(tensor.code.scale))


@operator("GlobalAveragePool", 2, kind="GlobalAveragePool")
@operator("GlobalMaxPool", 1, kind="GlobalMaxPool")
def global_pool(growth: Growth, kind: str) -> Tensor | None:
    """A pool of the whole image."""
    tensor = growth.pick(3, 4, 5)
    if tensor is None:
        return None
    draw, count = growth.draw, math.prod(tensor.shape[2:])
    shape = (*tensor.shape[:2], *[1] * (len(tensor.shape) - 2))
    sample = (means if kind == "GlobalAveragePool" else largest)(draw, tensor.sample, count)
    return growth.result(growth.build.node(kind, [growth.real(tensor)]), shape, sample, float(tensor.code.scale))


@operator("ReduceMean", 2, kind="ReduceMean")
@operator("ReduceMax", 1, kind="ReduceMax")
@operator("ReduceMin", 1, kind="ReduceMin")
@operator("ReduceSum", 1, opset=13, kind="ReduceSum")
def reduce(growth: Growth, kind: str) -> Tensor | None:
    """A reduction of one or two axes, which stay as ones or not."""
    tensor = growth.pick(lowest=2)
    if tensor is None:
        return None
    draw, shape = growth.draw, tensor.shape
    axes = sorted(draw.choice([[len(shape) - 1], [1], [len(shape) - 2, len(shape) - 1]]))
    kept = draw.integer(0, 1)
    count = math.prod(shape[axis] for axis in axes)
    left = tuple(1 if axis in axes else size for axis, size in enumerate(shape) if kept or axis not in axes)
    as_input = growth.style.opset >= 18 or kind == "ReduceSum"
    inputs = [growth.real(tensor), *([growth.integers(axes)] if as_input else [])]
    result = growth.build.node(kind, inputs, keepdims=kept, axes=None if as_input else axes)
    if kind in ("ReduceMax", "ReduceMin"):
        sign = 1 if kind == "ReduceMax" else -1
        made = growth.moved_real(tensor, result, left)
        made.sample = sign * largest(draw, sign * tensor.sample, count)
        return made
    sample = means(draw, tensor.sample, count) * (count if kind == "ReduceSum" else 1)
    return growth.result(result, left, sample, float(tensor.code.scale))


@operator("ArgMax", 1)
def place_of_largest(growth: Growth) -> bool:
    """ArgMax, whose int64 result leaves the graph."""
    tensor = growth.pick(lowest=1)
    if tensor is None:
        return False
    draw = growth.draw
    written = bool(tensor.codes) and tensor.code.dtype.itemsize == 1 and draw.chance(growth.style.qoperator)
    source = growth.coded(tensor) if written else growth.real(tensor)
    axis = draw.integer(0, len(tensor.shape) - 1)
    result = growth.build.node("ArgMax", [source], axis=axis, keepdims=draw.integer(0, 1))
    return growth.leaves(result, np.int64)


@operator("TopK", 1)
def largest_ones(growth: Growth) -> Tensor | None:
    """TopK of the last axis; the places leave the graph, the values go on."""
    tensor = growth.pick(lowest=1)
    if tensor is None:
        return None
    count = growth.draw.integer(1, tensor.shape[-1])
    values, places = growth.build.nodes_of("TopK", [growth.real(tensor), growth.integers([count])], 2, axis=-1)
    growth.leaves(places, np.int64)
    return growth.moved_real(tensor, values, (*tensor.shape[:-1], count))


@operator("CumSum", 1)
def running_sum(growth: Growth) -> Tensor | None:
    """CumSum along an axis."""
    tensor = growth.pick(lowest=1)
    if tensor is None:
        return None
    axis = growth.draw.integer(0, len(tensor.shape) - 1)
    result = growth.build.node("CumSum", [growth.real(tensor), growth.build.constant(axis, np.int64)])
    sample = np.cumsum(tensor.sample) / max(1, len(tensor.sample) // tensor.shape[axis])
    return growth.result(result, tensor.shape, sample, float(tensor.code.scale))


@operator("Relu before a wide range", 1)
def plain_relu(growth: Growth) -> Tensor | None:
    """Relu between Q/DQ that keep negative codes."""
    tensor = growth.pick(where=lambda tensor: lively(tensor.sample.clip(0)))
    if tensor is None:
        return None
    result = growth.build.node("Relu", [growth.real(tensor)])
    middle = (int(np.iinfo(tensor.code.dtype).min) + int(np.iinfo(tensor.code.dtype).max) + 1) // 2
    code = replace(tensor.code, zero_point=middle)
    return growth.result(result, tensor.shape, tensor.sample.clip(0), float(tensor.code.scale), code)
