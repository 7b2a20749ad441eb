"""The commands quantize and schemes: two commands from float to verdict, and every way to get them wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

import accelsim
from accelsim.errors import ResourceLimitError, UsageError
from accelsim.graph.limits import Limits
from accelsim.quantise.calibration import Calibration
from accelsim.quantise.pipeline import quantize
from tests.cli.command import Outcome, assert_refused, command
from tests.quantise.helpers import CALIBRATION, DIGITS, ROOT, TEST, build, noise, samples, two_convolutions

IMAGES = samples(count=8)["image"]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.onnx"
    path.write_bytes(two_convolutions())
    return path


@pytest.fixture
def calibrated(tmp_path: Path) -> Path:
    path = tmp_path / "x.npz"
    np.savez(path, **noise())
    return path


def _quantize(folder: Path, model: Path | str, *more: str | Path) -> Outcome:
    return command("quantize", model, "-o", folder / "q.onnx", *more)


def test_two_commands_from_float_to_verdict(tmp_path: Path) -> None:
    """What the first command writes, the second executes exactly."""
    made = _quantize(tmp_path, DIGITS, "--calib", CALIBRATION, "--test", TEST)
    assert (made.code, made.stderr) == (0, "")
    assert "pointwise1" in made.stdout
    assert "machine" in made.stdout
    assert "98.6%" in made.stdout
    assert max(map(len, made.stdout.splitlines())) <= 100
    run = command("run", tmp_path / "q.onnx", "--input", ROOT / "models" / "digits_sample.npz")
    assert run.code == 0
    assert "exact" in run.stdout


def test_json_and_reports_say_the_same(tmp_path: Path, small: Path, calibrated: Path) -> None:
    """--json and --report FILE.json are one document; the HTML report is self-contained."""
    first = _quantize(tmp_path, small, "--calib", calibrated, "--json", "--report", tmp_path / "r.json")
    assert first.code == 0
    assert json.loads(first.stdout) == json.loads((tmp_path / "r.json").read_text())
    found = json.loads(first.stdout)
    assert found["schema_version"] == 1
    assert {row["layer"] for row in found["sensitivity"]} == {"first", "second"}
    for error in found["errors"]["activations"]:
        assert error["rounding"] + error["clipping"] == pytest.approx(error["total"])
    second = _quantize(tmp_path, small, "--calib", calibrated, "-q", "--report", tmp_path / "r.html")
    assert (second.code, second.stdout, second.stderr) == (0, "", "")
    page = (tmp_path / "r.html").read_text()
    assert page.count("with the grid of its codes") == len(found["errors"]["activations"] + found["errors"]["weights"])
    assert "http" not in page.replace("http://www.w3.org", "").replace("http-equiv", "")


def test_names_from_the_model_are_inert_in_the_report(tmp_path: Path, calibrated: Path) -> None:
    """A layer called like a tag stays text, on the terminal and in HTML."""
    proto = ModelProto.FromString(two_convolutions())
    for node in proto.graph.node:
        node.name = {"first": "<script>alert(1)</script>", "relu": "[red]r", "second": "\x1b[31mx"}[node.name]
    path = tmp_path / "names.onnx"
    path.write_bytes(proto.SerializeToString())
    made = _quantize(tmp_path, path, "--calib", calibrated, "--report", tmp_path / "r.html")
    assert made.code == 0, made.stderr
    assert "\x1b" not in made.stdout
    page = (tmp_path / "r.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page


def test_schemes_side_by_side(tmp_path: Path) -> None:
    """One table: quality, bytes, cycles; a float format is priced as the energy page says, with a remark."""
    names = "int8-symmetric,int8-affine,w4a8,w4a8-g32,int16,fp16,fp32"
    arguments = ("schemes", DIGITS, "--schemes", names, "--calib", CALIBRATION, "--test", TEST)
    shown = command(*arguments)
    assert shown.code == 0, shown.stderr
    assert max(map(len, shown.stdout.splitlines())) <= 100
    assert "of an array of float units, mapped like int8-affine" in " ".join(shown.stdout.split())
    assert "accumulators of 32 bits overflow" in shown.stdout
    rows = {row["scheme"]: row for row in json.loads(command(*arguments, "--json").stdout)["rows"]}
    assert list(rows) == names.split(",")
    assert rows["fp32"]["cycles"] == rows["fp16"]["cycles"] == rows["int8-affine"]["cycles"]
    assert rows["fp32"]["energy_pj"] > 1.9 * rows["fp16"]["energy_pj"] > 3 * rows["int8-affine"]["energy_pj"]
    assert rows["fp32"]["model_bytes"] == 2 * rows["fp16"]["model_bytes"] == 4 * 19_242
    assert rows["w4a8"]["model_bytes"] < rows["int8-affine"]["model_bytes"] < rows["fp16"]["model_bytes"]
    assert rows["w4a8"]["cycles"] <= rows["int8-affine"]["cycles"]
    assert rows["int8-affine"]["accuracy"] >= rows["fp32"]["accuracy"] - 0.005
    assert rows["int16"]["sqnr_db"] > rows["int8-affine"]["sqnr_db"] > rows["w4a8"]["sqnr_db"]
    assert rows["w4a8-g32"]["integer"] < 1
    assert rows["int16"]["safe_acc_bits"] > 32
    assert all(row["verdict"] in ("exact", None) for row in rows.values())


def test_a_scheme_is_the_same_in_any_company() -> None:
    """Rows are those of the scheme alone, whatever operator sets the others need."""
    arguments = ("schemes", DIGITS, "--calib", CALIBRATION, "--json", "--schemes")
    together = json.loads(command(*arguments, "int8-affine,w4a8,w2a8").stdout)["rows"]
    for row in together:
        (alone,) = json.loads(command(*arguments, row["scheme"]).stdout)["rows"]
        assert alone == row


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


def test_a_scheme_that_does_not_fit_keeps_its_row(tmp_path: Path, small: Path, calibrated: Path) -> None:
    """The other rows are there, and the reason stands below."""
    path = tmp_path / "m.onnx"
    path.write_bytes(two_convolutions(channels=48))
    np.savez(calibrated, **noise(shape=(48, 6, 6)))
    shown = command("schemes", path, "--schemes", "w4a8-g32,int8-affine", "--calib", calibrated)
    assert shown.code == 0
    assert "do not divide the input channels of 'first' 48" in " ".join(shown.stdout.split())


def test_asymmetric_activations_are_free_and_asymmetric_weights_are_not(tmp_path: Path, small: Path) -> None:
    """The white paper's point: same cycles for all three, more energy for zero points of weights only."""
    np.savez(tmp_path / "x.npz", **noise())
    names = "int8-symmetric,int8-affine,int8-affine-weights"
    shown = command("schemes", small, "--schemes", names, "--calib", tmp_path / "x.npz", "--json")
    symmetric, affine, weights = json.loads(shown.stdout)["rows"]
    assert symmetric["cycles"] == affine["cycles"]
    assert symmetric["energy_pj"] == affine["energy_pj"]
    assert weights["energy_pj"] > affine["energy_pj"]


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
def test_bad_calibration_data(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    """Names, shapes, types, values and labels: each has its sentence, and nothing is written."""
    path = tmp_path / "calib.npz"
    np.savez(path, **arrays)
    assert_refused(_quantize(tmp_path, DIGITS, "--calib", path), 2, "calib.npz", words)
    assert not (tmp_path / "q.onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--scheme", "int9"), "there is no scheme 'int9'"),
        (("--option", "weight_bits=1"), "1-bit networks have to be trained as such"),
        (("--option", "block=7"), "blocks of 7 weights do not divide the input channels of 'reduce' 16"),
        (("--keep-float", "stm"), "there is no layer or operator 'stm' to keep in float (did you mean 'stem'?)"),
        (("--keep-float", "Conv", "--keep-float", "Gemm"), "every layer is kept in float"),
        (("--option", "layer_bits.steam=4"), "there is no layer 'steam' with weights"),
        (("--scheme", "fp16"), "keeps floats, so there is nothing to quantise"),
        (("--report", "r.pdf"), "a report is .html or .json"),
        (("--calib", "absent.npz"), "cannot read the inputs absent.npz"),
        (("--labels", "absent.npy"), "cannot read the labels absent.npy"),
        (("--labels", "absent"), "cannot read the labels absent"),
        (("--option", "activation_range=cross-entropy"), "need the class of each sample"),
    ],
)
def test_bad_options(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    """One sentence each, exit code 2."""
    assert_refused(_quantize(tmp_path, DIGITS, *arguments), 2, words)


def test_labels_that_name_no_class(tmp_path: Path) -> None:
    """A label beyond the outputs is found before anything is tried, whichever way it came."""
    words = ("the label 10 names no class", "the model tells 10 apart, 0 to 9")
    labels = np.arange(3, 11)
    np.savez(tmp_path / "c.npz", image=IMAGES, labels=labels)
    np.save(tmp_path / "labels.npy", labels)
    assert_refused(_quantize(tmp_path, DIGITS, "--calib", tmp_path / "c.npz"), 2, "c.npz", *words)
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
            _quantize(tmp_path, DIGITS, *given),
            command("schemes", DIGITS, "--schemes", "int8-affine", *given),
        )
        assert (first.code, second.code) == (0, 0), (first, second)
        rows = json.loads(second.stdout)["rows"]
        return [json.loads(first.stdout)["comparison"]["machine"]["accuracy"], rows[0]["accuracy"]]

    assert accuracies() == accuracies(*measure) == accuracies(*measure, *labels) == [None, None]
    assert all(value is not None and value > 0.9 for value in accuracies(*labels))
    assert all(value is not None and value > 0.9 for value in accuracies(*measure, *test_labels))
    for done in (_quantize(tmp_path, DIGITS, *test_labels), command("schemes", DIGITS, *test_labels)):
        assert_refused(done, 2, "--test-labels holds the classes of --test, which is not given")


def _write(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    return path


def test_models_that_cannot_be_quantised(tmp_path: Path) -> None:
    """Quantised already, without weights, with control flow, no model at all, too new, too old, not there."""
    refuse = lambda path, code, *words: assert_refused(_quantize(tmp_path, path), code, *words)  # noqa: E731
    refuse(ROOT / "models" / "digits_int8.onnx", 4, "is quantised already")
    refuse(_write(tmp_path, build([helper.make_node("Relu", ["x"], ["y"])], {})), 4, "nothing to quantise")
    refuse(_write(tmp_path, b"not a model"), 5, "is not an ONNX model")
    refuse(tmp_path, 2, "is a directory")
    refuse(tmp_path / "absent.onnx", 2, "cannot read")
    proto = ModelProto.FromString(two_convolutions())
    proto.opset_import[0].version = 99
    refuse(_write(tmp_path, proto.SerializeToString()), 4, "known are those up to 25")
    body = helper.make_graph([], "body", [], [])
    branch = helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body)
    refuse(_write(tmp_path, build([branch], {})), 4, "control flow")


def test_an_old_operator_that_the_converter_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the version converter has no rule for is told apart from a broken file."""

    def refuse(*_: object) -> None:
        raise RuntimeError("No Adapter For Something 7 -> 8")

    monkeypatch.setattr("onnx.version_converter.convert_version", refuse)
    proto = ModelProto.FromString(two_convolutions())
    proto.opset_import[0].version = 7
    path = _write(tmp_path, proto.SerializeToString())
    words = ("uses operator set 7, and the converter cannot bring it to 13", "No Adapter For Something")
    assert_refused(_quantize(tmp_path, path), 4, *words)


def test_models_beyond_the_limits(tmp_path: Path) -> None:
    """A file over 2 GB is refused by its size, without being read; smaller limits hold as well."""
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.truncate((2 << 30) + 1)
    assert_refused(_quantize(tmp_path, path), 6, "ONNX files end at 2 GB")
    with pytest.raises(ResourceLimitError, match="the limit is 1,000"):
        quantize(DIGITS, limits=Limits(file_bytes=1000))


def test_a_model_that_computes_nan(tmp_path: Path) -> None:
    """The tensor is named."""
    nodes = [helper.make_node("Sqrt", ["x"], ["s"]), helper.make_node("Conv", ["s", "w"], ["y"])]
    path = _write(tmp_path, build(nodes, {"w": np.ones((4, 8, 1, 1), np.float32)}))
    np.savez(tmp_path / "x.npz", **noise())
    assert_refused(_quantize(tmp_path, path, "--calib", tmp_path / "x.npz"), 2, "computes NaN or infinity in 's'")


def test_operators_without_quantisers_are_listed(tmp_path: Path) -> None:
    """They stay in float, and the result still runs exactly."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("Sin", ["c"], ["t"], name="sine"),
        helper.make_node("Softplus", ["t"], ["y"], name="softplus"),
    ]
    path = _write(tmp_path, build(nodes, {"w": np.ones((4, 8, 1, 1), np.float32)}))
    np.savez(tmp_path / "x.npz", **noise())
    made = _quantize(tmp_path, path, "--calib", tmp_path / "x.npz")
    assert made.code == 0, made.stderr
    assert "stay in float" in made.stdout
    assert "Softplus 'softplus'" in made.stdout
    assert command("run", tmp_path / "q.onnx").code == 0


def test_tensors_without_a_range_are_reported(tmp_path: Path) -> None:
    """A tensor that is always 0 gets a scale of 1 and a remark."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("Conv", ["r", "v"], ["y"], name="last"),
    ]
    constants = {"w": -np.ones((4, 8, 1, 1), np.float32), "v": np.ones((2, 4, 1, 1), np.float32)}
    x: dict[str, NDArray[np.generic]] = {"x": np.abs(noise()["x"])}
    quantised = quantize(build(nodes, constants), "int8-affine", x)
    assert any("always 0 in the calibration data" in remark for remark in quantised.remarks)
    path = _write(tmp_path, quantised.onnx)
    assert command("run", path).code == 0


def test_synthetic_samples_warn_on_stderr(tmp_path: Path, small: Path) -> None:
    """Without --calib the result is written, and a warning says what it is worth."""
    made = _quantize(tmp_path, small)
    assert made.code == 0
    assert made.stderr.startswith("accel-sim: warning: the ranges come from 16 synthetic sample(s)")
    assert len(made.stderr.splitlines()) == 1


def test_an_unwritable_target(tmp_path: Path, small: Path) -> None:
    """The folder of an output must exist, and it must be a file; said before the model is read."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for target, reason in (
        (tmp_path / "absent" / "q.onnx", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (pipe, "not a regular file"),
        ("", "cannot write (empty name): a file needs a name"),
    ):
        done = command("quantize", tmp_path / "absent.onnx", "-o", target, "-q")
        assert_refused(done, 2, "cannot write", reason, "choose another file with -o")
    done = _quantize(tmp_path, tmp_path / "absent.onnx", "--report", tmp_path / "absent" / "r.html")
    assert_refused(done, 2, "cannot write", "choose another file with --report")
    assert pipe.is_fifo()


def test_an_output_over_something_that_is_read(tmp_path: Path, small: Path, calibrated: Path) -> None:
    """Model, samples, labels and report are not written over, whatever their paths are spelled like."""
    link = tmp_path / "link.onnx"
    link.symlink_to(small)
    for target, more, what in (
        (tmp_path / "." / "small.onnx", (), "the model"),
        (link, (), "the model"),
        (calibrated, ("--calib", calibrated), "--calib"),
        (calibrated, ("--test", calibrated), "--test"),
        (calibrated, ("--labels", calibrated), "--labels"),
        (calibrated, ("--test", small, "--test-labels", calibrated), "--test-labels"),
    ):
        assert_refused(command("quantize", small, "-o", target, *more), 2, f"it is also {what}", "with -o")
    done = command("quantize", small, "-o", tmp_path / "r.json", "--report", tmp_path / "r.json")
    assert_refused(done, 2, "it is also the model to write", "with --report")
    assert small.read_bytes() == two_convolutions()


def test_an_interrupted_report_leaves_the_model(tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is whole before the report begins, and that is said."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("accelsim.quantise.report.report_on", interrupt)
    done = _quantize(tmp_path, small)
    assert done.code == 130
    assert "q.onnx is written and complete, its report is not" in done.stderr
    assert "interrupted" in done.stderr
    assert accelsim.load((tmp_path / "q.onnx").read_bytes()).inputs()


def _masked(tmp_path: Path) -> Path:
    """Return a model that multiplies its input with a second one."""
    nodes = [helper.make_node("Mul", ["x", "mask"], ["m"], name="mul"), helper.make_node("Conv", ["m", "w"], ["y"])]
    proto = ModelProto.FromString(build(nodes, {"w": np.ones((4, 8, 1, 1), np.float32)}))
    proto.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["N", 8, 6, 6]))
    return _write(tmp_path, proto.SerializeToString())


def test_a_constant_mask_is_a_warning(tmp_path: Path) -> None:
    """One input may be constant beside others that vary; not 0, and not all of them."""
    path, x = _masked(tmp_path), noise()["x"]
    for array, mask, words in (
        (x, np.ones_like(x), ()),
        (x, np.zeros_like(x), ("'mask' has the value 0 everywhere",)),
        (np.ones_like(x), np.ones_like(x), ("'x' has the value 1 everywhere",)),
    ):
        np.savez(tmp_path / "x.npz", x=array, mask=mask)
        done = _quantize(tmp_path, path, "--calib", tmp_path / "x.npz", "-q")
        if words:
            assert_refused(done, 2, *words, "give real samples")
        else:
            assert done.code == 0
            assert "warning" in done.stderr
            assert "'mask' has the value 1 everywhere, and its range is chosen for that" in done.stderr


def test_inputs_that_cannot_be_sampled(tmp_path: Path) -> None:
    """Of one dimension, or of text."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    path = _write(tmp_path, build(nodes, {"w": np.ones((16, 4), np.float32)}, (16,)))
    np.savez(tmp_path / "x.npz", **noise(20, (16,)))
    done = _quantize(tmp_path, path, "--calib", tmp_path / "x.npz")
    assert_refused(done, 2, "'x' is 20x16, but the input has one dimension, which has to count the samples")
    proto = ModelProto.FromString(two_convolutions())
    proto.graph.input.append(helper.make_tensor_value_info("text", TensorProto.STRING, ["N", 2]))
    proto.graph.node.append(helper.make_node("Identity", ["text"], ["same"], name="same"))
    proto.graph.output.append(helper.make_tensor_value_info("same", TensorProto.STRING, ["N", 2]))
    done = _quantize(tmp_path, _write(tmp_path, proto.SerializeToString()))
    assert_refused(done, 4, "input 'text' is string, which samples cannot hold")


@pytest.mark.parametrize("kind", ["npy", "npy with batch", "png first", "png last"])
def test_folders_of_samples(tmp_path: Path, kind: str) -> None:
    """A folder of arrays or images gives the same model as the arrays in one file."""
    image = pytest.importorskip("PIL.Image")
    generator = np.random.default_rng(0)
    last = kind == "png last"
    nodes = [helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2])] if last else []
    nodes.append(helper.make_node("Conv", ["t" if last else "x", "w"], ["y"], name="conv"))
    shape = ("N", 6, 5, 3) if last else ("N", 3, 6, 5)
    path = _write(tmp_path, build(nodes, {"w": generator.normal(0, 1, (4, 3, 3, 3)).astype(np.float32)}, shape))
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
    assert _quantize(tmp_path, path, "--calib", folder, "-q").code == 0
    assert (tmp_path / "q.onnx").read_bytes() == quantize(path, "int8-per-channel", {"x": values}).onnx


def test_bad_folders(tmp_path: Path) -> None:
    """Empty and mixed folders, broken files, wrong sizes."""
    folder = tmp_path / "f"
    folder.mkdir()
    assert_refused(_quantize(tmp_path, DIGITS, "--calib", folder), 2, "neither .npy nor .png files")
    (folder / "a.npy").write_bytes(b"broken")
    assert_refused(_quantize(tmp_path, DIGITS, "--calib", folder), 2, "cannot read", "a.npy")
    np.save(folder / "a.npy", np.zeros((1, 16, 16), np.float32))
    np.save(folder / "b.npy", np.zeros((1, 16, 15), np.float32))
    assert_refused(_quantize(tmp_path, DIGITS, "--calib", folder), 2, "b.npy", "give equal samples")
    (folder / "c.png").write_bytes(b"x")
    assert_refused(_quantize(tmp_path, DIGITS, "--calib", folder), 2, "both .npy and .png")
    for name in ("a.npy", "b.npy"):
        (folder / name).unlink()
    assert_refused(_quantize(tmp_path, DIGITS, "--calib", folder), 2, "cannot read the image", "c.png")
    image = pytest.importorskip("PIL.Image")
    image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "c.png")
    assert_refused(_quantize(tmp_path, DIGITS, "--calib", folder), 2, "has 8x8 pixels, the model wants 16x16")


def test_a_fixed_batch_wants_whole_batches(tmp_path: Path) -> None:
    """A model for four samples at a time refuses six, and takes eight."""
    weights = {"w": np.random.default_rng(0).normal(0, 1, (4, 8, 1, 1)).astype(np.float32)}
    path = _write(tmp_path, build([helper.make_node("Conv", ["x", "w"], ["y"])], weights, (4, 8, 6, 6)))
    np.savez(tmp_path / "x.npz", **noise(6))
    assert_refused(_quantize(tmp_path, path, "--calib", tmp_path / "x.npz"), 2, "takes 4 at a time")
    np.savez(tmp_path / "x.npz", **noise(8))
    assert _quantize(tmp_path, path, "--calib", tmp_path / "x.npz").code == 0


def test_inputs_without_dimensions_are_refused(tmp_path: Path) -> None:
    """A scalar input has no axis that counts samples."""
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert_refused(_quantize(tmp_path, _write(tmp_path, proto.SerializeToString())), 4)


def test_external_data_is_read_on_request(tmp_path: Path, calibrated: Path) -> None:
    """Weights beside the model are refused without --external-data, and give the same result with it."""
    import onnx

    proto = ModelProto.FromString(two_convolutions())
    path = tmp_path / "m.onnx"
    onnx.save_model(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert_refused(_quantize(tmp_path, path, "--calib", calibrated), 5, "in another file", "read with --external-data")
    assert _quantize(tmp_path, path, "--calib", calibrated, "--external-data", "-q").code == 0
    plain = quantize(two_convolutions(), "int8-per-channel", noise())
    run = lambda data: accelsim.run(accelsim.load(data), None, {"x": noise()["x"][:1]}).outputs["y"]  # noqa: E731
    assert np.array_equal(run((tmp_path / "q.onnx").read_bytes()), run(plain.onnx))


def test_models_that_would_fill_the_memory(tmp_path: Path) -> None:
    """A constant of a billion elements is refused before onnxruntime folds it."""
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["large"]),
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Add", ["c", "large"], ["y"]),
    ]
    constants = {"w": np.ones((4, 8, 1, 1), np.float32), "size": np.asarray([1 << 20, 1 << 10, 1, 1])}
    assert_refused(_quantize(tmp_path, _write(tmp_path, build(nodes, constants))), 6, "'large'", "the limit is")
