"""Samples and labels for the commands quantize and schemes: from files and folders, and every way to get them wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from accelsim.errors import UsageError
from accelsim.quantise.calibrate.calibration import Calibration
from accelsim.quantise.pipeline import quantize
from tests.cli.command import assert_refused, command
from tests.quantise.helpers import (
    DIGITS,
    TEST,
    build,
    noise,
    quantize_into,
    samples,
    two_convolutions,
    write_model,
)
from tests.tiers import deep

IMAGES = samples(count=8)["image"]


def model_of_two_inputs() -> bytes:
    """Return a convolution of an image times a gate."""
    proto = ModelProto.FromString(two_convolutions())
    proto.graph.input.append(helper.make_tensor_value_info("g", TensorProto.FLOAT, ["N", 8, 6, 6]))
    proto.graph.node.insert(0, helper.make_node("Mul", ["x", "g"], ["gated"], name="gate"))
    proto.graph.node[1].input[0] = "gated"
    return bytes(proto.SerializeToString())


def test_warnings_about_test_samples_are_printed(tmp_path: Path) -> None:
    """What is to be known of --test is said as well, and what both say is said once."""
    (tmp_path / "m.onnx").write_bytes(model_of_two_inputs())
    x = noise()["x"]
    np.savez(tmp_path / "varied.npz", x=x, g=x + 1)
    np.savez(tmp_path / "constant.npz", x=x, g=np.ones_like(x))
    for calib, test in (("varied", "constant"), ("constant", "varied"), ("constant", "constant")):
        data = ("--calib", tmp_path / f"{calib}.npz", "--test", tmp_path / f"{test}.npz")
        for shown in (
            command("quantize", tmp_path / "m.onnx", "-o", tmp_path / "q.onnx", *data),
            command("schemes", tmp_path / "m.onnx", "--schemes", "int8-affine", *data),
        ):
            assert shown.code == 0, shown.stderr
            assert " ".join(shown.stderr.split()).count("has the value 1 everywhere") == 1


CALIBRATION_ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "misnamed": ({"imag": IMAGES}, "no input 'imag' (did you mean 'image'?)"),
    "missing": ({"labels": np.zeros(8, int)}, "the array 'image' is missing"),
    "extra": ({"image": IMAGES, "more": IMAGES}, "no input 'more'"),
    "shape": ({"image": IMAGES[:, :, :8]}, "'image' is 8x1x8x16, the model wants Nx1x16x16, N samples"),
    "rank": ({"image": IMAGES[:, 0]}, "'image' is 8x16x16, the model wants Nx1x16x16"),
    "scalar": ({"image": np.float32(1)}, "'image' is a scalar"),
    "dtype": ({"image": IMAGES.astype(np.float64)}, "'image' is float64, the model wants float32"),
    "bytes": ({"image": (IMAGES * 255).astype(np.uint8)}, "'image' is uint8, the model wants float32"),
    "NaN": ({"image": np.where(IMAGES > 0.9, np.nan, IMAGES).astype(np.float32)}, "contains NaN or infinity"),
    "constant": ({"image": np.full((1, 1, 16, 16), 0.5, np.float32)}, "has the value 0.5 everywhere"),
    "black": ({"image": np.zeros((3, 1, 16, 16), np.float32)}, "has the value 0 everywhere"),
    "empty": ({"image": IMAGES[:0]}, "is empty: give at least one sample"),
    "few labels": ({"image": IMAGES, "labels": np.zeros(7, int)}, "the labels are 7, but there are 8 samples"),
    "float labels": ({"image": IMAGES, "labels": np.zeros(8)}, "the labels are float64: give whole numbers"),
    "negative label": ({"image": IMAGES, "labels": np.full(8, -1)}, "the label -1 is negative"),
}


@pytest.mark.parametrize(("arrays", "words"), CALIBRATION_ERRORS.values(), ids=CALIBRATION_ERRORS)
def test_bad_calibration_data_is_named_and_nothing_is_written(
    tmp_path: Path, arrays: dict[str, Any], words: str
) -> None:
    """Names, shapes, types, values and labels: each has its sentence, and nothing is written."""
    path = tmp_path / "calib.npz"
    np.savez(path, **arrays)
    assert_refused(quantize_into(tmp_path, DIGITS, "--calib", path), 2, "calib.npz", words)
    assert not (tmp_path / "q.onnx").exists()


def test_labels_that_name_no_class(tmp_path: Path) -> None:
    """A label beyond the outputs is found before anything is tried, whichever way it came."""
    words = ("the label 10 names no class", "the model tells 10 apart, 0 to 9")
    labels = np.arange(3, 11)
    np.savez(tmp_path / "c.npz", image=IMAGES, labels=labels)
    np.save(tmp_path / "labels.npy", labels)
    assert_refused(quantize_into(tmp_path, DIGITS, "--calib", tmp_path / "c.npz"), 2, "c.npz", *words)
    for command_name in ("quantize", "schemes"):
        out = ("-o", tmp_path / "q.onnx") if command_name == "quantize" else ("--schemes", "int8-affine")
        np.savez(tmp_path / "c.npz", image=IMAGES)
        given = (command_name, DIGITS, *out, "--calib", tmp_path / "c.npz")
        assert_refused(command(*given, "--labels", tmp_path / "labels.npy"), 2, "labels.npy", *words)
        more = ("--test", tmp_path / "c.npz", "--test-labels", tmp_path / "labels.npy")
        assert_refused(command(*given, *more), 2, "labels.npy", *words)
    assert not (tmp_path / "q.onnx").exists()
    unchecked = Calibration({"image": IMAGES}, labels, "labels of another model")
    with pytest.raises(UsageError, match="does not fit the labels"):
        quantize(DIGITS, "int8-affine+activation_range=cross-entropy", unchecked)


@deep
def test_labels_belong_to_the_samples_of_their_option(tmp_path: Path) -> None:
    """--labels are those of --calib, --test-labels those of --test; both commands agree."""
    calibration, test = samples(count=12), samples(TEST, 8)
    for name, arrays in (("calib", calibration), ("test", test)):
        np.savez(tmp_path / f"{name}.npz", image=arrays["image"])
        np.save(tmp_path / f"{name}.npy", arrays["labels"])
    labels, test_labels = ("--labels", tmp_path / "calib.npy"), ("--test-labels", tmp_path / "test.npy")
    measure = ("--test", tmp_path / "test.npz")

    def accuracies(*more: str | Path) -> list[float | None]:
        given = ("--calib", tmp_path / "calib.npz", "--json", *more)
        first, second = (
            quantize_into(tmp_path, DIGITS, *given),
            command("schemes", DIGITS, "--schemes", "int8-affine", *given),
        )
        assert (first.code, second.code) == (0, 0), (first, second)
        rows = json.loads(second.stdout)["rows"]
        return [json.loads(first.stdout)["comparison"]["machine"]["accuracy"], rows[0]["accuracy"]]

    assert accuracies() == accuracies(*measure) == accuracies(*measure, *labels) == [None, None]
    assert all(value is not None and value > 0.9 for value in accuracies(*labels))
    assert all(value is not None and value > 0.9 for value in accuracies(*measure, *test_labels))
    for done in (quantize_into(tmp_path, DIGITS, *test_labels), command("schemes", DIGITS, *test_labels)):
        assert_refused(done, 2, "--test-labels holds the classes of --test, which is not given")


def test_synthetic_samples_warn_on_stderr(tmp_path: Path, small: Path) -> None:
    """Without --calib the result is written, and a warning says what it is worth."""
    made = quantize_into(tmp_path, small)
    assert made.code == 0
    assert made.stderr.startswith("accel-sim: warning: the ranges come from 16 synthetic sample(s)")
    assert len(made.stderr.splitlines()) == 1


def _masked(tmp_path: Path) -> Path:
    """Return a model that multiplies its input with a second one."""
    nodes = [helper.make_node("Mul", ["x", "mask"], ["m"], name="mul"), helper.make_node("Conv", ["m", "w"], ["y"])]
    proto = ModelProto.FromString(build(nodes, {"w": np.ones((4, 8, 1, 1), np.float32)}))
    proto.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["N", 8, 6, 6]))
    return write_model(tmp_path, proto.SerializeToString())


def test_a_constant_mask_is_a_warning(tmp_path: Path) -> None:
    """One input may be constant beside others that vary; not 0, and not all of them."""
    path, x = _masked(tmp_path), noise()["x"]
    for array, mask, words in (
        (x, np.ones_like(x), ()),
        (x, np.zeros_like(x), ("'mask' has the value 0 everywhere",)),
        (np.ones_like(x), np.ones_like(x), ("'x' has the value 1 everywhere",)),
    ):
        np.savez(tmp_path / "x.npz", x=array, mask=mask)
        done = quantize_into(tmp_path, path, "--calib", tmp_path / "x.npz", "-q")
        if words:
            assert_refused(done, 2, *words, "give real samples")
        else:
            assert done.code == 0
            assert "warning" in done.stderr
            assert "'mask' has the value 1 everywhere, and its range is chosen for that" in done.stderr


@pytest.mark.parametrize("kind", ["npy", "npy with batch", "png first", "png last"])
def test_a_folder_of_samples_gives_the_model_of_one_file(tmp_path: Path, kind: str) -> None:
    """A folder of arrays or images gives the same model as the arrays in one file."""
    image = pytest.importorskip("PIL.Image")
    generator = np.random.default_rng(0)
    last = kind == "png last"
    nodes = [helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2])] if last else []
    nodes.append(helper.make_node("Conv", ["t" if last else "x", "w"], ["y"], name="conv"))
    shape = ("N", 6, 5, 3) if last else ("N", 3, 6, 5)
    path = write_model(tmp_path, build(nodes, {"w": generator.normal(0, 1, (4, 3, 3, 3)).astype(np.float32)}, shape))
    pixels = generator.integers(0, 256, (5, 6, 5, 3)).astype(np.uint8)
    folder = tmp_path / "samples"
    folder.mkdir()
    values = pixels.astype(np.float32) / np.float32(255)
    values = values if last else values.transpose(0, 3, 1, 2)
    for index in range(5):
        if "npy" in kind:
            np.save(folder / f"{index}.npy", values[index : index + 1] if "batch" in kind else values[index])
        else:
            image.fromarray(pixels[index]).save(folder / f"{index}.png")
    assert quantize_into(tmp_path, path, "--calib", folder, "-q").code == 0
    assert (tmp_path / "q.onnx").read_bytes() == quantize(path, "int8-per-channel", {"x": values}).onnx


def test_empty_mixed_and_broken_folders_are_refused(tmp_path: Path) -> None:
    """Empty and mixed folders, broken files, wrong sizes."""
    folder = tmp_path / "f"
    folder.mkdir()
    assert_refused(quantize_into(tmp_path, DIGITS, "--calib", folder), 2, "neither .npy nor .png files")
    (folder / "a.npy").write_bytes(b"broken")
    assert_refused(quantize_into(tmp_path, DIGITS, "--calib", folder), 2, "cannot read", "a.npy")
    np.save(folder / "a.npy", np.zeros((1, 16, 16), np.float32))
    np.save(folder / "b.npy", np.zeros((1, 16, 15), np.float32))
    assert_refused(quantize_into(tmp_path, DIGITS, "--calib", folder), 2, "b.npy", "give equal samples")
    (folder / "c.png").write_bytes(b"x")
    assert_refused(quantize_into(tmp_path, DIGITS, "--calib", folder), 2, "both .npy and .png")
    for name in ("a.npy", "b.npy"):
        (folder / name).unlink()
    assert_refused(quantize_into(tmp_path, DIGITS, "--calib", folder), 2, "cannot read the image", "c.png")
    image = pytest.importorskip("PIL.Image")
    image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "c.png")
    assert_refused(quantize_into(tmp_path, DIGITS, "--calib", folder), 2, "has 8x8 pixels, the model wants 16x16")


def test_a_fixed_batch_wants_whole_batches(tmp_path: Path) -> None:
    """A model for four samples at a time refuses six, and takes eight."""
    weights = {"w": np.random.default_rng(0).normal(0, 1, (4, 8, 1, 1)).astype(np.float32)}
    path = write_model(tmp_path, build([helper.make_node("Conv", ["x", "w"], ["y"])], weights, (4, 8, 6, 6)))
    np.savez(tmp_path / "x.npz", **noise(6))
    assert_refused(quantize_into(tmp_path, path, "--calib", tmp_path / "x.npz"), 2, "takes 4 at a time")
    np.savez(tmp_path / "x.npz", **noise(8))
    assert quantize_into(tmp_path, path, "--calib", tmp_path / "x.npz").code == 0
