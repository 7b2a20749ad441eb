"""Steps element by element: sums, products, functions of one variable, normalisations, choices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.generator.growth import Growth, Tensor, fits, operator
from tests.generator.values import POINTS, Array, lively, sample_codes, shuffled
from tests.strategies import MICROSOFT, Draw, Quantisation, Shape

UNIT_SCALE = 1 / 256


def broadcastable(draw: Draw, shape: Shape) -> Shape:
    """Draw a shape that broadcasts to another one."""
    if not shape or draw.chance(40):
        return shape
    options: list[Shape] = [(), (1,), shape[-1:], tuple(size if draw.chance() else 1 for size in shape)]
    if len(shape) > 2:
        options.append((shape[1], *[1] * (len(shape) - 2)))
    return options[draw.integer(0, len(options) - 1)]


def second_operand(growth: Growth, tensor: Tensor, *, real: int = 10, itself: bool = True) -> tuple[str, Array, float]:
    """Add a second operand: itself, an activation, quantised constants or plain floats; name, sample, scale."""
    draw = growth.draw
    if draw.chance(real):
        values = draw.rng.normal(size=broadcastable(draw, tensor.shape)) * (np.std(tensor.sample) + 1e-6)
        return growth.floats(values), np.resize(values, POINTS), float(tensor.code.scale)
    if draw.chance(30):
        code = draw.activation(tensor.code.dtype, float(tensor.code.scale))
        name, values = growth.constant(broadcastable(draw, tensor.shape), code)
        return name, np.resize(values, POINTS), float(code.scale)
    around = Quantisation(tensor.code.dtype, draw.scale(float(tensor.code.scale)), draw.zero_point(tensor.code.dtype))
    other = growth.other(tensor.shape, around)
    if other is tensor and not itself:
        other = growth.input(tensor.shape, around)
    return growth.real(other), shuffled(draw, other.sample), float(other.code.scale)


PAIRS: dict[str, Callable[[Any, Any], Any]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Max": np.maximum, "Min": np.minimum,
}  # fmt: skip


@operator("Add", 6, kind="Add")
@operator("Mul", 4, kind="Mul")
@operator("Sub", 2, kind="Sub")
@operator("Max", 1, kind="Max")
@operator("Min", 1, kind="Min")
def pair(growth: Growth, kind: str) -> Tensor | None:
    """A sum, product and the like of two tensors: residuals, a tensor with itself, constants, broadcasting."""
    tensor = growth.pick()
    if tensor is None:
        return None
    name, sample, scale = second_operand(growth, tensor, itself=kind != "Sub")
    operands = [growth.real(tensor), name]
    if kind != "Sub" and growth.draw.chance():
        operands.reverse()
    result = growth.build.node(kind, operands)
    unit = float(tensor.code.scale) * (scale if kind == "Mul" else 1.0)
    return growth.result(result, tensor.shape, PAIRS[kind](tensor.sample, sample), unit)


@operator("Div", 1)
def divide(growth: Growth) -> Tensor | None:
    """Div by a constant that is never zero, quantised or not."""
    tensor = growth.pick()
    if tensor is None:
        return None
    draw, shape = growth.draw, broadcastable(growth.draw, tensor.shape)
    if draw.chance():
        values = draw.rng.uniform(0.5, 4, shape) * draw.choice([-1, 1])
        name = growth.floats(values)
    else:
        code = Quantisation(np.dtype(np.uint8), draw.scale(0.02), 0)
        codes = draw.rng.integers(1, 256, shape).astype(np.uint8)
        name, values = growth.build.dequantise(growth.build.constant(codes), code), codes * float(code.scale)
    sample = tensor.sample / np.resize(values, POINTS)
    return growth.result(
        growth.build.node("Div", [growth.real(tensor), name]), tensor.shape, sample, float(tensor.code.scale)
    )


@operator("Pow", 1)
def power(growth: Growth) -> Tensor | None:
    """Pow with a constant exponent that is defined everywhere."""
    tensor = growth.pick()
    if tensor is None:
        return None
    exponent = growth.draw.choice([2.0, 3.0])
    result = growth.build.node("Pow", [growth.real(tensor), growth.floats(exponent)])
    return growth.result(result, tensor.shape, tensor.sample**exponent, float(tensor.code.scale) ** exponent)


@operator("Where", 2)
def choose(growth: Growth) -> Tensor | None:
    """Where with a constant condition, or one computed by a comparison."""
    tensor = growth.pick(lowest=1)
    if tensor is None:
        return None
    draw, build = growth.draw, growth.build
    if draw.chance(70):
        condition = build.constant(draw.rng.integers(0, 2, broadcastable(draw, tensor.shape)), np.bool_)
    else:
        condition = build.node("Greater", [growth.real(tensor), growth.floats(float(np.median(tensor.sample)))])
    name, sample, _ = second_operand(growth, tensor, real=0)
    operands = [growth.real(tensor), name]
    sample = np.concatenate([tensor.sample[::2], sample[::2]])
    result = build.node("Where", [condition, *(operands if draw.chance() else operands[::-1])])
    return growth.result(result, tensor.shape, sample, float(tensor.code.scale))


@operator("PRelu", 2)
def parametric(growth: Growth) -> Tensor | None:
    """PRelu with quantised or float slopes, one or one per channel."""
    tensor = growth.pick(lowest=2)
    if tensor is None:
        return None
    draw = growth.draw
    rest = [1] * (len(tensor.shape) - 2)
    shape = draw.choice([(1,), (tensor.shape[1], *rest)])
    if draw.chance(70):
        slope, values = growth.constant(shape, Quantisation(np.dtype(np.int8), draw.scale(0.004), 0))
    else:
        values = draw.rng.uniform(-0.5, 0.5, shape)
        slope = growth.floats(values)
    result = growth.build.node("PRelu", [growth.real(tensor), slope])
    sample = np.where(tensor.sample < 0, tensor.sample * np.resize(values, POINTS), tensor.sample)
    return growth.result(result, tensor.shape, sample, float(tensor.code.scale))


def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + exp(-x))."""
    return np.asarray(1 / (1 + np.exp(-x.clip(-50, 50))))


def softplus(x: Array) -> Array:
    """Return log(1 + exp(x))."""
    return np.log1p(np.exp(x.clip(-30, 30)))


UNARY: dict[str, tuple[Callable[[Array], Array], int]] = {
    "Sigmoid": (sigmoid, 11), "Tanh": (np.tanh, 11), "Erf": (np.tanh, 11), "Gelu": (lambda x: x * sigmoid(1.7 * x), 20),
    "HardSigmoid": (lambda x: (0.2 * x + 0.5).clip(0, 1), 11), "HardSwish": (lambda x: x * sigmoid(x), 14),
    "Relu": (lambda x: x.clip(0), 11), "Abs": (np.abs, 11), "Neg": (np.negative, 11), "Floor": (np.floor, 11),
    "Ceil": (np.ceil, 11), "Round": (np.rint, 11), "Softsign": (lambda x: x / (1 + np.abs(x)), 11),
    "Elu": (lambda x: np.where(x < 0, np.exp(x.clip(None, 0)) - 1, x), 11), "Identity": (lambda x: x, 11),
    "Exp": (lambda x: np.exp(x.clip(-20, 20)), 11), "Sin": (np.sin, 11), "Softplus": (softplus, 11),
    "LeakyRelu": (lambda x: np.where(x < 0, 0.1 * x, x), 11), "Clip": (lambda x: x.clip(-0.5, 1.5), 11),
}  # fmt: skip


@operator("a function of one variable", 9)
def function(growth: Growth) -> Tensor | None:
    """A function of one variable; large arguments are scaled down first for those that would overflow."""
    tensor = growth.pick()
    if tensor is None:
        return None
    draw, build = growth.draw, growth.build
    kinds = [kind for kind, (_, opset) in UNARY.items() if opset <= growth.style.opset]
    weights = ["Sigmoid", "LeakyRelu", "Tanh", "Relu", "Clip"]
    kind = draw.choice(weights if draw.chance(30) else kinds)
    sample = UNARY[kind][0](tensor.sample)
    if not lively(sample) or (kind == "Exp" and np.abs(tensor.sample).max() > 8):
        return None
    inputs = [growth.real(tensor)]
    if kind == "Clip":
        inputs += [growth.floats(-0.5), growth.floats(1.5)]
    alpha = float(np.float32(draw.choice([0.01, 0.125, 0.2]))) if kind == "LeakyRelu" else None
    result = build.node(kind, inputs, alpha=alpha)
    unit = UNIT_SCALE if kind in ("Sigmoid", "Tanh", "Erf", "Softsign", "HardSigmoid") else float(tensor.code.scale)
    return growth.result(result, tensor.shape, sample, unit)


@operator("Sqrt", 1, kind="Sqrt")
@operator("Reciprocal", 1, kind="Reciprocal")
@operator("Log", 1, kind="Log")
def of_positive(growth: Growth, kind: str) -> Tensor | None:
    """A function that is defined for positive values only: of the absolute value plus a constant."""
    tensor = growth.pick()
    if tensor is None:
        return None
    build = growth.build
    code = Quantisation(np.dtype(np.uint8), growth.draw.scale(0.01), 0)
    bottom = build.dequantise(build.constant(np.full((1,), 200, np.uint8)), code)
    sample = np.abs(tensor.sample)
    absolute = growth.result(build.node("Abs", [growth.real(tensor)]), tensor.shape, sample, float(tensor.code.scale))
    shifted = build.node("Add", [growth.real(absolute), bottom])
    moved = growth.result(shifted, tensor.shape, sample + 200 * float(code.scale), float(tensor.code.scale))
    positive = np.abs(moved.sample) + 1e-3
    values = {"Sqrt": np.sqrt, "Reciprocal": np.reciprocal, "Log": np.log}[kind](positive)
    return growth.result(build.node(kind, [growth.real(moved)]), tensor.shape, values, UNIT_SCALE)


@operator("Gelu written as x * sigmoid(1.702 x)", 1)
def gated(growth: Growth) -> Tensor | None:
    """The product of a tensor and its sigmoid, with or without Q/DQ in between."""
    tensor = growth.pick()
    if tensor is None:
        return None
    build = growth.build
    gate = growth.result(build.node("Sigmoid", [growth.real(tensor)]), tensor.shape, sigmoid(tensor.sample), UNIT_SCALE)
    result = build.node("Mul", [growth.real(tensor), growth.real(gate)])
    unit = float(tensor.code.scale) * UNIT_SCALE
    return growth.result(result, tensor.shape, tensor.sample * sigmoid(tensor.sample), unit)


@operator("Softmax", 3)
def softmax(growth: Growth) -> Tensor | None:
    """Softmax along any axis of more than one element (of one, now and then)."""
    tensor = growth.pick(lowest=1)
    if tensor is None:
        return None
    axis = growth.draw.integer(-len(tensor.shape), len(tensor.shape) - 1)
    length = tensor.shape[axis]
    result = growth.build.node("Softmax", [growth.real(tensor)], axis=axis)
    powers = np.exp((tensor.sample - tensor.sample.max()).clip(-30, 0))
    sample = powers / (powers + powers.mean() * max(length - 1, 0))
    return growth.result(result, tensor.shape, sample, UNIT_SCALE)


@operator("LayerNormalization", 2, opset=17)
def normalise_layer(growth: Growth) -> Tensor | None:
    """LayerNormalization of the last axis with quantised or float factors."""
    tensor = growth.pick(lowest=2, where=lambda tensor: tensor.shape[-1] > 1)
    if tensor is None:
        return None
    draw, width = growth.draw, tensor.shape[-1]
    if draw.chance():
        code = Quantisation(np.dtype(np.uint8), draw.scale(0.01), 0)
        factors = [growth.constant((width,), code)[0] for _ in range(2)]
    else:
        factors = [growth.floats(draw.rng.uniform(0.5, 1.5, width)), growth.floats(draw.rng.normal(size=width))]
    result = growth.build.node("LayerNormalization", [growth.real(tensor), *factors], axis=-1)
    spread = float(np.std(tensor.sample)) or 1.0
    return growth.result(result, tensor.shape, (tensor.sample - tensor.sample.mean()) / spread, 1 / 64)


@operator("BatchNormalization", 1, kind="BatchNormalization")
@operator("InstanceNormalization", 1, kind="InstanceNormalization")
def normalise_channels(growth: Growth, kind: str) -> Tensor | None:
    """BatchNormalization or InstanceNormalization with float factors."""
    tensor = growth.pick(3, 4)
    if tensor is None or not fits(tensor.shape):
        return None
    draw, channels = growth.draw, tensor.shape[1]
    middle, spread = float(np.mean(tensor.sample)), float(np.std(tensor.sample)) + 1e-3
    factors = [growth.floats(draw.rng.uniform(0.5, 1.5, channels)), growth.floats(draw.rng.normal(size=channels))]
    if kind == "BatchNormalization":
        factors += [growth.floats(np.full(channels, middle)), growth.floats(np.full(channels, spread**2))]
    result = growth.build.node(kind, [growth.real(tensor), *factors])
    return growth.result(result, tensor.shape, (tensor.sample - middle) / spread, 1 / 64)


@operator("another quantiser", 3)
def requantise(growth: Growth) -> Tensor | None:
    """A DequantizeLinear and a QuantizeLinear with another scale, zero point and perhaps dtype."""
    tensor = growth.pick()
    if tensor is None:
        return None
    return growth.result(growth.real(tensor), tensor.shape, tensor.sample, float(tensor.code.scale))


@operator("QuickGelu", 1)
def quick_gelu(growth: Growth) -> Tensor | None:
    """A QuickGelu, onnxruntime's own operator, written in the file."""
    tensor = growth.pick()
    if tensor is None:
        return None
    result = growth.build.node("QuickGelu", [growth.real(tensor)], MICROSOFT, alpha=1.702)
    sample = tensor.sample * sigmoid(1.702 * tensor.sample)
    return growth.result(result, tensor.shape, sample, float(tensor.code.scale))


@operator("Clip of codes", 1, opset=13)
def clip_codes(growth: Growth) -> Tensor | None:
    """Clip of 8-bit codes, as exporters of narrow ranges write it."""
    tensor = growth.pick(where=lambda tensor: tensor.code.dtype.itemsize == 1)
    if tensor is None:
        return None
    dtype, build = tensor.code.dtype, growth.build
    ends = (-100, 90) if dtype.kind == "i" else (20, 230)
    bounds = [build.constant(end, dtype) for end in ends]
    codes = build.node("Clip", [growth.coded(tensor), *bounds])
    return growth.result_codes(codes, tensor.shape, sample_codes(growth.draw, tensor.code), tensor.code)
