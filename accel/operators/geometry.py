"""Sliding windows of convolutions and poolings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ConvolutionGeometry:
    """Spatial parameters of a 2-D convolution or pooling; 1-D ones have height 1. Pads: top, left, bottom, right.

    insertion: distance of the input's pixels once zeros are inserted between them, as a transposed convolution does.
    """

    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    insertion: tuple[int, int] = (1, 1)

    def spread(self, height: int, width: int) -> tuple[int, int]:
        """Return the size of an image once zeros are inserted between its pixels."""
        return (height - 1) * self.insertion[0] + 1, (width - 1) * self.insertion[1] + 1

    def met(self, axis: int, size: int, outputs: int) -> NDArray[np.int64]:
        """Return where the taps of all windows along an axis meet a pixel: no padding, no inserted zeros.

        Positions are those of the spread image; each stands once per tap that meets it.

        Args:
            axis: 0 for rows, 1 for columns.
            size: pixels of the image along the axis.
            outputs: windows along the axis.
        """
        starts = np.arange(outputs)[:, None] * self.strides[axis] - self.pads[axis]
        places = starts + np.arange(self.kernel[axis])[None, :] * self.dilations[axis]
        step = self.insertion[axis]
        met: NDArray[np.int64] = places[(places >= 0) & (places <= (size - 1) * step) & (places % step == 0)]
        return met


@dataclass(frozen=True)
class DepthWindow:
    """The window of a 3-D convolution along depth, beside its 2-D geometry; pads: front, back."""

    kernel: int
    stride: int = 1
    dilation: int = 1
    pads: tuple[int, int] = (0, 0)
