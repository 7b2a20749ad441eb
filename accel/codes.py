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
