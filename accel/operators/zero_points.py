"""Zero points of weights: 9-bit operands, or raw codes with the sum of the activations beside them.

Asymmetric weights cost a term that depends on the data (Nagel et al., A White Paper on Neural Network Quantization,
2021, section 2.4.1): sum x (w - z_w) = sum x w - z_w sum x. A machine either subtracts z_w before the array, whose
weight operands are then one bit wider, or multiplies the codes and computes S = sum x once per row and block of
outputs, as one more feature whose weights are 1; the requantiser then takes A - z_w S (timing contract, section 2).

Weights whose differences w - z_w fit the width of a code are stored as differences: they cost nothing either way.
"""

from __future__ import annotations

from accelsim import operators as ops

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
