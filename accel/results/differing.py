"""Which elements of two tensors differ."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]


def differing(got: Array, expected: Array) -> NDArray[np.bool_]:
    """Return which elements differ; NaN equals NaN, and floats must be equal bit for bit otherwise.

    Args:
        got: our array.
        expected: the reference, same shape and dtype.
    """
    if got.dtype.kind != "f":
        return np.asarray(got != expected)
    bits = np.dtype(f"u{got.dtype.itemsize}")
    same = np.ascontiguousarray(got).view(bits) == np.ascontiguousarray(expected).view(bits)
    # ascontiguousarray makes a scalar one-dimensional
    return np.asarray(~(same.reshape(got.shape) | (np.isnan(got) & np.isnan(expected))))
