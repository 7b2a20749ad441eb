"""What the machine can be told to compute: one frozen dataclass per operator, constants included.

An operator says nothing about where its operands lie or when it runs. Scales are float32 and already combined
the way onnxruntime combines them, so that the datapath only multiplies, rounds and clamps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from accelsim.operators.codes import CodeFormat as CodeFormat
from accelsim.operators.codes import FloatOperand as FloatOperand
from accelsim.operators.epilogues import Quantise as Quantise
from accelsim.operators.epilogues import Raw as Raw
from accelsim.operators.epilogues import Requantise as Requantise
from accelsim.operators.epilogues import Rescale as Rescale
from accelsim.operators.geometry import ConvolutionGeometry, DepthWindow
from accelsim.operators.parts import FloatProduct as FloatProduct
from accelsim.operators.parts import Part as Part
from accelsim.operators.parts import ProductPart as ProductPart
from accelsim.operators.parts import VectorPart as VectorPart
from accelsim.operators.tensors import TensorType
from accelsim.operators.thresholds import DequantiseUniform, QuantiseUniform, SumCodes, SumPool, Threshold
from accelsim.operators.vector import VectorOperator

IntArray = NDArray[np.generic]
FloatArray = NDArray[np.float32]
Shape = tuple[int, ...]
SoftmaxArithmetic = Literal["float32-low-byte", "float32", "float64"]


Epilogue = Requantise | Rescale | Raw | Threshold


@dataclass(frozen=True, eq=False)
class Weights:
    """Constant stationary operand, zero points already subtracted (exact, 9 bits at most).

    values: int16[N, K] (int32 for 16-bit weights) in the flattened ONNX order (cin, kh, kw); bias: int32[N] (zeros when
    the model has none); bits: width of a code in memory; zero_points: int32[1] or int32[N], of codes taken as signed
    (an unsigned code and its zero point both lowered by half their range), so that values + zero_points are the codes.
    """

    values: NDArray[np.int16] | NDArray[np.int32]
    bias: NDArray[np.int32]
    bits: int = 8
    zero_points: NDArray[np.int32] = field(default_factory=lambda: np.zeros(1, np.int32))

    @cached_property
    def wide(self) -> bool:
        """Whether some value needs one bit more than a code."""
        limit = 1 << (self.bits - 1)
        return bool(self.values.size and (self.values.min() < -limit or self.values.max() >= limit))


@dataclass(frozen=True)
class RuntimeParameters:
    """Quantisation that is known at run time only: positions of the inputs that hold it, None where it is constant.

    zero_point, second_zero_point: of the two operands; scale, second_scale: float32 scalars that multiply the scales of
    a Rescale, as dynamic quantisation computes them.
    """

    zero_point: int | None = None
    second_zero_point: int | None = None
    scale: int | None = None
    second_scale: int | None = None


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
    """QLinearSoftmax along one axis (`rows_from` flattens from the axis, as before opset 13).

    exponentials: float32[256], the table of exp(); inverse_scale: floor(1 / s_y); arithmetic: of the quotients, which
    versions of onnxruntime compute in three ways (accelsim.reference.probes).
    """

    exponentials: FloatArray
    inverse_scale: np.float32
    arithmetic: SoftmaxArithmetic
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


# What the tables of clamps are called: of a Relu or Clip of dequantised codes, and of a Clip of the codes themselves,
# which says that they have fewer bits than their type.
CLAMP, CLIP_CODES = "clamp", "clip_codes"


@dataclass(frozen=True, eq=False)
class TableLookup:
    """A unary function of codes as a table of all output codes; the index is the code's bits read as unsigned."""

    function: str
    table: IntArray


@dataclass(frozen=True, eq=False)
class Concatenate:
    """Join along an axis; each input may pass through a table of 256 codes that changes its scale."""

    axis: int
    tables: tuple[IntArray | None, ...]


@dataclass(frozen=True)
class Dequantise:
    """DequantizeLinear to float32 with one scale."""

    scale: np.float32
    input: CodeFormat


@dataclass(frozen=True)
class DynamicQuantise:
    """DynamicQuantizeLinear: uint8 codes, their scale and their zero point from the extremes of a float32 tensor."""


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


@dataclass(frozen=True, eq=False)
class HostOperator:
    """A node outside the integer machine, executed alone by onnxruntime.

    model: the serialised one-node model; onnxruntime is opened with all optimisations off and one thread.
    kind: the ONNX operator, for prices and reports; inputs/outputs: tensor names inside that model; constants: types of
    the initialisers, which have to be read as well; product: set where the machine's array is priced for it; macs:
    multiply-accumulates that it does, None where nobody has counted them; part: set where the node is priced in parts,
    of which this layer is the last one; priced_inputs: how many inputs of the layer, its first ones, that part reads:
    they exist for the price only, and are followed by those that onnxruntime is given; steps: what one code is worth in
    the floats that it gives, where it dequantises codes with constant scales, broadcast against them.
    """

    kind: str
    model: bytes = field(repr=False)
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: tuple[TensorType, ...] = ()
    product: FloatProduct | None = None
    macs: int | None = 0
    part: Part | None = None
    priced_inputs: int = 0
    steps: NDArray[np.float32] | None = field(default=None, repr=False)


Contraction = Convolution | MatrixMultiply
Movement = View | Transpose | Slice | Split | Gather | Pad
Operator = (
    Contraction
    | ElementwiseAdd
    | ElementwiseMultiply
    | FloatBinary
    | AveragePool
    | GlobalAveragePool
    | MaxPool
    | Softmax
    | TableLookup
    | Concatenate
    | Quantise
    | DynamicQuantise
    | Dequantise
    | QuantiseUniform
    | DequantiseUniform
    | SumCodes
    | SumPool
    | Movement
    | VectorOperator
    | Part
    | HostOperator
)
