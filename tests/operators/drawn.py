"""Random contractions for the unit tests: codes, weights, accumulators, epilogues, windows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accelsim.operators import (
    CodeFormat,
    Convolution,
    Epilogue,
    Raw,
    Requantise,
    Rescale,
    Weights,
)
from accelsim.operators.geometry import ConvolutionGeometry
from accelsim.values.accumulators import AccumulatorFormat
from tests.oracles import naive

INT32 = (-(2**31), 2**31 - 1)
MODES = ("wrap", "saturate")
Int16s = NDArray[np.int16]


def draw_operands(rng: np.random.Generator, shape: tuple[int, ...]) -> Int16s:
    """Draw 9-bit operands: extremes only, extremes and zeros, small ones, or all."""
    choice = rng.integers(4)
    if choice == 0:
        return rng.choice([-255, 255], shape).astype(np.int16)
    if choice == 1:
        return rng.choice([-255, 0, 255], shape).astype(np.int16)
    return rng.integers(-255 if choice == 2 else -3, 256 if choice == 2 else 4, shape).astype(np.int16)


def draw_code(rng: np.random.Generator) -> CodeFormat:
    """Draw an 8-bit format with a zero point at either end, at the middle or anywhere."""
    dtype = np.dtype(rng.choice(["uint8", "int8"]))
    lowest, highest = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    middle = (lowest + highest + 1) // 2
    return CodeFormat(dtype, int(rng.choice([lowest, highest, middle, rng.integers(lowest, highest + 1)])))


def draw_codes(rng: np.random.Generator, code: CodeFormat, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """Draw codes: extremes only in a third of the cases."""
    if rng.integers(3) == 0:
        return rng.choice([code.lowest, code.highest], shape).astype(code.dtype)
    return rng.integers(code.lowest, code.highest + 1, shape).astype(code.dtype)


def draw_weights(rng: np.random.Generator, filters: int, depth: int) -> Weights:
    """Draw weights of 9 bits with biases from none to the ends of int32."""
    choice = rng.integers(3)
    reach = (1, 20_000, 2**31 - 1)[choice]
    bias = rng.integers(-reach, reach + 1, filters)
    if choice == 2 and rng.integers(2):
        bias = rng.choice(INT32, filters)
    return Weights(draw_operands(rng, (filters, depth)), bias.astype(np.int32))


def draw_accumulator(rng: np.random.Generator) -> AccumulatorFormat:
    """Draw a width, narrow ones more often, a mode and what happens to zero points."""
    bits = int(rng.choice([*range(8, 25), 31, 32, 33, 48, 63, 64]))
    return AccumulatorFormat(bits, str(rng.choice(MODES)), str(rng.choice(["fold", "subtract"])))


def draw_epilogue(rng: np.random.Generator, columns: int) -> Epilogue:
    """Draw what happens to the accumulators: nothing, requantisation or scaling to float, per tensor or per column."""
    size = columns if rng.integers(2) else 1
    scale = (10.0 ** rng.uniform(-6, -1, size)).astype(np.float32)
    choice = rng.integers(3)
    if choice == 0:
        return Raw()
    if choice == 1:
        return Requantise(scale, draw_code(rng))
    return Rescale(scale, rng.normal(size=columns).astype(np.float32) if rng.integers(2) else None)


def draw_convolution(rng: np.random.Generator) -> tuple[Convolution, tuple[int, ...], naive.Window]:
    """Draw a small convolution of any kind, the shape of its input, and its window."""
    flat = rng.integers(4) == 0
    height, width = (1, int(rng.integers(4, 9))) if flat else (int(size) for size in rng.integers(4, 7, 2))
    kernel_h, kernel_w, down, right, dilation_h, dilation_w = (int(v) for v in rng.integers(1, (4, 4, 3, 3, 3, 3)))
    top, left, bottom, end = (int(pad) for pad in rng.integers(0, 3, 4))
    if flat:
        kernel_h, down, dilation_h, top, bottom = 1, 1, 1, 0, 0
    dilation_h = dilation_h if dilation_h * (kernel_h - 1) < height + top + bottom else 1
    dilation_w = dilation_w if dilation_w * (kernel_w - 1) < width + left + end else 1
    settings_of_window = ((kernel_h, kernel_w), (down, right), (dilation_h, dilation_w), (top, left, bottom, end))
    groups = int(rng.choice([1, 1, 2, 3]))
    channels, filters = (groups * int(count) for count in rng.integers(1, 3, 2))
    weights = draw_weights(rng, filters, channels // groups * kernel_h * kernel_w)
    geometry = ConvolutionGeometry(*settings_of_window)
    operator = Convolution(geometry, groups, weights, draw_code(rng), draw_epilogue(rng, filters))
    shape = (int(rng.integers(1, 3)), channels, *([width] if flat else [height, width]))
    return operator, shape, naive.Window(*settings_of_window)
