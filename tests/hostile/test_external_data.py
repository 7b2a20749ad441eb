"""External data: read from regular files below the model's own folder, and from nowhere else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

import accelsim
from tests.cli.command import command

Array = NDArray[Any]


@pytest.fixture
def split_model(digits: Path, tmp_path: Path) -> Path:
    """The digits network with its larger weights in a file of their own."""
    path = tmp_path / "digits.onnx"
    onnx.save(onnx.load(digits), path, save_as_external_data=True, location="weights.bin", size_threshold=256)
    assert (tmp_path / "weights.bin").stat().st_size > 10_000
    return path


def test_it_can_be_ruled_out(split_model: Path) -> None:
    """With external_data=False no other file is opened."""
    with pytest.raises(accelsim.InvalidModelError, match="another file, and reading it is ruled out by --no-external"):
        accelsim.load(split_model, external_data=False)


def test_bytes_have_no_folder(split_model: Path) -> None:
    """A model given as bytes cannot name a file, wherever the process happens to run."""
    for external_data in (None, True, False):
        with pytest.raises(accelsim.InvalidModelError, match="as bytes has no folder to find it in: give the path"):
            accelsim.load(split_model.read_bytes(), external_data=external_data)


def test_it_gives_the_same_network(split_model: Path, digits: Path) -> None:
    """The outputs are those of the model in one file, and exact; the file as it is checked holds all data."""
    loaded = accelsim.load(split_model)
    assert loaded.checked.external_files == ("weights.bin",)
    split, whole = accelsim.run(loaded), accelsim.run(digits)
    assert split.check.verdict == "exact"
    assert np.array_equal(split.outputs["logits"], whole.outputs["logits"])
    (split_model.parent / "weights.bin").unlink()
    assert np.array_equal(accelsim.run(accelsim.load(loaded.checked.file)).outputs["logits"], whole.outputs["logits"])
    assert accelsim.load(digits).checked.external_files == ()


def test_it_is_asked_for_in_vain(split_model: Path) -> None:
    """External_data=True is what happens anyway."""
    asked = accelsim.load(split_model, external_data=True).checked
    assert asked.file == accelsim.load(split_model).checked.file


def constant_model(path: Path, **changes: str) -> Array:
    """Write a model whose weights are the external value of a Constant node; returns what onnxruntime makes of it."""
    weights = np.random.default_rng(1).integers(-9, 9, (64, 8)).astype(np.int8)
    value = numpy_helper.from_array(weights)
    (path.parent / "w.bin").write_bytes(bytes(16) + value.raw_data)
    pairs = {"location": "w.bin", "offset": "16", "length": str(weights.size)} | changes
    x = helper.make_tensor_value_info("x", TensorProto.UINT8, [2, 64])
    y = helper.make_tensor_value_info("y", TensorProto.INT32, [2, 8])

    def whole(value: TensorProto) -> ModelProto:
        nodes = [helper.make_node("Constant", [], ["w"], value=value), helper.make_node("MatMulInteger", "xw", "y")]
        graph = helper.make_graph(nodes, "net", [x], [y])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    session = onnxruntime.InferenceSession(whole(value).SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": np.full((2, 64), 3, np.uint8)})
    value.ClearField("raw_data")
    value.data_location = TensorProto.EXTERNAL
    for key, text in pairs.items():
        value.external_data.add(key=key, value=text)
    path.write_bytes(whole(value).SerializeToString())
    return np.asarray(expected)


def test_constant_nodes_have_external_data_too(tmp_path: Path) -> None:
    """The tensor inside of a Constant node is read like an initialiser."""
    expected = constant_model(tmp_path / "m.onnx")
    loaded = accelsim.load(tmp_path / "m.onnx")
    result = accelsim.run(loaded, None, {"x": np.full((2, 64), 3, np.uint8)})
    assert loaded.checked.external_files == ("w.bin",)
    assert result.check.verdict == "exact"
    assert np.array_equal(result.outputs["y"], expected)


@pytest.mark.parametrize("location", ["../w.bin", "/etc/passwd", "link.bin", "folder/../w.bin", "", "."])
def test_constant_nodes_stay_in_the_folder(tmp_path: Path, location: str) -> None:
    """They reach no farther than initialisers."""
    constant_model(tmp_path / "m.onnx", location=location)
    (tmp_path / "link.bin").symlink_to(tmp_path / "w.bin")
    with pytest.raises(accelsim.InvalidModelError):
        accelsim.load(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("kind", "dims", "error", "says"),
    [
        (TensorProto.FLOAT8E4M3FN, [4], accelsim.UnsupportedModelError, "element type float8e4m3fn is not executed"),
        (TensorProto.STRING, [4], accelsim.UnsupportedModelError, "element type string is not executed"),
        (99, [4], accelsim.UnsupportedModelError, "element type number 99"),
        (TensorProto.FLOAT, [-1], accelsim.InvalidModelError, "negative dimension"),
        (TensorProto.FLOAT, [1 << 40], accelsim.ResourceLimitError, "limit"),
        (TensorProto.FLOAT, [1 << 28], accelsim.ResourceLimitError, "external data of the model exceeds"),
    ],
)
def test_sizes_are_checked_before_anything_is_read(
    split_model: Path, kind: int, dims: list[int], error: type[Exception], says: str
) -> None:
    """Types without a size, lying dimensions and more than the budget are refused in one sentence."""
    proto = onnx.load(split_model, load_external_data=False)
    tensor = next(t for t in proto.graph.initializer if t.data_location == TensorProto.EXTERNAL)
    tensor.data_type = kind
    tensor.dims[:] = dims
    split_model.write_bytes(proto.SerializeToString())
    with pytest.raises(error, match=says):
        accelsim.load(split_model)


@pytest.mark.parametrize("name", ["check", "run", "explain", "record", "trace"])
def test_the_command_line_says_what_it_reads(split_model: Path, tmp_path: Path, name: str) -> None:
    """One line on stderr, none on stdout, and none at all with -q."""
    target = {"record": ["-o", str(tmp_path / "golden")], "trace": ["-o", str(tmp_path / "trace.vcd")]}.get(name, [])
    outcome = command(name, str(split_model), *target)
    assert outcome.code == 0
    line = re.compile(r"^reads \d+ tensors, [\d.]+ kB, from weights\.bin beside the model$", re.MULTILINE)
    assert len(line.findall(outcome.stderr)) == 1
    assert "weights.bin" not in outcome.stdout
    if name != "explain":
        assert "weights.bin" not in command(name, str(split_model), *target, "-q").stderr
    refused = command(name, str(split_model), *target, "--no-external-data")
    assert refused.code == 5
    assert "ruled out by --no-external-data" in refused.stderr
    assert command(name, str(split_model), *target, "--external-data").code == 0


def test_verify_reads_it_too(split_model: Path, tmp_path: Path) -> None:
    """A record of a model with weights beside it is verified as it was recorded; one file of it is no copy."""
    golden = str(tmp_path / "golden")
    assert command("record", str(split_model), "-o", golden, "-q").code == 0
    outcome = command("verify", golden)
    assert outcome.code == 0
    assert "from weights.bin beside the model" in outcome.stderr
    assert command("verify", golden, "--no-external-data").code == 5
    copied = command("record", str(split_model), "-o", str(tmp_path / "other"), "--copy-model")
    assert copied.code == 2
    assert "--copy-model stores one file, and the model keeps weights in weights.bin beside it" in copied.stderr


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
        accelsim.load(changed)


def test_too_little_data_is_refused(split_model: Path) -> None:
    """A truncated file of weights is told from a whole one."""
    weights = split_model.parent / "weights.bin"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(accelsim.InvalidModelError, match="bytes of external data"):
        accelsim.load(split_model)
