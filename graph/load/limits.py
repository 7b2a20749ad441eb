"""Limits that bound what a model file can make the simulator do; every one can be raised by the caller."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from accelsim.errors import ResourceLimitError, printable


@dataclass(frozen=True)
class Limits:
    """Budgets checked before anything is allocated."""

    file_bytes: int = 512 << 20
    nodes: int = 100_000
    tensor_elements: int = 1 << 28
    total_elements: int = 1 << 30
    rank: int = 8
    name_length: int = 4096

    def check_shape(self, name: str, shape: Sequence[int]) -> int:
        """Return the number of elements of a shape that is within the budget.

        Raises:
            ResourceLimitError: too many dimensions or elements.
        """
        if len(shape) > self.rank:
            raise ResourceLimitError(
                f"tensor '{printable(name)}' has {len(shape)} dimensions, the limit is {self.rank}: use a smaller rank"
            )
        elements = math.prod(shape)
        if elements > self.tensor_elements:
            dims = "x".join(map(str, shape))
            raise ResourceLimitError(
                f"tensor '{printable(name)}' of {dims} has {elements:,} elements, the limit is "
                f"{self.tensor_elements:,}: reduce the dimension"
            )
        return elements
