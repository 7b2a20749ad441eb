"""Sliding windows of convolutions and poolings."""

from __future__ import annotations

from dataclasses import dataclass


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


@dataclass(frozen=True)
class DepthWindow:
    """The window of a 3-D convolution along depth, beside its 2-D geometry; pads: front, back."""

    kernel: int
    stride: int = 1
    dilation: int = 1
    pads: tuple[int, int] = (0, 0)
