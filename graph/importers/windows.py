"""Sliding windows: kernel, strides, dilations and pads of convolutions and poolings, 1-D ones with height 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from accelsim.errors import InvalidModelError
from accelsim.graph.quantised.tensor import NotOnTheMachineError
from accelsim.operators.geometry import ConvolutionGeometry, DepthWindow

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class _Window:
    """A window of any rank; pads as ONNX orders them: all begins, then all ends."""

    kernel: Sizes
    strides: Sizes
    dilations: Sizes
    pads: Sizes

    def plane(self) -> ConvolutionGeometry:
        """Return the last two dimensions (or the only one) as 2-D geometry."""
        rank = len(self.kernel)
        begins, ends = self.pads[:rank], self.pads[rank:]
        if rank == 1:
            return ConvolutionGeometry(
                (1, self.kernel[0]), (1, self.strides[0]), (1, self.dilations[0]), (0, begins[0], 0, ends[0])
            )
        kernel, strides, dilations = ((part[-2], part[-1]) for part in (self.kernel, self.strides, self.dilations))
        return ConvolutionGeometry(kernel, strides, dilations, (begins[-2], begins[-1], ends[-2], ends[-1]))


def window_geometry(
    attribute: dict[str, Any], kernel: Sizes, spatial: Sizes, *, pooling: bool = False
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
    if len(kernel) not in (1, 2):
        raise NotOnTheMachineError(f"{len(kernel)} spatial dimensions")
    return _read(attribute, kernel, spatial, pooling=pooling).plane()


def convolution_window(
    attribute: dict[str, Any], kernel: Sizes, spatial: Sizes
) -> tuple[ConvolutionGeometry, DepthWindow | None]:
    """Read the window of a convolution of 1 to 3 dimensions; arguments and errors as for `window_geometry`.

    Returns:
        The geometry of the last two dimensions, and the window along depth of a 3-D convolution.
    """
    if len(kernel) not in (1, 2, 3):
        raise NotOnTheMachineError(f"{len(kernel)} spatial dimensions")
    window = _read(attribute, kernel, spatial, pooling=False)
    if len(kernel) < 3:
        return window.plane(), None
    depth = DepthWindow(kernel[0], window.strides[0], window.dilations[0], (window.pads[0], window.pads[3]))
    return window.plane(), depth


def transposed_window(attribute: dict[str, Any], kernel: Sizes) -> ConvolutionGeometry:
    """Read the window of a transposed convolution as that of the convolution it equals.

    Zeros are inserted between the pixels (distance = stride), the kernel is turned by 180 degrees and moves by one:
    pads become dilation * (kernel - 1) - pad, the output padding is added at the end (ONNX, ConvTranspose).

    Args:
        attribute: the node's attributes.
        kernel: kernel shape, 1 or 2 dimensions.

    Raises:
        NotOnTheMachineError: automatic padding, a stated output shape, three dimensions, pads beyond the kernel.
    """
    rank = len(kernel)
    if rank not in (1, 2):
        raise NotOnTheMachineError(f"{rank} spatial dimensions")
    if attribute.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"", b"VALID") or attribute.get("output_shape"):
        raise NotOnTheMachineError("pads that follow from an output shape")
    strides = tuple(attribute.get("strides") or [1] * rank)
    dilations = tuple(attribute.get("dilations") or [1] * rank)
    extra = tuple(attribute.get("output_padding") or [0] * rank)
    pads = (
        (0,) * (2 * rank) if attribute.get("auto_pad") == b"VALID" else tuple(attribute.get("pads") or [0] * 2 * rank)
    )
    reach = [dilation * (size - 1) for dilation, size in zip(dilations, kernel, strict=True)]
    begins = [r - pad for r, pad in zip(reach, pads[:rank], strict=True)]
    ends = [r - pad + more for r, pad, more in zip(reach, pads[rank:], extra, strict=True)]
    if min(*begins, *ends) < 0:
        raise NotOnTheMachineError("pads beyond the kernel")
    plane = _Window(kernel, (1,) * rank, dilations, (*begins, *ends)).plane()
    insertion = (1, strides[0]) if rank == 1 else (strides[0], strides[1])
    return ConvolutionGeometry(plane.kernel, plane.strides, plane.dilations, plane.pads, insertion)


def _read(attribute: dict[str, Any], kernel: Sizes, spatial: Sizes, *, pooling: bool) -> _Window:
    """Read and check a window of any rank."""
    rank = len(kernel)
    if len(spatial) != rank:
        raise NotOnTheMachineError(f"{rank} spatial dimensions")
    strides = tuple(attribute.get("strides") or [1] * rank)
    dilations = tuple(attribute.get("dilations") or [1] * rank)
    # onnxruntime's pools take no notice of dilations when they pad by themselves
    pads = _pads(attribute, kernel, spatial, strides, (1,) * rank if pooling else dilations)
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
    return _Window(kernel, strides, dilations, pads)


def _pads(attribute: dict[str, Any], kernel: Sizes, spatial: Sizes, strides: Sizes, dilations: Sizes) -> Sizes:
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
