"""Writes both sides of tensors as they are compared: one .npz per tensor, and an index of them at the end."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import UsageError, printable
from accelsim.files.json_reading import read_object
from accelsim.files.json_writing import to_json
from accelsim.files.writing import check_folder, make_folder, pack_npz, write_atomically
from accelsim.program.layers import Layer, Program
from accelsim.results.differing import differing

Array = NDArray[np.generic]
Arrays = Sequence[Array]

KIND = "accel-sim dump"
SCHEMA_VERSION = 1
INDEX = "index.json"
_LARGEST_INDEX_BYTES = 64 << 20
_FILE = re.compile(r"\.?[0-9]{4,9}-[A-Za-z0-9._-]{1,60}\.npz(\.tmp-[0-9]+)?")


@dataclass(eq=False)
class Dump:
    """A folder that takes tensors while a run compares them.

    folder: where to write; refused if it holds anything but an earlier dump. tensor: only tensors whose name contains
    this text. Each file holds "ours" (the free run), "reference" (unless only we have the tensor) and, where the layer
    is off by itself, "forced" (ours on the reference's own inputs).

    Raises:
        UsageError: the folder cannot be written or holds other files.
    """

    folder: Path
    tensor: str | None = None
    _rows: list[dict[str, Any]] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        self.folder = check_folder(str(self.folder))
        self._old_files()

    def begin(self, program: Program) -> None:
        """Create the folder, or empty it of an earlier dump.

        Raises:
            UsageError: no tensor of the program has the text wanted in its name.
        """
        if not any(self.wants(name) for layer in program.layers for name in layer.outputs):
            wanted = printable(str(self.tensor))
            raise UsageError(f"no layer writes a tensor with '{wanted}' in its name: leave --dump-tensor out")
        old = self._old_files()
        make_folder(self.folder)
        for path in old:
            path.unlink(missing_ok=True)
        self._rows.clear()

    def wants(self, name: str) -> bool:
        """Tell whether a tensor is to be written."""
        return self.tensor is None or self.tensor in name

    def add(self, layer: Layer, ours: Arrays, reference: Arrays | None, forced: Arrays | None) -> None:
        """Write the tensors of one layer.

        Args:
            layer: the layer.
            ours: its outputs in the free run.
            reference: the reference's; None for a layer inside of what is one node there.
            forced: its outputs on the reference's inputs, where they were computed.
        """
        for position, name in enumerate(layer.outputs):
            if not self.wants(name):
                continue
            arrays = {"ours": ours[position]}
            if reference is not None:
                arrays["reference"] = reference[position]
                if forced is not None and differing(forced[position], reference[position]).any():
                    arrays["forced"] = forced[position]
            file = f"{len(self._rows):04}-{_safe(name)}.npz"
            write_atomically(self.folder / file, pack_npz(arrays, level=1))
            self._rows.append(_row(layer, name, file, arrays))

    def finish(self, model: str, reference: str) -> None:
        """Write the index, without which a dump is incomplete.

        Args:
            model: name of the model.
            reference: what was compared with.
        """
        index = {"kind": KIND, "schema_version": SCHEMA_VERSION, "model": model, "reference": reference}
        write_atomically(self.folder / INDEX, to_json(index | {"tensors": self._rows}).encode())

    def _old_files(self) -> list[Path]:
        """Return the files of an earlier dump, the index first; other files are nobody's to remove."""
        if not self.folder.is_dir():
            return []
        present = sorted(path.name for path in self.folder.iterdir())
        foreign = [name for name in present if name != INDEX and not _FILE.fullmatch(name)]
        index = self.folder / INDEX
        if not foreign and index.exists():
            kind = read_object(index, _LARGEST_INDEX_BYTES, "the index of a dump").get("kind")
            foreign = [] if kind == KIND else [INDEX]
        if foreign:
            raise UsageError(
                f"{printable(str(self.folder))} holds '{printable(foreign[0])}', which is no part of a dump: choose "
                f"another folder with --dump"
            )
        return [self.folder / name for name in sorted(present, key=lambda name: name != INDEX)]


def _row(layer: Layer, name: str, file: str, arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Return the entry of one tensor in the index."""
    ours, reference = arrays["ours"], arrays.get("reference")
    drifted = mismatched = None
    if reference is not None:
        drifted = int(differing(ours, reference).sum())
        mismatched = int(differing(arrays["forced"], reference).sum()) if "forced" in arrays else 0
    return {
        "tensor": name,
        "layer": layer.name,
        "operator": layer.kind,
        "exactness": layer.exactness,
        "file": file,
        "arrays": list(arrays),
        "dtype": ours.dtype.name,
        "shape": list(ours.shape),
        "elements": ours.size,
        "mismatched": mismatched,
        "drifted": drifted,
    }


def _safe(name: str) -> str:
    """Return the end of a tensor's name in letters that any file system takes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)[-48:].lstrip(".") or "tensor"
