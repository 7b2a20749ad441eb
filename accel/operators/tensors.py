"""Types of tensors and of their elements: what every stage between loading and reporting agrees on.

numpy has no types of 2 and 4 bits (ml_dtypes lends them); arrays of them hold one code per byte.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[np.generic]

# Bits of the types that are packed in memory.
BITS = {"int4": 4, "uint4": 4, "int2": 2, "uint2": 2}


def is_narrow(dtype: np.dtype[Any]) -> bool:
    """Tell whether codes of a type are packed in memory."""
    return dtype.name in BITS


def byte_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the 8-bit type that holds the codes of a narrow one."""
    return np.dtype(np.uint8 if dtype.name.startswith("u") else np.int8)


def bounds(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Return the lowest and the highest code of a narrow type."""
    bits = BITS[dtype.name]
    return (0, (1 << bits) - 1) if dtype.name.startswith("u") else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def widened(array: Array) -> Array:
    """Return codes of a narrow type as bytes, which any reader of a file knows; other arrays as they are."""
    return array.astype(byte_type(array.dtype)) if is_narrow(array.dtype) else array


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
