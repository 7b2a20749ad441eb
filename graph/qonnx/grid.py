"""Tensors of a QONNX graph that lie on a grid of integers, and when float sums of them are exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsim.graph.quantised.tensor import NotOnTheMachineError
from accelsim.operators import CodeFormat
from accelsim.operators.uniform import Decoding, Quantiser

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

_EXACT = 1 << 24  # float32 holds every integer up to here
_SMALLEST, _LARGEST = 2.0**-126, 2.0**127


@dataclass(frozen=True, eq=False)
class ConstantGrid:
    """A constant tensor scale * level: levels (code minus zero point), scales and zero points, all of its shape.

    Zero points are those of codes taken as signed: unsigned codes are lowered by half of their range.
    """

    levels: NDArray[np.int32]
    scales: Floats
    zero_points: NDArray[np.int32]
    bits: int

    @classmethod
    def of(cls, quantiser: Quantiser, values: NDArray[np.generic]) -> ConstantGrid:
        """Quantise a constant.

        Raises:
            NotOnTheMachineError: its zero point is no integer, or its levels need more than 16 bits.
        """
        if not (quantiser.zero == np.rint(quantiser.zero)).all():
            raise NotOnTheMachineError("a zero point that is no integer")
        levels = quantiser.codes(values).astype(np.int64) - quantiser.zero.astype(np.int64)
        if np.abs(levels).max(initial=0) >= 1 << 31:
            raise NotOnTheMachineError("codes beyond 32 bits")
        half = 1 << (quantiser.bits - 1) if quantiser.lowest is not None and quantiser.lowest >= 0 else 0
        scales, zeros = (np.broadcast_to(part, levels.shape) for part in (quantiser.step, quantiser.zero))
        return cls(levels.astype(np.int32), scales, (zeros.astype(np.int64) - half).astype(np.int32), quantiser.bits)

    def moved(self, move: Callable[[NDArray[np.generic]], NDArray[np.generic]]) -> ConstantGrid:
        """Apply a data movement to levels, scales and zero points alike."""
        levels, scales, zeros = (move(part) for part in (self.levels, self.scales, self.zero_points))
        return ConstantGrid(levels.astype(np.int32), scales.astype(np.float32), zeros.astype(np.int32), self.bits)

    def rows(self) -> tuple[NDArray[np.int32], Floats, NDArray[np.int32]]:
        """Return levels [N, K], one scale and one zero point per row; the first axis is that of the rows.

        Raises:
            NotOnTheMachineError: scales differ inside of a row, or levels need more than 16 bits.
        """
        levels = self.levels.reshape(self.levels.shape[0], -1)
        scales, zeros = (part.reshape(levels.shape) for part in (self.scales, self.zero_points))
        if levels.size == 0 or (scales != scales[:, :1]).any() or (zeros != zeros[:, :1]).any():
            raise NotOnTheMachineError("scales or zero points that differ inside of an output channel")
        if np.abs(levels).max() >= 1 << 15:
            raise NotOnTheMachineError("weights of more than 16 bits")
        zero_points = zeros[:, 0] if (zeros != zeros[0, 0]).any() else zeros[:1, 0]
        return levels, np.ascontiguousarray(scales[:, 0]), np.ascontiguousarray(zero_points)


@dataclass(frozen=True, eq=False)
class Codes:
    """An activation on a grid: its tensor of codes, their bounds and width, and the floats that they stand for."""

    name: str
    decoding: Decoding
    limits: tuple[int, int]
    bits: int

    @property
    def whole_tensor(self) -> bool:
        """Tell whether one scale and one zero point hold for all elements."""
        return self.decoding.scale.size == 1 and self.decoding.zero_point.size == 1

    @property
    def packed_bits(self) -> int | None:
        """Bits of a code in memory where that is less than its dtype takes, else None."""
        return CodeFormat(self.decoding.dtype, 0, self.limits, self.bits).packed_bits

    @property
    def code(self) -> CodeFormat:
        """The format of the codes, as operand of the array.

        Raises:
            NotOnTheMachineError: there are several zero points, or one that no code has.
        """
        zero_point = self.decoding.zero_point
        value = float(zero_point.reshape(-1)[0])
        if (zero_point != value).any() or value != int(value) or not self.limits[0] <= value <= self.limits[1]:
            raise NotOnTheMachineError("zero points that are not one code")
        return CodeFormat(self.decoding.dtype, int(value), self.limits, self.bits)

    @property
    def levels(self) -> tuple[int, int]:
        """Smallest and largest code minus zero point, 0 included, since padding feeds it."""
        zero_point = self.code.zero_point
        return min(self.limits[0] - zero_point, 0), max(self.limits[1] - zero_point, 0)


@dataclass(frozen=True, eq=False)
class Sums:
    """Integer sums that stand for floats: A * unit[n], unit float64 (exact products of scales), and their bounds."""

    unit: NDArray[np.float64]
    lowest: Integers
    highest: Integers
    exact: bool

    def values(self, sums: Integers) -> Floats:
        """Return the float32 values of sums int64[points, channels]."""
        return (sums.astype(np.float64) * self.unit).astype(np.float32)


def weighted_sums(levels: NDArray[np.int32], scales: Floats, source: Codes, source_scale: Floats) -> Sums:
    """Return what weights and an activation add up to.

    Args:
        levels: weights int32[N, K].
        scales: their scales, float32[N].
        source: the activation.
        source_scale: its scale, one or one per output channel.
    """
    low, high = source.levels
    positive = np.maximum(levels, 0).sum(axis=1, dtype=np.int64)
    negative = np.minimum(levels, 0).sum(axis=1, dtype=np.int64)
    unit = np.broadcast_to(source_scale.astype(np.float64) * scales.astype(np.float64), (levels.shape[0],))
    reach = (positive - negative) * max(-low, high)
    exact = sums_are_exact(reach, (np.broadcast_to(source_scale, unit.shape), scales), unit)
    return Sums(unit, positive * low + negative * high, positive * high + negative * low, exact)


def sums_are_exact(reach: Integers, factors: tuple[Floats, ...], unit: NDArray[np.float64]) -> bool:
    """Tell whether float32 sums of products come out exact in any order, fused or not.

    Every partial sum is a multiple of the product of the factors' lowest set bits; it is exact when the multiple stays
    within 2^24 and neither underflows nor overflows.

    Args:
        reach: largest magnitude of a partial sum, in units, per channel.
        factors: the scales whose product is the unit, per channel.
        unit: that product.
    """
    span = reach.astype(np.float64)
    for factor in factors:
        span = span * odd_part(factor)
    tiny = unit.min(initial=1.0) / 2.0**48 < _SMALLEST
    return bool((span <= _EXACT).all() and not tiny and (unit * (reach + 1)).max(initial=0) < _LARGEST)


def odd_part(values: Floats) -> NDArray[np.float64]:
    """Return the odd integer m of each positive float32 value = m * 2^e: 1 for powers of two."""
    mantissa, _ = np.frexp(values.astype(np.float64))
    digits = (mantissa * 2**24).astype(np.int64)
    return (digits // (digits & -digits)).astype(np.float64)
