"""Weights as the codes that a machine with row sums multiplies, and what accumulators can hold at most."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from accelsim import operators as ops
from accelsim.operators.codes import signed_bits
from accelsim.operators.zero_points import uses_row_sums

Sums = NDArray[np.int64]


def raw_weights(weights: ops.Weights, bias: Sums, groups: int) -> tuple[ops.Weights, Sums]:
    """Return weights as codes, with a row of ones behind the rows of each group, and the bias that goes with them.

    Args:
        weights: differences [N, K] with their zero points.
        bias: int64[N], what the accumulators start from.
        groups: number of channel groups.
    """
    values = weights.values
    columns, depth = values.shape
    codes = (values + weights.zero_points[:, None].astype(values.dtype)).reshape(groups, columns // groups, depth)
    stacked = np.concatenate([codes, np.ones((groups, 1, depth), values.dtype)], axis=1).reshape(-1, depth)
    starts = np.concatenate([bias.reshape(groups, -1), np.zeros((groups, 1), np.int64)], axis=1).reshape(-1)
    return replace(weights, values=np.ascontiguousarray(stacked), bias=np.zeros(len(stacked), np.int32)), starts


@dataclass(frozen=True)
class StaticRange:
    """What the accumulators of a layer can hold at most, whatever the activations are, bias included.

    lowest, highest: extremes over all inputs, all outputs and all partial sums.
    """

    lowest: int
    highest: int

    @property
    def bits(self) -> int:
        """Smallest two's complement width that is always safe."""
        return signed_bits(self.lowest, self.highest)


def operand_range(code: ops.CodeFormat, zp_mode: str) -> tuple[int, int]:
    """Return the extremes of the activations' operand: codes as they are, or less their zero point."""
    shift = 0 if zp_mode == "fold" else code.zero_point
    return code.lowest - shift, code.highest - shift


def static_range(weights: ops.Weights, code: ops.CodeFormat, zp_mode: str, weight_zero_point: str) -> StaticRange:
    """Bound the accumulators of a contraction from its constants alone.

    Zero is always among the operands, so every term can only widen the range and the whole sum bounds all partial sums.
    With row sums, the raw sums, the sums of the activations and the differences count.

    Args:
        weights: constant weights.
        code: format of the activations.
        zp_mode: "fold" or "subtract".
        weight_zero_point: "wide-operand" or "row-sum".
    """
    low, high = operand_range(code, zp_mode)
    bias = weights.bias.astype(np.int64)
    if zp_mode == "fold":
        bias = bias - code.zero_point * weights.values.sum(axis=1, dtype=np.int64)
    matrices = [(weights.values, bias)]
    if uses_row_sums(weights, weight_zero_point):
        raw, starts = raw_weights(weights, bias, 1)
        matrices.append((raw.values, starts))
    lowest, highest = 0, 0
    for values, start in matrices:
        positive = np.maximum(values, 0).sum(axis=1, dtype=np.int64)
        negative = np.minimum(values, 0).sum(axis=1, dtype=np.int64)
        lowest = min(lowest, int((start + positive * low + negative * high).min(initial=0)))
        highest = max(highest, int((start + positive * high + negative * low).max(initial=0)))
    return StaticRange(lowest, highest)
