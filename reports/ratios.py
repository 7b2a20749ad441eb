"""How ratios are written: decibels and shares."""

from __future__ import annotations

import math

from accelsim.results.quantisation import EXACT, NO_SIGNAL


def decibels(value: float | None) -> str:
    """Return a signal to noise ratio as text; no noise at all is "exact"."""
    if value is None or math.isnan(value):
        return "-"
    if math.isinf(value):
        return EXACT if value > 0 else NO_SIGNAL
    return f"{round(value, 1) + 0.0:.1f} dB"  # adding 0 turns -0.0 into 0.0


def share(value: float | None) -> str:
    """Return a share as per cent."""
    return "-" if value is None else f"{value:.2%}" if 0 < value < 0.01 else f"{value:.1%}"
