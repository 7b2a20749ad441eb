"""What it means that a float tensor holds codes times a scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class NotOnTheMachineError(Exception):
    """Raised by an importer that declines a node: it then runs as a host operator."""


@dataclass(frozen=True, eq=False)
class QuantisedTensor:
    """A float tensor that holds scale * (code - zero point)."""

    name: str
    """The tensor of codes."""
    scales: Floats
    """One, or one per index of the axis, or per block."""
    zero_points: NDArray[np.int64]
    """Likewise."""
    axis: int
    block: int = 0
    """Consecutive indices of the axis that share a scale, 0 without blocks."""
    exact: bool = True
    """The product is rounded once, to float32, as DequantizeLinear does."""
    late_scale: str | None = None
    late_zero_point: str | None = None
    """late_scale and late_zero_point: names of the tensors that hold them where they are known at run time only."""

    @property
    def scale(self) -> np.float32:
        """The scale of a whole tensor.

        Raises:
            NotOnTheMachineError: there are several.
        """
        if not self.is_whole:
            raise NotOnTheMachineError("an activation with several scales")
        return np.float32(self.scales[0])

    @property
    def is_whole(self) -> bool:
        """Whether one scale and one zero point, known before the run, belong to all codes."""
        late = self.late_scale is not None or self.late_zero_point is not None
        return self.scales.size == 1 and self.zero_points.size == 1 and not self.block and not late

    def same_grid(self, other: QuantisedTensor) -> bool:
        """Tell whether codes of both mean the same values."""
        return self.is_whole and other.is_whole and self.scale == other.scale and self.zero == other.zero

    @property
    def zero(self) -> int:
        """The zero point of a whole tensor."""
        return int(self.zero_points[0])
