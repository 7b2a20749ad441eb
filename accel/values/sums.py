"""Integer sums of codes on the vector unit, followed by thresholds."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from accelsim.operators import CodeFormat
from accelsim.operators.thresholds import SumCodes, SumPool, Threshold
from accelsim.values.epilogue import apply_epilogue

Array = NDArray[np.generic]
Sums = NDArray[np.int32]


def _levels(codes: Array, code: CodeFormat) -> Sums:
    """Return codes minus their zero point."""
    return codes.astype(np.int32) - np.int32(code.zero_point)


def _stepped(sums: Sums, axis: int, threshold: Threshold) -> Array:
    """Apply thresholds whose rows belong to an axis, or one row that belongs to all elements."""
    if threshold.thresholds.shape[0] == 1:
        return apply_epilogue(np.ascontiguousarray(sums).reshape(1, -1), threshold).reshape(sums.shape)
    moved = np.moveaxis(sums, axis, 0)
    codes = apply_epilogue(np.ascontiguousarray(moved).reshape(moved.shape[0], -1), threshold)
    return np.ascontiguousarray(np.moveaxis(codes.reshape(moved.shape), 0, axis))


def add_codes(op: SumCodes, first: Array, second: Array | None, shape: tuple[int, ...]) -> Array:
    """Add two activations, or take one, and step.

    Args:
        op: formats and thresholds.
        first: codes.
        second: codes, or None for one activation.
        shape: shape of the result, to which both broadcast.
    """
    sums = _levels(first, op.first)
    if second is not None and op.second is not None:
        sums = sums + _levels(second, op.second)
    return _stepped(np.broadcast_to(sums, shape), op.axis, op.epilogue)


def pool_codes(op: SumPool, codes: Array) -> Array:
    """Add up windows and step; padding adds nothing.

    Args:
        op: window, format and thresholds.
        codes: [B, C, H, W] or [B, C, W].
    """
    levels = _levels(codes, op.input)
    image = levels[:, :, None] if levels.ndim == 3 else levels
    top, left, bottom, right = op.geometry.pads
    padded = np.pad(image, ((0, 0), (0, 0), (top, bottom), (left, right)))
    rows, columns = op.geometry.strides
    windows = sliding_window_view(padded, op.geometry.kernel, axis=(2, 3))[:, :, ::rows, ::columns]
    sums = windows.sum(axis=(-1, -2), dtype=np.int32)
    result = _stepped(sums, 1, op.epilogue)
    return result[:, :, 0] if levels.ndim == 3 else result
