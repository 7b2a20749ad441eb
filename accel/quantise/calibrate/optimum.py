"""Ranges with the least squared error: for activations from histograms, for weights from the values themselves.

The squared error is that of clipping plus that of rounding; the widest range clips nothing and rounds most coarsely.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsim.quantise.grid import CodeSpec, fit

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

_SHARES = np.linspace(1.0, 0.02, 50)  # of a range that are tried, then more finely around the best
_FINER = np.linspace(-0.018, 0.018, 13)


@dataclass(frozen=True, eq=False)
class Histogram:
    """How often values fall into bins; centres: float64 [bins]; counts: int64 [bins]. Zeros are left out: exact."""

    centres: Doubles
    counts: NDArray[np.int64]


def squared_error(histogram: Histogram, low: Doubles, high: Doubles, spec: CodeSpec) -> Doubles:
    """Return the squared error that grids make, summed over a histogram.

    A step smaller than a bin rounds to within the bin, where the values are taken as uniform: s^2 / 12 each.

    Args:
        histogram: of the values.
        low: lower ends of the ranges to try, float64 [ranges].
        high: upper ends.
        spec: the codes.
    """
    scales, zero_points = (np.asarray(a, np.float64)[:, None] for a in _separately(low, high, spec))
    used = histogram.counts > 0
    centres, counts = histogram.centres[used][None], histogram.counts[used][None]
    steps = np.clip(np.rint(centres / scales), spec.lowest - zero_points, spec.highest - zero_points)
    errors = (steps * scales - centres) ** 2
    width = histogram.centres[1] - histogram.centres[0] if histogram.centres.size > 1 else 0.0
    outside = (np.rint(centres / scales) + zero_points < spec.lowest) | (
        np.rint(centres / scales) + zero_points > spec.highest
    )
    errors = np.where(~outside & (scales < width), scales**2 / 12, errors)
    total: Doubles = (errors * counts).sum(axis=1)
    return total


def _separately(low: Doubles, high: Doubles, spec: CodeSpec) -> tuple[Floats, NDArray[np.int64]]:
    """Fit ranges one by one: an empty one must not take the scale of another."""
    return fit(np.minimum(low, -1e-30), np.maximum(high, 1e-30), spec)


def least_squares_range(histogram: Histogram, spec: CodeSpec) -> tuple[float, float]:
    """Return the range with the least squared error: both ends are moved in turn, coarsely, then finely.

    Args:
        histogram: of the values.
        spec: the codes.
    """
    half = (histogram.centres[1] - histogram.centres[0]) / 2
    low, high = min(float(histogram.centres[0] - half), 0.0), max(float(histogram.centres[-1] + half), 0.0)
    if spec.symmetric:
        peak = max(-low, high)
        share = _best(histogram, spec, np.full(_SHARES.shape, -peak) * _SHARES, np.full(_SHARES.shape, peak) * _SHARES)
        shares = _around(_SHARES[share])
        share = _best(histogram, spec, -peak * shares, peak * shares)
        return -peak * float(shares[share]), peak * float(shares[share])
    ends = [low, high]
    for candidates in (_SHARES, _SHARES, None):
        for end in (0, 1):
            full = (low, high)[end]
            if full == 0:
                continue
            shares = _around(ends[end] / full) if candidates is None else candidates
            trial = [np.full(shares.shape, ends[0]), np.full(shares.shape, ends[1])]
            trial[end] = full * shares
            ends[end] = float(trial[end][_best(histogram, spec, trial[0], trial[1])])
    return ends[0], ends[1]


def _around(share: float) -> Doubles:
    """Return finer shares around one."""
    shares: Doubles = np.clip(share + _FINER, 0.002, 1.0)
    return shares


def _best(histogram: Histogram, spec: CodeSpec, low: Doubles, high: Doubles) -> int:
    """Return the position of the range with the least error."""
    return int(np.argmin(squared_error(histogram, low, high, spec)))


def shrink_rows(rows: Floats, low: Floats, high: Floats, spec: CodeSpec) -> tuple[Floats, Floats]:
    """Return ranges of rows of weights, both ends shrunk by the share that gives the least squared error.

    Args:
        rows: float32 [rows, values].
        low: lower ends, float32 [rows].
        high: upper ends.
        spec: the codes.
    """
    best = np.full(rows.shape[0], np.inf)
    share = np.ones(rows.shape[0], np.float32)
    for candidate in np.linspace(1.0, 0.2, 41, dtype=np.float32):
        scales, zero_points = (array[:, None] for array in fit(low * candidate, high * candidate, spec))
        steps = np.clip(np.rint(rows / scales), spec.lowest - zero_points, spec.highest - zero_points)
        errors = ((steps.astype(np.float32) * scales - rows).astype(np.float64) ** 2).sum(axis=1)
        better = errors < best
        best, share = np.where(better, errors, best), np.where(better, candidate, share)
    return (low * share).astype(np.float32), (high * share).astype(np.float32)
