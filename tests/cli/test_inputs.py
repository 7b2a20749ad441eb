"""Input files: every way to get one wrong is told apart, with the file, the array and what to do."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import accelsim
from accelsim.errors import ResourceLimitError
from accelsim.simulation.inputs import read_npz
from tests.cli.command import Outcome, assert_refused, command

IMAGE = np.zeros((1, 1, 16, 16), np.float32)


def _with(value: float) -> NDArray[np.float32]:
    image = IMAGE.copy()
    image[0, 0, 3, 5] = value
    return image


def _check(digits: Path, path: Path) -> Outcome:
    return command("check", digits, "--input", path)


ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "missing": ({}, "the array 'image' is missing: add it as float32"),
    "misnamed": ({"imag": IMAGE}, "the model has no input 'imag' (did you mean 'image'?)"),
    "extra": ({"image": IMAGE, "label": np.int64(3)}, "the model has no input 'label'"),
    "hostile name": ({"\x1b[31m": IMAGE}, "the model has no input '?[31m'"),
    "double": ({"image": IMAGE.astype(np.float64)}, "'image' is float64, the model wants float32"),
    "codes": ({"image": IMAGE.astype(np.uint8)}, "'image' is uint8, the model wants float32"),
    "text": ({"image": np.array(["a"])}, "the model wants float32"),
    "structured": ({"image": np.zeros((1, 1, 16, 16), [("a", "f4")])}, "the model wants float32"),
    "NaN": ({"image": _with(np.nan)}, "'image' contains NaN or infinity"),
    "infinity": ({"image": _with(-np.inf)}, "'image' contains NaN or infinity"),
    "objects": ({"image": np.array([{}], object)}, "Object arrays cannot be loaded"),
}


@pytest.mark.parametrize(("arrays", "words"), ARRAYS.values(), ids=ARRAYS)
def test_wrong_names_types_and_values_name_file_and_array(
    digits: Path, tmp_path: Path, arrays: dict[str, Any], words: str
) -> None:
    """Wrong names, types and values name the file and the array."""
    path = tmp_path / "inputs.npz"
    np.savez(path, **arrays)
    assert_refused(_check(digits, path), 2, "inputs.npz", words)


@pytest.mark.parametrize(
    ("shape", "shown"), [((1, 1, 8, 16), "1x1x8x16"), ((1, 16, 16), "1x16x16"), ((1, 1, 16, 16, 1), "1x1x16x16x1")]
)
def test_a_wrong_shape_is_shown_beside_the_declared_one(
    digits: Path, tmp_path: Path, shape: tuple[int, ...], shown: str
) -> None:
    """A wrong shape is shown beside the one that the model declares."""
    path = tmp_path / "inputs.npz"
    np.savez(path, image=np.zeros(shape, np.float32))
    assert_refused(_check(digits, path), 2, f"'image' must have the shape Nx1x16x16, not {shown}")


def _lying(shape: tuple[int, ...]) -> bytes:
    """Return an archive whose array claims a shape and holds four bytes."""
    header, archive = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("image.npy", header.getvalue() + b"1234")
    return archive.getvalue()


def _archive(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _not_arrays() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("image", "hello")
    return buffer.getvalue()


def _single() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, IMAGE)
    return buffer.getvalue()


GOOD = _archive(image=IMAGE)
FILES = {
    "empty": (b"", "is not an .npz archive"),
    "text": (b"hello", "is not an .npz archive"),
    "pickle": (pickle.dumps({"image": 1}), "is not an .npz archive"),
    "cut": (GOOD[: len(GOOD) // 2], "is not an .npz archive"),
    "damaged": (GOOD[:300] + b"\xff" + GOOD[301:], "is not a readable .npz archive"),
    "single array": (_single(), "is a single array: save it with numpy.savez"),
    "no arrays": (_not_arrays(), "'image' is not an array"),
    "too short": (_lying((1, 1, 16, 16)), "is not a readable .npz archive"),
    "negative shape": (_lying((-1,)), "is not a readable .npz archive"),
    "overflowing shape": (_lying((2**62, 2**62)), "is not a readable .npz archive"),
}


@pytest.mark.parametrize(("data", "words"), FILES.values(), ids=FILES)
def test_files_that_are_no_archives(digits: Path, tmp_path: Path, data: bytes, words: str) -> None:
    """Foreign and damaged files are refused by name, and nothing in them is executed."""
    path = tmp_path / "inputs.npz"
    path.write_bytes(data)
    assert_refused(_check(digits, path), 2, "inputs.npz", words)


def test_a_missing_input_file_is_named(digits: Path, tmp_path: Path) -> None:
    """A missing file is named; a directory and an empty name are no files."""
    assert_refused(_check(digits, tmp_path / "none.npz"), 2, "none.npz", "No such file")
    assert_refused(_check(digits, tmp_path), 2, "Is a directory")
    assert_refused(command("check", digits, "--input", ""), 2, "cannot read the inputs")


def test_archive_that_unpacks_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The unpacked size is bounded before anything is unpacked."""
    monkeypatch.setattr("accelsim.simulation.inputs.LARGEST_NPZ_BYTES", 10_000)
    path = tmp_path / "inputs.npz"
    np.savez_compressed(path, image=np.zeros(10_000, np.float32))
    assert path.stat().st_size < 1000
    with pytest.raises(ResourceLimitError, match=r"unpacks to 40,\d+ bytes, the limit is 10,000"):
        read_npz(path)


VARIANTS = {
    "plain": IMAGE,
    "other byte order": IMAGE.astype(">f4"),
    "Fortran order": np.asfortranarray(np.arange(256, dtype=np.float32).reshape(1, 1, 16, 16)),
    "batch of three": np.zeros((3, 1, 16, 16), np.float32),
    "strided": np.zeros((1, 1, 32, 16), np.float32)[:, :, ::2],
}


@pytest.mark.parametrize("image", VARIANTS.values(), ids=VARIANTS)
def test_layouts_of_memory_do_not_matter(digits: Path, image: NDArray[np.float32]) -> None:
    """Byte order, memory order and batch size are numpy's business, not the user's."""
    result = accelsim.run(str(digits), inputs={"image": image})
    assert result.check.verdict == "exact"
    assert result.outputs["logits"].shape == (len(image), 10)


def test_refused_inputs_leave_nothing_behind(digits: Path, tmp_path: Path) -> None:
    """When the inputs are wrong, the output folder is not even created."""
    np.savez(tmp_path / "inputs.npz", wrong=IMAGE)
    outcome = command("run", digits, "--input", tmp_path / "inputs.npz", "-o", tmp_path / "results")
    assert_refused(outcome, 2, "no input 'wrong'")
    assert not (tmp_path / "results").exists()
