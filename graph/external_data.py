"""Tensors whose data lies in other files: read only when asked for, and only from the model's own folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath

from onnx import ModelProto, TensorProto

from accelsim.errors import InvalidModelError, ResourceLimitError, printable
from accelsim.graph.element_types import size_bytes
from accelsim.graph.limits import Limits


def embed_external_data(proto: ModelProto, folder: Path, limits: Limits) -> None:
    """Replace external initialisers by their data, so that nothing behind the loader sees a path.

    A location must be a relative name below the folder of the model: no parent folders, no links, a regular file that
    no other name shares.

    Args:
        proto: the parsed model, changed in place.
        folder: the folder of the model file.
        limits: budgets; all data together must stay within `file_bytes`.

    Raises:
        InvalidModelError: a location leads elsewhere, or the data is not there.
        ResourceLimitError: more data than the limits allow.
    """
    budget = limits.file_bytes
    for tensor in proto.graph.initializer:
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        budget -= size_bytes(tensor)
        if budget < 0:
            raise ResourceLimitError(
                f"the external data of the model exceeds {limits.file_bytes:,} bytes: use a smaller model, or raise "
                f"Limits.file_bytes from Python"
            )
        fields = {entry.key: entry.value for entry in tensor.external_data}
        data = _read(folder, fields, size_bytes(tensor), printable(tensor.name))
        del tensor.external_data[:]
        tensor.data_location = TensorProto.DEFAULT
        tensor.raw_data = data


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
