"""Operators that rearrange elements, reduce them or compute in float32 between codes; part of `accelsim.operators`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsim.operators.codes import CodeFormat, FloatOperand

IntArray = NDArray[np.generic]
Positions = NDArray[np.int32] | NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rearrange:
    """Selection by constant positions per axis: nearest Resize, Tile, Expand, Pad with elements of the tensor."""

    view: tuple[int, ...]
    """Shape under which the input is read (leading ones for Expand)."""
    positions: tuple[NDArray[np.int32], ...]
    """Per axis, where each output index comes from; -1 is an element that takes the value `fill`."""
    fill: float | int = 0


@dataclass(frozen=True)
class Shuffle:
    """DepthToSpace and SpaceToDepth: cut axes into parts, permute the parts, join them to the output's shape."""

    parts: tuple[int, ...]
    permutation: tuple[int, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Pick:
    """GatherElements and GatherND by constant indices: positions[output shape] in the flattened input."""

    positions: Positions


@dataclass(frozen=True)
class IndexedRead:
    """Gather, GatherElements or GatherND by indices computed at run time (the second input)."""

    form: str
    """The ONNX operator."""
    axis: int
    """The axis of selection, for GatherND the number of batch dimensions."""


@dataclass(frozen=True, eq=False)
class Select:
    """Where: condition, then, else; a table for each side whose scale differs from the output's."""

    tables: tuple[IntArray | None, IntArray | None]


@dataclass(frozen=True)
class ReduceExtreme:
    """Largest ("max") or smallest ("min") code over axes; on codes of one scale."""

    function: str
    axes: tuple[int, ...]
    keep: bool


@dataclass(frozen=True)
class ArgExtreme:
    """Index (int64) of the largest ("max") or smallest ("min") element along an axis; first or last of equals."""

    function: str
    axis: int
    keep: bool
    last: bool


@dataclass(frozen=True)
class FloatReduce:
    """Sum or mean of dequantised codes in float32, in the order in which onnxruntime adds, then quantised."""

    function: str
    view: tuple[int, int, int]
    """The input as [1, reduced, kept] or [kept, reduced, 1]."""
    shape: tuple[int, ...]
    """Of the output. In the first form elements are added one after the other; in the second as Eigen does with vectors
    of four (see kernels/values/reductions.py)."""
    input: CodeFormat
    input_scale: np.float32
    output_scale: np.float32
    output: CodeFormat


@dataclass(frozen=True)
class FloatChain:
    """Max, Min or Sum of three and more operands: dequantised, combined from left to right in float32, quantised."""

    function: str
    operands: tuple[FloatOperand, ...]
    output_scale: np.float32
    output: CodeFormat


@dataclass(frozen=True)
class FloatArithmetic:
    """One IEEE 754 operation (Add, Sub, Mul, Div, Sqrt, Reciprocal, Neg, Abs) per element of float32 tensors."""

    function: str


@dataclass(frozen=True, eq=False)
class ChannelAffine:
    """BatchNormalization between codes: y = fl32(fl32(x * factor[c]) + offset[c]) on dequantised codes, quantised.

    factor, offset: float32[C] along axis 1.
    """

    factor: NDArray[np.float32]
    offset: NDArray[np.float32]
    input: CodeFormat
    input_scale: np.float32
    output_scale: np.float32
    output: CodeFormat


@dataclass(frozen=True, eq=False)
class AxisBlend:
    """Linear interpolation along one axis: two neighbours of each output index and their float32 weights."""

    first: NDArray[np.int32]
    second: NDArray[np.int32]
    first_weight: NDArray[np.float32]
    second_weight: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ResizeLinear:
    """Bilinear Resize between codes, float32 in onnxruntime's order; `channels_last` reads [B, H, W, C]."""

    rows: AxisBlend
    columns: AxisBlend
    channels_last: bool
    input: CodeFormat
    input_scale: np.float32
    output_scale: np.float32
    output: CodeFormat


Rearrangement = Rearrange | Shuffle | Pick | IndexedRead
Reduction = ReduceExtreme | ArgExtreme | FloatReduce
VectorOperator = Rearrangement | Select | Reduction | FloatChain | FloatArithmetic | ChannelAffine | ResizeLinear
