"""Results on disk."""

from __future__ import annotations

from pathlib import Path

from accelsim.files.writing import make_folder, pack_npz, write_together
from accelsim.results.result import Result


def write_result(result: Result, folder: Path) -> None:
    """Create a folder if need be and write result.json and outputs.npz into it, both or none.

    Raises:
        UsageError: the folder cannot be created.
        ResourceLimitError: a file cannot be written; older ones are left as they were.
    """
    files = {"outputs.npz": pack_npz(result.outputs), "result.json": result.to_json().encode()}
    make_folder(folder)
    write_together(folder, files)
