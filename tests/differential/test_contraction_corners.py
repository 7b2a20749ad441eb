"""Corners of contractions: sums beyond int32, biases of every shape, vectors as operands."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import accelsim
from tests.differential.registry import SEED, run_exactly
from tests.strategies import Builder, Case, Draw, Quantisation, Shape


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
