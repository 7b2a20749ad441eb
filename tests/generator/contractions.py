"""Steps that multiply: convolutions, matrix products, their biases and clips."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from tests.generator.growth import Growth, Tensor, fits, operator
from tests.generator.values import POINTS, Array, choose_code, limits, lively, products
from tests.strategies import Draw, Quantisation, Shape


def draw_window(draw: Draw, spatial: Shape, *, dilated: bool = True) -> tuple[dict[str, Any], Shape]:
    """Draw kernel, strides, dilations and pads (or auto_pad) that fit an image, and the size of the result."""
    kernel = [draw.integer(1, min(3, size)) for size in spatial]
    strides = [draw.integer(1, 2) for _ in kernel]
    if draw.chance(20):
        mode = draw.choice(["SAME_UPPER", "SAME_LOWER", "VALID"])
        if not dilated:  # onnxruntime refuses pools with gaps between their windows
            strides = [min(pair) for pair in zip(kernel, strides, strict=True)]
        attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "auto_pad": mode}
        shrink = kernel if mode == "VALID" else [1] * len(kernel)
        return attributes, tuple(
            (size - k) // stride + 1 for size, k, stride in zip(spatial, shrink, strides, strict=True)
        )
    dilations = [draw.integer(1, 2) if dilated and draw.chance(30) else 1 for _ in kernel]
    begins, ends = ([draw.integer(0, size - 1) for size in kernel] for _ in range(2))
    reach = [dilation * (size - 1) + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    for axis, size in enumerate(spatial):  # a dilated window may have to reach into more padding
        ends[axis] += max(0, reach[axis] - size - begins[axis] - ends[axis])
    sizes = tuple(
        (size + begin + end - k) // stride + 1
        for size, begin, end, k, stride in zip(spatial, begins, ends, reach, strides, strict=True)
    )
    attributes = {"kernel_shape": kernel, "strides": strides, "pads": [*begins, *ends]}
    return attributes | ({"dilations": dilations} if set(dilations) != {1} else {}), sizes


def draw_groups(draw: Draw, channels: int) -> int:
    """Draw a number of groups: one, as many as channels, or a divisor in between."""
    divisors = [groups for groups in range(2, channels) if channels % groups == 0]
    return int(draw.choice([1, 1, channels, *divisors, *divisors]))


def add_bias(growth: Growth, unit: Array, channels: int, spread: float) -> tuple[list[str], Array]:
    """Add no bias, an int32 bias in units of s_x * s_w, or a float one; gives names and the real values."""
    draw, build = growth.draw, growth.build
    kind = draw.choice(["none", "int32", "float"])
    if kind == "none":
        return [], np.zeros(channels)
    steps = max(1, min(int(spread / float(np.mean(unit))), 2**30))
    values = draw.rng.integers(-steps, steps + 1, channels)
    reals = values * np.asarray(unit, np.float64)
    if kind == "float":
        return [growth.floats(reals * float(draw.rng.uniform(0.9, 1.1)))], reals
    code = Quantisation(np.dtype(np.int32), unit, np.zeros(np.shape(unit), np.int32))
    return [build.dequantise(build.constant(values, np.int32), code, 0)], reals


def unit_of(source: Quantisation, weights: Quantisation) -> Any:
    """Return fl32(s_x * s_w), one or one per channel."""
    return np.float32(source.scale) * np.asarray(weights.scale, np.float32)


def clipped(growth: Growth, real: str, sample: Array, unit: float) -> tuple[str, Array, Quantisation | None]:
    """Add nothing, a Relu or a Clip behind a product: redundant for its quantiser, or loose."""
    draw = growth.draw
    kind = draw.choice(["", "", "", "Relu", "Clip"])
    if not kind or not lively(sample.clip(0)):
        return real, sample, None
    code = choose_code(draw, growth.dtype(), sample, unit)
    lowest, highest = limits(code.dtype)
    if draw.chance(60):
        code = replace(code, zero_point=lowest)
    top = np.inf
    if kind == "Clip":
        top = float(code.scale) * (highest - lowest + 2) * draw.choice([1.0, 1.0, 0.5])
        if not lively(sample.clip(0, top)):
            return real, sample, None
        return growth.build.node("Clip", [real, growth.floats(0.0), growth.floats(top)]), sample.clip(0, top), code
    return growth.build.node("Relu", [real]), sample.clip(0, top), code


@operator("Conv", 8)
def convolve(growth: Growth) -> Tensor | None:
    """Conv of one to three dimensions, any groups, with or without bias and clip."""
    tensor = growth.pick(3, 4, 5)
    if tensor is None:
        return None
    draw, build = growth.draw, growth.build
    batch, channels, *spatial = tensor.shape
    attributes, sizes = draw_window(draw, tuple(spatial))
    groups = draw_groups(draw, channels)
    filters = groups * draw.integer(1, 6 if groups == 1 else 2)
    if not fits((batch, filters, *sizes)):
        return None
    shape = (filters, channels // groups, *attributes["kernel_shape"])
    code = growth.weights_code(tensor.code, filters)
    weights, reals = growth.constant(shape, code, 0)
    sample = products(draw, tensor.sample, reals.reshape(filters, -1))
    unit = unit_of(tensor.code, code)
    bias, offsets = add_bias(growth, unit, filters, float(np.std(sample)))
    result = build.node("Conv", [growth.real(tensor), weights, *bias], group=groups, **attributes)
    sample = sample + draw.rng.choice(offsets, POINTS)
    result, sample, chosen = clipped(growth, result, sample, float(np.mean(unit)))
    return growth.result(result, (batch, filters, *sizes), sample, float(np.mean(unit)), chosen)


@operator("ConvTranspose", 2)
def convolve_transposed(growth: Growth) -> Tensor | None:
    """ConvTranspose of one to three dimensions."""
    tensor = growth.pick(3, 4, 5)
    if tensor is None:
        return None
    draw = growth.draw
    batch, channels, *spatial = tensor.shape
    kernel, strides = draw.integers(1, 3, len(spatial)), draw.integers(1, 2, len(spatial))
    groups = draw_groups(draw, channels) if draw.chance(40) else 1
    per_group = draw.integer(1, 3)
    pads = [draw.integer(0, (size - 1) // 2) for size in kernel * 2]
    extra = [draw.integer(0, stride - 1) for stride in strides]
    rank = len(spatial)
    sizes = tuple(
        strides[axis] * (size - 1) + extra[axis] + kernel[axis] - pads[axis] - pads[axis + rank]
        for axis, size in enumerate(spatial)
    )
    shape = (batch, groups * per_group, *sizes)
    if min(sizes) < 1 or not fits(shape):
        return None
    code = growth.weights_code(tensor.code, per_group)
    if np.ndim(code.scale) and groups > 1:
        code = Quantisation(code.dtype, code.scale[0], int(code.zero_point[0]))
    weights, reals = growth.constant((channels, per_group, *kernel), code, 1)
    rows = np.moveaxis(reals, 1, 0).reshape(per_group, -1)[:, : max(1, channels // groups)]
    attributes = {"kernel_shape": kernel, "strides": strides, "pads": pads, "group": groups, "output_padding": extra}
    result = growth.build.node("ConvTranspose", [growth.real(tensor), weights], **attributes)
    sample = products(draw, tensor.sample, rows)
    return growth.result(result, shape, sample, float(np.mean(unit_of(tensor.code, code))))


@operator("MatMul", 5)
def multiply(growth: Growth) -> Tensor | None:
    """MatMul with a constant matrix, at times followed by the addition of a bias."""
    tensor = growth.pick(lowest=2)
    if tensor is None:
        return None
    draw, depth, columns = growth.draw, tensor.shape[-1], growth.draw.integer(1, 8)
    code = growth.weights_code(tensor.code, columns)
    weights, reals = growth.constant((depth, columns), code, 1)
    sample, unit = products(draw, tensor.sample, reals.T), unit_of(tensor.code, code)
    result = growth.build.node("MatMul", [growth.real(tensor), weights])
    if draw.chance(30):
        bias, offsets = add_bias(growth, unit, columns, float(np.std(sample)))
        if bias:
            operands = [result, bias[0]]
            result = growth.build.node("Add", operands if draw.chance() else operands[::-1])
            sample = sample + draw.rng.choice(offsets, POINTS)
    result, sample, chosen = clipped(growth, result, sample, float(np.mean(unit)))
    return growth.result(result, (*tensor.shape[:-1], columns), sample, float(np.mean(unit)), chosen)


@operator("Gemm", 4)
def gemm(growth: Growth) -> Tensor | None:
    """Gemm of a matrix, operands transposed or not, now and then with factors."""
    tensor = growth.pick(2)
    if tensor is None:
        return None
    draw = growth.draw
    turned, second = draw.integer(0, 1), draw.integer(0, 1)
    rows, depth = tensor.shape[::-1] if turned else tensor.shape
    columns = draw.integer(1, 8)
    code = growth.weights_code(tensor.code, columns)
    weights, reals = growth.constant((columns, depth) if second else (depth, columns), code, 1 - second)
    sample = products(draw, tensor.sample, reals if second else reals.T)
    unit = unit_of(tensor.code, code)
    bias, offsets = add_bias(growth, unit, columns, float(np.std(sample)))
    alpha = draw.choice([None] * 9 + [0.5])
    attributes = {"transA": turned, "transB": second, "alpha": alpha}
    result = growth.build.node("Gemm", [growth.real(tensor), weights, *bias], **attributes)
    sample = sample * (alpha or 1.0) + draw.rng.choice(offsets, POINTS)
    result, sample, chosen = clipped(growth, result, sample, float(np.mean(unit)))
    return growth.result(result, (rows, columns), sample, float(np.mean(unit)), chosen)


@operator("MatMul of activations", 3)
def multiply_activations(growth: Growth) -> Tensor | None:
    """MatMul of two activations, batched: of a tensor and itself transposed, or of another input."""
    tensor = growth.pick(lowest=2)
    if tensor is None:
        return None
    draw, shape = growth.draw, tensor.shape
    if draw.chance(40):
        order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
        second = growth.build.node("Transpose", [growth.real(tensor)], perm=order)
        other, columns = tensor, shape[-2]
    else:
        columns = draw.integer(1, 6)
        leading = draw.choice([shape[:-2], shape[1:-2], ()])
        other = growth.other((*leading, shape[-1], columns))
        second = growth.real(other)
    if not fits((*shape[:-1], columns)):
        return None
    rows = draw.rng.choice(other.sample, (POINTS, shape[-1]))
    result = growth.build.node("MatMul", [growth.real(tensor), second])
    unit = float(tensor.code.scale) * float(other.code.scale)
    return growth.result(result, (*shape[:-1], columns), products(draw, tensor.sample, rows), unit)


@operator("Einsum", 1, opset=13)
def einsum(growth: Growth) -> Tensor | None:
    """Einsum that is a matrix product with a constant."""
    tensor = growth.pick(3)
    if tensor is None:
        return None
    columns = growth.draw.integer(1, 5)
    code = growth.weights_code(tensor.code, 1)
    code = Quantisation(code.dtype, np.ravel(code.scale)[0], int(np.ravel(code.zero_point)[0]))
    weights, reals = growth.constant((tensor.shape[-1], columns), code)
    result = growth.build.node("Einsum", [growth.real(tensor), weights], equation="abc,cd->abd")
    sample = products(growth.draw, tensor.sample, reals.T)
    return growth.result(result, (*tensor.shape[:-1], columns), sample, float(np.mean(unit_of(tensor.code, code))))


def size_of(tensor: Tensor) -> int:
    """Return the number of elements of a tensor."""
    return math.prod(tensor.shape)
