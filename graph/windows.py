"""Sliding windows: kernel, strides, dilations and pads of convolutions and poolings, 1-D ones with height 1."""

from __future__ import annotations

from typing import Any

from accelsim.errors import InvalidModelError
from accelsim.graph.context import NotOnTheMachineError
from accelsim.operators import ConvolutionGeometry


def window_geometry(
    attribute: dict[str, Any], kernel: tuple[int, ...], spatial: tuple[int, ...], *, pooling: bool = False
) -> ConvolutionGeometry:
    """Read a window from a node's attributes, with auto_pad resolved for the input's size.

    Args:
        attribute: the node's attributes.
        kernel: kernel shape, 1 or 2 dimensions.
        spatial: spatial shape of the input, same length.
        pooling: the window pools; with automatic padding onnxruntime then skips pixels where windows leave gaps.

    Raises:
        InvalidModelError: the window is larger than its padded input.
        NotOnTheMachineError: three or more spatial dimensions, or pads that are negative.
    """
    rank = len(kernel)
    if rank not in (1, 2) or len(spatial) != rank:
        raise NotOnTheMachineError(f"{rank} spatial dimensions")
    strides = tuple(attribute.get("strides") or [1] * rank)
    dilations = tuple(attribute.get("dilations") or [1] * rank)
    pads = _pads(attribute, kernel, spatial, strides, dilations)
    if not pooling and "auto_pad" in attribute:
        pads = tuple(max(pad, 0) for pad in pads)
    if min(pads) < 0:
        raise NotOnTheMachineError("negative pads")
    for size, window, dilation, before, after in zip(spatial, kernel, dilations, pads[:rank], pads[rank:], strict=True):
        if size + before + after < dilation * (window - 1) + 1:
            raise InvalidModelError(
                f"a window of {window} pixels (dilation {dilation}) is larger than its padded input of "
                f"{size + before + after}: give larger inputs"
            )
    if rank == 1:
        return ConvolutionGeometry((1, kernel[0]), (1, strides[0]), (1, dilations[0]), (0, pads[0], 0, pads[1]))
    return ConvolutionGeometry(
        (kernel[0], kernel[1]),
        (strides[0], strides[1]),
        (dilations[0], dilations[1]),
        (pads[0], pads[1], pads[2], pads[3]),
    )


def _pads(
    attribute: dict[str, Any],
    kernel: tuple[int, ...],
    spatial: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
) -> tuple[int, ...]:
    """Return explicit pads, all begins then all ends, as ONNX orders them."""
    mode = attribute.get("auto_pad", b"NOTSET").decode()
    if mode in ("NOTSET", ""):
        return tuple(attribute.get("pads") or [0] * 2 * len(kernel))
    if mode == "VALID":
        return (0,) * (2 * len(kernel))
    begins, ends = [], []
    for size, window, stride, dilation in zip(spatial, kernel, strides, dilations, strict=True):
        total = (-(-size // stride) - 1) * stride + dilation * (window - 1) + 1 - size
        smaller, larger = total // 2, total - total // 2
        begins.append(larger if mode == "SAME_LOWER" else smaller)
        ends.append(smaller if mode == "SAME_LOWER" else larger)
    return (*begins, *ends)
