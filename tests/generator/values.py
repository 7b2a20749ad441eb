"""What values a tensor holds, roughly: a handful of representative reals, from which its quantisation is chosen.

A chain of random operators with random scales soon holds only one value, and then proves nothing. So every tensor
carries a sample of its values, and the code of a result is chosen such that the sample stays spread over its range.
"""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from tests.strategies import Draw, Quantisation, bounds

Array = NDArray[Any]

POINTS = 64
NARROW = {name: getattr(ml_dtypes, name) for name in ("int4", "uint4", "int2", "uint2")}
RANGES = {"int4": (-8, 7), "uint4": (0, 15), "int2": (-2, 1), "uint2": (0, 3)}


def limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Return the lowest and the highest code, also of types of less than a byte."""
    return RANGES[dtype.name] if dtype.name in RANGES else bounds(dtype)


def dtype_of(name: str) -> np.dtype[Any]:
    """Return the dtype of a name, also of types of less than a byte."""
    return np.dtype(NARROW.get(name, name))


def through(sample: Array, code: Quantisation) -> Array:
    """Quantise and dequantise a sample."""
    lowest, highest = limits(code.dtype)
    return (codes_of(sample, code).clip(lowest, highest) - float(code.zero_point)) * float(code.scale)


def codes_of(sample: Array, code: Quantisation) -> Array:
    """Return the codes of a sample before they are clipped."""
    with np.errstate(over="ignore"):
        return np.asarray(np.rint(sample / float(code.scale)) + float(code.zero_point))


def sample_codes(draw: Draw, code: Quantisation) -> Array:
    """Return a sample of uniformly distributed codes, as reals."""
    lowest, highest = limits(code.dtype)
    return (draw.rng.integers(lowest, highest + 1, POINTS) - float(code.zero_point)) * float(code.scale)


def shuffled(draw: Draw, sample: Array) -> Array:
    """Return a sample in another order, to be paired with another one."""
    return draw.rng.permutation(sample)


def products(draw: Draw, sample: Array, rows: Array) -> Array:
    """Return a sample of the inner products of values with rows of weights[N, K]."""
    chosen = rows[draw.rng.integers(0, len(rows), POINTS)]
    return (chosen * draw.rng.choice(sample, chosen.shape)).sum(axis=1)


def means(draw: Draw, sample: Array, count: int) -> Array:
    """Return a sample of means of `count` values."""
    return draw.rng.choice(sample, (POINTS, max(count, 1))).mean(axis=1)


def survives(sample: Array, code: Quantisation) -> bool:
    """Tell whether the codes of a sample stay apart from each other and inside of their range."""
    lowest, highest = limits(code.dtype)
    codes = codes_of(sample, code)
    inside = (codes > lowest) & (codes < highest)
    distinct = min(10, np.unique(sample).size) if sample.size > 1 else 1
    return bool(inside.mean() > 0.25 and np.unique(codes.clip(lowest, highest)).size >= distinct * 0.7)


def lively(sample: Array) -> bool:
    """Tell whether a sample holds enough different values to be worth a quantiser."""
    return bool(np.unique(sample).size * 4 > sample.size)


def choose_code(draw: Draw, dtype: np.dtype[Any], sample: Array, unit: float) -> Quantisation:
    """Choose the code of a result, with a zero point at an end of its range, in the middle or anywhere.

    Args:
        draw: the source of parameters; when it wants ties the scale is the unit times a power of two, or beside.
        dtype: of the code.
        sample: values of the result.
        unit: what the result is a multiple of, as a product of scales.
    """
    lowest, highest = limits(dtype)
    spread = float(np.std(sample)) or abs(float(np.mean(sample))) or unit
    steps = float(draw.rng.uniform(12, 60)) * (highest - lowest) / 255
    for _ in range(8):
        code = Quantisation(dtype, scale_near(draw, spread / steps, unit), draw.zero_point(dtype))
        if survives(sample, code):
            return code
    reach = float(np.abs(sample).max(initial=0.0))
    scale = scale_near(draw, max(spread / steps, reach / (highest - lowest)), unit)
    middle = (lowest + highest) / 2 - float(np.mean(sample)) / float(scale)
    return Quantisation(dtype, scale, int(np.clip(round(middle), lowest, highest)))


def scale_near(draw: Draw, value: float, unit: float) -> np.float32:
    """Return a scale near a value: with ties wanted, a unit times a power of two."""
    value = min(max(value, 1e-12), 1e12)
    if draw.ties and unit > 0:
        value = unit * 2.0 ** round(math.log2(value / unit))
        return draw.beside(value)
    return np.float32(value)
