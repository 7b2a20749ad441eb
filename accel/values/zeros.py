"""Zero operands: how many multiply-accumulates of a layer have none, counted from the values of a run.

Per step k of the sums both operands of a product are other than zero for (rows with x[m, k] != 0) times (columns with
w[n, k] != 0) pairs of rows m and columns n. So one pass over each operand counts all products, exactly. Operands are
what enters the array: codes as they are with `zp_mode = fold` (padding feeds the zero point), codes less their zero
point with `subtract`; weights less theirs, or raw codes and ones where row sums are taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim import operators as ops
from accelsim.machine.arch import Arch
from accelsim.program.layers import Layer
from accelsim.program.plan import ContractionPlan
from accelsim.program.work import ContractionWork
from accelsim.values.images import padded_images
from accelsim.values.runtime import complete

Array = NDArray[np.generic]
Counts = NDArray[np.int64]
Mask = NDArray[np.signedinteger[Any]]


def busy_macs(layer: Layer, inputs: Sequence[Array], arch: Arch) -> int | None:
    """Return how many multiply-accumulates of a layer have no zero operand, row sums included.

    None for what cannot be gated: layers without the array, and products of floats.

    Args:
        layer: the layer, planned for the machine.
        inputs: its dynamic inputs, as in the run.
        arch: the machine.
    """
    work, operator, plan = layer.work, layer.operator, layer.plan
    if not (isinstance(work, ContractionWork) and isinstance(plan, ContractionPlan)):
        return None
    if not isinstance(operator, ops.Convolution | ops.MatrixMultiply):
        return None
    operator = complete(operator, inputs)
    sums = work.row_sums * -(-work.n // plan.block_n)
    if isinstance(operator, ops.Convolution):
        busy = _image_counts(operator, inputs[0], layer.output_types[0].shape, arch)
        return int((busy * (_busy_columns(operator.weights, operator.groups, work.row_sums) + sums)).sum())
    first = inputs[0] if inputs[0].ndim > 1 else inputs[0][None, :]
    left = first.swapaxes(-1, -2) if operator.transpose_first else first
    if operator.weights is not None:
        zero = operator.input.zero_point if arch.zp_mode == "subtract" else 0
        rows = (left.reshape(-1, left.shape[-1]) != zero).sum(axis=0, dtype=np.int64)
        return int((rows * (_busy_columns(operator.weights, 1, work.row_sums)[0] + sums)).sum())
    return _computed_product(operator, left, inputs[1])


def _busy_columns(weights: ops.Weights, groups: int, row_sums: int) -> Counts:
    """Return for each group and k how many columns have a weight other than zero."""
    values = weights.values
    zeros = np.negative(weights.zero_points if row_sums else np.zeros(1, np.int32))  # the raw code is w + z_w
    busy: Counts = (values != zeros[:, None]).reshape(groups, -1, values.shape[1]).sum(axis=1, dtype=np.int64)
    return busy


def _image_counts(operator: ops.Convolution, codes: Array, out_shape: tuple[int, ...], arch: Arch) -> Counts:
    """Return for each group and k how many output pixels meet a value other than zero.

    Where zeros are inserted between pixels, these and the padding beside them count as zeros: they are never priced.
    """
    shape, fold = operator.geometry, arch.zp_mode == "fold"
    zero = operator.input.zero_point
    mask: Mask = (codes != (0 if fold else zero)).astype(np.int16)
    height, width = (1, out_shape[-1]) if codes.ndim == 3 else out_shape[-2:]
    channels = codes.shape[1] * (1 if operator.depth is None else operator.depth.kernel)
    total = np.zeros((channels, math.prod(shape.kernel)), np.int64)
    for image in padded_images(mask, operator, out_shape, int(fold and zero != 0)):
        for axis, (step, start) in enumerate(zip(shape.insertion, shape.pads[:2], strict=True), 1):
            if step > 1:
                image = image * _pixels(image, axis, start, step, shape.pads[axis + 1])
        taps = [
            _window(image, (i, j), (height, width), shape.strides, shape.dilations)
            for i in range(shape.kernel[0])
            for j in range(shape.kernel[1])
        ]
        total += np.stack([tap.sum(axis=(1, 2), dtype=np.int64) for tap in taps], axis=1)
    return total.reshape(operator.groups, -1)


def _pixels(image: Mask, axis: int, start: int, step: int, end: int) -> Mask:
    """Return 1 at the pixels of the map along an axis, 0 at what was inserted between and around them."""
    extent = image.shape[axis]
    marks = np.zeros(extent, np.int16)
    marks[start : extent - end : step] = 1
    return marks[:, None] if axis == 1 else marks


def _window(
    image: Mask, tap: tuple[int, int], sizes: tuple[int, int], strides: tuple[int, int], dilations: tuple[int, int]
) -> Mask:
    """Return what one tap of the kernel meets at every output pixel."""
    rows, columns = (
        slice(place * dilation, place * dilation + size * stride, stride)
        for place, size, stride, dilation in zip(tap, sizes, strides, dilations, strict=True)
    )
    return image[:, rows, columns]


def _computed_product(operator: ops.MatrixMultiply, left: Array, second: Array) -> int:
    """Count a product of two activations, whose zero points are subtracted on every machine."""
    right = second if second.ndim > 1 else second[:, None]
    zero = 0 if operator.second is None else operator.second.zero_point
    rows = (left != operator.input.zero_point).sum(axis=-2, dtype=np.int64)
    columns = (right != zero).sum(axis=-1, dtype=np.int64)
    return int((rows * columns).sum())
