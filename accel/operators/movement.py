"""Operators that copy elements by fixed rules; those with tables of positions are in `vector`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.generic]


@dataclass(frozen=True, eq=False)
class Concatenate:
    """Join along an axis; each input may pass through a table of 256 codes that changes its scale."""

    axis: int
    tables: tuple[IntArray | None, ...]


@dataclass(frozen=True)
class View:
    """Reshape, Flatten, Squeeze, Unsqueeze, Identity: same bytes, other shape; nothing moves."""

    shape: tuple[int, ...]


@dataclass(frozen=True)
class Transpose:
    """Permutation of axes."""

    permutation: tuple[int, ...]


@dataclass(frozen=True)
class Slice:
    """Strided selection: one (start, stop, step) per axis, stop None meaning past the first element."""

    ranges: tuple[tuple[int, int | None, int], ...]


@dataclass(frozen=True)
class Split:
    """Cut along an axis into pieces of the given sizes."""

    axis: int
    sizes: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Gather:
    """Selection along an axis by constant indices."""

    axis: int
    indices: NDArray[np.int64]


@dataclass(frozen=True)
class Pad:
    """Constant padding, (before, after) per axis."""

    widths: tuple[tuple[int, int], ...]
    value: float | int


Movement = View | Transpose | Slice | Split | Gather | Pad
