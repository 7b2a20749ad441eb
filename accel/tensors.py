"""The type of a tensor: what every stage between loading and reporting agrees on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike


@dataclass(frozen=True)
class TensorType:
    """Element type and static shape of a tensor."""

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, dtype: DTypeLike, shape: Sequence[int]) -> TensorType:
        """Build a type from anything numpy accepts as a dtype and any sequence of dimensions."""
        return cls(np.dtype(dtype), tuple(int(dimension) for dimension in shape))

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Size in bytes, unpacked."""
        return self.elements * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype.name}[{', '.join(map(str, self.shape))}]"
