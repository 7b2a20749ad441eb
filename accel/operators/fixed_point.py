"""The requantiser without float (requant_mode q31): int32 multipliers with a rounding shift, as gemmlowp and TFLite.

A machine with this requantiser executes its own operators, which stand here: each is the float one with its multiplier
taken apart once, ahead of time. What they compute is section 2 of the timing contract; the steps are those of TFLite's
reference kernels (Conv, FullyConnected, Add, Mul, Mean), so that a network behaves as it would there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelsim import operators as ops

# Bits below the point while two codes of 8 bits are added (TFLite, Add: left_shift).
ADDITION_HEADROOM = 20

_LARGEST_SHIFT = 31


@dataclass(frozen=True, eq=False)
class FixedMultiplier:
    """Multipliers mantissa / 2^31 * 2^shift."""

    mantissa: NDArray[np.int32]
    """int32, of magnitude 2^30 to 2^31 - 1, or 0."""
    shift: NDArray[np.int32]
    """int32, -31 to 31; both of the same size."""

    def rows(self, count: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return mantissa and shift once per row."""
        first, second = (np.broadcast_to(part, (count,)) for part in (self.mantissa, self.shift))
        return np.ascontiguousarray(first), np.ascontiguousarray(second)


def fixed_multiplier(values: ArrayLike) -> FixedMultiplier:
    """Take multipliers apart as TFLite's QuantizeMultiplier does: frexp, then 31 bits rounded half away from zero.

    Every float32 is represented exactly. Below 2^-32 the result is multiplier 0, because no int32 times it reaches one
    half; from 2^31 on it is the largest multiplier, with which any int32 but 0 leaves every code.

    Args:
        values: float32 or float64, any number of them, infinity included.
    """
    reals = np.atleast_1d(np.asarray(values, np.float64)).reshape(-1)
    reals = np.where(np.isnan(reals), 0.0, reals)  # 0 times infinity, from scales that vanish: nothing to scale
    fraction, exponent = np.frexp(reals)
    with np.errstate(invalid="ignore"):  # infinity is dealt with below
        mantissa = np.copysign(np.floor(np.abs(fraction) * 2.0**31 + 0.5), fraction)
    full = np.abs(mantissa) == 2.0**31
    mantissa, exponent = np.where(full, mantissa / 2, mantissa), np.where(full, exponent + 1, exponent)
    large = np.isinf(reals) | (exponent > _LARGEST_SHIFT)
    small = ~large & (exponent < -_LARGEST_SHIFT)
    mantissa = np.where(large, np.copysign(2.0**31 - 1, reals), np.where(small, 0.0, mantissa))
    exponent = np.where(large, _LARGEST_SHIFT, np.where(small, 0, exponent))
    return FixedMultiplier(mantissa.astype(np.int32), exponent.astype(np.int32))


@dataclass(frozen=True, eq=False)
class FixedRequantise(ops.Requantise):
    """Accumulator to code in integers: y = clamp(scale_fixed(A) + zero point)."""

    fixed: FixedMultiplier = field(kw_only=True)


@dataclass(frozen=True)
class FixedAdd(ops.ElementwiseAdd):
    """Addition of codes in integers; `fixed` scales the first operand, the second one, and their sum."""

    fixed: FixedMultiplier = field(kw_only=True)


@dataclass(frozen=True)
class FixedMultiply(ops.ElementwiseMultiply):
    """Product of codes in integers."""

    fixed: FixedMultiplier = field(kw_only=True)


@dataclass(frozen=True)
class FixedGlobalAveragePool(ops.GlobalAveragePool):
    """Sum of codes over an image, scaled in integers; the multiplier contains the division by their number."""

    fixed: FixedMultiplier = field(kw_only=True)


FIXED = (FixedAdd, FixedMultiply, FixedGlobalAveragePool)


def machine_operator(operator: ops.Operator, requant_mode: str) -> ops.Operator:
    """Return an operator as a machine with this requantiser executes it; the same object where nothing changes.

    Args:
        operator: an operator of the graph.
        requant_mode: "f32" or "q31".
    """
    if requant_mode != "q31":
        return operator
    epilogue = getattr(operator, "epilogue", None)
    if isinstance(epilogue, ops.Requantise):
        scaled = FixedRequantise(**_parts(epilogue), fixed=fixed_multiplier(epilogue.multiplier))
        return replace(operator, epilogue=scaled)  # type: ignore[arg-type]
    if isinstance(operator, ops.ElementwiseAdd):
        return FixedAdd(**_parts(operator), fixed=fixed_multiplier(_addition(operator)))
    if isinstance(operator, ops.ElementwiseMultiply):
        return FixedMultiply(**_parts(operator), fixed=fixed_multiplier(operator.ratio))
    if isinstance(operator, ops.GlobalAveragePool):
        return FixedGlobalAveragePool(**_parts(operator), fixed=fixed_multiplier(operator.multiplier))
    return operator


def float_twin(operator: ops.Operator) -> ops.Operator:
    """Return the operator that scales in float32 as the reference does; the inverse of `machine_operator`."""
    epilogue = getattr(operator, "epilogue", None)
    if isinstance(epilogue, FixedRequantise):
        return replace(operator, epilogue=_plain(epilogue, ops.Requantise))
    for kind in FIXED:
        if isinstance(operator, kind):
            twin: ops.Operator = _plain(operator, kind.__bases__[0])
            return twin
    return operator


def _plain(instance: Any, kind: type[Any]) -> Any:
    """Return an instance of a base class with the fields that it has."""
    return kind(**{part.name: getattr(instance, part.name) for part in fields(kind)})


def _parts(instance: Any) -> dict[str, Any]:
    """Return the fields of a dataclass by name."""
    return {part.name: getattr(instance, part.name) for part in fields(instance)}


def _addition(operator: ops.ElementwiseAdd) -> list[float]:
    """Return the three multipliers of an addition (TFLite, Add): operands relative to twice the larger scale."""
    first, second = float(operator.ratio_first), float(operator.ratio_second)
    whole = 2 * max(first, second)
    if not 0 < whole < float("inf"):  # both ratios vanish, or one is infinite
        return [first, second, 1.0]
    return [first / whole, second / whole, whole / 2.0**ADDITION_HEADROOM]


def is_fixed(operator: ops.Operator) -> bool:
    """Tell whether an operator scales its results in integers."""
    return isinstance(operator, FIXED) or isinstance(getattr(operator, "epilogue", None), FixedRequantise)


def scaling(operator: ops.Operator, events: Sequence[tuple[str, int]]) -> str | None:
    """Say in which arithmetic a layer scales its results: "q31", "f32", or None where nothing is scaled.

    Args:
        operator: the layer's operator.
        events: its arithmetic on the vector unit, by name.
    """
    if is_fixed(operator):
        return "q31"
    scaled = isinstance(getattr(operator, "epilogue", None), ops.Requantise | ops.Rescale)
    floats = any(name.startswith("fp") or name == "requantisation" for name, _ in events)
    return "f32" if scaled or floats else None
