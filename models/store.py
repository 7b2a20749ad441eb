"""Models of our own by name: built once, then read from a private folder; nothing is downloaded."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import metadata
from pathlib import Path

from accelsim.errors import ResourceLimitError, UsageError, nearest, printable
from accelsim.files.cache import private_folder
from accelsim.models.catalogue import ENTRIES, FLOAT_SUFFIX, Entry

# Random numbers, the float pass that calibrates, and the form of a file come from these packages.
_MAKERS = ("numpy", "onnx", "onnxruntime")


def find(name: str) -> tuple[Entry, bool]:
    """Return the entry of a name, and whether its float form is meant (NAME-float).

    Raises:
        UsageError: there is no such model.
    """
    entries = {entry.name: entry for entry in ENTRIES}
    plain = name.removesuffix(FLOAT_SUFFIX)
    if plain not in entries:
        shown = printable(name) or "(empty name)"
        raise UsageError(
            f"there is no model '{shown}' of our own ({nearest(plain, list(entries))}): see accel-sim models"
        )
    return entries[plain], plain != name


def model_bytes(name: str) -> bytes:
    """Return an ONNX file, from the cache if it was built before.

    Args:
        name: of an entry of the catalogue, or that with -float for the network before quantisation.

    Raises:
        UsageError: there is no such model.
    """
    entry, in_float = find(name)
    folder = None if in_float else private_folder(f"models-{_makers_digest()}")  # float forms are large and made fast
    known = None if folder is None else _read(folder / f"{name}.onnx")
    if known is not None:
        return known
    data = build(entry, quantised=not in_float)
    if folder is not None:
        _keep(folder, name, data)
    return data


def build(entry: Entry, *, quantised: bool = True) -> bytes:
    """Build a model from nothing; equal calls on one machine with the same packages give equal bytes.

    Args:
        entry: which.
        quantised: in Q/DQ form with uint8 activations and int8 weights; else in float32.
    """
    from accelsim.models.calibrate import calibrate
    from accelsim.models.emit import emit
    from accelsim.progress import layer_progress

    with layer_progress(f"calibrating {entry.name}") as progress:
        calibration = calibrate((entry.calibration or entry.draw)(), entry.batch, progress)
    with layer_progress(f"building {entry.name}") as progress:
        model = emit(entry.draw(), calibration, quantised=quantised, progress=progress)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


@cache
def _makers_digest() -> str:
    """Return what the cache is keyed by: the builders' sources and the versions of the packages that they use."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        if not source.name.startswith("build_"):  # those train the shipped models
            digest.update(source.read_bytes())
    for package in _MAKERS:
        digest.update(metadata.version(package).encode())
    return digest.hexdigest()[:16]


def _read(path: Path) -> bytes | None:
    """Return a kept model, or None if there is none or it is not what was written."""
    try:
        data = path.read_bytes()
        wanted = path.with_suffix(".sha256").read_text("ascii")
    except (OSError, UnicodeDecodeError):
        return None
    return data if hashlib.sha256(data).hexdigest() == wanted else None


def _keep(folder: Path, name: str, data: bytes) -> None:
    """Write a model and its digest into the cache."""
    from accelsim.files.writing import write_together

    try:
        write_together(folder, {f"{name}.onnx": data, f"{name}.sha256": hashlib.sha256(data).hexdigest().encode()})
    except ResourceLimitError:
        return  # a full disk costs time on the next run, and nothing else
