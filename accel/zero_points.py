"""Zero points of weights: 9-bit operands, or raw codes with the sum of the activations beside them.

Asymmetric weights cost a term that depends on the data (Nagel et al., A White Paper on Neural Network Quantization,
2021, section 2.4.1): sum x (w - z_w) = sum x w - z_w sum x. A machine either subtracts z_w before the array, whose
weight operands are then one bit wider, or multiplies the codes and computes S = sum x once per row and block of
outputs, as one more feature whose weights are 1; the requantiser then takes A - z_w S (timing contract, section 2).

Weights whose differences w - z_w fit the width of a code are stored as differences: they cost nothing either way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from accelsim import operators as ops
from accelsim.arch import Arch
from accelsim.work import ContractionWork, Work

Sums = NDArray[np.int64]

# Operands of the array (arch.weight_bits): what is narrower fits them with its zero point subtracted.
_OPERAND_BITS = 8


def is_asymmetric(weights: ops.Weights | None) -> bool:
    """Tell whether the zero points of constant weights cost something: some difference w - z_w needs an extra bit."""
    return weights is not None and weights.wide and bool(weights.zero_points.any())


def uses_row_sums(weights: ops.Weights | None, weight_zero_point: str) -> bool:
    """Tell whether a layer multiplies raw codes and sums up its activations.

    Args:
        weights: constant weights; None for a product of two activations, whose zero points are always subtracted.
        weight_zero_point: "wide-operand" or "row-sum".
    """
    if weights is None or weights.bits < _OPERAND_BITS:
        return False
    return weight_zero_point == "row-sum" and is_asymmetric(weights)


def constant_weights(operator: ops.Operator) -> ops.Weights | None:
    """Return the constant weights of a contraction, None for anything else."""
    weights = getattr(operator, "weights", None)
    return weights if isinstance(weights, ops.Weights) else None


def machine_work(work: Work, operator: ops.Operator, arch: Arch) -> Work:
    """Add what the zero points of the weights cost a machine: the row sums, and zero points that come with the weights.

    Args:
        work: the layer's work on any machine.
        operator: its operator.
        arch: the machine.
    """
    weights = constant_weights(operator)
    if not isinstance(work, ContractionWork) or weights is None or not is_asymmetric(weights):
        return work
    per_column = -(-weights.bits // 8) if weights.zero_points.size > 1 else 0
    sums = int(uses_row_sums(weights, arch.weight_zero_point))
    return replace(work, row_sums=sums, parameter_bytes=work.parameter_bytes + per_column)


def weight_operand_bits(operator: ops.Operator, work: ContractionWork, arch: Arch) -> int:
    """Return the width of the second operand in the array: its own, but no less than the array's.

    Differences w - z_w that need an extra bit have it, unless row sums let raw codes through; a computed second operand
    always has one, as its zero point is subtracted.

    Args:
        operator: the contraction.
        work: its work on this machine.
        arch: the machine.
    """
    weights = constant_weights(operator)
    if weights is None:
        return 8 * work.input_bytes + 1 if work.dynamic_second else max(work.weight_bits, arch.weight_bits)
    return max(weights.bits + int(weights.wide and not work.row_sums), arch.weight_bits)


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
        return max(max(self.highest, 0).bit_length(), max(~self.lowest, 0).bit_length()) + 1


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
