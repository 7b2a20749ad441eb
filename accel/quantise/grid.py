"""The grid of a quantiser: x = s (q - z), codes q of b bits; ranges to grids, values to codes and back.

Sources: R. Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference: A whitepaper" (2018),
section 2; A. Gholami et al., "A Survey of Quantization Methods for Efficient Neural Network Inference" (2021), section
III (full and restricted ranges of symmetric grids).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Codes = NDArray[np.int64]

_LARGEST = 0.99 * float(np.finfo(np.float32).max)  # the lowest code of a full grid lies beyond -a, and is to be finite


@dataclass(frozen=True)
class CodeSpec:
    """Which codes there are: bits; signed or unsigned; symmetric or affine; without the lowest code if narrow."""

    bits: int
    signed: bool
    symmetric: bool
    narrow: bool

    @property
    def lowest(self) -> int:
        """Lowest code in use."""
        return (-(1 << (self.bits - 1)) if self.signed else 0) + self.narrow

    @property
    def highest(self) -> int:
        """Highest code."""
        return (1 << (self.bits - self.signed)) - 1

    @property
    def levels(self) -> int:
        """Steps between the lowest and the highest code in use."""
        return self.highest - self.lowest

    @property
    def middle(self) -> int:
        """Zero point of a symmetric grid: 0, or the middle of unsigned codes."""
        return 0 if self.signed else 1 << (self.bits - 1)


@dataclass(frozen=True, eq=False)
class Grid:
    """Scales and zero points of a tensor, and the codes between which they saturate.

    scales: float32, and zero_points: int64, of one shape: () for a tensor, (channels,) along `axis`, or the tensor's
        own shape with `axis` divided by `block`.
    """

    spec: CodeSpec
    scales: Floats
    zero_points: Codes
    axis: int | None = None
    block: int = 0

    def bounds(self) -> tuple[Floats, Floats]:
        """Return the lowest and highest real value that a code stands for, per scale."""
        low = (np.float32(self.spec.lowest) - self.zero_points).astype(np.float32) * self.scales
        high = (np.float32(self.spec.highest) - self.zero_points).astype(np.float32) * self.scales
        return low, high

    def spread(self, shape: tuple[int, ...]) -> tuple[Floats, Codes]:
        """Return scales and zero points, broadcast to a tensor's shape.

        Args:
            shape: of the tensor.
        """
        if self.axis is None:
            return self.scales, self.zero_points
        if self.block:
            cut = tuple(slice(0, size) for size in shape)
            scales, zero_points = (
                np.repeat(self.scales, self.block, self.axis),
                np.repeat(self.zero_points, self.block, self.axis),
            )
            return scales[cut], zero_points[cut]
        around = [1] * len(shape)
        around[self.axis] = -1
        return self.scales.reshape(around), self.zero_points.reshape(around)

    def stored_bits(self, values: int, code_bits: int | None = None) -> int:
        """Return the bits of codes, scales (32 each), and zero points that are not implied by a symmetric mapping.

        Args:
            values: elements of the tensor.
            code_bits: of a code as it is stored, None for no more than it has.
        """
        bits = code_bits or self.spec.bits
        zero_points = 0 if self.spec.symmetric else self.zero_points.size
        return (values + zero_points) * bits + 32 * self.scales.size

    def effective_bits(self, values: int, code_bits: int | None = None) -> float:
        """Return the stored bits per value of a tensor with this grid; arguments as for `stored_bits`."""
        return self.stored_bits(values, code_bits) / max(values, 1)


def fit(low: NDArray[np.floating], high: NDArray[np.floating], spec: CodeSpec) -> tuple[Floats, Codes]:
    """Return scales and zero points whose codes span ranges.

    affine: s = (high - low) / levels, z = round(lowest - low / s), with 0 taken into the range, so that it has a code.
    symmetric: the range is [-a, a]; s = 2 a / levels, z the middle. Narrow codes thus give a / 127 in int8, all codes
    a / 127.5. A range of nothing but 0 gets the largest scale of its neighbours, or 1.

    Args:
        low: lower ends, any shape.
        high: upper ends, of the same shape.
        spec: the codes.
    """
    low, high = np.clip(low, -_LARGEST, 0).astype(np.float64), np.clip(high, 0, _LARGEST).astype(np.float64)
    if spec.symmetric:
        high = np.maximum(-low, high)
        low = -high
    scales = ((high - low) / spec.levels).astype(np.float32)
    empty = scales < np.finfo(np.float32).tiny
    scales = np.where(empty, scales.max(initial=0.0) or 1.0, scales).astype(np.float32)
    scales = np.where(scales < np.finfo(np.float32).tiny, np.float32(1), scales)
    if spec.symmetric:
        return scales, np.full(scales.shape, spec.middle, np.int64)
    zero_points = np.rint(spec.lowest - low / np.where(empty, 1.0, (high - low) / spec.levels))
    return scales, np.clip(zero_points, spec.lowest, spec.highest).astype(np.int64)


def quantise(values: Floats, grid: Grid) -> Codes:
    """Return the codes of values: q = clip(round_half_even(x / s) + z), as QuantizeLinear defines it.

    Args:
        values: float32, any shape.
        grid: its grid.
    """
    scales, zero_points = grid.spread(values.shape)
    steps = np.rint(values / scales)
    low, high = grid.spec.lowest - zero_points, grid.spec.highest - zero_points
    codes: Codes = np.clip(steps, low, high).astype(np.int64) + zero_points
    return codes


def dequantise(codes: Codes, grid: Grid) -> Floats:
    """Return the values of codes: s (q - z).

    Args:
        codes: any shape.
        grid: their grid.
    """
    scales, zero_points = grid.spread(codes.shape)
    values: Floats = (codes - zero_points).astype(np.float32) * scales
    return values


def clipped(values: Floats, grid: Grid) -> NDArray[np.bool_]:
    """Tell which values lie outside of the grid: their nearest step has no code.

    Args:
        values: float32, any shape.
        grid: its grid.
    """
    scales, zero_points = grid.spread(values.shape)
    steps = np.rint(values / scales) + zero_points
    outside: NDArray[np.bool_] = (steps < grid.spec.lowest) | (steps > grid.spec.highest)
    return outside


def blocks(size: int, block: int) -> int:
    """Return how many blocks a dimension has."""
    return math.ceil(size / block)
