"""Random models of one contraction: convolutions and matrix products, from Q/DQ and as written in a file."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from tests.differential.registry import operator
from tests.strategies import MICROSOFT, Builder, Case, Draw, Quantisation, Shape

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
