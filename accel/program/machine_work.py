"""What zero points of weights add to the work of a layer on a machine: row sums, wider operands, more parameters."""

from __future__ import annotations

from dataclasses import replace

from accelsim import operators as ops
from accelsim.machine.arch import Arch
from accelsim.operators.zero_points import constant_weights, is_asymmetric, uses_row_sums
from accelsim.program.work import ContractionWork, Work


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
