"""Tensors whose data lies in other files: read from the model's own folder, and from nowhere else."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from onnx import ModelProto, TensorProto

from accelsim.errors import InvalidModelError, ResourceLimitError, UnsupportedModelError, counted, printable
from accelsim.graph.load.element_types import ELEMENT_BITS, constant_tensors, element_name, size_bytes
from accelsim.graph.load.limits import Limits

_LARGEST_MESSAGE = 2**31 - 1  # bytes that protobuf can serialise


@dataclass(frozen=True)
class ExternalFile:
    """A file beside a model that tensors were read from; name: relative to the model's folder."""

    name: str
    tensors: int
    size_bytes: int


def embed_external_data(
    proto: ModelProto, folder: Path | None, limits: Limits, *, forbidden: bool = False
) -> tuple[ExternalFile, ...]:
    """Replace external tensors by their data, so that nothing behind the loader sees a path.

    A location must be a relative name below the folder of the model: no parent folders, no links, a regular file that
    no other name shares.

    Args:
        proto: the parsed model, changed in place: its initialisers, and tensors in attributes of nodes.
        folder: the folder of the model file; None refuses external data.
        limits: budgets; all data together must stay within `file_bytes`.
        forbidden: there is a folder, and the user ruled out reading from it.

    Returns:
        The files that were read.

    Raises:
        InvalidModelError: a location leads elsewhere, the data is not there, or it must not be read.
        UnsupportedModelError: a tensor has an element type whose size is not known.
        ResourceLimitError: more data than the limits allow.
    """
    found: dict[str, list[int]] = defaultdict(list)
    budget = min(limits.file_bytes, _LARGEST_MESSAGE - proto.ByteSize())
    for label, tensor in constant_tensors(proto):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        name = printable(label)
        if folder is None:
            raise _refusal(name, forbidden=forbidden)
        length = _length(tensor, label, limits)
        budget -= length
        if budget < 0:
            raise ResourceLimitError(
                f"the external data of the model exceeds {limits.file_bytes:,} bytes: use a smaller model, or raise "
                f"Limits.file_bytes from Python"
            )
        fields = {entry.key: entry.value for entry in tensor.external_data}
        data = _read(folder, fields, length, name)
        del tensor.external_data[:]
        tensor.data_location = TensorProto.DEFAULT
        tensor.raw_data = data
        found[str(PurePosixPath(fields["location"]))].append(length)
    return tuple(ExternalFile(name, len(sizes), sum(sizes)) for name, sizes in found.items())


def external_lines(files: Sequence[ExternalFile]) -> list[str]:
    """Return a line per file that says what was read from it.

    Args:
        files: what `embed_external_data` returned.
    """
    return [
        f"reads {counted(file.tensors, 'tensor')}, {_megabytes(file.size_bytes)}, from "
        f"{printable(file.name)} beside the model"
        for file in files
    ]


def _megabytes(size: int) -> str:
    """Return a size with three digits, in kB where it is small."""
    return f"{size / 1e3:.3g} kB" if size < 1e6 else f"{size / 1e6:,.1f} MB"


def _refusal(name: str, *, forbidden: bool) -> InvalidModelError:
    """Return the error for data that is not looked for."""
    if forbidden:
        return InvalidModelError(
            f"tensor '{name}' keeps its data in another file, and reading it is ruled out by --no-external-data "
            f"(external_data=False in Python): leave that out, or save the model in one file"
        )
    return InvalidModelError(
        f"tensor '{name}' keeps its data in another file, and a model given as bytes has no folder to find it in: give "
        f"the path of the model, or save it in one file"
    )


def _length(tensor: TensorProto, label: str, limits: Limits) -> int:
    """Return the bytes of a tensor whose type and dimensions nothing has checked yet."""
    name = printable(label)
    if tensor.data_type not in ELEMENT_BITS:
        raise UnsupportedModelError(
            f"tensor '{name}' keeps its data in another file, and its element type {element_name(tensor.data_type)} is "
            f"not executed: export it as float32, integers or 8-bit codes"
        )
    if any(dimension < 0 for dimension in tensor.dims):
        raise InvalidModelError(f"tensor '{name}' has a negative dimension {list(tensor.dims)}: export the model again")
    limits.check_shape(label, tensor.dims)
    return size_bytes(tensor)


def _read(folder: Path, fields: dict[str, str], length: int, name: str) -> bytes:
    """Read the bytes of one tensor."""
    location = PurePosixPath(fields.get("location", ""))
    if not location.name or location.is_absolute() or ".." in location.parts or "\0" in str(location):
        raise InvalidModelError(
            f"tensor '{name}' keeps its data outside of the model's folder: move it beside the model"
        )
    try:
        offset = int(fields.get("offset", "0") or "0")
        if offset < 0 or int(fields.get("length", length) or length) != length:
            raise ValueError
    except ValueError:
        raise InvalidModelError(f"tensor '{name}' has a wrong offset or length for its external data") from None
    path = folder
    for part in location.parts:
        path = path / part
        if path.is_symlink():
            raise InvalidModelError(f"tensor '{name}' reaches its data through a link: use a regular file")
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                raise InvalidModelError(f"tensor '{name}' keeps its data in something that is not one regular file")
            file.seek(offset)
            data = file.read(length)
    except OSError as error:
        raise InvalidModelError(f"tensor '{name}': cannot read its external data: {error.strerror}") from None
    if len(data) != length:
        raise InvalidModelError(f"tensor '{name}' needs {length} bytes of external data, the file holds {len(data)}")
    return data
