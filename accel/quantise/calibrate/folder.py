"""Calibration data from a folder: one sample per .npy array or .png image, in the order of the names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import UsageError, printable, reason_of
from accelsim.quantise.network.source import FloatModel

Array = NDArray[np.generic]

_IMAGE_RANK = 4  # samples, channels, rows, columns in either order
_COLOURS = {1: "L", 3: "RGB"}


def read_folder(folder: Path, model: FloatModel, pixel_scale: float) -> dict[str, Array]:
    """Read a folder of samples for a model with one input.

    Args:
        folder: holds .npy files (one sample each, with or without a batch dimension of 1), or .png files.
        model: the model.
        pixel_scale: what the pixels of images are divided by, 255 for values from 0 to 1.

    Raises:
        UsageError: the folder has neither or both kinds, a file cannot be read, or the model has several inputs.
    """
    shown = printable(str(folder))
    if len(model.inputs) != 1:
        raise UsageError(f"{shown} is a folder, but the model has {len(model.inputs)} inputs: give an .npz file")
    if not pixel_scale > 0:
        raise UsageError(f"pixels cannot be divided by {pixel_scale}: give a positive number")
    arrays = sorted(folder.glob("*.npy"))
    images = sorted(folder.glob("*.png"))
    if bool(arrays) == bool(images):
        what = "both .npy and .png files" if arrays else "neither .npy nor .png files"
        raise UsageError(f"{shown} holds {what}: give a folder with one kind of samples")
    (name, kind), *_ = model.inputs.items()
    shape = kind.shape[1:]
    samples = [_array(path, shape) for path in arrays] or [
        _image(path, shape, kind.dtype, pixel_scale) for path in images
    ]
    first = samples[0]
    for path, sample in zip(arrays or images, samples, strict=True):
        if sample.shape != first.shape or sample.dtype != first.dtype:
            raise UsageError(
                f"{printable(str(path))} is {_text(sample)}, the first sample is {_text(first)}: give equal samples"
            )
    return {name: np.stack(samples)}


def _text(array: Array) -> str:
    """Return the type and shape of a sample for a message."""
    return f"{array.dtype.name} {'x'.join(map(str, array.shape))}"


def _array(path: Path, shape: tuple[int, ...]) -> Array:
    """Read one array; a leading dimension of 1 is the batch."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(
            f"cannot read {printable(str(path))}: {reason_of(error, 80)}: save it with numpy.save"
        ) from None
    if not isinstance(array, np.ndarray):
        raise UsageError(f"{printable(str(path))} is not one array: save it with numpy.save")
    one = array.ndim == len(shape) + 1 and array.shape[0] == 1
    return array[0] if one else array


def _image(path: Path, shape: tuple[int, ...], dtype: np.dtype[np.generic], scale: float) -> Array:
    """Read one image as channels first or last, whatever the model's input is; sizes must fit, nothing is resized."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise UsageError("images are read with Pillow: pip install pillow, or give an .npz file") from None
    if len(shape) != _IMAGE_RANK - 1 or not {shape[0], shape[-1]} & set(_COLOURS):
        raise UsageError(
            f"the model's input of {'x'.join(map(str, shape))} is no image of 1 or 3 channels: give an .npz file"
        )
    first = shape[0] in _COLOURS
    channels, rows, columns = shape if first else (shape[2], shape[0], shape[1])
    try:
        with Image.open(path) as image:
            if image.size != (columns, rows):
                raise UsageError(
                    f"{printable(str(path))} has {image.size[0]}x{image.size[1]} pixels, the model wants "
                    f"{columns}x{rows}: resize the images"
                )
            pixels = np.asarray(image.convert(_COLOURS[channels]))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError) as error:
        raise UsageError(f"cannot read the image {printable(str(path))}: {reason_of(error, 80)}") from None
    pixels = pixels.reshape(rows, columns, channels)
    pixels = pixels.transpose(2, 0, 1) if first else pixels
    if dtype.kind != "f":
        return pixels.astype(dtype)
    return (pixels.astype(np.float32) / np.float32(scale)).astype(dtype)
