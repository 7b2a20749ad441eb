"""Types that operators compute: an independent second opinion on the types onnxruntime infers."""

from __future__ import annotations

import numpy as np

from accelsim import operators as ops
from accelsim.graph.vector_shapes import vector_type
from accelsim.operators import vector as vector_operators
from accelsim.operators.geometry import ConvolutionGeometry
from accelsim.operators.tensors import TensorType
from accelsim.operators.thresholds import DequantiseUniform, SumCodes, SumPool, Threshold

Types = tuple[TensorType, ...]


def pooled_size(size: int, window: int, stride: int, dilation: int, before: int, after: int, *, ceil: bool) -> int:
    """Return the output size of a convolution or pooling along one axis.

    In ceil mode the last window must start inside the image or its leading padding (ONNX, AveragePool-19).
    """
    span = size + before + after - dilation * (window - 1) - 1
    if not ceil:
        return span // stride + 1
    result = -(-span // stride) + 1
    return result - 1 if (result - 1) * stride >= size + before else result


def window_shape(
    shape: tuple[int, ...], geometry: ConvolutionGeometry, channels: int, *, ceil: bool = False
) -> tuple[int, ...]:
    """Return the shape after sliding a window over [B, C, H, W], [B, C, W] or each slice of [B, C, D, H, W]."""
    height, width = geometry.spread(*((1, shape[2]) if len(shape) == 3 else shape[-2:]))
    (kernel_h, kernel_w), (stride_h, stride_w), (dilation_h, dilation_w) = (
        geometry.kernel,
        geometry.strides,
        geometry.dilations,
    )
    top, left, bottom, right = geometry.pads
    rows = pooled_size(height, kernel_h, stride_h, dilation_h, top, bottom, ceil=ceil)
    columns = pooled_size(width, kernel_w, stride_w, dilation_w, left, right, ceil=ceil)
    return (shape[0], channels, columns) if len(shape) == 3 else (shape[0], channels, *shape[2:-2], rows, columns)


def infer(op: ops.Operator, inputs: Types) -> Types | None:
    """Return the types that an operator computes, or None for host operators and their parts, which it cannot know.

    Args:
        op: the operator.
        inputs: types of its dynamic inputs.
    """
    if isinstance(op, ops.HostOperator | ops.Part):
        return None
    if isinstance(op, ops.Split):
        return tuple(_resized(inputs[0], op.axis, size) for size in op.sizes)
    if isinstance(op, ops.DynamicQuantise):
        codes = TensorType.of(np.uint8, inputs[0].shape)
        return codes, TensorType.of(np.float32, ()), TensorType.of(np.uint8, ())
    if isinstance(op, vector_operators.VectorOperator):
        return (vector_type(op, inputs),)
    return (TensorType(_dtype(op, inputs), _shape(op, inputs), _bits(op, inputs)),)


def _resized(kind: TensorType, axis: int, size: int) -> TensorType:
    shape = list(kind.shape)
    shape[axis] = size
    return TensorType(kind.dtype, tuple(shape), kind.bits)


def _bits(op: ops.Operator, inputs: Types) -> int | None:
    """Return the width of the elements that an operator writes, where they are narrower than a byte."""
    if isinstance(op, ops.Movement | ops.MaxPool):
        return inputs[0].bits
    writer: object = op.epilogue if isinstance(op, ops.Convolution | ops.MatrixMultiply) else op
    if isinstance(writer, ops.Rescale):
        writer = writer.quantise
    output = getattr(writer, "output", None)
    return output.packed_bits if isinstance(output, ops.CodeFormat) else None


def _dtype(op: ops.Operator, inputs: Types) -> np.dtype[np.generic]:
    if isinstance(op, ops.Convolution | ops.MatrixMultiply):
        if isinstance(op.epilogue, ops.Requantise | Threshold):
            return op.epilogue.output.dtype
        return op.epilogue.dtype if isinstance(op.epilogue, ops.Rescale) else np.dtype(np.int32)
    if isinstance(op, ops.Dequantise | DequantiseUniform):
        return np.dtype(np.float32)
    if isinstance(op, ops.TableLookup):
        return op.table.dtype
    if isinstance(op, ops.Concatenate):
        return inputs[0].dtype if op.tables[0] is None else op.tables[0].dtype
    output = getattr(op, "output", None)
    return output.dtype if isinstance(output, ops.CodeFormat) else inputs[0].dtype


def _shape(op: ops.Operator, inputs: Types) -> tuple[int, ...]:
    first = inputs[0].shape
    if isinstance(op, ops.Convolution):
        return _convolution_shape(op, first)
    if isinstance(op, ops.MatrixMultiply):
        return _product_shape(op, inputs)
    if isinstance(op, ops.AveragePool | ops.MaxPool | SumPool):
        return window_shape(first, op.geometry, first[1], ceil=not isinstance(op, SumPool) and op.ceil_mode)
    if isinstance(op, ops.GlobalAveragePool):
        return (*first[:2], *[1] * (len(first) - 2))
    if isinstance(op, ops.ElementwiseAdd | ops.ElementwiseMultiply | ops.FloatBinary | SumCodes):
        return np.broadcast_shapes(*(kind.shape for kind in inputs))
    if isinstance(op, ops.Concatenate):
        return _resized(inputs[0], op.axis, sum(kind.shape[op.axis] for kind in inputs)).shape
    if isinstance(op, ops.View):
        return op.shape
    if isinstance(op, ops.Transpose):
        return tuple(first[axis] for axis in op.permutation)
    if isinstance(op, ops.Slice):
        return tuple(len(range(size)[slice(*part)]) for size, part in zip(first, op.ranges, strict=True))
    if isinstance(op, ops.Gather):
        return (*first[: op.axis], *op.indices.shape, *first[op.axis + 1 :])
    if isinstance(op, ops.Pad):
        return tuple(size + before + after for size, (before, after) in zip(first, op.widths, strict=True))
    return first


def _convolution_shape(op: ops.Convolution, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of a convolution, whose window along depth, if any, slides as the other two."""
    result = window_shape(shape, op.geometry, op.weights.values.shape[0])
    window = op.depth
    if window is None:
        return result
    slices = pooled_size(shape[2], window.kernel, window.stride, window.dilation, *window.pads, ceil=False)
    return (*result[:2], slices, *result[3:])


def _product_shape(op: ops.MatrixMultiply, inputs: Types) -> tuple[int, ...]:
    """Shape of a matrix product, with a vector as second or first operand as numpy defines it."""
    first = inputs[0].shape
    second = inputs[1].shape if op.weights is None else None
    left, right = op.matrices(first, second)
    rows = left[-2:-1] if len(first) > 1 else ()
    columns = right[-1:] if second is None or len(second) > 1 else ()
    return (*np.broadcast_shapes(left[:-2], right[:-2]), *rows, *columns)
