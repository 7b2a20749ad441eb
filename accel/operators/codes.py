"""The format of a code: what the operators of the machine say about the integers they read and write."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CodeFormat:
    """A code: its dtype and zero point; limits, where it does not use the whole dtype; bits, where it is narrower."""

    dtype: np.dtype[np.generic]
    zero_point: int
    limits: tuple[int, int] | None = None
    bits: int | None = None

    @property
    def lowest(self) -> int:
        """Smallest code."""
        return int(np.iinfo(self.dtype.name).min) if self.limits is None else self.limits[0]

    @property
    def highest(self) -> int:
        """Largest code."""
        return int(np.iinfo(self.dtype.name).max) if self.limits is None else self.limits[1]

    @property
    def packed_bits(self) -> int | None:
        """Bits of a code in memory where that is less than its dtype takes, else None."""
        return None if self.width >= 8 * self.dtype.itemsize else self.width

    @property
    def width(self) -> int:
        """Bits of a code."""
        return 8 * self.dtype.itemsize if self.bits is None else self.bits


def code_bits(dtype: np.dtype[np.generic], lowest: int, highest: int) -> int | None:
    """Return the width of codes within limits, None where they need all bits of their dtype.

    Args:
        dtype: of the codes; signed ones are counted in two's complement.
        lowest: smallest code.
        highest: largest code.
    """
    bits = max(highest.bit_length(), 1) if dtype.kind == "u" else signed_bits(lowest, highest)
    return bits if bits < 8 * dtype.itemsize else None


def signed_bits(lowest: int, highest: int) -> int:
    """Return the smallest two's complement width that holds two values and all between them.

    Args:
        lowest: the smaller one.
        highest: the larger one.
    """
    return max(max(highest, 0).bit_length(), max(~lowest, 0).bit_length()) + 1


def code_type(lowest: int, highest: int) -> np.dtype[np.generic] | None:
    """Return the narrowest type of 8 or 16 bits that holds all codes within limits, None where none does."""
    for name in ("uint8", "int8", "uint16", "int16"):
        if np.iinfo(name).min <= lowest and highest <= np.iinfo(name).max:
            return np.dtype(name)
    return None


@dataclass(frozen=True)
class FloatOperand:
    """An operand of a float32 operation: quantised (format and scale), or float as it is (no format)."""

    code: CodeFormat | None
    scale: np.float32
