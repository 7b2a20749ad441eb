"""What the machine does with codes of few bits: threshold requantisers, uniform quantisers, integer sums."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsim.operators.codes import CodeFormat, signed_bits
from accelsim.operators.geometry import ConvolutionGeometry
from accelsim.operators.uniform import Quantiser

UNREACHED = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, eq=False)
class Threshold:
    """Accumulator to a code of few bits by comparison: y = first[n] + step[n] * #{t in thresholds[n]: t <= A}."""

    thresholds: NDArray[np.int64]
    """int64[N, L], ascending; a row that has fewer ends in UNREACHED."""
    first: NDArray[np.int32]
    step: NDArray[np.int32]
    """first and step: int32[N]."""
    output: CodeFormat

    @property
    def bits(self) -> int:
        """Smallest two's complement width that holds every threshold."""
        used = self.thresholds[self.thresholds != UNREACHED]
        return signed_bits(int(used.min(initial=0)), int(used.max(initial=0)))

    @property
    def comparisons(self) -> int:
        """Comparisons per accumulator: a binary search through the thresholds of its row."""
        return int(self.thresholds.shape[1]).bit_length()


@dataclass(frozen=True, eq=False)
class QuantiseUniform:
    """A QONNX quantiser of float32."""

    quantiser: Quantiser
    output: CodeFormat


@dataclass(frozen=True, eq=False)
class SumCodes:
    """One activation, or two of one scale added as integers (codes minus zero points), then thresholds.

    axis: the one along which the rows of the thresholds differ.
    """

    first: CodeFormat
    second: CodeFormat | None
    axis: int
    epilogue: Threshold

    @property
    def output(self) -> CodeFormat:
        """The format of the codes written."""
        return self.epilogue.output


@dataclass(frozen=True, eq=False)
class SumPool:
    """Windows of [B, C, H, W] or [B, C, W] added up as integers, codes minus zero point; thresholds by channel."""

    geometry: ConvolutionGeometry
    input: CodeFormat
    epilogue: Threshold

    @property
    def output(self) -> CodeFormat:
        """The format of the codes written."""
        return self.epilogue.output


@dataclass(frozen=True, eq=False)
class DequantiseUniform:
    """Codes back to float32: fl32(scale * (code - zero point)); both broadcast to the codes."""

    scale: NDArray[np.float32]
    zero_point: NDArray[np.float32]
