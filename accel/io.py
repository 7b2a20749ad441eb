"""Files that are either whole or not there: written beside the target, synced, then renamed over it."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import ResourceLimitError, UsageError
from accelsim.result import Result


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader, a crash or a full disk never sees half of it.

    Args:
        path: the target, in an existing folder.
        data: its whole content.

    Raises:
        ResourceLimitError: the file cannot be written; an older one is left as it was.
    """
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ResourceLimitError(
            f"cannot write {path}: {error.strerror or error}: free space or choose another folder"
        ) from None
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def prepare_folder(folder: Path) -> None:
    """Create the output folder before any work is done, so that a wrong path costs nothing.

    Raises:
        UsageError: the folder cannot be created or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "permission denied")
    except OSError as error:
        raise UsageError(
            f"cannot write into {folder}: {error.strerror or error}: choose another folder with -o"
        ) from None


def write_result(result: Result, folder: Path) -> None:
    """Write result.json and outputs.npz into a folder, each atomically."""
    write_atomically(folder / "outputs.npz", _npz(result.outputs))
    write_atomically(folder / "result.json", result.to_json().encode())


def _npz(arrays: Mapping[str, NDArray[np.generic]]) -> bytes:
    """Pack arrays as .npz by hand: numpy.savez takes names as keywords, and a model may call an output "file"."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            entry = io.BytesIO()
            np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), entry.getvalue(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
