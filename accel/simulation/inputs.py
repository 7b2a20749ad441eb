"""Inputs of a run: read from .npz files and checked against the model, or drawn from a seed."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import ResourceLimitError, UsageError, nearest, printable, reason_of
from accelsim.files.reading import open_regular
from accelsim.operators.tensors import TensorType, bounds, byte_type, is_narrow

Array = NDArray[np.generic]

LARGEST_NPZ_BYTES = 4 << 30

# What numpy and zipfile raise on broken archives; RuntimeError stands for encrypted members.
_UNREADABLE = (
    ValueError, EOFError, KeyError, SyntaxError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error
)  # fmt: skip


def read_npz(path: str | Path, what: str = "inputs") -> dict[str, Array]:
    """Read all arrays of an .npz file (never pickled objects).

    Args:
        path: the file.
        what: it holds, for messages.

    Raises:
        UsageError: the file is missing or no .npz archive.
        ResourceLimitError: its arrays are larger than the limit.
    """
    shown = printable(str(path) or "(empty name)")
    try:
        with open_regular(path) as file:
            if file.read(6) == b"\x93NUMPY":
                raise UsageError(f"{shown} is a single array: save it with numpy.savez(file, input_name=array)")
            if not zipfile.is_zipfile(file):
                raise UsageError(f"{shown} is not an .npz archive: save the {what} with numpy.savez(file, name=array)")
            file.seek(0)
            return _read_archive(file, shown)
    except OSError as error:
        raise UsageError(f"cannot read the {what} {shown}: {error.strerror or error}: give an .npz file") from None
    except MemoryError:
        raise ResourceLimitError(f"{shown} does not fit into memory: use a smaller batch") from None
    except _UNREADABLE as error:
        raise UsageError(
            f"{shown} is not a readable .npz archive ({reason_of(error, 80)}): save it with numpy.savez"
        ) from None


def unpack_npz(data: bytes, shown: str) -> dict[str, Array]:
    """Read all arrays of the bytes of an .npz file; errors as for `read_npz`.

    Args:
        data: content of the file.
        shown: its name, for messages.
    """
    try:
        return _read_archive(io.BytesIO(data), shown)
    except _UNREADABLE as error:
        raise UsageError(f"{shown} is not a readable .npz archive ({reason_of(error, 80)})") from None


def _read_archive(file: BinaryIO, shown: str) -> dict[str, Array]:
    """Read all arrays of an open archive, whose unpacked size is checked first."""
    with np.load(file, allow_pickle=False) as archive:
        size = sum(entry.file_size for entry in archive.zip.infolist())
        if size > LARGEST_NPZ_BYTES:
            raise ResourceLimitError(
                f"{shown} unpacks to {size:,} bytes, the limit is {LARGEST_NPZ_BYTES:,}: use a smaller batch"
            )
        return {name: _member(archive, name, shown) for name in archive.files}


def _member(archive: np.lib.npyio.NpzFile, name: str, shown: str) -> Array:
    """Read one array of an archive, which may also hold files that are no arrays."""
    array = archive[name]
    if not isinstance(array, np.ndarray):
        raise UsageError(f"{shown}: '{printable(name)}' is not an array: save arrays only, with numpy.savez")
    return array


def check_inputs(
    arrays: Mapping[str, Array], declared: Mapping[str, TensorType], source: str = "inputs"
) -> dict[str, Array]:
    """Check names, element types and values of the arrays given; shapes are checked when the model is bound.

    Args:
        arrays: arrays by input name.
        declared: types of the model's inputs; dynamic dimensions do not matter here.
        source: where the arrays come from, for messages.

    Raises:
        UsageError: a missing or unknown name, a wrong dtype, or NaN.
    """
    if not isinstance(arrays, Mapping):
        raise UsageError(f"{source}: give a mapping from input name to array, not {type(arrays).__name__}")
    unknown = [name for name in arrays if name not in declared]
    if unknown:
        raise UsageError(
            f"{source}: the model has no input '{printable(unknown[0])}' ({nearest(unknown[0], list(declared))}): "
            f"rename or remove it"
        )
    missing = [name for name in declared if name not in arrays]
    if missing:
        kind = declared[missing[0]]
        raise UsageError(f"{source}: the array '{printable(missing[0])}' is missing: add it as {kind.dtype.name}")
    return {name: _checked(np.asarray(arrays[name]), name, kind, source) for name, kind in declared.items()}


def _checked(array: Array, name: str, kind: TensorType, source: str) -> Array:
    """Check one array's element type and values; return it contiguous and in this machine's byte order."""
    label = f"{source}: '{printable(name)}'"
    if is_narrow(kind.dtype) and array.dtype == byte_type(kind.dtype):
        lowest, highest = bounds(kind.dtype)
        if array.size and not lowest <= int(array.min()) <= int(array.max()) <= highest:
            raise UsageError(
                f"{label} holds codes from {array.min()} to {array.max()}, the model wants {kind.dtype.name} "
                f"({lowest}..{highest}): replace those values"
            )
        array = array.astype(kind.dtype)
    wanted = byte_type(kind.dtype) if is_narrow(kind.dtype) else kind.dtype
    if array.dtype.newbyteorder("=") != kind.dtype:
        raise UsageError(
            f"{label} is {array.dtype.name}, the model wants {kind.dtype.name}: "
            f"convert it with .astype(numpy.{wanted.name})"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UsageError(f"{label} contains NaN or infinity: replace those values")
    return np.ascontiguousarray(array, kind.dtype).reshape(array.shape)


def draw_inputs(declared: Mapping[str, TensorType], seed: int = 0) -> dict[str, Array]:
    """Draw inputs from a seed: codes over their whole range, floats from a standard normal, other integers 0 or 1.

    Args:
        declared: types with fixed shapes.
        seed: seed of the generator.
    """
    generator = np.random.default_rng(seed)
    arrays: dict[str, Array] = {}
    for name, kind in declared.items():
        if kind.dtype.kind == "f":
            arrays[name] = np.asarray(generator.standard_normal(kind.shape)).astype(kind.dtype)
        elif is_narrow(kind.dtype):
            lowest, highest = bounds(kind.dtype)
            arrays[name] = generator.integers(lowest, highest + 1, kind.shape).astype(kind.dtype)
        elif kind.dtype.kind in "iu" and kind.dtype.itemsize == 1:
            span = np.iinfo(kind.dtype.name)
            arrays[name] = generator.integers(span.min, span.max + 1, kind.shape).astype(kind.dtype)
        else:
            arrays[name] = generator.integers(0, 2, kind.shape).astype(kind.dtype)
    return arrays
