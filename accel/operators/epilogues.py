"""What happens to an accumulator on its way out of the array."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsim.operators.codes import CodeFormat

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Requantise:
    """Accumulator to code: y = round_half_even(clamp(f32(A) * multiplier)) + zero point (contract, section 2)."""

    multiplier: FloatArray
    """float32[1] or float32[N], fl32(fl32(s_x * s_w[n]) / s_y)."""
    output: CodeFormat
    lowest: int | None = None
    highest: int | None = None
    """lowest and highest: bounds of the code where a clip is narrower than the code's own range."""

    @property
    def bounds(self) -> tuple[int, int]:
        """Smallest and largest code that leaves the requantiser."""
        code = self.output
        return (
            code.lowest if self.lowest is None else self.lowest,
            code.highest if self.highest is None else self.highest,
        )


@dataclass(frozen=True)
class Quantise:
    """QuantizeLinear of float32 with one scale."""

    scale: np.float32
    output: CodeFormat


@dataclass(frozen=True, eq=False)
class Rescale:
    """Accumulator to float: y = f32(f32(A) * scale) [+ bias], two roundings, no fused multiply-add."""

    scale: FloatArray
    """float32[1] or float32[N]."""
    bias: FloatArray | None = None
    """float32[N] or None."""
    bounds: tuple[float, float] | None = None
    """A clip behind them, in real numbers."""
    half: bool = False
    """The result leaves as float16."""
    quantise: Quantise | None = None
    """It leaves as codes."""

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of what leaves."""
        if self.quantise is not None:
            return self.quantise.output.dtype
        return np.dtype(np.float16 if self.half else np.float32)


@dataclass(frozen=True)
class Raw:
    """The accumulator itself, as int32."""
