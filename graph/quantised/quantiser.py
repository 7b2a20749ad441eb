"""QuantizeLinear and DequantizeLinear of constants at import time, in numpy: plain IEEE float32."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accelsim.operators import CodeFormat

Codes = NDArray[np.generic]
Floats = NDArray[np.float32]


def all_codes(dtype: np.dtype[np.generic]) -> Codes:
    """Return every code of a type in the order of table indices, which are the codes' bits read as unsigned."""
    unsigned = np.dtype(f"u{dtype.itemsize}")
    return np.arange(1 << (8 * dtype.itemsize), dtype=unsigned).view(dtype)


def dequantise_codes(codes: Codes, scale: np.float32, zero_point: int) -> Floats:
    """DQ: exact difference, one multiplication."""
    result: Floats = (codes.astype(np.int32) - zero_point).astype(np.float32) * scale
    return result


def quantise_values(values: Floats, scale: np.float32, code: CodeFormat) -> Codes:
    """Q: true division, clamp, round half to even; NaN gives the lowest code."""
    with np.errstate(all="ignore"):
        scaled = values / scale
    bounded = np.clip(scaled, np.float32(code.lowest - code.zero_point), np.float32(code.highest - code.zero_point))
    bounded = np.where(np.isnan(scaled), np.float32(code.lowest - code.zero_point), bounded)
    return (np.rint(bounded).astype(np.int32) + code.zero_point).astype(code.dtype)
