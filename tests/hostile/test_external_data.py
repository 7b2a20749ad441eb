"""External data: refused unless asked for, and then only from regular files below the model's own folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import accelsim


@pytest.fixture
def split_model(digits: Path, tmp_path: Path) -> Path:
    """The digits network with its larger weights in a file of their own."""
    path = tmp_path / "digits.onnx"
    onnx.save(onnx.load(digits), path, save_as_external_data=True, location="weights.bin", size_threshold=256)
    assert (tmp_path / "weights.bin").stat().st_size > 10_000
    return path


def test_it_is_refused_unless_asked_for(split_model: Path) -> None:
    """Without the option no other file is opened."""
    with pytest.raises(accelsim.InvalidModelError, match="another file"):
        accelsim.load(split_model)


def test_asked_for_it_gives_the_same_network(split_model: Path, digits: Path) -> None:
    """With the option the outputs are those of the model in one file, and exact."""
    split = accelsim.run(accelsim.load(split_model, external_data=True))
    whole = accelsim.run(digits)
    assert split.check.verdict == "exact"
    assert np.array_equal(split.outputs["logits"], whole.outputs["logits"])


@pytest.mark.parametrize(
    "location", ["../weights.bin", "/etc/passwd", "a/../../weights.bin", "missing.bin", "link.bin", "twin.bin", ""]
)
def test_it_stays_in_the_folder(split_model: Path, location: str) -> None:
    """Parent folders, absolute paths, links, hard links and missing files are refused."""
    folder = split_model.parent
    (folder / "link.bin").symlink_to(folder / "weights.bin")
    if location == "twin.bin":
        (folder / "twin.bin").hardlink_to(folder / "weights.bin")
    proto = onnx.load(split_model, load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    changed = folder / "changed.onnx"
    changed.write_bytes(proto.SerializeToString())
    with pytest.raises(accelsim.InvalidModelError):
        accelsim.load(changed, external_data=True)


def test_too_little_data_is_refused(split_model: Path) -> None:
    """A truncated file of weights is told from a whole one."""
    weights = split_model.parent / "weights.bin"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(accelsim.InvalidModelError, match="bytes of external data"):
        accelsim.load(split_model, external_data=True)
