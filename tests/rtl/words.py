"""Words for one requantiser lane: sums with a channel of their own each, around every rounding that the lane does."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.rtl import reference, tools
from tests.rtl.cases import Requantiser

Integers = NDArray[np.int64]
LANE = ("requant", "bench_requant.cpp", {"IN_W": 64})  # sums of up to 64 bits
WIDE = (-(2**17), 2**17 - 1)


@dataclass(frozen=True)
class Words:
    """Sums, int64[count], and the requantiser with one channel per sum."""

    sums: Integers
    columns: Requantiser

    def through(self, lane: Path) -> Integers:
        """Return what the lane makes of them."""
        words = np.zeros((len(self.sums), 8), np.int64)
        words[:, 0] = self.columns.fixed_point
        words[:, 1] = (self.sums & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
        words[:, 2] = self.sums >> 32
        words[:, 3] = self.columns.multiplier.view(np.int32)
        words[:, 4] = self.columns.shift
        words[:, 5:] = self.columns.zero_point, self.columns.lowest, self.columns.highest
        return np.frombuffer(tools.run(lane, words.astype("<i4").tobytes()), "<i4").astype(np.int64)

    def expected(self) -> Integers:
        """Return what section 2 makes of them."""
        return reference.requantise(self.sums[None], self.columns)[0]


def with_scales(
    sums: Integers, scales: NDArray[np.floating], zero_point: int = 0, bounds: tuple[int, int] = WIDE
) -> Words:
    """Return words of mode f32."""
    single = scales.astype(np.float32)
    return Words(sums, Requantiser(single.view(np.uint32), np.zeros(len(sums), np.int32), zero_point, *bounds, 1))


def random_floats(bits: int, zero_point: int, bounds: tuple[int, int], count: int = 40_000) -> Words:
    """Return sums of every magnitude up to `bits`, scales from 1e-11 to 100, most outputs inside of the bounds."""
    random = np.random.default_rng([bits, zero_point & 0xFF])
    sums = random.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), count) >> random.integers(0, bits, count)
    sums[:2] = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    scales = np.exp(random.uniform(np.log(1e-11), np.log(100), count))
    wanted = np.abs(random.uniform(-300, 300, count)) / np.maximum(np.abs(sums.astype(np.float64)), 1) + 1e-11
    return with_scales(sums, np.where(random.random(count) < 0.7, wanted, scales), zero_point, bounds)


def exact_ties() -> Words:
    """Return products that end in .5 exactly, around every output and with many multipliers."""
    odd = np.arange(-1023, 1024, 2)
    sums, scales = [], []
    for factor, halving in itertools.product((1, 3, 5, 7, 11, 13), range(1, 20)):
        sums.append(odd * 2**halving // 2)
        scales.append(np.full(len(odd), factor * 2.0**-halving))
    return with_scales(np.concatenate(sums), np.concatenate(scales))


def double_roundings(factor: int) -> Words:
    """Return sums whose float32 rounding is a tie that decides the rounding to an integer, which is a tie as well.

    P = 1024 n + 513 has 25 bits and n is even: half to even gives 1024 n + 512, then n; half upwards would give n + 1.
    With factor 1 fl32(A) rounds, with factor 3 the product.
    """
    products = np.array([1024 * n + 513 for n in range(2**14, 2**15, 2)])
    sums = products[products % factor == 0] // factor
    sums = np.concatenate([sums, -sums])
    return with_scales(sums, np.full(len(sums), factor * 2.0**-10))


def fixed_points(count: int = 60_000) -> Words:
    """Return words of mode q31: every shift, the corner INT_MIN * INT_MIN, ties of both roundings."""
    random = np.random.default_rng(31)
    sums = random.integers(-(2**62), 2**62, count) >> (62 - random.integers(2, 63, count))
    sums[: count // 4] >>= 31
    multiplier = random.integers(2**30, 2**31, count)
    multiplier[:5000] = 2**30 + random.integers(0, 2, 5000) * 2**29
    multiplier[::7] *= -1
    sums[5000:5010], multiplier[5000:5005], multiplier[5005:5010] = -(2**31), -(2**31), 2**31 - 1
    shift = random.integers(-31, 32, count).astype(np.int32)
    shift[5000:5010] = 0
    mantissa = multiplier.astype(np.int32).view(np.uint32)
    return Words(sums, Requantiser(mantissa, shift, -3, *WIDE, 1, fixed_point=True))
