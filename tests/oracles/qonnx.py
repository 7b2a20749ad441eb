"""Naive twins of the QONNX quantisers: one number at a time, from the definition.

ONNX Runtime semantics, section 12.
"""

from __future__ import annotations

import math

import numpy as np

F = np.float32


def round_by_definition(value: np.float32, mode: str) -> float:
    """Round one float32 to an integer, each mode as its sentence in the QONNX documentation says."""
    below, above = math.floor(value), math.ceil(value)
    sign = int(value > 0) - int(value < 0)
    mode = mode.upper()
    if mode in ("ROUND", "HALF_EVEN"):
        if value - below == above - value:
            return below if below % 2 == 0 else above
        return below if value - below < above - value else above
    if mode == "CEIL":
        return above
    if mode == "FLOOR":
        return below
    if mode == "UP":
        return above if value > 0 else below
    if mode == "DOWN":
        return below if value > 0 else above
    if mode == "HALF_UP":
        return sign * math.floor(F(abs(value) + F(0.5)))
    if mode == "HALF_DOWN":
        return sign * math.ceil(F(abs(value) - F(0.5)))
    raise ValueError(mode)


def code_bounds(bits: int, signed: int, narrow: int) -> tuple[int, int]:
    """Return the smallest and largest code."""
    if signed:
        return -(2 ** (bits - 1)) + narrow, 2 ** (bits - 1) - 1
    return 0, 2**bits - 1 - narrow


def quant(x: float, scale: float, zero_point: float, bits: int, signed: int, narrow: int, mode: str) -> np.float32:
    """Quant of one float32."""
    scaled = F(F(F(x) / F(scale)) + F(zero_point))
    if bits == 1 and signed:
        code = 1 if scaled >= 0 else -1
    else:
        low, high = code_bounds(bits, signed, narrow)
        code = int(round_by_definition(F(min(max(scaled, F(low)), F(high))), mode))
    return F(F(code - zero_point) * F(scale))


def bipolar_quant(x: float, scale: float) -> np.float32:
    """BipolarQuant of one float32."""
    return F(scale) if x >= 0 else F(-F(scale))


def trunc_1(x: float, scale: float, zero_point: float, wide: int, bits: int, mode: str) -> np.float32:
    """Trunc, version 1: no clamp, the output keeps the input's scale."""
    code = round_by_definition(F(F(F(x) / F(scale)) + F(zero_point)), "ROUND")
    shifted = round_by_definition(F(F(code) / F(2.0 ** (wide - bits))), mode)
    return F(F(shifted - zero_point) * F(scale))


def trunc_2(
    x: float, scale: float, zero_point: float, out_scale: float, bits: int, signed: int, narrow: int, mode: str
) -> np.float32:
    """Trunc, version 2: by the nearest power of two between the scales, clamped to the new width."""
    power = F(2.0 ** round(math.log2(out_scale / scale)))
    low, high = code_bounds(bits, signed, narrow)
    code = F(F(round_by_definition(F(F(F(x) / F(scale)) + F(zero_point)), "ROUND")) / power)
    shifted = round_by_definition(F(min(max(code, F(low)), F(high))), mode)
    return F(F(F(shifted) - F(F(zero_point) / power)) * F(out_scale))


def threshold_rows(acc: np.ndarray, thresholds: np.ndarray, first: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Codes of accumulators [N, M]: first + step * how many thresholds of the row are reached."""
    out = np.empty(acc.shape, np.int64)
    for n, row in enumerate(acc):
        for m, value in enumerate(row):
            out[n, m] = first[n] + step[n] * sum(1 for threshold in thresholds[n] if threshold <= value)
    return out
