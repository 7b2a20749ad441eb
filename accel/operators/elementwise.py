"""Operators on codes, element by element, and pools."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from accelsim.operators.codes import CodeFormat, FloatOperand
from accelsim.operators.geometry import ConvolutionGeometry

IntArray = NDArray[np.generic]
FloatArray = NDArray[np.float32]
SoftmaxArithmetic = Literal["float32-low-byte", "float32", "float64"]

# What the tables of clamps are called: of a Relu or Clip of dequantised codes, and of a Clip of the codes themselves,
# which says that they have fewer bits than their type.
CLAMP, CLIP_CODES = "clamp", "clip_codes"


@dataclass(frozen=True)
class ElementwiseAdd:
    """QLinearAdd: y = clamp(rint(fma(a, ratio_a, fma(b, ratio_b, offset)))), zero points inside the offset.

    ratio_a, ratio_b: fl32(s_a / s_y), fl32(s_b / s_y). `swap` exchanges the operands first, which is what onnxruntime
    does when the first one is the scalar of the innermost broadcast span (visible only in the last bit).
    """

    first: CodeFormat
    second: CodeFormat
    ratio_first: np.float32
    ratio_second: np.float32
    swap: bool
    output: CodeFormat


@dataclass(frozen=True)
class ElementwiseMultiply:
    """QLinearMul: y = clamp(rint(f32(f32(p) * ratio) + z_y)) with the exact product p of the shifted codes."""

    first: CodeFormat
    second: CodeFormat
    ratio: np.float32
    output: CodeFormat


@dataclass(frozen=True)
class AveragePool:
    """QLinearAveragePool: sequential float32 sum of dequantised codes, divided, then quantised."""

    geometry: ConvolutionGeometry
    input: CodeFormat
    input_scale: np.float32
    output_scale: np.float32
    output: CodeFormat
    count_include_pad: bool
    ceil_mode: bool


@dataclass(frozen=True)
class GlobalAveragePool:
    """QLinearGlobalAveragePool: integer sum minus N * z_x, one multiplier, requantised."""

    input: CodeFormat
    multiplier: np.float32
    output: CodeFormat


@dataclass(frozen=True)
class MaxPool:
    """Maximum of codes; padding holds the lowest code."""

    geometry: ConvolutionGeometry
    ceil_mode: bool


@dataclass(frozen=True, eq=False)
class Softmax:
    """QLinearSoftmax along one axis (`rows_from` flattens from the axis, as before opset 13)."""

    exponentials: FloatArray
    """float32[256], the table of exp()."""
    inverse_scale: np.float32
    """The largest whole number that is at most 1 / s_y."""
    arithmetic: SoftmaxArithmetic
    """Of the quotients, which versions of onnxruntime compute in three ways (accelsim.reference.probes)."""
    axis: int
    flatten: bool
    output: CodeFormat


@dataclass(frozen=True)
class FloatBinary:
    """Two operands dequantised, one float32 operation (Add, Sub, Mul, Div, Max, Min), quantised.

    ONNX Runtime semantics, section 3.9.
    """

    function: str
    first: FloatOperand
    second: FloatOperand
    output_scale: np.float32
    output: CodeFormat


@dataclass(frozen=True, eq=False)
class TableLookup:
    """A unary function of codes as a table of all output codes; the index is the code's bits read as unsigned."""

    function: str
    table: IntArray


@dataclass(frozen=True)
class Dequantise:
    """DequantizeLinear to float32 with one scale."""

    scale: np.float32
    input: CodeFormat


@dataclass(frozen=True)
class DynamicQuantise:
    """DynamicQuantizeLinear: uint8 codes, their scale and their zero point from the extremes of a float32 tensor."""
