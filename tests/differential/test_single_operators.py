"""Random models of one operator: every element of every tensor equals onnxruntime, on the unit the table promises."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

import accelsim
from accelsim.graph.constraints import OPERATORS
from tests.strategies import MICROSOFT, Builder, Case, Draw, Quantisation, Shape, broadcast_pair

MODELS_PER_OPERATOR = 30
SEED = 30_001
PLACEMENTS = {row.kernel: row.placement for row in OPERATORS}

Generator = Callable[[Draw], Case]


@dataclass(frozen=True)
class Operator:
    """How to draw models of one operator, the kernel that must execute it, and where.

    placement: overrides the table of operators where one kernel has two.
    """

    generate: Generator
    kernel: str
    placement: str = ""


REGISTRY: dict[str, Operator] = {}


def operator(name: str, kernel: str, placement: str = "", **fixed: Any) -> Callable[[Any], Any]:
    """Register a generator under a name, with some of its arguments fixed."""

    def add(function: Any) -> Any:
        assert name not in REGISTRY
        REGISTRY[name] = Operator(lambda draw: function(draw, **fixed), kernel, placement)
        return function

    return add


# ---- convolutions


def bias_of(draw: Draw, build: Builder, channels: int, scale: Any, spread: float, *, real: bool = True) -> list[str]:
    """Add no bias, an int32 bias with the scale of the products, or a float bias that onnxruntime quantises."""
    kind = draw.choice(["none", "int32", "float"] if real else ["none", "int32"])
    if kind == "none":
        return []
    if kind == "float":
        return [build.constant((draw.rng.normal(size=channels) * np.asarray(scale) * spread).astype(np.float32))]
    values = draw.rng.integers(-int(spread), int(spread) + 1, channels).astype(np.int32)
    code = Quantisation(np.dtype(np.int32), scale, np.zeros(np.shape(scale), np.int32))
    return [build.dequantise(build.constant(values), code, 0)]


def convolution_attributes(draw: Draw, rank: int, *, automatic: bool) -> dict[str, Any]:
    """Draw kernel, strides, dilations and pads, or an auto_pad."""
    kernel, strides = draw.integers(1, 3, rank), draw.integers(1, 3, rank)
    if automatic:
        mode = draw.choice(["SAME_UPPER", "SAME_LOWER", "VALID"])
        return {"kernel_shape": kernel, "strides": strides, "auto_pad": mode}
    dilations, pads = draw.integers(1, 2, rank), draw.integers(0, 2, 2 * rank)
    return {"kernel_shape": kernel, "strides": strides, "dilations": dilations, "pads": pads}


def draw_groups(draw: Draw) -> tuple[int, int, int]:
    """Draw (groups, channels per group, filters per group), depthwise ones in a fifth of the cases."""
    if draw.chance(20):
        return draw.integer(2, 6), 1, draw.integer(1, 2)
    return draw.choice([1, 1, 2, 3]), draw.integer(1, 5), draw.integer(1, 5)


@operator("conv", "QLinearConv")
@operator("conv_1d", "QLinearConv", rank=1)
@operator("conv_auto_pad", "QLinearConv", automatic=True)
@operator("conv_relu", "QLinearConv", relu=True)
@operator("conv_clip", "QLinearConv", clip=True)
def convolution(draw: Draw, rank: int = 2, *, automatic: bool = False, relu: bool = False, clip: bool = False) -> Case:
    """Q/DQ around Conv, with a Relu or Clip that the output's range makes redundant."""
    build, (groups, channels, filters) = Builder(draw), draw_groups(draw)
    spatial = tuple(draw.integers(5, 10, rank))
    attributes = convolution_attributes(draw, rank, automatic=automatic)
    source = draw.activation()
    weights = draw.weights(draw.weights_dtype(source.dtype), groups * filters)
    shape = (groups * filters, channels, *attributes["kernel_shape"])
    spread = 70 * 70 * math.sqrt(math.prod(shape[1:]))
    real = build.activation((draw.integer(1, 2), groups * channels, *spatial), source)
    inputs = [real, build.weight(shape, weights, 0)]
    inputs += bias_of(draw, build, groups * filters, np.float32(source.scale) * weights.scale, spread)
    result = build.node("Conv", inputs, group=groups, **attributes)
    target = draw.result(source.dtype, float(source.scale) * weights.mean_scale, spread)
    lowest, highest = np.iinfo(target.dtype).min, np.iinfo(target.dtype).max
    if relu:
        target = replace(target, zero_point=lowest)
        result = build.node("Relu", [result])
    if clip:
        target = replace(target, zero_point=lowest)
        ends = build.constant(0.0, np.float32), build.constant(float(target.scale) * (highest - lowest + 2), np.float32)
        result = build.node("Clip", [result, *ends])
    return build.finish(result, target)


@operator("qlinear_conv", "QLinearConv")
def qlinear_convolution(draw: Draw) -> Case:
    """A QLinearConv written in the file."""
    build, (groups, channels, filters) = Builder(draw), draw_groups(draw)
    spatial = tuple(draw.integers(5, 10, 2))
    source = draw.activation()
    weights = draw.weights(draw.weights_dtype(source.dtype), groups * filters)
    attributes = convolution_attributes(draw, 2, automatic=draw.chance(30))
    shape = (groups * filters, channels, *attributes["kernel_shape"])
    spread = 70 * 70 * math.sqrt(math.prod(shape[1:]))
    target = draw.result(source.dtype, float(source.scale) * weights.mean_scale, spread)
    inputs = [build.codes((draw.integer(1, 2), groups * channels, *spatial), source), *build.parameters(source)]
    inputs += [build.constant(draw.codes(shape, weights.dtype)), *build.parameters(weights), *build.parameters(target)]
    if draw.chance():
        inputs.append(build.constant(draw.rng.integers(-9999, 9999, groups * filters), np.int32))
    build.output(build.node("QLinearConv", inputs, group=groups, **attributes), target.dtype)
    return build.case()


# ---- matrix products


@operator("matmul", "QLinearMatMul")
@operator("matmul_to_float", "MatMulIntegerToFloat", quantised=False)
def matmul(draw: Draw, *, quantised: bool = True) -> Case:
    """Q/DQ around MatMul with a constant matrix, any leading axes, with and without a Q at the end."""
    build, source = Builder(draw), draw.activation()
    depth, columns = draw.integer(1, 90), draw.integer(1, 60)
    weights = draw.weights(draw.weights_dtype(source.dtype), columns)
    real = build.activation((*draw.shape(draw.integer(0, 2), 3), draw.integer(1, 40), depth), source)
    result = build.node("MatMul", [real, build.weight((depth, columns), weights, 1)])
    if quantised:
        unit = float(source.scale) * weights.mean_scale
        return build.finish(result, draw.result(source.dtype, unit, 5000 * math.sqrt(depth)))
    build.output(result)
    return build.case()


@operator("matmul_integer_to_float", "MatMulIntegerToFloat")
def matmul_integer_to_float(draw: Draw) -> Case:
    """A MatMulIntegerToFloat written in the file, with and without a float bias."""
    build, source = Builder(draw), draw.activation()
    rows, depth, columns = draw.integer(1, 20), draw.integer(1, 60), draw.integer(1, 20)
    weights = draw.weights(draw.weights_dtype(source.dtype), columns)
    (first_scale, first_zero), (scale, zero) = build.parameters(source), build.parameters(weights)
    second = build.constant(draw.codes((depth, columns), weights.dtype))
    inputs = [build.codes((rows, depth), source), second, first_scale, scale, first_zero, zero]
    if draw.chance():
        inputs.append(build.constant(draw.rng.normal(size=columns), np.float32))
    build.output(build.node("MatMulIntegerToFloat", inputs, MICROSOFT), np.float32, 2)
    return build.case()


LEADING: list[tuple[Shape, Shape]] = [((), ()), ((2,), (2,)), ((2,), ()), ((2, 3), (2, 3)), ((2, 1), (3,)), ((), (2,))]


@operator("matmul_activations", "QLinearMatMul")
@operator("matmul_activations_to_float", "MatMulIntegerToFloat", quantised=False)
@operator("matmul_stack", "QLinearMatMul", constant=True)
@operator("qlinear_matmul", "QLinearMatMul", written=True)
def matmul_second(draw: Draw, *, constant: bool = False, written: bool = False, quantised: bool = True) -> Case:
    """Products of two activations or with a stack of constant matrices, broadcasting; also written as QLinearMatMul."""
    build, source = Builder(draw), draw.activation()
    second = draw.activation(source.dtype if not constant else draw.weights_dtype(source.dtype), 0.01)
    rows, depth, columns = draw.integer(1, 9), draw.integer(1, 40), draw.integer(1, 9)
    first_lead, second_lead = draw.choice(LEADING)
    first_shape, second_shape = (*first_lead, rows, depth), (*second_lead, depth, columns)
    target = draw.result(source.dtype, float(source.scale) * second.mean_scale, 5000 * math.sqrt(depth))
    if written:
        inputs = [build.codes(first_shape, source), *build.parameters(source)]
        inputs += [build.codes(second_shape, second), *build.parameters(second), *build.parameters(target)]
        build.output(build.node("QLinearMatMul", inputs), target.dtype)
        return build.case()
    real = build.activation(first_shape, source)
    other = build.weight(second_shape, second, 0) if constant else build.activation(second_shape, second)
    result = build.node("MatMul", [real, other])
    if quantised:
        return build.finish(result, target)
    build.output(result)
    return build.case()


@operator("gemm", "QGemm")
@operator("gemm_to_float", "QGemm", quantised=False)
def gemm(draw: Draw, *, quantised: bool = True) -> Case:
    """Q/DQ around Gemm, operands transposed or not, bias as a vector or as one row, with and without a Q at the end."""
    build, source = Builder(draw), draw.activation()
    rows, depth, columns = draw.integer(1, 60), draw.integer(1, 90), draw.integer(1, 60)
    weights = draw.weights(draw.weights_dtype(source.dtype), columns)
    turn_first, turn_second = draw.integer(0, 1), draw.integer(0, 1)
    spread = 5000 * math.sqrt(depth)
    real = build.activation((depth, rows) if turn_first else (rows, depth), source)
    shape = (columns, depth) if turn_second else (depth, columns)
    inputs = [real, build.weight(shape, weights, 1 - turn_second)]
    scale = np.float32(source.scale) * weights.scale
    inputs += bias_of(draw, build, columns, scale, spread, real=quantised)
    result = build.node("Gemm", inputs, transA=turn_first, transB=turn_second)
    if quantised:
        return build.finish(result, draw.result(source.dtype, float(source.scale) * weights.mean_scale, spread))
    build.output(result)
    return build.case()


@operator("gemm_bias_shapes", "QGemm")
def gemm_bias_shapes(draw: Draw) -> Case:
    """Gemm with every bias that has one value per column: vector, row, single value, scalar."""
    build, source = Builder(draw), draw.activation()
    rows, depth, columns = draw.integer(1, 6), draw.integer(1, 30), draw.integer(1, 6)
    weights = draw.activation(draw.weights_dtype(source.dtype), 0.01)
    shape = draw.choice([(columns,), (1, columns), (1,), (1, 1), ()])
    values = draw.rng.integers(-20_000, 20_000, shape)
    code = Quantisation(np.dtype(np.int32), np.float32(source.scale) * weights.scale, 0)
    bias = build.dequantise(build.constant(values, np.int32), code)
    inputs = [build.activation((rows, depth), source), build.weight((depth, columns), weights, 1), bias]
    target = draw.result(source.dtype, float(source.scale) * weights.mean_scale, 5000 * math.sqrt(depth))
    return build.finish(build.node("Gemm", inputs), target)


@operator("gemm_ties", "QGemm", kind="Gemm")
@operator("conv_ties", "QLinearConv", kind="Conv")
def requantisation_ties(draw: Draw, kind: str) -> Case:
    """Accumulators set by the bias alone, within two of every rounding tie of the output's codes.

    Multipliers go down to 2^-22, where the last bit of the multiplier decides most of the codes.
    """
    build, source, weights = Builder(draw), draw.activation(), draw.activation(np.dtype(np.int8), 0.01)
    scale = np.float32(source.scale) * np.float32(weights.scale)
    ratio = 2.0 ** draw.integer(3, 22) * (1 if draw.ties else float(draw.rng.uniform(0.5, 1)))
    target = Quantisation(source.dtype, draw.beside(float(scale) * ratio), draw.zero_point(source.dtype))
    ties = (np.arange(-257, 257) + 0.5) * (float(target.scale) / float(scale))
    totals = np.unique(np.rint(ties)[:, None] + np.arange(-2, 3)).astype(np.int32)
    bias = build.constant(totals)
    rank = 2 if kind == "Conv" else 0
    neutral = build.constant(np.full((totals.size, 1, *[1] * rank), weights.zero_point), weights.dtype)
    inputs = [build.activation((1, 1, *[1] * rank), source), build.dequantise(neutral, weights)]
    inputs.append(build.dequantise(bias, Quantisation(np.dtype(np.int32), scale, 0)))
    return build.finish(build.node(kind, inputs, transB=1 if kind == "Gemm" else None), target)


@operator("matmul_bias", "QGemm")
def matmul_bias(draw: Draw) -> Case:
    """Q/DQ around MatMul and the addition of a constant bias, which onnxruntime turns into one QGemm."""
    build, source = Builder(draw), draw.activation()
    rows, depth, columns = draw.integer(1, 20), draw.integer(1, 60), draw.integer(1, 20)
    weights = draw.activation(draw.weights_dtype(source.dtype), 0.01)
    product = build.node(
        "MatMul", [build.activation((rows, depth), source), build.weight((depth, columns), weights, 1)]
    )
    spread, scale = 5000 * math.sqrt(depth), np.float32(source.scale) * weights.scale
    values = draw.rng.integers(-int(spread), int(spread) + 1, columns)
    code = Quantisation(np.dtype(np.int32), scale, 0)
    bias = build.dequantise(build.constant(values, np.int32), code)
    result = build.node("Add", [product, bias] if draw.chance() else [bias, product])
    return build.finish(result, draw.result(source.dtype, float(scale), spread))


@operator("qgemm", "QGemm")
def qgemm(draw: Draw) -> Case:
    """A QGemm written in the file."""
    build, source = Builder(draw), draw.activation()
    rows, depth, columns = draw.integer(1, 20), draw.integer(1, 60), draw.integer(1, 20)
    weights = draw.weights(draw.weights_dtype(source.dtype), columns)
    turned = draw.integer(0, 1)
    shape = (columns, depth) if turned else (depth, columns)
    target = draw.result(source.dtype, float(source.scale) * weights.mean_scale, 5000 * math.sqrt(depth))
    inputs = [build.codes((rows, depth), source), *build.parameters(source)]
    inputs += [build.constant(draw.codes(shape, weights.dtype)), *build.parameters(weights)]
    inputs.append(build.constant(draw.rng.integers(-9999, 9999, columns), np.int32) if draw.chance() else "")
    inputs += build.parameters(target)
    build.output(build.node("QGemm", inputs, MICROSOFT, transB=turned), target.dtype, 2)
    return build.case()


# ---- additions and products of elements


@operator("add", "QLinearAdd", kind="Add")
@operator("mul", "QLinearMul", kind="Mul")
@operator("qlinear_add", "QLinearAdd", kind="Add", written=True)
@operator("qlinear_mul", "QLinearMul", kind="Mul", written=True)
def binary(draw: Draw, kind: str, *, written: bool = False) -> Case:
    """Q/DQ around Add or Mul with broadcasting, one operand constant at times; also written as QLinearAdd/Mul."""
    build, first = Builder(draw), draw.activation()
    ratio = 2.0 ** draw.integer(-2, 2)
    scale = draw.beside(float(first.scale) * ratio) if draw.ties else draw.scale()
    second = Quantisation(first.dtype, scale, draw.zero_point(first.dtype))
    unit, spread = (float(first.scale), 60) if kind == "Add" else (float(first.scale) * float(scale), 5000)
    target = draw.result(first.dtype, unit, spread)
    if draw.chance(5):
        target = replace(target, scale=np.float32(target.scale * np.float32(1e-12)))  # results beyond int32
    shapes, constant = broadcast_pair(draw), draw.choice([None, None, None, 0, 1])
    operands = []
    for index, (shape, code) in enumerate(zip(shapes, (first, second), strict=True)):
        if written:
            operands += [build.codes(shape, code), *build.parameters(code)]
        else:
            fixed = index == constant
            operands.append(build.weight(shape, code, 0) if fixed else build.activation(shape, code))
    if written:
        operands += build.parameters(target)
        build.output(build.node(f"QLinear{kind}", operands, MICROSOFT), target.dtype, max(map(len, shapes)))
        return build.case()
    return build.finish(build.node(kind, operands), target)


@operator("add_all_pairs", "QLinearAdd", kind="Add")
@operator("mul_all_pairs", "QLinearMul", kind="Mul")
def all_pairs(draw: Draw, kind: str) -> Case:
    """Add or Mul of all 65,536 pairs of codes."""
    build, first = Builder(draw), draw.activation()
    scale = draw.beside(float(first.scale) * 2.0 ** draw.integer(-2, 2)) if draw.ties else draw.scale()
    second = Quantisation(first.dtype, scale, draw.zero_point(first.dtype))
    unit, spread = (float(first.scale), 60) if kind == "Add" else (float(first.scale) * float(scale), 5000)
    every = np.arange(256, dtype=np.uint8).view(first.dtype)
    rows, columns = build.input(every.reshape(256, 1)), build.input(every.reshape(1, 256))
    result = build.node(kind, [build.dequantise(rows, first), build.dequantise(columns, second)])
    return build.finish(result, draw.result(first.dtype, unit, spread))


# ---- pools


def pool_target(draw: Draw, source: Quantisation) -> Quantisation:
    """Draw an output quantisation a few powers of two around the input's."""
    factor = 2.0 ** draw.integer(-2, 1) if draw.ties else float(draw.rng.uniform(0.3, 2))
    return Quantisation(source.dtype, draw.beside(float(source.scale) * factor), draw.zero_point(source.dtype))


def pool_attributes(draw: Draw, rank: int, *, average: bool) -> dict[str, Any]:
    """Draw kernel, strides, pads smaller than the kernel, ceil_mode, and what else a pool of that kind takes.

    Automatic padding of windows with gaps between them has a test of its own.
    """
    kernel, strides = draw.integers(1, 3, rank), draw.integers(1, 3, rank)
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": strides}
    if average:
        attributes["count_include_pad"] = draw.integer(0, 1)
    if draw.chance(25):
        attributes["strides"] = [min(pair) for pair in zip(kernel, strides, strict=True)]
        attributes["auto_pad"] = draw.choice(["SAME_UPPER", "SAME_LOWER", "VALID"])
        return attributes
    if not average:
        attributes["dilations"] = draw.integers(1, 2, rank)
    attributes["pads"] = [draw.integer(0, kernel[axis % rank] - 1) for axis in range(2 * rank)]
    attributes["ceil_mode"] = draw.integer(0, 1)
    return attributes


@operator("average_pool", "QLinearAveragePool")
@operator("average_pool_1d", "QLinearAveragePool", rank=1)
@operator("qlinear_average_pool", "QLinearAveragePool", written=True)
def average_pool(draw: Draw, rank: int = 2, *, written: bool = False) -> Case:
    """Q/DQ around AveragePool with pads, ceil_mode and count_include_pad."""
    build, source = Builder(draw), draw.activation()
    spatial = tuple(draw.integers(4, 9, rank))
    attributes = pool_attributes(draw, rank, average=True)
    shape, target = (draw.integer(1, 2), draw.integer(1, 16), *spatial), pool_target(draw, source)
    if written:
        inputs = [build.codes(shape, source), *build.parameters(source), *build.parameters(target)]
        build.output(build.node("QLinearAveragePool", inputs, MICROSOFT, **attributes), target.dtype, rank + 2)
        return build.case()
    return build.finish(build.node("AveragePool", [build.activation(shape, source)], **attributes), target)


@operator("global_average_pool", "QLinearGlobalAveragePool")
@operator("average_pool_of_the_image", "QLinearAveragePool", whole=True)
@operator("qlinear_global_average_pool", "QLinearGlobalAveragePool", written=True)
def global_average_pool(draw: Draw, *, whole: bool = False, written: bool = False) -> Case:
    """Q/DQ around GlobalAveragePool of any rank, or AveragePool with a window as large as the image.

    Images of 4, 8 and 16 pixels, whose means lie on ties, are frequent.
    """
    build, source = Builder(draw), draw.activation()
    image = draw.choice([(2, 2), (4, 2), (4, 4), draw.shape(2, 9), draw.shape(1 if whole else 3, 5)])
    shape, target = (draw.integer(1, 2), draw.integer(1, 80), *image), pool_target(draw, source)
    if whole:
        attributes = {"kernel_shape": list(image), "count_include_pad": draw.integer(0, 1)}
        return build.finish(build.node("AveragePool", [build.activation(shape, source)], **attributes), target)
    if written:
        inputs = [build.codes(shape, source), *build.parameters(source), *build.parameters(target)]
        build.output(
            build.node("QLinearGlobalAveragePool", inputs, MICROSOFT, channels_last=0), target.dtype, len(shape)
        )
        return build.case()
    return build.finish(build.node("GlobalAveragePool", [build.activation(shape, source)]), target)


@operator("max_pool", "MaxPool")
@operator("max_pool_1d", "MaxPool", rank=1)
def max_pool(draw: Draw, rank: int = 2) -> Case:
    """Q/DQ around MaxPool with pads, dilations and ceil_mode."""
    build, code = Builder(draw), draw.activation()
    spatial = tuple(draw.integers(5, 9, rank))
    attributes = pool_attributes(draw, rank, average=False)
    real = build.activation((draw.integer(1, 2), draw.integer(1, 5), *spatial), code)
    return build.finish(build.node("MaxPool", [real], **attributes), code)


# ---- softmax and tables


@operator("softmax", "QLinearSoftmax", opset=13)
@operator("softmax_flattened", "QLinearSoftmax", opset=12)
def softmax(draw: Draw, opset: int) -> Case:
    """Q/DQ around Softmax along any axis; before opset 13 from an axis to the end."""
    build, source = Builder(draw, opset), draw.activation(around=0.05)
    shape = draw.shape(draw.integer(1, 4), 7)
    scale = draw.choice([1 / 256, np.nextafter(np.float32(1 / 255), np.float32(1)), 1 / 255, float(draw.scale(0.008))])
    target = Quantisation(source.dtype, np.float32(scale), draw.zero_point(source.dtype))
    axis = draw.choice([None, *range(-len(shape), len(shape))]) if len(shape) > 1 else -1
    return build.finish(build.node("Softmax", [build.activation(shape, source)], axis=axis), target)


@operator("sigmoid", "QLinearSigmoid", kind="Sigmoid")
@operator("leaky_relu", "QLinearLeakyRelu", kind="LeakyRelu")
def unary(draw: Draw, kind: str) -> Case:
    """Q/DQ around Sigmoid or LeakyRelu."""
    build, source = Builder(draw), draw.activation(around=0.05)
    alpha = float(np.float32(draw.choice([0.01, 0.125, 0.2]))) if kind == "LeakyRelu" else None
    ratio = 2.0 ** draw.integer(-1, 3) if draw.ties else float(draw.rng.uniform(0.3, 3))
    scale = draw.beside(1 / 256) if kind == "Sigmoid" else draw.beside(float(source.scale) * ratio)
    target = Quantisation(source.dtype, scale, draw.zero_point(source.dtype))
    real = build.activation(draw.shape(draw.integer(1, 4), 8), source)
    return build.finish(build.node(kind, [real], alpha=alpha), target)


@operator("concat", "QLinearConcat", equal=False)
@operator("concat_equal", "QLinearConcat", "dma", equal=True)
def concat(draw: Draw, *, equal: bool) -> Case:
    """Q/DQ around Concat of two to four tensors, with scales that all differ from the output's, or all equal it."""
    build, target = Builder(draw), draw.activation()
    rank = draw.integer(1, 4)
    axis = draw.integer(-rank, rank - 1)
    shape = list(draw.shape(rank))
    reals = []
    for _ in range(draw.integer(2, 4)):
        shape[axis] = draw.integer(1, 5)
        scale = draw.beside(float(target.scale) * 2.0 ** draw.choice([-2, -1, 1, 2])) if draw.ties else draw.scale()
        other = Quantisation(target.dtype, scale, draw.zero_point(target.dtype))
        reals.append(build.activation(tuple(shape), target if equal else other))
    return build.finish(build.node("Concat", reals, axis=axis), target)


@operator("concat_of_reals", "Concat")
def concat_of_reals(draw: Draw) -> Case:
    """Concat of dequantised tensors that is not quantised again."""
    build, shape, axis = Builder(draw), draw.shape(3), draw.integer(-3, 2)
    reals = [build.activation(shape, draw.activation()) for _ in range(draw.integer(2, 3))]
    build.output(build.node("Concat", reals, axis=axis))
    return build.case()


# ---- data movement


def moved(draw: Draw, kind: str, shape: Shape, extra: Callable[[Builder], list[str]] | None, **attributes: Any) -> Case:
    """Q/DQ around an operator that copies elements; `extra` adds its constant inputs."""
    build, code = Builder(draw), draw.activation()
    inputs = [build.activation(shape, code)] + (extra(build) if extra else [])
    return build.finish(build.node(kind, inputs, **attributes), code)


@operator("reshape", "Reshape")
def reshape(draw: Draw) -> Case:
    """Reshape with a kept and a computed dimension."""
    shape = draw.shape(3)
    target = draw.choice([[0, -1], [-1], [shape[2], -1, shape[0]], [0, 0, -1, 1]])
    return moved(draw, "Reshape", shape, lambda build: [build.constant(target, np.int64)])


@operator("flatten", "Flatten", "none")
def flatten(draw: Draw) -> Case:
    """Flatten from any axis."""
    return moved(draw, "Flatten", draw.shape(4, 4), None, axis=draw.integer(-3, 3))


@operator("squeeze", "Squeeze", "none")
def squeeze(draw: Draw) -> Case:
    """Squeeze of chosen axes."""
    shape = (draw.integer(2, 5), 1, draw.integer(2, 5), 1)
    axes = draw.choice([[1], [3], [1, 3], [-1]])
    return moved(draw, "Squeeze", shape, lambda build: [build.constant(axes, np.int64)])


@operator("unsqueeze", "Unsqueeze", "none")
def unsqueeze(draw: Draw) -> Case:
    """Unsqueeze at chosen axes."""
    axes = draw.choice([[0], [1, 3], [-1]])
    return moved(draw, "Unsqueeze", draw.shape(3), lambda build: [build.constant(axes, np.int64)])


@operator("transpose", "Transpose")
def transpose(draw: Draw) -> Case:
    """Transpose by any permutation that moves something, or the default one."""
    rank = draw.integer(2, 4)
    permutation = draw.choice([None, [int(axis) for axis in np.roll(range(rank), draw.integer(1, rank - 1))]])
    return moved(draw, "Transpose", tuple(draw.integers(2, 6, rank)), None, perm=permutation)


@operator("slice", "Slice")
def slices(draw: Draw) -> Case:
    """Slice of two axes with steps in both directions and ends beyond the tensor."""
    shape = tuple(draw.integers(4, 8, 3))
    axes = draw.choice([[0, 2], [1, 2], [-1, 0]])
    ranges = [draw.choice([(1, 3, 1), (0, 99, 2), (-1, -99, -1), (-2, 0, -1), (-3, 99, 1)]) for _ in axes]
    starts, ends, steps = zip(*ranges, strict=True)
    return moved(
        draw,
        "Slice",
        shape,
        lambda build: [build.constant(list(values), np.int64) for values in (starts, ends, axes, steps)],
    )


@operator("gather", "Gather")
def gather(draw: Draw) -> Case:
    """Gather along any axis by constant indices of rank 0 to 2, negative ones included."""
    shape = draw.shape(3)
    axis = draw.integer(-3, 2)
    picked = draw.rng.integers(-shape[axis], shape[axis], draw.choice([(), (3,), (2, 2)]))
    return moved(draw, "Gather", shape, lambda build: [build.constant(picked, np.int64)], axis=axis)


@operator("split", "Split")
def split(draw: Draw) -> Case:
    """Split into two or three uneven pieces, each quantised again."""
    build, code = Builder(draw), draw.activation()
    shape, axis = list(draw.shape(3)), draw.integer(-3, 2)
    sizes = draw.integers(1, 4, draw.integer(2, 3))
    shape[axis] = sum(sizes)
    inputs = [build.activation(tuple(shape), code), build.constant(sizes, np.int64)]
    for piece in build.nodes_of("Split", inputs, len(sizes), axis=axis):
        build.output(build.quantise(piece, code), code.dtype)
    return build.case()


@operator("pad", "Pad")
def pad(draw: Draw) -> Case:
    """Pad with zero or a constant, on all axes or on chosen ones."""
    shape, value = draw.shape(3), draw.choice([None, 0.0, 0.3])
    axes = draw.choice([None, [2, 0], [-1]])
    widths = draw.integers(0, 2, 2 * len(axes or shape))
    widths[0] = 1

    def constants(build: Builder) -> list[str]:
        names = [build.constant(widths, np.int64)]
        names.append("" if value is None else build.constant(value, np.float32))
        return names if axes is None else [*names, build.constant(axes, np.int64)]

    return moved(draw, "Pad", shape, constants)


@operator("resize", "Resize", "vector")
def resize(draw: Draw) -> Case:
    """Resize to the nearest pixel; short runs pass through the lanes. All its modes: test_rearrangements.py."""
    scales = [1.0, 1.0, *draw.choice([(2.0, 2.0), (1.5, 3.0)])]
    shape = (1, draw.integer(1, 3), *draw.integers(2, 5, 2))
    return moved(draw, "Resize", shape, lambda build: ["", build.constant(scales, np.float32)], mode="nearest")


# ---- quantisers at the borders


@operator("quantise_border", "QuantizeLinear")
def quantise_border(draw: Draw) -> Case:
    """QuantizeLinear of a graph input to 8 or 16 bits; inputs on and beside ties and far outside of the range."""
    build, code = Builder(draw), draw.activation(draw.dtype("uint8", "int8", "uint16", "int16"))
    steps = draw.rng.integers(-200, 200, draw.shape(2, 20)) + draw.choice([0.0, 0.5])
    reals = (steps * float(code.scale) * draw.choice([1.0, 1.0, 300.0])).astype(np.float32)
    build.output(build.quantise(build.input(reals), code), code.dtype)
    return build.case()


@operator("dequantise_border", "DequantizeLinear")
def dequantise_border(draw: Draw) -> Case:
    """DequantizeLinear of a graph input of 8, 16 or 32 bits."""
    build, dtype = Builder(draw), draw.dtype("uint8", "int8", "uint16", "int16", "int32")
    code = draw.activation(dtype)
    if dtype == np.int32:
        code = replace(code, zero_point=0)
    build.output(build.dequantise(build.codes(draw.shape(2, 20), code), code))
    return build.case()


@operator("sixteen_bit_round_trip", "Reshape")
def sixteen_bit_round_trip(draw: Draw) -> Case:
    """Data movement between 16-bit codes."""
    build, code = Builder(draw), draw.activation(draw.dtype("uint16", "int16"))
    shape = build.constant([-1], np.int64)
    return build.finish(build.node("Reshape", [build.activation(draw.shape(3), code), shape]), code)


# ---- the tests


def draw_for(name: str, index: int) -> Draw:
    """Return the parameters of model number `index` of an operator; every second one is tie-rich."""
    return Draw((SEED, zlib.crc32(name.encode()), index), ties=index % 2 == 1)


def run_exactly(case: Case, arch: accelsim.Arch, label: str) -> accelsim.Result:
    """Run a model and assert that no element of any tensor differs from onnxruntime."""
    result = accelsim.run(accelsim.load(case.model), arch, case.inputs)
    check = result.check
    assert check.verdict == "exact", (label, check.first_mismatch)
    assert check.mismatched_elements == check.drifted_elements == check.output_mismatched == 0, label
    assert check.elements > 0, label
    assert check.output_elements > 0, label
    return result


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_random_models_are_exact(name: str) -> None:
    """Drawn models of one operator equal onnxruntime in every element and run where the operator table says."""
    wanted = REGISTRY[name]
    placement = wanted.placement or PLACEMENTS[wanted.kernel]
    elements = 0
    for index in range(MODELS_PER_OPERATOR):
        draw = draw_for(name, index)
        result = run_exactly(wanted.generate(draw), draw.machine(), f"{name} {index}")
        found = [(layer.op, layer.placement) for layer in result.layers]
        assert (wanted.kernel, placement) in found, (name, index, found)
        assert "host" not in {unit for _, unit in found}, (name, index, found)
        elements += result.check.elements
    print(f"{name}: {MODELS_PER_OPERATOR} models, {elements} elements")


def test_every_supported_operator_has_random_models() -> None:
    """No row of the operator table is left without a generator; rows of several operators are float groups."""
    elsewhere = {"ConvTranspose", "DynamicQuantizeMatMul", "DynamicQuantizeLinear"}  # test_more_contractions.py
    covered = {entry.kernel for entry in REGISTRY.values()} | elsewhere
    assert {row for row in PLACEMENTS if ", " not in row} - covered == {"(any other)"}


# ---- corners


def overflowing_product(kind: str, bias: int, source: Quantisation) -> Case:
    """Build a Gemm or Conv whose int32 accumulators pass 2^31 or -2^31 because of their bias."""
    draw = Draw((SEED, bias % 1000), ties=False)
    build, weights = Builder(draw), Quantisation(np.dtype(np.int8), np.float32(0.01), 3)
    scale = np.float32(source.scale) * weights.scale
    shape = (12, 5) if kind == "Gemm" else (5, 3, 2, 2)
    values = build.constant(np.full(5, bias), np.int32)
    inputs = [
        build.activation((4, 12) if kind == "Gemm" else (1, 3, 4, 4), source),
        build.weight(shape, weights, 0),
        build.dequantise(values, Quantisation(np.dtype(np.int32), scale, 0)),
    ]
    return build.finish(build.node(kind, inputs), draw.result(source.dtype, float(scale), 2.0**31))


@pytest.mark.parametrize("zp_mode", ["fold", "subtract"])
@pytest.mark.parametrize("bias", [2**31 - 1, 2**31 - 500, -(2**31), -(2**31) + 500])
@pytest.mark.parametrize("kind", ["Gemm", "Conv"])
def test_int32_overflow_wraps_as_in_onnxruntime(kind: str, bias: int, zp_mode: Any) -> None:
    """Accumulators of 32 bits that overflow wrap to onnxruntime's values, wherever the zero point goes."""
    for dtype, zero_point in (("uint8", 117), ("int8", -5)):
        source = Quantisation(np.dtype(dtype), np.float32(0.02), zero_point)
        case = overflowing_product(kind, bias, source)
        result = run_exactly(case, accelsim.Arch(zp_mode=zp_mode), f"{kind} {bias} {zp_mode} {dtype}")
        (layer,) = (layer for layer in result.layers if layer.placement == "array")
        assert layer.acc is not None
        assert layer.acc.overflows > 0
        assert layer.acc.min_safe_bits == 33


@pytest.mark.parametrize("shape", [(4, 1), (4, 4), (1, 4), (4,), (1, 1), ()])
def test_gemm_bias_of_a_square_product(shape: Shape) -> None:
    """With as many rows as columns, a bias per row, per column or per element is told apart by its shape."""
    for index in range(4):
        draw = Draw((SEED, 1, index), ties=False)
        build, source = Builder(draw), draw.activation()
        weights = draw.activation(draw.weights_dtype(source.dtype), 0.01)
        scale = np.float32(source.scale) * weights.scale
        bias = build.constant(draw.rng.integers(-20_000, 20_000, shape), np.int32)
        inputs = [build.activation((4, 7), source), build.weight((7, 4), weights, 1)]
        inputs.append(build.dequantise(bias, Quantisation(np.dtype(np.int32), scale, 0)))
        case = build.finish(build.node("Gemm", inputs), draw.result(source.dtype, float(scale), 13_000))
        run_exactly(case, accelsim.Arch(), f"bias {shape} {index}")


VECTORS: list[tuple[Shape, Shape]] = [
    ((3, 5), (5,)),
    ((5,), (5, 4)),
    ((5,), (5,)),
    ((2, 3, 5), (5,)),
    ((5,), (2, 5, 3)),
]


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("shapes", VECTORS)
def test_matmul_with_a_vector(shapes: tuple[Shape, Shape], *, constant: bool) -> None:
    """A vector as an operand of MatMul gives onnxruntime's values and shape, wherever it runs."""
    draw = Draw((SEED, 2), ties=True)
    build, source = Builder(draw), draw.activation()
    second = draw.activation(source.dtype, 0.01)
    real = build.activation(shapes[0], source)
    other = build.weight(shapes[1], second, 0) if constant else build.activation(shapes[1], second)
    target = draw.result(source.dtype, float(source.scale) * float(second.scale), 11_000)
    run_exactly(build.finish(build.node("MatMul", [real, other]), target), draw.machine(), f"{shapes}")


# Scales as hexadecimal floats and zero points of a, b and the sum for which a zero-point offset computed without the
# fused multiply-add changes thousands of the 65,536 sums.
OFFSETS = [
    (("0x1.000002p-5", "0x1p-5", "0x1p-4"), (94, 65, 64)),
    (("0x1p-8", "0x1p-7", "0x1.000002p-7"), (210, 94, 70)),
    (("0x1p-7", "0x1.fffffcp-9", "0x1.000004p-7"), (159, 33, 148)),
    (("0x1.000004p-8", "0x1.fffffep-7", "0x1.000002p-6"), (218, 55, 151)),
]


@pytest.mark.parametrize(("scales", "zero_points"), OFFSETS)
def test_the_offset_of_an_addition_is_fused(scales: tuple[str, ...], zero_points: tuple[int, ...]) -> None:
    """The constant that holds the zero points of an addition is rounded as onnxruntime's kernel rounds it."""
    byte = np.dtype(np.uint8)
    codes = [Quantisation(byte, np.float32(float.fromhex(s)), z) for s, z in zip(scales, zero_points, strict=True)]
    build = Builder(Draw((SEED, 7), ties=True))
    every = np.arange(256, dtype=np.uint8)
    columns, rows = build.input(every.reshape(1, 256)), build.input(every.reshape(256, 1))
    result = build.node("Add", [build.dequantise(columns, codes[0]), build.dequantise(rows, codes[1])])
    run_exactly(build.finish(result, codes[2]), accelsim.Arch(), f"{scales}")


def pool_case(kind: str, size: int, **attributes: Any) -> Case:
    """Build a 1-D pool of 2 x 3 rows of a size."""
    draw = Draw((SEED, 3, size), ties=True)
    build, source = Builder(draw), draw.activation()
    target = source if kind == "MaxPool" else pool_target(draw, source)
    real = build.activation((2, 3, size), source)
    return build.finish(build.node(kind, [real], **attributes), target)


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(("size", "kernel", "stride", "pads"), [(7, 1, 2, 0), (8, 1, 3, 0), (6, 2, 2, 1), (9, 2, 3, 1)])
def test_ceil_mode_drops_windows_that_start_outside(kind: str, size: int, kernel: int, stride: int, pads: int) -> None:
    """In ceil mode a last window that would start behind the image is no output, although onnx infers one."""
    case = pool_case(kind, size, kernel_shape=[kernel], strides=[stride], pads=[0, pads], ceil_mode=1)
    result = run_exactly(case, accelsim.Arch(), f"{kind} {size} {kernel} {stride} {pads}")
    (output,) = result.outputs.values()
    before_the_end = len(range(0, size, stride))
    assert output.shape == (2, 3, before_the_end)


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize(("size", "kernel", "stride"), [(9, 1, 3), (8, 1, 2), (10, 2, 5), (6, 1, 3)])
def test_average_pool_with_gaps_between_windows(mode: str, size: int, kernel: int, stride: int) -> None:
    """Automatic padding of windows with gaps between them: onnxruntime pads negatively, that is, it skips pixels."""
    case = pool_case("AveragePool", size, kernel_shape=[kernel], strides=[stride], auto_pad=mode)
    run_exactly(case, accelsim.Arch(), f"{mode} {size} {kernel} {stride}")


def refused_pool() -> Case:
    """Build a GlobalAveragePool whose scales onnxruntime's kernel refuses when it runs: s_x / (s_y * N) >= 256."""
    draw = Draw((SEED, 4), ties=False)
    build, source = Builder(draw), Quantisation(np.dtype(np.uint8), np.float32(0.5), 3)
    real = build.dequantise(build.codes((1, 2, 2, 2), source), source)
    target = replace(source, scale=np.float32(1e-6))
    return build.finish(build.node("GlobalAveragePool", [real]), target)


def test_what_onnxruntime_refuses_while_running_is_one_sentence() -> None:
    """A kernel of the reference that fails at run time ends in an error of accelsim, not of onnxruntime."""
    case = refused_pool()
    with pytest.raises(accelsim.AccelSimError, match="onnxruntime"):
        accelsim.run(accelsim.load(case.model), None, case.inputs)


FLOAT_OPERATORS = [
    "Sub",
    "Div",
    "Tanh",
    "Erf",
    "Exp",
    "Sqrt",
    "Abs",
    "Neg",
    "HardSwish",
    "Relu",
    "ReduceMean",
    "LayerNorm",
]


def float_case(draw: Draw, kind: str) -> Case:
    """Build Q/DQ around an operator that onnxruntime leaves in float."""
    build, source = Builder(draw), draw.activation(draw.dtype("uint8", "int8", "uint16"))
    shape = draw.shape(3, 8)
    inputs = [build.activation(shape, source)]
    if kind in ("Sub", "Div"):
        inputs.append(build.activation(shape, source))
    if kind == "ReduceMean":
        inputs.append(build.constant([-1], np.int64))
    if kind == "LayerNorm":
        inputs.append(build.constant(draw.rng.normal(size=shape[-1]), np.float32))
    name = "LayerNormalization" if kind == "LayerNorm" else kind
    target = Quantisation(source.dtype, draw.scale(), draw.zero_point(source.dtype))
    return build.finish(build.node(name, inputs), target)


@pytest.mark.parametrize("kind", FLOAT_OPERATORS)
def test_float_operators_between_quantisers_are_exact(kind: str) -> None:
    """What stays float (division by zero, square roots of negatives and 16-bit codes included) is exact as well."""
    for index in range(10):
        draw = Draw((SEED, 5, index, zlib.crc32(kind.encode())), ties=index % 2 == 1)
        run_exactly(float_case(draw, kind), draw.machine(), f"{kind} {index}")
