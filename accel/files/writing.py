"""Files that are either whole or not there: written beside the target, synced, then renamed over it."""

from __future__ import annotations

import errno
import io
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import ResourceLimitError, UsageError, printable


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader, a crash or a full disk never sees half of it.

    Args:
        path: the target, in an existing folder.
        data: its whole content.

    Raises:
        ResourceLimitError: the file cannot be written; an older one is left as it was.
    """
    write_together(path.parent, {path.name: data})


def write_together(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write several files of one folder: all are on disk under other names before the first one is renamed.

    Args:
        folder: an existing folder.
        files: content by file name.

    Raises:
        ResourceLimitError: some file cannot be written; older ones are left as they were.
    """
    staged = {folder / name: folder / f".{name}.tmp-{os.getpid()}" for name in files}
    try:
        for target, temporary in staged.items():
            if target.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
            write_through(temporary, files[target.name])
        for target, temporary in staged.items():
            temporary.replace(target)
        sync_folder(folder)
    except OSError as error:
        raise write_failure(error, error.filename or folder) from None
    finally:
        for temporary in staged.values():
            temporary.unlink(missing_ok=True)


def write_failure(error: OSError, place: str | Path) -> ResourceLimitError:
    """Return the error for something that cannot be written.

    Args:
        error: what the operating system says.
        place: the file or folder.
    """
    reason = error.strerror or error
    return ResourceLimitError(f"cannot write {printable(str(place))}: {reason}: free space or choose another folder")


@contextmanager
def written_atomically(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears under its name, whole, when the block ends, and never when it fails.

    Args:
        path: the target.

    Raises:
        UsageError: the target is a folder, or its folder does not exist or cannot be written.
        ResourceLimitError: the file cannot be written; an older one is left as it was.
    """
    check_target(path)
    temporary = path.parent / f".{path.name}.tmp-{os.getpid()}"
    try:
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise write_failure(error, path) from None
    finally:
        temporary.unlink(missing_ok=True)


def check_target(path: str | Path, option: str = "-o", read: Mapping[str, str | Path | None] | None = None) -> None:
    """Refuse a file that cannot be created, before any work is done.

    Args:
        path: the file.
        option: which option named it.
        read: files that must not be replaced, by what they are called; None stands for one that is not given.

    Raises:
        UsageError: names the file and the reason.
    """
    named, path = bool(str(path)), Path(path)
    shown, folder = printable(str(path)) if named else "(empty name)", path.parent
    try:
        if not named:
            raise ValueError("a file needs a name")
        if "\0" in str(path):
            raise ValueError("its name has a null character")
        if not path.name or path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not folder.is_dir():
            missing = NotADirectoryError if folder.exists() else FileNotFoundError
            code = errno.ENOTDIR if folder.exists() else errno.ENOENT
            raise missing(code, os.strerror(code))
        if path.exists() and not path.is_file():
            raise ValueError("not a regular file")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        for name, other in (read or {}).items():
            if other is not None and "\0" not in str(other) and os.path.realpath(path) == os.path.realpath(other):
                raise ValueError(f"it is also {name}")
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UsageError(f"cannot write {shown}: {reason}: choose another file with {option}") from None


def write_through(path: Path, data: bytes) -> None:
    """Write a new file and wait until it is on the disk; what a killed process left there is removed first."""
    path.unlink(missing_ok=True)
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_folder(name: str) -> Path:
    """Refuse an output folder that cannot be created or written, before any work is done; nothing is created yet.

    Raises:
        UsageError: names the folder and the reason.
    """
    folder = Path(name)
    if not name:
        raise UsageError("the name of the output folder is empty: give one with -o")
    try:
        existing = folder.absolute()
        while not existing.exists():
            existing = existing.parent
        if not existing.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(existing, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise _unusable(folder, error) from None
    return folder


def _unusable(folder: Path, error: OSError) -> UsageError:
    """Say why a folder cannot take results."""
    return UsageError(f"cannot write into {printable(str(folder))}: {error.strerror or error}: choose another folder")


def make_folder(folder: Path) -> None:
    """Create a folder with its parents unless it exists.

    Raises:
        UsageError: it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(folder, error) from None


def pack_npz(arrays: Mapping[str, NDArray[np.generic]], level: int | None = None) -> bytes:
    """Pack arrays as .npz by hand: numpy.savez takes names as keywords, and a model may call an output "file".

    Args:
        arrays: by name.
        level: of compression, 1 to 9; None takes zlib's own.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            entry = io.BytesIO()
            np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), entry.getvalue(), zipfile.ZIP_DEFLATED, level)
    return buffer.getvalue()
