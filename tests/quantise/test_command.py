"""The command quantize: two commands from float to verdict, and every way to get them wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

import accelsim
from accelsim.errors import ResourceLimitError
from accelsim.graph.load.limits import Limits
from accelsim.quantise.pipeline import quantize
from tests.cli.command import assert_refused, command
from tests.quantise.helpers import (
    CALIBRATION,
    DIGITS,
    ROOT,
    TEST,
    build,
    noise,
    quantize_into,
    two_convolutions,
    write_model,
)
from tests.tiers import deep


@deep
def test_two_commands_from_float_to_verdict(tmp_path: Path) -> None:
    """What the first command writes, the second executes exactly."""
    made = quantize_into(tmp_path, DIGITS, "--calib", CALIBRATION, "--test", TEST)
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
    first = quantize_into(tmp_path, small, "--calib", calibrated, "--json", "--report", tmp_path / "r.json")
    assert first.code == 0
    assert json.loads(first.stdout) == json.loads((tmp_path / "r.json").read_text())
    found = json.loads(first.stdout)
    assert found["schema_version"] == 1
    assert {row["layer"] for row in found["sensitivity"]} == {"first", "second"}
    for error in found["errors"]["activations"]:
        assert error["rounding"] + error["clipping"] == pytest.approx(error["total"])
    second = quantize_into(tmp_path, small, "--calib", calibrated, "-q", "--report", tmp_path / "r.html")
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
    made = quantize_into(tmp_path, path, "--calib", calibrated, "--report", tmp_path / "r.html")
    assert made.code == 0, made.stderr
    assert "\x1b" not in made.stdout
    page = (tmp_path / "r.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--scheme", "int9"), "there is no scheme 'int9'"),
        (("--option", "weight_bits=1"), "1-bit networks have to be trained as such"),
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
def test_a_bad_option_is_one_sentence_and_code_2(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    """One sentence each, exit code 2."""
    assert_refused(quantize_into(tmp_path, DIGITS, *arguments), 2, words)


def test_models_that_cannot_be_quantised(tmp_path: Path) -> None:
    """Quantised already, without weights, with control flow, no model at all, too new, too old, not there."""
    refuse = lambda path, code, *words: assert_refused(quantize_into(tmp_path, path), code, *words)  # noqa: E731
    refuse(ROOT / "models" / "digits_int8.onnx", 4, "is quantised already")
    refuse(write_model(tmp_path, build([helper.make_node("Relu", ["x"], ["y"])], {})), 4, "nothing to quantise")
    refuse(write_model(tmp_path, b"not a model"), 5, "is not an ONNX model")
    refuse(tmp_path, 2, "is a directory")
    refuse(tmp_path / "absent.onnx", 2, "cannot read")
    proto = ModelProto.FromString(two_convolutions())
    proto.opset_import[0].version = 99
    refuse(write_model(tmp_path, proto.SerializeToString()), 4, "known are those up to 25")
    body = helper.make_graph([], "body", [], [])
    branch = helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body)
    refuse(write_model(tmp_path, build([branch], {})), 4, "control flow")


def test_an_old_operator_that_the_converter_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the version converter has no rule for is told apart from a broken file."""

    def refuse(*_: object) -> None:
        raise RuntimeError("No Adapter For Something 7 -> 8")

    monkeypatch.setattr("onnx.version_converter.convert_version", refuse)
    proto = ModelProto.FromString(two_convolutions())
    proto.opset_import[0].version = 7
    path = write_model(tmp_path, proto.SerializeToString())
    words = ("uses operator set 7, and the converter cannot bring it to 13", "No Adapter For Something")
    assert_refused(quantize_into(tmp_path, path), 4, *words)


@deep
def test_models_beyond_the_limits(tmp_path: Path) -> None:
    """A file over 2 GB is refused by its size, without being read; smaller limits hold as well."""
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.truncate((2 << 30) + 1)
    assert_refused(quantize_into(tmp_path, path), 6, "ONNX files end at 2 GB")
    with pytest.raises(ResourceLimitError, match="the limit is 1,000"):
        quantize(DIGITS, limits=Limits(file_bytes=1000))


def test_a_model_that_computes_nan(tmp_path: Path) -> None:
    """The tensor is named."""
    nodes = [helper.make_node("Sqrt", ["x"], ["s"]), helper.make_node("Conv", ["s", "w"], ["y"])]
    path = write_model(tmp_path, build(nodes, {"w": np.ones((4, 8, 1, 1), np.float32)}))
    np.savez(tmp_path / "x.npz", **noise())
    assert_refused(quantize_into(tmp_path, path, "--calib", tmp_path / "x.npz"), 2, "computes NaN or infinity in 's'")


def test_operators_without_quantisers_are_listed(tmp_path: Path) -> None:
    """They stay in float, and the result still runs exactly."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("Sin", ["c"], ["t"], name="sine"),
        helper.make_node("Softplus", ["t"], ["y"], name="softplus"),
    ]
    path = write_model(tmp_path, build(nodes, {"w": np.ones((4, 8, 1, 1), np.float32)}))
    np.savez(tmp_path / "x.npz", **noise())
    made = quantize_into(tmp_path, path, "--calib", tmp_path / "x.npz")
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
    path = write_model(tmp_path, quantised.onnx)
    assert command("run", path).code == 0


def test_an_unwritable_target_is_refused_before_the_model_is_read(tmp_path: Path, small: Path) -> None:
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
    done = quantize_into(tmp_path, tmp_path / "absent.onnx", "--report", tmp_path / "absent" / "r.html")
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

    monkeypatch.setattr("accelsim.quantise.measure.report.report_on", interrupt)
    done = quantize_into(tmp_path, small)
    assert done.code == 130
    assert "q.onnx is written and complete, its report is not" in done.stderr
    assert "interrupted" in done.stderr
    assert accelsim.load((tmp_path / "q.onnx").read_bytes()).inputs()


def test_inputs_that_cannot_be_sampled(tmp_path: Path) -> None:
    """Of one dimension, or of text."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    path = write_model(tmp_path, build(nodes, {"w": np.ones((16, 4), np.float32)}, (16,)))
    np.savez(tmp_path / "x.npz", **noise(20, (16,)))
    done = quantize_into(tmp_path, path, "--calib", tmp_path / "x.npz")
    assert_refused(done, 2, "'x' is 20x16, but the input has one dimension, which has to count the samples")
    proto = ModelProto.FromString(two_convolutions())
    proto.graph.input.append(helper.make_tensor_value_info("text", TensorProto.STRING, ["N", 2]))
    proto.graph.node.append(helper.make_node("Identity", ["text"], ["same"], name="same"))
    proto.graph.output.append(helper.make_tensor_value_info("same", TensorProto.STRING, ["N", 2]))
    done = quantize_into(tmp_path, write_model(tmp_path, proto.SerializeToString()))
    assert_refused(done, 4, "input 'text' is string, which samples cannot hold")


def test_inputs_without_dimensions_are_refused(tmp_path: Path) -> None:
    """A scalar input has no axis that counts samples."""
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert_refused(quantize_into(tmp_path, write_model(tmp_path, proto.SerializeToString())), 4)


def test_external_data_is_read(tmp_path: Path, calibrated: Path) -> None:
    """Weights beside the model give the same result, a line on stderr says so, and --no-external-data refuses them."""
    import onnx

    proto = ModelProto.FromString(two_convolutions())
    path = tmp_path / "m.onnx"
    onnx.save_model(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    refused = quantize_into(tmp_path, path, "--calib", calibrated, "--no-external-data")
    assert_refused(refused, 5, "in another file", "ruled out by --no-external-data")
    outcome = quantize_into(tmp_path, path, "--calib", calibrated)
    assert outcome.code == 0
    assert "from weights.bin beside the model" in outcome.stderr
    assert quantize_into(tmp_path, path, "--calib", calibrated, "--external-data", "-q").stderr == ""
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
    assert_refused(
        quantize_into(tmp_path, write_model(tmp_path, build(nodes, constants))), 6, "'large'", "the limit is"
    )
