"""Random models of one operator on elements: additions, products, softmax, tables, concatenations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.differential.registry import operator
from tests.strategies import MICROSOFT, Builder, Case, Draw, Quantisation, broadcast_pair

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
