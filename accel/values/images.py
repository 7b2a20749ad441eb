"""Feature maps as the array's im2col generator sees them: padded, zeros inserted, slices of volumes gathered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.operators import Convolution
from accelsim.operators.geometry import ConvolutionGeometry, DepthWindow

Operand = NDArray[np.signedinteger[Any]]


def padded_images(operand: Operand, op: Convolution, out_shape: tuple[int, ...], pad_value: int) -> Iterator[Operand]:
    """Yield one padded image [C, H, W] per image of the batch, or per output slice of each volume.

    The image of an output slice has the channels of every input slice that it needs, in (cin, kd) order, which is the
    order of its flattened weights.

    Args:
        operand: [B, C, H, W], [B, C, W] or [B, C, D, H, W].
        op: the convolution.
        out_shape: shape of its output.
        pad_value: what padding and inserted pixels hold.
    """
    for item in operand:
        if op.depth is None:
            image = item if item.ndim == 3 else item[:, None, :]
            yield _padded(image, op.geometry, pad_value)
            continue
        for index in range(out_shape[2]):
            channels = _gathered_slices(item, op.depth, index, pad_value)
            yield _padded(channels.reshape(-1, *item.shape[-2:]), op.geometry, pad_value)


def _gathered_slices(volume: Operand, window: DepthWindow, index: int, pad_value: int) -> Operand:
    """Return the slices [C, KD, H, W] that one output slice of a volume [C, D, H, W] needs."""
    gathered = np.full((volume.shape[0], window.kernel, *volume.shape[2:]), pad_value, volume.dtype)
    for tap in range(window.kernel):
        place = index * window.stride - window.pads[0] + tap * window.dilation
        if 0 <= place < volume.shape[1]:
            gathered[:, tap] = volume[:, place]
    return gathered


def _padded(image: Operand, geometry: ConvolutionGeometry, pad_value: int) -> Operand:
    """Insert zeros between the pixels of an image [C, H, W], and pad it."""
    top, left, bottom, right = geometry.pads
    height, width = geometry.spread(*image.shape[1:])
    result = np.full((image.shape[0], top + height + bottom, left + width + right), pad_value, image.dtype)
    step_h, step_w = geometry.insertion
    result[:, top : top + height : step_h, left : left + width : step_w] = image
    return result
