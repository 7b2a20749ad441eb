"""Accumulators: their format, and what they went through."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsim.operators.codes import signed_bits


@dataclass(frozen=True)
class AccumulatorFormat:
    """Width, overflow behaviour and zero-point modes (of activations, of weights) of the accumulators."""

    bits: int = 32
    overflow: str = "wrap"
    zp_mode: str = "fold"
    weight_zero_point: str = "wide-operand"

    @property
    def lowest(self) -> int:
        """Smallest value."""
        return -(1 << (self.bits - 1))

    @property
    def highest(self) -> int:
        """Largest value."""
        return (1 << (self.bits - 1)) - 1


@dataclass(frozen=True)
class AccumulatorUse:
    """What the accumulators of a layer went through.

    lowest, highest: extremes of all exact partial sums, bias included, in the normative order.
    overflows: how often narrowing changed a value.
    """

    bits: int
    lowest: int
    highest: int
    overflows: int

    @property
    def peak(self) -> int:
        """Largest magnitude of an exact partial sum."""
        return max(-self.lowest, self.highest)

    @property
    def min_safe_bits(self) -> int:
        """Smallest two's complement width that holds every exact partial sum."""
        return signed_bits(self.lowest, self.highest)


@dataclass
class Tally:
    """Extremes and events of one layer, gathered over images and matrices."""

    extremes: NDArray[np.int64]
    overflows: int = 0

    @classmethod
    def empty(cls) -> Tally:
        """Start with no value seen."""
        bounds = np.iinfo(np.int64)
        return cls(np.array([bounds.max, bounds.min], np.int64))

    def inside(self, accumulator: AccumulatorFormat) -> bool:
        """Tell whether nothing seen so far leaves the accumulator."""
        return bool(self.extremes[0] >= accumulator.lowest and self.extremes[1] <= accumulator.highest)

    def add(self, use: AccumulatorUse) -> None:
        """Take in what another part of the layer went through."""
        self.extremes[:] = min(self.extremes[0], use.lowest), max(self.extremes[1], use.highest)
        self.overflows += use.overflows

    def use(self, accumulator: AccumulatorFormat) -> AccumulatorUse:
        """Freeze the tally."""
        return AccumulatorUse(accumulator.bits, int(self.extremes[0]), int(self.extremes[1]), self.overflows)
