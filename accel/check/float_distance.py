"""How far exact sums may be from onnxruntime's where it multiplies the same codes in float32: the error of its sums.

A sum of K products in floating point, in any order, is off by at most K u times the sum of their magnitudes (Higham,
Accuracy and Stability of Numerical Algorithms, section 4.2; u is half a unit of the last place of 1). What is farther
away was not rounded otherwise: it is another product.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from accelsim.operators import CodeFormat, Convolution, HostOperator, MatrixMultiply, Operator, Requantise, Rescale
from accelsim.operators.vector import FloatArithmetic
from accelsim.values.contraction import reach
from accelsim.values.runtime import complete

Array = NDArray[np.generic]

_ROUNDING = 2.0**-24  # u of float32
_HALF_ROUNDING = 2.0**-11  # u of float16
_STEPS = 64  # roundings of operands, scales, bias and what is fused, several times over
_NOT_STEEPER_THAN_1 = frozenset({"Relu", "Clip", "Sigmoid", "Tanh", "Cast", "Add", "Sub"})


def product_error(operator: Operator, inputs: Sequence[Array], *, half: bool) -> float | None:
    """Return how far float sums of a product of codes may be from the exact ones.

    Args:
        operator: the product.
        inputs: what it reads.
        half: tensors of the model are float16, so that operands and results may be rounded to it.

    Returns:
        The error, in steps of the output where that is codes, else in real numbers; None where nothing bounds it.
    """
    if not isinstance(operator, Convolution | MatrixMultiply):
        return None
    with np.errstate(all="ignore"):
        whole = complete(operator, inputs)
        sums, depth = _magnitudes(whole, inputs)
        rounding = (2 * depth + _STEPS) * _ROUNDING
        if half:
            rounding += (_STEPS / 4 + 2 * depth**0.5) * _HALF_ROUNDING
        epilogue = whole.epilogue
        if isinstance(epilogue, Requantise):
            error = _largest(sums * np.abs(epilogue.multiplier)) * rounding + 1
        elif isinstance(epilogue, Rescale):
            scaled = sums * np.abs(epilogue.scale) + (0 if epilogue.bias is None else np.abs(epilogue.bias))
            error = _largest(scaled) * rounding
            if epilogue.quantise is not None:
                error = error / abs(float(epilogue.quantise.scale)) + 1
        else:
            return None
    return error if np.isfinite(error) else None


def step_error(operator: Operator, errors: Sequence[float], result: Array, *, half: bool) -> float | None:
    """Return how far the result of what follows a product may be: an addition, an activation, a cast.

    Args:
        operator: what follows.
        errors: of those operands that have one.
        result: what it gives.
        half: see `product_error`.

    Returns:
        The error in real numbers; None without such operands, or where the operator may enlarge it.
    """
    kind = operator.kind if isinstance(operator, HostOperator) else getattr(operator, "function", "")
    known = isinstance(operator, HostOperator | FloatArithmetic) and kind in _NOT_STEEPER_THAN_1
    if not errors or not known:
        return None
    rounding = _STEPS * (_HALF_ROUNDING if half else _ROUNDING)
    error = sum(errors) + rounding * _largest(np.abs(result.astype(np.float64)))
    return error if np.isfinite(error) else None


def beyond(mine: Array, theirs: Array, error: float) -> NDArray[np.bool_]:
    """Tell which elements are farther apart than an error allows; what is infinite or no number in onnxruntime is not.

    Args:
        mine: the machine's results.
        theirs: onnxruntime's, of the same type.
        error: in steps of codes, or in real numbers.
    """
    with np.errstate(all="ignore"):
        apart = np.abs(mine.astype(np.float64) - theirs.astype(np.float64))
        return ~(apart <= error) & np.isfinite(theirs.astype(np.float64))


def _magnitudes(operator: Convolution | MatrixMultiply, inputs: Sequence[Array]) -> tuple[NDArray[np.float64], int]:
    """Return a bound of the magnitudes of products that each column adds up, in units of the sums, and their number."""
    first = _largest_operand(inputs[0], operator.input)
    weights = operator.weights
    if weights is not None:
        return reach(weights, weights.bias.astype(np.int64), first).astype(np.float64), weights.values.shape[1]
    code = operator.second if isinstance(operator, MatrixMultiply) else None
    depth = inputs[1].shape[-2] if inputs[1].ndim > 1 else inputs[1].shape[-1]
    return np.array([float(depth) * first * _largest_operand(inputs[1], code)]), depth


def _largest_operand(codes: Array, code: CodeFormat | None) -> int:
    """Return the largest magnitude of codes without their zero point."""
    zero_point = 0 if code is None else code.zero_point
    return max(abs(int(end) - zero_point) for end in (codes.min(), codes.max())) if codes.size else 0


def _largest(values: NDArray[np.floating]) -> float:
    """Return the largest value, 0 of none."""
    return float(values.max(initial=0.0))
