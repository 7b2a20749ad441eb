"""Names of inputs and outputs that collide with what .npz files, folders or Python use for themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto

from tests.cli.command import run_model
from tests.hostile.builders import Edit, quantised

NAMES = ["file", "a/b", "../../x", "self", "allow_pickle", "..", "y.npy", "a\\b", "ü", "with space", "%s", "x" * 300]


def _rename(old: str, new: str) -> Edit:
    """Return an edit that renames a value everywhere."""

    def edit(model: ModelProto) -> None:
        for value in (*model.graph.input, *model.graph.output):
            value.name = new if value.name == old else value.name
        for node in model.graph.node:
            for names in (node.input, node.output):
                for index, name in enumerate(names):
                    names[index] = new if name == old else name

    return edit


@pytest.mark.parametrize("name", NAMES)
def test_input_of_any_name_can_be_given(tmp_path: Path, name: str) -> None:
    """An input is fed from the .npz entry of exactly its name."""
    path = tmp_path / "inputs.npz"
    with path.open("wb") as file:
        _save(file, {name: np.ones((1, 8), np.float32)})
    outcome = run_model(tmp_path, quantised(_rename("x", name)), "--input", str(path))
    assert outcome.code == 0, outcome


@pytest.mark.parametrize("name", NAMES)
def test_output_of_any_name_is_written_under_it(tmp_path: Path, name: str) -> None:
    """The keys of outputs.npz are the exact names, and no name leads out of the folder."""
    folder = tmp_path / "deep" / "results"
    outcome = run_model(tmp_path, quantised(_rename("y", name)), "-o", str(folder))
    assert outcome.code == 0, outcome
    with np.load(folder / "outputs.npz") as archive:
        assert archive.files == [name]
        assert archive[name].shape == (1, 8)
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert found == ["deep/results/outputs.npz", "deep/results/result.json", "model.onnx"]


def _save(file: object, arrays: dict[str, np.typing.NDArray[np.float32]]) -> None:
    """Write an .npz file whose keys need not be legal keywords."""
    import zipfile

    with zipfile.ZipFile(file, "w") as archive:  # type: ignore[call-overload]
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as entry:
                np.lib.format.write_array(entry, array)
