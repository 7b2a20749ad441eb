"""The integer requantiser in Python integers and fractions: exact values, rounded by definition, no bit tricks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

LOWEST, HIGHEST = -(2**31), 2**31 - 1


def saturate(value: int) -> int:
    """Bring an integer into int32."""
    return sorted((LOWEST, value, HIGHEST))[1]


def half_up(numerator: int, denominator: int) -> int:
    """Round a quotient to the nearest integer, ties towards +infinity."""
    return (2 * numerator + denominator) // (2 * denominator)


def half_away(numerator: int, denominator: int) -> int:
    """Round a quotient to the nearest integer, ties away from zero."""
    rounded = half_up(abs(numerator), denominator)
    return rounded if numerator >= 0 else -rounded


def high_multiply(a: int, b: int) -> int:
    """SaturatingRoundingDoublingHighMul: the upper half of twice the 64-bit product, rounded, saturated."""
    return saturate(half_up(a * b, 2**31))


def divide_by_power(value: int, exponent: int) -> int:
    """RoundingDivideByPOT."""
    return half_away(value, 2**exponent)


def multiplier(real: float) -> tuple[int, int]:
    """QuantizeMultiplier: (mantissa, shift) with mantissa / 2^31 in [1/2, 1)."""
    if real == 0:
        return 0, 0
    if math.isinf(real):
        return (HIGHEST if real > 0 else -HIGHEST), 31
    value, shift = abs(Fraction(real)), 0
    while value >= 1:
        value, shift = value / 2, shift + 1
    while value < Fraction(1, 2):
        value, shift = value * 2, shift - 1
    mantissa = half_up((value * 2**31).numerator, (value * 2**31).denominator)
    if mantissa == 2**31:
        mantissa, shift = 2**30, shift + 1
    if shift < -31:
        return 0, 0
    if shift > 31:
        mantissa, shift = HIGHEST, 31
    return (mantissa if real > 0 else -mantissa), shift


def scale(value: int, mantissa: int, shift: int) -> int:
    """MultiplyByQuantizedMultiplier, saturating where it enters and behind a left shift."""
    shifted = saturate(saturate(value) * 2 ** max(shift, 0))
    return divide_by_power(high_multiply(shifted, mantissa), max(-shift, 0))


def requantise(value: int, real: float, zero_point: int, bounds: tuple[int, int]) -> int:
    """Accumulator to code."""
    return min(max(scale(value, *multiplier(real)) + zero_point, bounds[0]), bounds[1])


def add(codes: Sequence[int], zeros: Sequence[int], ratios: Sequence[float], bounds: tuple[int, int]) -> int:
    """TFLite's Add of two codes; zeros: of both operands and the result; ratios: operand scales over the result's."""
    whole = 2 * max(ratios)
    parts = [
        scale((code - zero) * 2**20, *multiplier(ratio / whole))
        for code, zero, ratio in zip(codes, zeros, ratios, strict=False)
    ]
    total = scale(sum(parts), *multiplier(whole / 2**20))
    return min(max(total + zeros[2], bounds[0]), bounds[1])


def multiply(codes: Sequence[int], zeros: Sequence[int], ratio: float, bounds: tuple[int, int]) -> int:
    """TFLite's Mul of two codes."""
    product = (codes[0] - zeros[0]) * (codes[1] - zeros[1])
    return requantise(product, ratio, zeros[2], bounds)
