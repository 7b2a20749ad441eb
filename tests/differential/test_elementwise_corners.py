"""Corners of operators on elements: the offset of an addition, and what stays in float between quantisers."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

import accelsim
from tests.differential.registry import SEED, run_exactly
from tests.strategies import Builder, Case, Draw, Quantisation

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
