"""Section 2 of the timing contract on integers of any size, and the requantiser of sections 5.1 and 5.2."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tests.rtl.cases import Case, Requantiser

Integers = NDArray[np.int64]


def narrow(values: Integers, bits: int, saturate: bool) -> Integers:
    """N(): narrow to `bits` in two's complement by wrapping or saturating; int64 or Python integers of any size."""
    highest = 2 ** (bits - 1) - 1
    if saturate:
        return np.minimum(np.maximum(values, -highest - 1), highest)
    return ((values + (highest + 1)) & (2 * highest + 1)) - (highest + 1)


def sums(case: Case) -> Integers:
    """A <- N(bias); then A <- N(A + w * x) for k in ascending order."""
    exact: type = np.int64 if case.acc_bits <= 60 else object
    x, w, bias = (array.astype(exact) for array in (case.x, case.w, case.bias))
    total = narrow(np.broadcast_to(bias, (x.shape[0], w.shape[0])), case.acc_bits, case.saturate)
    for k in range(x.shape[1]):
        total = narrow(total + x[:, k, None] * w[None, :, k], case.acc_bits, case.saturate)
    return total.astype(np.int64)


def requantise(values: Integers, requantiser: Requantiser) -> Integers:
    """Requantise sums [M, N] with the parameters of each column."""
    scaled = (q31 if requantiser.fixed_point else f32)(values, requantiser)
    return np.clip(scaled + requantiser.zero_point, requantiser.lowest, requantiser.highest)


def f32(values: Integers, requantiser: Requantiser) -> Integers:
    """rint_even(fl32(fl32(A) * s))."""
    scaled = values.astype(np.float32) * requantiser.multiplier.view(np.float32)
    return np.clip(np.rint(scaled).astype(np.float64), -(2.0**40), 2.0**40).astype(np.int64)


def q31(values: Integers, requantiser: Requantiser) -> Integers:
    """Saturating left shift, SaturatingRoundingDoublingHighMul, RoundingDivideByPOT (gemmlowp) on Python integers."""
    factors = requantiser.multiplier.view(np.int32).tolist()
    shifts = requantiser.shift.tolist()
    rows = [
        [_q31(value, factor, shift) for value, factor, shift in zip(row, factors, shifts, strict=True)]
        for row in values.tolist()
    ]
    return np.array(rows, np.int64).reshape(values.shape)


def _q31(value: int, factor: int, shift: int) -> int:
    """One element; a positive shift is to the left."""
    left = min(max(value << max(shift, 0), -(2**31)), 2**31 - 1)
    doubled = left * factor
    nudged = doubled + (2**30 if doubled >= 0 else 1 - 2**30)
    high = abs(nudged) // 2**31 * (1 if nudged >= 0 else -1)  # C++ division truncates
    high = min(high, 2**31 - 1)
    mask = 2 ** max(-shift, 0) - 1
    remainder = high & mask
    return (high >> max(-shift, 0)) + (1 if remainder > mask // 2 + (1 if high < 0 else 0) else 0)


def requantiser_cycles(rows: int, columns: int, lanes: int) -> int:
    """Return rq = Mt * ceil(Nt / Q) + lq (section 5.2)."""
    return rows * -(-columns // lanes) + 4
