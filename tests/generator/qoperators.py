"""Steps of QOperator graphs: nodes that read and write codes, and dynamic quantisation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.generator.contractions import draw_groups, draw_window, unit_of
from tests.generator.elementwise import UNIT_SCALE, broadcastable, sigmoid
from tests.generator.growth import Growth, Tensor, fits, operator, values
from tests.generator.values import POINTS, Array, choose_code, means, products, shuffled
from tests.strategies import MICROSOFT, Quantisation


def byte(tensor: Tensor) -> bool:
    """Tell whether a tensor has 8-bit codes."""
    return tensor.code.dtype.itemsize == 1


def codes_with_parameters(growth: Growth, tensor: Tensor) -> list[str]:
    """Return codes, scale and zero point of a tensor."""
    return [growth.coded(tensor), *growth.build.parameters(tensor.code)]


def constant_codes(growth: Growth, shape: tuple[int, ...], code: Quantisation, axis: int) -> tuple[list[str], Array]:
    """Add constant codes with scale and zero point; gives names and values."""
    codes = growth.draw_codes(shape, code.dtype)
    return [growth.build.constant(codes), *growth.build.parameters(code)], values(codes, code, axis)


def raw_bias(growth: Growth, unit: Any, channels: int, spread: float) -> tuple[list[str], Array]:
    """Add an int32 bias in half of the cases; gives its name and its values."""
    if growth.draw.chance():
        return [], np.zeros(channels)
    steps = max(1, min(int(spread / float(np.mean(unit))), 2**30))
    counts = growth.draw.rng.integers(-steps, steps + 1, channels)
    if growth.draw.chance(5) and not growth.style.wide:  # sums beyond int32 wrap
        counts[0] = growth.draw.choice([-(2**31), 2**31 - 1])
        growth.wraps = True
    return [growth.build.constant(counts, np.int32)], counts * np.asarray(unit, np.float64)


@operator("QLinearConv", 6, written=True)
def qlinear_convolution(growth: Growth) -> Tensor | None:
    """QLinearConv of one to three dimensions."""
    tensor = growth.pick(3, 4, 5, where=byte)
    if tensor is None:
        return None
    draw = growth.draw
    batch, channels, *spatial = tensor.shape
    attributes, sizes = draw_window(draw, tuple(spatial))
    groups = draw_groups(draw, channels)
    filters = groups * draw.integer(1, 6 if groups == 1 else 2)
    if not fits((batch, filters, *sizes)):
        return None
    weights = growth.weights_code(tensor.code, filters, written=True)
    shape = (filters, channels // groups, *attributes["kernel_shape"])
    names, reals = constant_codes(growth, shape, weights, 0)
    sample, unit = products(draw, tensor.sample, reals.reshape(filters, -1)), unit_of(tensor.code, weights)
    bias, offsets = raw_bias(growth, unit, filters, float(np.std(sample)))
    sample = sample + draw.rng.choice(offsets, POINTS)
    code = choose_code(draw, tensor.code.dtype, sample, float(np.mean(unit)))
    inputs = [*codes_with_parameters(growth, tensor), *names, *growth.build.parameters(code), *bias]
    result = growth.build.node("QLinearConv", inputs, group=groups, **attributes)
    return growth.result_codes(result, (batch, filters, *sizes), sample, code)


@operator("QLinearMatMul", 4, written=True)
def qlinear_matmul(growth: Growth) -> Tensor | None:
    """QLinearMatMul with constant weights, or of two activations."""
    tensor = growth.pick(lowest=2, where=byte)
    if tensor is None:
        return None
    draw, columns, depth = growth.draw, growth.draw.integer(1, 8), tensor.shape[-1]
    if draw.chance(70):
        second = growth.weights_code(tensor.code, columns, written=True)
        names, reals = constant_codes(growth, (depth, columns), second, 1)
        sample = products(draw, tensor.sample, reals.T)
    else:
        other = growth.other((*tensor.shape[:-2], depth, columns))
        if other.code.dtype != tensor.code.dtype:
            return None
        second, names = other.code, codes_with_parameters(growth, other)
        sample = products(draw, tensor.sample, draw.rng.choice(other.sample, (POINTS, depth)))
    code = choose_code(draw, tensor.code.dtype, sample, float(np.mean(unit_of(tensor.code, second))))
    inputs = [*codes_with_parameters(growth, tensor), *names, *growth.build.parameters(code)]
    result = growth.build.node("QLinearMatMul", inputs)
    return growth.result_codes(result, (*tensor.shape[:-1], columns), sample, code)


@operator("QGemm", 3, written=True)
def qgemm(growth: Growth) -> Tensor | None:
    """QGemm, with codes or floats as its result."""
    tensor = growth.pick(2, where=byte)
    if tensor is None:
        return None
    draw, build = growth.draw, growth.build
    columns, turned = draw.integer(1, 8), draw.integer(0, 1)
    depth = tensor.shape[1]
    weights = growth.weights_code(tensor.code, columns, written=True)
    names, reals = constant_codes(growth, (columns, depth) if turned else (depth, columns), weights, 1 - turned)
    unit = unit_of(tensor.code, weights)
    sample = products(draw, tensor.sample, reals if turned else reals.T)
    bias, offsets = raw_bias(growth, unit, columns, float(np.std(sample)))
    sample = sample + draw.rng.choice(offsets, POINTS)
    code = choose_code(draw, tensor.code.dtype, sample, float(np.mean(unit)))
    inputs = [*codes_with_parameters(growth, tensor), *names, *(bias or [""])]
    if draw.chance(25):
        result = build.node("QGemm", inputs, MICROSOFT, transB=turned)
        return growth.result(result, (tensor.shape[0], columns), sample, float(np.mean(unit)))
    result = build.node("QGemm", [*inputs, *build.parameters(code)], MICROSOFT, transB=turned)
    return growth.result_codes(result, (tensor.shape[0], columns), sample, code)


@operator("QLinearAdd", 4, written=True, kind="QLinearAdd")
@operator("QLinearMul", 3, written=True, kind="QLinearMul")
def qlinear_pair(growth: Growth, kind: str) -> Tensor | None:
    """QLinearAdd or QLinearMul of activations or with constants, in either order."""
    tensor = growth.pick(where=byte)
    if tensor is None:
        return None
    draw = growth.draw
    around = Quantisation(tensor.code.dtype, draw.scale(float(tensor.code.scale)), draw.zero_point(tensor.code.dtype))
    if draw.chance(30):
        names, reals = constant_codes(growth, broadcastable(draw, tensor.shape), around, 0)
        scale, sample = around.scale, np.resize(reals, POINTS)
    else:
        other = growth.other(tensor.shape, around)
        if other.code.dtype != tensor.code.dtype:
            return None
        names, scale = codes_with_parameters(growth, other), other.code.scale
        sample = shuffled(draw, other.sample)
    unit = float(tensor.code.scale) * (float(scale) if kind == "QLinearMul" else 1.0)
    sample = tensor.sample + sample if kind == "QLinearAdd" else tensor.sample * sample
    code = choose_code(draw, tensor.code.dtype, sample, unit)
    operands = [codes_with_parameters(growth, tensor), names]
    inputs = [name for part in (operands if draw.chance() else operands[::-1]) for name in part]
    result = growth.build.node(kind, [*inputs, *growth.build.parameters(code)], MICROSOFT)
    return growth.result_codes(result, tensor.shape, sample, code)


@operator("QLinearAveragePool", 2, written=True)
def qlinear_average_pool(growth: Growth) -> Tensor | None:
    """QLinearAveragePool."""
    tensor = growth.pick(3, 4, where=byte)
    if tensor is None:
        return None
    draw = growth.draw
    attributes, sizes = draw_window(draw, tensor.shape[2:], dilated=False)
    sample = means(draw, tensor.sample, math.prod(attributes["kernel_shape"]))
    code = choose_code(draw, tensor.code.dtype, sample, float(tensor.code.scale))
    inputs = [*codes_with_parameters(growth, tensor), *growth.build.parameters(code)]
    whole = draw.integer(0, 1)
    result = growth.build.node("QLinearAveragePool", inputs, MICROSOFT, count_include_pad=whole, **attributes)
    return growth.result_codes(result, (*tensor.shape[:2], *sizes), sample, code)


@operator("QLinearGlobalAveragePool", 2, written=True)
def qlinear_global_average_pool(growth: Growth) -> Tensor | None:
    """QLinearGlobalAveragePool."""
    tensor = growth.pick(3, 4, where=byte)
    if tensor is None:
        return None
    sample = means(growth.draw, tensor.sample, math.prod(tensor.shape[2:]))
    code = choose_code(growth.draw, tensor.code.dtype, sample, float(tensor.code.scale))
    inputs = [*codes_with_parameters(growth, tensor), *growth.build.parameters(code)]
    result = growth.build.node("QLinearGlobalAveragePool", inputs, MICROSOFT, channels_last=0)
    return growth.result_codes(result, (*tensor.shape[:2], *[1] * (len(tensor.shape) - 2)), sample, code)


@operator("QLinearSigmoid", 2, written=True, kind="QLinearSigmoid")
@operator("QLinearLeakyRelu", 2, written=True, kind="QLinearLeakyRelu")
def qlinear_function(growth: Growth, kind: str) -> Tensor | None:
    """QLinearSigmoid or QLinearLeakyRelu."""
    tensor = growth.pick(where=byte)
    if tensor is None:
        return None
    leaky = kind == "QLinearLeakyRelu"
    sample = np.where(tensor.sample < 0, 0.1 * tensor.sample, tensor.sample) if leaky else sigmoid(tensor.sample)
    code = choose_code(growth.draw, tensor.code.dtype, sample, float(tensor.code.scale) if leaky else UNIT_SCALE)
    inputs = [*codes_with_parameters(growth, tensor), *growth.build.parameters(code)]
    result = growth.build.node(kind, inputs, MICROSOFT, alpha=0.1 if leaky else None)
    return growth.result_codes(result, tensor.shape, sample, code)


@operator("QLinearSoftmax", 2, written=True)
def qlinear_softmax(growth: Growth) -> Tensor | None:
    """QLinearSoftmax along any axis."""
    tensor = growth.pick(lowest=1, where=byte)
    if tensor is None:
        return None
    draw = growth.draw
    axis = draw.integer(-len(tensor.shape), len(tensor.shape) - 1)
    powers = np.exp((tensor.sample - tensor.sample.max()).clip(-30, 0))
    sample = powers / (powers + powers.mean() * max(tensor.shape[axis] - 1, 0))
    code = choose_code(draw, tensor.code.dtype, sample, UNIT_SCALE)
    inputs = [*codes_with_parameters(growth, tensor), *growth.build.parameters(code)]
    result = growth.build.node("QLinearSoftmax", inputs, MICROSOFT, axis=axis, opset=growth.style.opset)
    return growth.result_codes(result, tensor.shape, sample, code)


@operator("QLinearConcat", 2, written=True)
def qlinear_concat(growth: Growth) -> Tensor | None:
    """QLinearConcat of two tensors of one shape."""
    tensor = growth.pick(lowest=1, where=byte)
    if tensor is None:
        return None
    draw = growth.draw
    around = Quantisation(tensor.code.dtype, draw.scale(float(tensor.code.scale)), draw.zero_point(tensor.code.dtype))
    other, axis = growth.other(tensor.shape, around), draw.integer(0, len(tensor.shape) - 1)
    shape = tuple(size * 2 if i == axis else size for i, size in enumerate(tensor.shape))
    if other.code.dtype != tensor.code.dtype or not fits(shape):
        return None
    sample = draw.rng.choice(np.concatenate([tensor.sample, other.sample]), POINTS)
    code = draw.choice([tensor.code, choose_code(draw, tensor.code.dtype, sample, float(tensor.code.scale))])
    inputs = [*growth.build.parameters(code), *codes_with_parameters(growth, tensor)]
    result = growth.build.node("QLinearConcat", [*inputs, *codes_with_parameters(growth, other)], MICROSOFT, axis=axis)
    return growth.result_codes(result, shape, sample, code)


@operator("QLinearWhere", 1, written=True)
def qlinear_where(growth: Growth) -> Tensor | None:
    """QLinearWhere with a constant condition."""
    tensor = growth.pick(lowest=1, where=byte)
    if tensor is None:
        return None
    draw, build = growth.draw, growth.build
    other = growth.other(tensor.shape)
    if other.code.dtype != tensor.code.dtype:
        return None
    condition = build.constant(draw.rng.integers(0, 2, broadcastable(draw, tensor.shape)), np.bool_)
    sample = draw.rng.choice(np.concatenate([tensor.sample, other.sample]), POINTS)
    code = choose_code(draw, tensor.code.dtype, sample, float(tensor.code.scale))
    parts = [codes_with_parameters(growth, part) for part in (tensor, other)]
    inputs = [condition, *parts[0], *parts[1], *build.parameters(code)]
    result = build.node("QLinearWhere", inputs, MICROSOFT)
    return growth.result_codes(result, tensor.shape, sample, code)


@operator("MatMulIntegerToFloat", 2, written=True)
def matmul_to_float(growth: Growth) -> Tensor | None:
    """MatMulIntegerToFloat with and without a float bias."""
    tensor = growth.pick(2, 3, where=byte)
    if tensor is None:
        return None
    draw, build, columns = growth.draw, growth.build, growth.draw.integer(1, 6)
    weights = growth.weights_code(tensor.code, columns, written=True)
    (codes, scale, zero), reals = constant_codes(growth, (tensor.shape[-1], columns), weights, 1)
    first, first_scale, first_zero = codes_with_parameters(growth, tensor)
    sample = products(draw, tensor.sample, reals.T)
    bias = [growth.floats(draw.rng.normal(size=columns) * np.std(sample))] if draw.chance() else []
    inputs = [first, codes, first_scale, scale, first_zero, zero, *bias]
    result = build.node("MatMulIntegerToFloat", inputs, MICROSOFT)
    unit = float(np.mean(unit_of(tensor.code, weights)))
    return growth.result(result, (*tensor.shape[:-1], columns), sample, unit)


@operator("MatMulInteger", 2, written=True, kind="MatMulInteger")
@operator("ConvInteger", 2, written=True, kind="ConvInteger")
def integer_product(growth: Growth, kind: str) -> Tensor | None:
    """MatMulInteger or ConvInteger, then a Cast and a multiplication by the scales."""
    matrix = kind == "MatMulInteger"
    tensor = growth.pick(*((2, 3, 4) if matrix else (3, 4)), where=byte)
    if tensor is None:
        return None
    draw, build, filters = growth.draw, growth.build, growth.draw.integer(1, 6)
    weights = draw.activation(draw.weights_dtype(tensor.code.dtype), 0.01)
    attributes: dict[str, Any] = {}
    if matrix:
        weights_shape, shape = (tensor.shape[-1], filters), (*tensor.shape[:-1], filters)
    else:
        attributes, sizes = draw_window(draw, tensor.shape[2:])
        weights_shape = (filters, tensor.shape[1], *attributes["kernel_shape"])
        shape = (tensor.shape[0], filters, *sizes)
    if not fits(shape):
        return None
    (codes, _, zero), reals = constant_codes(growth, weights_shape, weights, 0)
    first, _, first_zero = codes_with_parameters(growth, tensor)
    total = build.node(kind, [first, codes, first_zero, zero], **attributes)
    unit = float(unit_of(tensor.code, weights))
    real = build.node("Mul", [build.node("Cast", [total], to=1), growth.floats(unit)])
    rows = reals.T if matrix else reals.reshape(filters, -1)
    return growth.result(real, shape, products(draw, tensor.sample, rows), unit)


@operator("DynamicQuantizeLinear", 2, written=True)
def dynamic_product(growth: Growth) -> Tensor | None:
    """DynamicQuantizeLinear and MatMulInteger, as quantize_dynamic writes them, or the fused node."""
    tensor = growth.pick(2, 3)
    if tensor is None:
        return None
    draw, build, columns = growth.draw, growth.build, growth.draw.integer(1, 6)
    weights = Quantisation(draw.dtype(), draw.scale(0.01), 0)
    weights = Quantisation(weights.dtype, weights.scale, draw.zero_point(weights.dtype))
    (codes, scale, zero), reals = constant_codes(growth, (tensor.shape[-1], columns), weights, 1)
    source = growth.real(tensor)
    if draw.chance(30):
        real = build.node("DynamicQuantizeMatMul", [source, codes, scale, zero], MICROSOFT)
    else:
        taken, own_scale, own_zero = build.nodes_of("DynamicQuantizeLinear", [source], 3)
        total = build.node("Cast", [build.node("MatMulInteger", [taken, codes, own_zero, zero])], to=1)
        real = build.node("Mul", [total, build.node("Mul", [own_scale, scale])])
        if draw.chance():
            real = build.node("Add", [real, growth.floats(draw.rng.normal(size=columns) * 0.1)])
    unit = float(np.mean(unit_of(tensor.code, weights)))
    return growth.result(real, (*tensor.shape[:-1], columns), products(draw, tensor.sample, reals.T), unit)
