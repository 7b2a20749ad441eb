"""Convolutions and matrix products: what the array does."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from accelsim.operators.codes import CodeFormat
from accelsim.operators.epilogues import Raw, Requantise, Rescale
from accelsim.operators.geometry import ConvolutionGeometry, DepthWindow
from accelsim.operators.thresholds import Threshold

Shape = tuple[int, ...]
Epilogue = Requantise | Rescale | Raw | Threshold


@dataclass(frozen=True, eq=False)
class Weights:
    """Constant stationary operand, zero points already subtracted (exact, 9 bits at most)."""

    values: NDArray[np.int16] | NDArray[np.int32]
    """int16[N, K] (int32 for 16-bit weights) in the flattened ONNX order (cin, kh, kw)."""
    bias: NDArray[np.int32]
    """int32[N] (zeros when the model has none)."""
    bits: int = 8
    """Width of a code in memory."""
    zero_points: NDArray[np.int32] = field(default_factory=lambda: np.zeros(1, np.int32))
    """int32[1] or int32[N], of codes taken as signed (an unsigned code and its zero point both lowered by half their
    range), so that values + zero_points are the codes."""

    @cached_property
    def wide(self) -> bool:
        """Whether some value needs one bit more than a code."""
        limit = 1 << (self.bits - 1)
        return bool(self.values.size and (self.values.min() < -limit or self.values.max() >= limit))


@dataclass(frozen=True)
class RuntimeParameters:
    """Quantisation that is known at run time only: positions of the inputs that hold it, None where it is constant."""

    zero_point: int | None = None
    second_zero_point: int | None = None
    """zero_point and second_zero_point: of the two operands."""
    scale: int | None = None
    second_scale: int | None = None
    """scale and second_scale: float32 scalars that multiply the scales of a Rescale, as dynamic quantisation computes
    them."""


@dataclass(frozen=True, eq=False)
class Convolution:
    """Quantised convolution of code[B, C, H, W], [B, C, W] or [B, C, D, H, W] with bias-initialised accumulators.

    depth: window along D of a 3-D convolution, whose weights are flattened as (cin, kd, kh, kw).
    """

    geometry: ConvolutionGeometry
    groups: int
    weights: Weights
    input: CodeFormat
    epilogue: Epilogue
    depth: DepthWindow | None = None
    runtime: RuntimeParameters | None = None


@dataclass(frozen=True, eq=False)
class MatrixMultiply:
    """Quantised product code[..., M, K] x [..., K, N]; the second operand is constant (weights) or an input.

    weights: constant second operand, or None when it is the second input, which then has the format `second`. A vector
    as an operand is one row or one column, which the result lacks, as in numpy.
    """

    input: CodeFormat
    weights: Weights | None
    second: CodeFormat | None
    epilogue: Epilogue
    transpose_first: bool = False
    runtime: RuntimeParameters | None = None

    def matrices(self, first: Shape, second: Shape | None) -> tuple[Shape, Shape]:
        """Return the shapes [..., M, K] and [..., K, N] of the operands, vectors made matrices.

        Args:
            first: shape of the first input.
            second: shape of the second input; not read when the weights are constant.
        """
        left = first if len(first) > 1 else (1, *first)
        if self.transpose_first:
            left = (*left[:-2], left[-1], left[-2])
        if self.weights is not None:
            return left, (left[-1], self.weights.values.shape[0])
        right = second or ()
        return left, right if len(right) > 1 else (*right, 1)


Contraction = Convolution | MatrixMultiply
