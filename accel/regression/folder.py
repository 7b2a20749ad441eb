"""Golden folders on disk: written whole or not at all, and read with every byte checked."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from accelsim.errors import AccelSimError, InvalidFileError, ResourceLimitError, UsageError, printable
from accelsim.files.json_reading import read_object, read_regular
from accelsim.files.writing import (
    check_folder,
    make_folder,
    sync_folder,
    write_failure,
    write_through,
    write_together,
)
from accelsim.results.manifest import KIND, LARGEST_FILE_BYTES, FileRecord, Manifest, parse_manifest

MANIFEST = "manifest.json"
MEMBERS = ("outputs.npz", "inputs.npz", "model.onnx")
_LARGEST_MANIFEST_BYTES = 256 << 20
_TEMPORARY = re.compile(r"\.?(manifest\.json|outputs\.npz|inputs\.npz|model\.onnx)\.tmp-[0-9]+")
_MAKE_ONE = "give a golden folder, which accel-sim record MODEL -o FOLDER makes"

# Linux: exchange two names in one step (renameat2).
_AT_CURRENT_FOLDER, _EXCHANGE = -100, 2


@dataclass(frozen=True, eq=False)
class GoldenFolder:
    """A golden folder whose bytes have been checked: the manifest, and the content of the other files by name."""

    path: Path
    manifest: Manifest
    files: Mapping[str, bytes]


def file_record(data: bytes) -> FileRecord:
    """Return size and digest of a file."""
    return FileRecord(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def check_target(name: str | Path) -> Path:
    """Refuse a folder that cannot take a golden record, before any work is done; nothing is created yet.

    Raises:
        UsageError: it cannot be written, or holds anything but a golden record.
    """
    folder = Path(os.path.realpath(check_folder(str(name))))
    if not folder.is_dir():
        return folder
    present = sorted(path.name for path in folder.iterdir())
    foreign = [name for name in present if name not in (MANIFEST, *MEMBERS) and not _TEMPORARY.fullmatch(name)]
    if present and not foreign and not _is_golden(folder / MANIFEST):
        foreign = [MANIFEST if MANIFEST in present else present[0]]
    if foreign:
        raise UsageError(
            f"{printable(str(folder))} holds '{printable(foreign[0])}', which is no part of a golden folder: choose "
            f"another folder with -o, or remove it yourself"
        )
    return folder


def _is_golden(path: Path) -> bool:
    """Tell whether a file is the manifest of a golden folder, of any version and intact or not."""
    try:
        return read_object(path, _LARGEST_MANIFEST_BYTES, "a manifest").get("kind") == KIND
    except AccelSimError:
        return False


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a golden folder: all files in a new folder beside it, synced, then put in its place in one step.

    Args:
        folder: where `check_target` allows it; an older record there is replaced as a whole.
        files: content by file name.

    Raises:
        UsageError: the folder cannot be created.
        ResourceLimitError: something cannot be written; an older record is left as it was.
    """
    make_folder(folder.parent)
    staged = folder.with_name(f".{folder.name}.tmp-{os.getpid()}")
    try:
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir()
        for name, data in files.items():
            write_through(staged / name, data)
        sync_folder(staged)
        _put_in_place(staged, folder, files)
        sync_folder(folder.parent)
    except OSError as error:
        raise write_failure(error, error.filename or folder) from None
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _put_in_place(staged: Path, folder: Path, files: Mapping[str, bytes]) -> None:
    """Rename onto a name that is free or an empty folder; else exchange; else replace file by file."""
    with contextlib.suppress(OSError):
        staged.rename(folder)
        return
    if _exchange(staged, folder):
        return  # what was there is now under the other name, and is removed
    # The manifest comes last: until then it names other digests, so that a broken write is noticed.
    write_together(folder, {name: files[name] for name in sorted(files, key=lambda name: name == MANIFEST)})
    for path in folder.iterdir():
        if path.name not in files:
            path.unlink(missing_ok=True)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two names in one step; False where the system cannot."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    here = _AT_CURRENT_FOLDER
    return bool(call(here, os.fsencode(first), here, os.fsencode(second), _EXCHANGE) == 0)


def read_folder(name: str | Path) -> GoldenFolder:
    """Read a golden folder and check every byte of it against its digests.

    Raises:
        UsageError: there is no golden folder, or one of another schema version.
        InvalidFileError: it was altered, or a part is missing.
    """
    folder, shown = Path(name), printable(str(name) or "(empty name)")
    if not str(name) or not os.path.isdir(folder):  # noqa: PTH112 - Path.is_dir raises for names that are too long
        raise UsageError(f"{shown} is not a folder: {_MAKE_ONE}")
    path = folder / MANIFEST
    if not os.path.lexists(path):
        raise UsageError(f"{shown} has no {MANIFEST}: {_MAKE_ONE}")
    content = read_object(path, _LARGEST_MANIFEST_BYTES, "a manifest")
    manifest = parse_manifest(content, printable(str(path)))
    needed = {"outputs.npz"} | (set() if manifest.seed is not None else {"inputs.npz"})
    missing = sorted(needed - set(manifest.files))
    if missing:
        raise InvalidFileError(f"{printable(str(path))} does not list {missing[0]}: record the model again")
    return GoldenFolder(
        folder, manifest, {file: _member(folder / file, entry) for file, entry in manifest.files.items()}
    )


def _member(path: Path, entry: FileRecord) -> bytes:
    """Read one file and compare it with its digest."""
    shown = printable(str(path))
    try:
        data = read_regular(path, min(entry.bytes, LARGEST_FILE_BYTES), "a part of a golden folder")
    except UsageError:
        raise InvalidFileError(f"{shown} is missing or unreadable: restore it, or record the model again") from None
    except ResourceLimitError:
        data = b""
    if len(data) != entry.bytes or hashlib.sha256(data).hexdigest() != entry.sha256:
        raise InvalidFileError(
            f"{shown} was altered or cut after it was recorded: restore it, or record the model again"
        )
    return data
