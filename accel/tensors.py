"""The type of a tensor: what every stage between loading and reporting agrees on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from accelsim.packed import BITS


@dataclass(frozen=True)
class TensorType:
    """Element type and static shape of a tensor; bits: width of an element in memory where it is less than a byte."""

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    bits: int | None = None

    @classmethod
    def of(cls, dtype: DTypeLike, shape: Sequence[int]) -> TensorType:
        """Build a type from anything numpy accepts as a dtype and any sequence of dimensions."""
        return cls(np.dtype(dtype), tuple(int(dimension) for dimension in shape))

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def element_bits(self) -> int:
        """Width of an element in memory."""
        return self.bits or BITS.get(self.dtype.name) or 8 * self.dtype.itemsize

    @property
    def size_bytes(self) -> int:
        """Size in memory in bytes, elements of less than a byte packed."""
        return -(-self.elements * self.element_bits // 8)

    def __str__(self) -> str:
        name = self.dtype.name if self.bits is None else f"{self.dtype.name.rstrip('0123456789')}{self.bits}"
        return f"{name}[{', '.join(map(str, self.shape))}]"
