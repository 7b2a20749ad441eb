"""The work of an operator, independent of any machine: what must be multiplied, moved and looked up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from accelsim import operators as ops
from accelsim.operators.fixed_point import FixedRequantise
from accelsim.operators.geometry import ConvolutionGeometry
from accelsim.operators.tensors import TensorType
from accelsim.operators.thresholds import Threshold
from accelsim.program.stream_work import StreamWork, describe_stream, threshold_bytes

__all__ = ["ContractionWork", "ImageLayout", "StreamWork", "Work", "describe_work"]

Types = tuple[TensorType, ...]


@dataclass(frozen=True)
class ImageLayout:
    """How a convolution's input lies in memory: [images, channels, height, width], gathered by implicit im2col."""

    images: int
    height: int
    width: int
    out_height: int
    out_width: int
    geometry: ConvolutionGeometry

    @cached_property
    def needed_positions(self) -> int:
        """Positions of a plane that some window reads."""
        extents = (self.height, self.out_height), (self.width, self.out_width)
        return math.prod(len(np.unique(self.geometry.met(axis, *sizes))) for axis, sizes in enumerate(extents))


@dataclass(frozen=True)
class PackedBits:
    """Widths of activations that are narrower than a byte, packed in memory row by row; None where they are not."""

    first: int | None = None
    second: int | None = None
    output: int | None = None


@dataclass(frozen=True)
class ContractionWork:
    """One GEMM per group: M rows (pixels of all images), K, N; parameters are bias and multiplier per column."""

    m: int
    k: int
    n: int
    groups: int
    image: ImageLayout | None
    dynamic_second: bool
    output_bytes: int
    parameter_bytes: int
    input_bytes: int = 1
    """Bytes of an activation."""
    weight_bits: int = 8
    """Bits of a weight, packed in memory."""
    inserted_zero_macs: int = 0
    """Slots of the array in which a transposed convolution multiplies a zero inserted between pixels: they take time,
    but no energy, and do not count as multiply-accumulates."""
    folds_at_run_time: bool = False
    """The zero point of the activations is not known before the run, so that folding it takes one product and one
    addition per column, while the bias is loaded."""
    arithmetic: str = "integer"
    """One of "integer", or "float32"/"float16" for float activations, whose weights are dequantised on their way into
    the array."""
    row_sums: int = 0
    """Features beside the n of every block that sum up the activations (1 where raw weight codes are multiplied, see
    operators/zero_points.py)."""
    packed: PackedBits = PackedBits()
    """Activations whose width is not that of their type."""
    repeats: int = 1
    """How often all of this is done, one after the other (contract, section 5.9)."""
    second_by_column: bool = False
    """A computed second operand lies as [N, K] in memory, as the keys of a cache do."""

    @property
    def first_bits(self) -> int:
        """Width of an element of the first operand in memory."""
        return self.packed.first or 8 * self.input_bytes

    @property
    def second_bits(self) -> int:
        """Width of an element of a computed second operand in memory."""
        return self.packed.second or 8 * self.input_bytes

    @property
    def output_bits(self) -> int:
        """Width of an output element in memory."""
        return self.packed.output or 8 * self.output_bytes

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.m * self.k * self.n * self.groups * self.repeats - self.inserted_zero_macs


Work = ContractionWork | StreamWork


def describe_work(op: ops.Operator, inputs: Types, outputs: Types) -> Work:
    """Return the work of an operator on tensors of the given types.

    Args:
        op: the operator.
        inputs: types of its dynamic inputs.
        outputs: types of its outputs.
    """
    if isinstance(op, ops.Convolution):
        return _convolution(op, inputs[0], outputs[0])
    if isinstance(op, ops.MatrixMultiply):
        return _product(op, inputs, outputs[0])
    part = op.part if isinstance(op, ops.HostOperator) else op
    if isinstance(part, ops.ProductPart):
        return _part(part)
    if isinstance(op, ops.HostOperator) and op.product is not None:
        return _float_product(op.product, inputs[0], outputs[0])
    return describe_stream(op, inputs, outputs)


def _parameter_bytes(op: ops.Contraction) -> int:
    """Bytes per output column that travel with the weights.

    An int32 bias; the multiplier (with a shift where it is an integer) and the float32 bias, or the thresholds, of the
    epilogue; the int32 sum of the weights, where a zero point known at run time only is to be folded into the bias.
    """
    size = 4
    if isinstance(op.epilogue, Threshold):
        size += threshold_bytes(op.epilogue, 1)
    elif not isinstance(op.epilogue, ops.Raw):
        size += 5 if isinstance(op.epilogue, FixedRequantise) else 4
    if isinstance(op.epilogue, ops.Rescale) and op.epilogue.bias is not None:
        size += 4
    return size + (4 if _folds_at_run_time(op) else 0)


def _folds_at_run_time(op: ops.Contraction) -> bool:
    """Tell whether constant weights meet activations whose zero point is known at run time only."""
    return op.runtime is not None and op.runtime.zero_point is not None and op.weights is not None


def _convolution(op: ops.Convolution, source: TensorType, target: TensorType) -> ContractionWork:
    """Each output slice of a 3-D convolution is an image, whose channels are those of all slices it needs."""
    height, width = (1, source.shape[2]) if len(source.shape) == 3 else source.shape[-2:]
    out_height, out_width = (1, target.shape[2]) if len(target.shape) == 3 else target.shape[-2:]
    images = source.shape[0] * (target.shape[2] if op.depth is not None else 1)
    filters, depth = op.weights.values.shape
    layout = ImageLayout(images, height, width, out_height, out_width, op.geometry)
    return ContractionWork(
        images * out_height * out_width,
        depth,
        filters // op.groups,
        op.groups,
        layout,
        False,
        target.dtype.itemsize,
        _parameter_bytes(op),
        source.dtype.itemsize,
        op.weights.bits,
        inserted_zero_macs=_inserted_zero_macs(layout, depth, filters),
        folds_at_run_time=_folds_at_run_time(op),
        packed=PackedBits(source.bits, None, target.bits),
    )


def _inserted_zero_macs(layout: ImageLayout, depth: int, filters: int) -> int:
    """Count the multiplications by zeros inserted between pixels: neither pixels nor padding."""
    shape = layout.geometry
    taps = math.prod(shape.kernel)
    filled = _filled_taps(layout.height, layout.out_height, shape, 0)
    filled *= _filled_taps(layout.width, layout.out_width, shape, 1)
    zeros = layout.out_height * layout.out_width * taps - filled
    return zeros * layout.images * (depth // taps) * filters


def _filled_taps(size: int, outputs: int, shape: ConvolutionGeometry, axis: int) -> int:
    """Count the pairs of output position and tap along an axis that do not meet an inserted zero.

    Padding counts as pixels do, as for any convolution; but beside inserted zeros it is no more than they are.
    """
    if shape.insertion[axis] == 1:
        return outputs * shape.kernel[axis]
    return len(shape.met(axis, size, outputs))


def _product(op: ops.MatrixMultiply, inputs: Types, target: TensorType) -> ContractionWork:
    second = inputs[1].shape if op.weights is None else None
    left, right = op.matrices(inputs[0].shape, second)
    depth, columns = right[-2:]
    sizes = target.dtype.itemsize, _parameter_bytes(op), inputs[0].dtype.itemsize
    if op.weights is not None:
        rows, late = math.prod(left[:-1]), _folds_at_run_time(op)
        packed = PackedBits(inputs[0].bits, None, target.bits)
        return ContractionWork(
            rows, depth, columns, 1, None, False, *sizes, op.weights.bits, folds_at_run_time=late, packed=packed
        )
    matrices = target.elements // max(left[-2] * columns, 1)
    packed = PackedBits(inputs[0].bits, inputs[1].bits, target.bits)
    return ContractionWork(left[-2], depth, columns, matrices, None, True, *sizes, packed=packed)


def _float_product(product: ops.FloatProduct, source: TensorType, target: TensorType) -> ContractionWork:
    """A product of float activations with packed weights; scales and zero points of its blocks travel with a column."""
    return ContractionWork(
        target.elements // product.columns, product.depth, product.columns, 1, None, False,
        target.dtype.itemsize, product.parameter_bytes, source.dtype.itemsize, product.weight_bits,
        arithmetic=product.arithmetic,
    )  # fmt: skip


def _part(part: ops.ProductPart) -> ContractionWork:
    """A product inside of a node; widths that are no whole bytes are packed."""
    size = max(part.first_bits // 8, 1)
    first = part.first_bits if part.first_bits != 8 * size else None
    second = part.second_bits if part.dynamic and part.second_bits != 8 * size else None
    return ContractionWork(
        part.m, part.k, part.n, part.groups, None, part.dynamic,
        part.output_bytes, part.parameter_bytes, size, part.second_bits,
        arithmetic=part.arithmetic, packed=PackedBits(first, second), repeats=part.repeats,
        second_by_column=part.by_column,
    )  # fmt: skip
