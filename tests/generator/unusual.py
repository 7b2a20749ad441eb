"""Steps that real files contain now and then: odd weights, packed weights, NaN, lookups, blocks of attention."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from tests.generator.contractions import unit_of
from tests.generator.growth import Growth, Tensor, fits, operator
from tests.generator.values import POINTS, Array, choose_code, products, sample_codes
from tests.strategies import MICROSOFT, Quantisation


@operator("weights that are quantised in the graph", 2)
def unfolded_weights(growth: Growth) -> Tensor | None:
    """A product with float weights that a QuantizeLinear and a DequantizeLinear follow, or nothing at all."""
    tensor = growth.pick(lowest=2)
    if tensor is None:
        return None
    draw, build, columns = growth.draw, growth.build, growth.draw.integer(1, 6)
    reals = draw.rng.normal(size=(tensor.shape[-1], columns)) * 0.2
    code = Quantisation(draw.weights_dtype(tensor.code.dtype), draw.scale(0.01), 0)
    weights = growth.floats(reals)
    if draw.chance(70):
        weights = build.dequantise(build.quantise(weights, code), code)
    result = build.node("MatMul", [growth.real(tensor), weights])
    sample = products(draw, tensor.sample, reals.T)
    return growth.result(result, (*tensor.shape[:-1], columns), sample, float(unit_of(tensor.code, code)))


@operator("weights that are computed", 2)
def computed_weights(growth: Growth) -> Tensor | None:
    """Conv whose weights are an activation."""
    tensor = growth.pick(4)
    if tensor is None:
        return None
    draw, channels = growth.draw, tensor.shape[1]
    filters, side = draw.integer(1, 4), min(2, *tensor.shape[2:])
    weights = growth.input((filters, channels, side, side))
    result = growth.build.node("Conv", [growth.real(tensor), growth.real(weights)])
    rows = draw.rng.choice(weights.sample, (filters, channels * side * side))
    shape = (tensor.shape[0], filters, *(size - side + 1 for size in tensor.shape[2:]))
    unit = float(tensor.code.scale) * float(weights.code.scale)
    return growth.result(result, shape, products(draw, tensor.sample, rows), unit)


@operator("weights with two readers", 2)
def shared_weights(growth: Growth) -> Tensor | None:
    """Two products with the same weights, of one tensor and of its double."""
    tensor = growth.pick(lowest=2)
    if tensor is None:
        return None
    draw, build, columns = growth.draw, growth.build, growth.draw.integer(1, 6)
    code = growth.weights_code(tensor.code, columns)
    weights, reals = growth.constant((tensor.shape[-1], columns), code, 1)
    unit = float(np.mean(unit_of(tensor.code, code)))
    shape = (*tensor.shape[:-1], columns)
    sample = products(draw, tensor.sample, reals.T)
    double = growth.result(build.node("Add", [growth.real(tensor)] * 2), tensor.shape, 2 * tensor.sample, unit)
    growth.result(build.node("MatMul", [growth.real(double), weights]), shape, 2 * sample, unit)
    return growth.result(build.node("MatMul", [growth.real(tensor), weights]), shape, sample, unit)


@operator("weights in blocks", 2, opset=21)
def blocked_weights(growth: Growth) -> Tensor | None:
    """A product with weights that have a scale per block of the depth; sizes that the block does not divide, too."""
    tensor = growth.pick(lowest=2)
    if tensor is None:
        return None
    draw, build = growth.draw, growth.build
    depth, columns = tensor.shape[-1], draw.integer(1, 6)
    block = draw.choice([2, 3, 4, 16, 32])
    blocks = -(-depth // block)
    dtype = np.dtype(draw.choice([ml_dtypes.int4, ml_dtypes.uint4]))
    if draw.chance(5):  # onnxruntime takes these for weights with a scale per tensor, and fails
        dtype = np.dtype(draw.choice([np.int8, np.uint8]))
    scales = np.array([draw.scale(0.02) for _ in range(blocks * columns)], np.float32).reshape(blocks, columns)
    codes = growth.draw_codes((depth, columns), dtype)
    zeros = growth.draw_codes((blocks, columns), dtype)
    inputs = [build.constant(codes), build.constant(scales), build.constant(zeros)]
    weights = build.node("DequantizeLinear", inputs, axis=0, block_size=block)
    real_codes, real_zeros = codes.astype(np.float64), zeros.astype(np.float64)
    reals = (real_codes - real_zeros.repeat(block, 0)[:depth]) * scales.repeat(block, 0)[:depth]
    result = build.node("MatMul", [growth.real(tensor), weights])
    return growth.result(result, (*tensor.shape[:-1], columns), products(draw, tensor.sample, reals.T), 1 / 64)


@operator("MatMulNBits", 1, written=True)
def packed_weights(growth: Growth) -> Tensor | None:
    """MatMulNBits, its activations computed in float or in int8."""
    tensor = growth.pick(lowest=2, where=lambda tensor: tensor.shape[-1] > 1)
    if tensor is None:
        return None
    draw, build = growth.draw, growth.build
    depth, columns, block = tensor.shape[-1], draw.integer(1, 6), draw.choice([16, 32])
    blocks = -(-depth // block)
    packed = draw.rng.integers(0, 256, (columns, blocks, block // 2)).astype(np.uint8)
    inputs = [growth.real(tensor), build.constant(packed), growth.floats(draw.rng.uniform(0.01, 0.1, columns * blocks))]
    sizes = {"K": depth, "N": columns, "bits": 4, "block_size": block, "accuracy_level": draw.choice([0, 1, 4])}
    result = build.node("MatMulNBits", inputs, MICROSOFT, **sizes)
    reals = draw.rng.integers(-8, 8, (columns, depth)) * 0.05
    return growth.result(result, (*tensor.shape[:-1], columns), products(draw, tensor.sample, reals), 1 / 64)


@operator("a function outside of its domain", 2)
def undefined(growth: Growth) -> Tensor | None:
    """Log, Sqrt, Reciprocal or Div where NaN and infinities come out, which quantisers turn into codes."""
    tensor = growth.pick(lowest=1)
    if tensor is None:
        return None
    draw, build = growth.draw, growth.build
    kind = draw.choice(["Log", "Sqrt", "Reciprocal", "Div"])
    with np.errstate(all="ignore"):
        sample = {"Log": np.log, "Sqrt": np.sqrt}.get(kind, np.reciprocal)(tensor.sample)
    sample = np.nan_to_num(sample, nan=0.0, posinf=0.0, neginf=0.0)
    operands = [growth.real(tensor)]
    if kind == "Div":
        operands = [growth.floats(1.0), *operands]
    code = choose_code(draw, growth.dtype(), sample, float(tensor.code.scale))
    codes = build.quantise(build.node(kind, operands), code)
    return growth.result_codes(codes, tensor.shape, sample, code)


@operator("results beyond int32", 2)
def overflowing(growth: Growth) -> Tensor | None:
    """Add, Mul or AveragePool with an output scale so small that results leave int32 on their way to a code."""
    tensor = growth.pick(3, 4)
    if tensor is None:
        return None
    draw, build = growth.draw, growth.build
    kind = draw.choice(["Add", "Mul", "GlobalMaxPool", "Sigmoid"])
    operands = [growth.real(tensor)] * (2 if kind in ("Add", "Mul") else 1)
    code = Quantisation(growth.dtype(), np.float32(draw.choice([1e-13, 1e-10, 3e-9])), 0)
    code = Quantisation(code.dtype, code.scale, draw.zero_point(code.dtype))
    shape = (*tensor.shape[:2], *[1] * (len(tensor.shape) - 2)) if kind == "GlobalMaxPool" else tensor.shape
    made = growth.result_codes(build.quantise(build.node(kind, operands), code), shape, tensor.sample, code)
    made.readers = 1  # nothing but extremes: an output of the graph, no operand
    build.output(made.codes, code.dtype, len(shape))
    growth.tensors.remove(made)
    return made


@operator("a lookup by computed indices", 1)
def lookup(growth: Growth) -> Tensor | None:
    """Gather of quantised rows by indices that are an input, as an embedding does."""
    draw, build = growth.draw, growth.build
    rows, width = draw.integer(3, 9), draw.integer(2, 6)
    code = draw.activation(growth.dtype())
    table, reals = growth.constant((rows, width), code)
    indices = build.input(draw.rng.integers(0, rows, (2, 3)).astype(np.int64))
    real = build.node("Gather", [table, indices], axis=0)
    sample = np.resize(reals, POINTS)
    return growth.result(real, (2, 3, width), sample, float(code.scale), code if draw.chance() else None)


@operator("a block of attention", 2)
def attention(growth: Growth) -> Tensor | None:
    """Queries times keys, scaled, Softmax, times values, with a quantiser behind most steps."""
    tensor = growth.pick(3)
    if tensor is None:
        return None
    draw, build = growth.draw, growth.build
    width = tensor.shape[-1]

    def project() -> tuple[str, Array, Tensor]:
        code = growth.weights_code(tensor.code, width)
        weights, reals = growth.constant((width, width), code, 1)
        sample = products(draw, tensor.sample, reals.T)
        real = build.node("MatMul", [growth.real(tensor), weights])
        made = growth.result(real, tensor.shape, sample, float(np.mean(unit_of(tensor.code, code))))
        return growth.real(made), made.sample, made

    (query, queries, made), (key, keys, _), (value, values, _) = project(), project(), project()
    keys_turned = build.node("Transpose", [key], perm=[0, 2, 1])
    scores = products(draw, queries, draw.rng.choice(keys, (POINTS, width)))
    real = build.node("MatMul", [query, keys_turned])
    if draw.chance():
        real, scores = build.node("Mul", [real, growth.floats(0.5)]), scores * 0.5
    square = (*tensor.shape[:-1], tensor.shape[-2])
    scored = growth.result(real, square, scores, float(made.code.scale))
    soft = growth.result(
        build.node("Softmax", [growth.real(scored)], axis=-1),
        square,
        draw.rng.dirichlet(np.ones(tensor.shape[-2]), POINTS)[:, 0],
        1 / 256,
    )
    result = build.node("MatMul", [growth.real(soft), value])
    return growth.result(result, tensor.shape, values, float(made.code.scale) / 256)


@operator("a vector as operand", 1)
def vector_product(growth: Growth) -> Tensor | None:
    """MatMul with a constant vector, or of a vector."""
    tensor = growth.pick(lowest=1)
    if tensor is None:
        return None
    draw, depth = growth.draw, tensor.shape[-1]
    code = growth.weights_code(tensor.code, 1)
    code = Quantisation(code.dtype, np.ravel(code.scale)[0], int(np.ravel(code.zero_point)[0]))
    columns = () if len(tensor.shape) > 1 and draw.chance() else (draw.integer(1, 5),)
    weights, reals = growth.constant((depth, *columns), code)
    result = growth.build.node("MatMul", [growth.real(tensor), weights])
    sample = products(draw, tensor.sample, reals.reshape(depth, -1).T)
    return growth.result(result, (*tensor.shape[:-1], *columns), sample, float(np.mean(unit_of(tensor.code, code))))


@operator("a scale per channel of an activation", 1, opset=13)
def per_channel_activation(growth: Growth) -> Tensor | None:
    """QuantizeLinear and DequantizeLinear along an axis in the middle of the graph."""
    tensor = growth.pick(lowest=2)
    if tensor is None:
        return None
    draw, build, axis = growth.draw, growth.build, growth.draw.integer(0, 1)
    count, dtype = tensor.shape[axis], np.dtype(np.uint8)
    scales = np.array([draw.scale(float(tensor.code.scale)) for _ in range(count)], np.float32)
    zeros = draw.rng.integers(0, 256, count).astype(np.uint8)
    parameters = [build.constant(scales), build.constant(zeros)]
    codes = build.node("QuantizeLinear", [growth.real(tensor), *parameters], axis=axis)
    real = build.node("DequantizeLinear", [codes, *parameters], axis=axis)
    around = Quantisation(dtype, float(scales.mean()), 128)
    return growth.result(real, tensor.shape, sample_codes(draw, around) * 0.3, float(tensor.code.scale))


@operator("normalisation of a residual", 1, opset=17)
def residual_normalisation(growth: Growth) -> Tensor | None:
    """LayerNormalization of a sum, in float: what onnxruntime fuses to SkipLayerNormalization."""
    tensor = growth.pick(3, where=lambda tensor: tensor.shape[-1] > 1)
    if tensor is None or not fits(tensor.shape):
        return None
    draw, build, width = growth.draw, growth.build, tensor.shape[-1]
    other = growth.other(tensor.shape)
    total = build.node("Add", [growth.real(tensor), growth.real(other)])
    factors = [growth.floats(draw.rng.uniform(0.5, 1.5, width)), growth.floats(draw.rng.normal(size=width))]
    real = build.node("LayerNormalization", [total, *factors], axis=-1)
    return growth.result(real, tensor.shape, draw.rng.normal(size=POINTS), 1 / 64)


@operator("Gelu of a biased product", 1)
def gelu_of_bias(growth: Growth) -> Tensor | None:
    """The product x * 0.5 * (1 + erf(x / sqrt 2)) behind an addition, a BiasGelu in onnxruntime."""
    tensor = growth.pick(3)
    if tensor is None:
        return None
    draw, build = growth.draw, growth.build
    bias = draw.rng.normal(size=tensor.shape[-1]) * float(np.std(tensor.sample))
    x = build.node("Add", [growth.real(tensor), growth.floats(bias)])
    erf = build.node("Erf", [build.node("Div", [x, growth.floats(np.sqrt(2))])])
    half = build.node("Mul", [x, build.node("Add", [erf, growth.floats(1.0)])])
    real = build.node("Mul", [half, growth.floats(0.5)])
    sample = tensor.sample + draw.rng.choice(bias, POINTS)
    return growth.result(real, tensor.shape, sample.clip(0), float(tensor.code.scale))
