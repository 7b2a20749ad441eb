"""The words of a verdict are true: exact, near, what the reference ran, what was chosen, what onnxruntime ignores.

The judge is onnxruntime on the file's own bytes, in a session that none of our code opens.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import accelsim
from accelsim.errors import InvalidFileError, UsageError
from accelsim.graph.normalise.reference import literal_reference
from accelsim.regression.expectations import run_model
from accelsim.reports.facts import facts, input_facts
from accelsim.reports.page.html import result_html
from accelsim.reports.page.page import report_html
from accelsim.reports.terminal.verdict import check_lines
from accelsim.results.check import FloatReference
from accelsim.results.reader import result_from_dict
from accelsim.results.result import Result
from tests.check.word_models import Arrays, biased, draw, linear, own_session, square_convolution, wide
from tests.cli.command import assert_refused, command
from tests.conftest import ROOT
from tests.generator.shrink import load_saved
from tests.qonnx_models import QonnxGraph

SMALL = 1e-3


def ran(data: bytes, inputs: Arrays | None, **options: Any) -> Result:
    """Load and run a file."""
    return accelsim.run(accelsim.load(data, **options), inputs=inputs)


def told(result: Result) -> str:
    """Return all that a terminal is told of a verdict and of the facts, on one line."""
    lines = [line.plain.strip() for line in check_lines(result.check)]
    return " ".join([*lines, *(f"{fact.title} {fact.value}: {fact.remark}" for fact in facts(result))])


def saved(folder: Path, data: bytes, inputs: Arrays) -> tuple[Path, Path]:
    """Write a model and its inputs."""
    (folder / "model.onnx").write_bytes(data)
    np.savez(folder / "in.npz", **inputs)
    return folder / "model.onnx", folder / "in.npz"


@pytest.mark.parametrize("sizes", [(3, 5), (1, 1), (2, 7)])
def test_a_linear_with_dynamic_sizes_equals_the_file(sizes: tuple[int, int]) -> None:
    """Dimensions are open when onnxruntime optimises the file, and so are those of our reference: equal to the bit."""
    data, inputs = linear(), draw(*sizes, 16)
    result = ran(data, inputs)
    assert (result.check.verdict, result.check.subject) == ("exact", "the file as it is")
    for name, array in own_session(data, inputs).items():
        np.testing.assert_array_equal(result.outputs[name], array)
    assert "equal onnxruntime on the file as it is, bit for bit" in told(result)


def test_bound_sizes_are_another_file() -> None:
    """With --bind the reference runs the file that has these sizes, and that is said."""
    inputs = draw(2, 3, 16)
    result = ran(linear(), inputs, bind={"batch": 2, "seq": 3})
    assert result.check.subject == "the file with batch=2, seq=3 bound"
    assert result.check.verdict == "exact"
    np.testing.assert_array_equal(result.outputs["total_codes"], own_session(linear(2, 3), inputs)["total_codes"])
    assert [(one.name, one.size, one.origin) for one in result.model.dimensions or ()] == [
        ("batch", 2, "bind"),
        ("seq", 3, "bind"),
    ]


def test_a_qonnx_file_is_not_said_to_run_as_it_is() -> None:
    """Its nodes are spelled in float32 operators; the reference runs these."""
    graph = QonnxGraph()
    text = told(ran(graph.model(graph.quant(graph.add_input("x", 1, 4), 0.5, 0, 4)), None))
    assert "a copy whose QONNX nodes are spelled in float32" in text


@pytest.mark.parametrize(("kind", "unit"), [("codes", "LSB"), ("values", "LSB"), ("softmax", "ULP")])
def test_outputs_that_differ_are_near(kind: str, unit: str) -> None:
    """A product that onnxruntime computes in float: how many outputs differ, by how much, behind which layer."""
    data, inputs = wide(kind), draw(4, 16, size=SMALL)
    result = ran(data, inputs)
    check, (name, theirs) = result.check, next(iter(own_session(data, inputs).items()))
    mine = result.outputs[name]
    apart = int((mine != theirs).sum())
    assert apart
    assert (check.verdict, check.output_mismatched, check.mismatched_elements) == ("near", apart, 0)
    assert check.behind == "MatMul_product"
    assert check.behind_operator in ("MatMul", "MatMulNBits")  # what this version of onnxruntime makes of it
    assert check.output_distance is not None
    assert check.output_distance.share == apart / mine.size
    largest = np.abs(mine.astype(np.float64) - theirs.astype(np.float64)).max()
    if unit == "LSB":
        assert check.output_lsb == pytest.approx(largest if kind == "codes" else largest / 2e-6, abs=0.01)
        assert check.output_ulp is None
    else:
        assert check.output_lsb is None
        assert check.output_ulp == pytest.approx(largest / np.spacing(np.abs(theirs).max()), abs=1e-3)
    text = told(result)
    assert f"{apart} of {mine.size} outputs differ, by at most" in text
    assert unit in text
    assert f"behind layer 'MatMul_product' ({check.behind_operator})" in text
    assert "bit for bit" not in text


def test_exact_is_said_of_a_float_layer_whose_outputs_are_equal() -> None:
    """The word follows the outputs, not the class of a layer; what is float is not counted as equal to the bit."""
    data, inputs = wide(), draw(4, 16, size=1e-4 * 2**-20)
    result = ran(data, inputs)
    np.testing.assert_array_equal(result.outputs["product_codes"], own_session(data, inputs)["product_codes"])
    assert (result.check.verdict, result.check.output_distance, result.check.behind) == ("exact", None, "")
    assert "64 of 96 elements equal" in told(result)
    assert "32 are float there, at most 0 LSB away" in told(result)


def test_a_mean_in_another_layout_is_near() -> None:
    """Sums of floats that ORT_ENABLE_ALL adds in another order: near, and the layer is named."""
    case, _ = load_saved(ROOT / "tests" / "saved_graphs" / "mean_in_another_layout.onnx")
    data, inputs = case.model, dict(case.inputs)
    result = ran(data, inputs)
    apart = sum(int((result.outputs[name] != array).sum()) for name, array in own_session(data, inputs).items())
    assert (result.check.verdict, result.check.output_mismatched) == ("near" if apart else "exact", apart)
    if apart:
        assert result.check.behind


def test_near_fails_only_where_strict(tmp_path: Path) -> None:
    """Near is no failure, unless --strict demands equality; strict needs the comparison."""
    model, inputs = saved(tmp_path, wide(), draw(4, 16, size=SMALL))
    for name in ("run", "check"):
        assert command(name, model, "--input", inputs).code == 0
        assert command(name, model, "--input", inputs, "--strict").code == 3
    (tmp_path / "linear.onnx").write_bytes(linear())
    assert command("check", tmp_path / "linear.onnx", "--strict").code == 0
    assert_refused(command("run", model, "--strict", "--no-check"), 2, "--strict judges")


def test_a_test_may_demand_exact_or_near(tmp_path: Path) -> None:
    """assert_exact is strict; assert_near takes bounds, and a unit without a bound must be equal."""
    model, inputs = saved(tmp_path, wide("values"), draw(4, 16, size=SMALL))
    found = run_model(str(model), {"inputs": str(inputs)})
    with pytest.raises(AssertionError, match="not bit-exact"):
        found.assert_exact()
    found.assert_near()
    found.assert_near(max_lsb=1)
    found.assert_demands({"max_lsb": 1})
    with pytest.raises(AssertionError, match=r"is 1 LSB away, 0.5 LSB allowed"):
        found.assert_near(max_lsb=0.5)
    with pytest.raises(AssertionError, match="no max_lsb is given"):
        found.assert_near(max_ulp=100)
    with pytest.raises(AssertionError, match="not bit-exact"):
        found.assert_demands({"max_lsb": 1, "exact": True})
    with pytest.raises(UsageError, match="max_lsb"):
        found.assert_near(max_lsb=-1)
    wrong = run_model(str(ROOT / "models" / "digits_int8.onnx"), {"acc_bits": 12})
    with pytest.raises(AssertionError, match="not near"):
        wrong.assert_near()


def test_the_fixture_binds_text_and_mappings(tmp_path: Path) -> None:
    """The option bind takes text or a mapping."""
    (tmp_path / "linear.onnx").write_bytes(linear())
    for bind in ("batch=2,seq=3", {"batch": 2, "seq": 3}):
        found = run_model(str(tmp_path / "linear.onnx"), {"bind": bind})
        assert found.result.check.subject == "the file with batch=2, seq=3 bound"
        assert found.outputs["total_codes"].shape == (2, 3, 24)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("batch", "'batch' binds no dimension"),
        ("=3", "binds no dimension"),
        ("", "binds no dimension"),
        ("batch=", "cannot be bound to ''"),
        ("batch=0", "cannot be bound to '0'"),
        ("batch=-1", "cannot be bound to '-1'"),
        ("batch=1.5", "cannot be bound to '1.5'"),
        ("batch=2,batch=3", "is bound twice"),
        ("bach=2", "did you mean 'batch'?"),
    ],
)
def test_what_cannot_be_bound(tmp_path: Path, text: str, words: str) -> None:
    """One sentence, exit code 2."""
    (tmp_path / "linear.onnx").write_bytes(linear())
    assert_refused(command("check", tmp_path / "linear.onnx", "--bind", text), 2, words)


def test_every_command_binds(tmp_path: Path) -> None:
    """run, check, explain, trace and record take --bind; verify takes it from the record."""
    model, golden = tmp_path / "linear.onnx", tmp_path / "golden"
    model.write_bytes(linear())
    options = ["--bind", "batch=2", "--bind", "seq=3"]
    assert "the file with batch=2, seq=3 bound" in command("run", model, *options).stdout
    explained = command("explain", model, *options, "--layer", "MatMul").stdout
    assert "M=6 K=16 N=24" in explained
    assert "none given" not in explained
    assert command("trace", model, *options, "-o", tmp_path / "t.svg").code == 0
    assert command("record", model, *options, "-o", golden).code == 0
    assert json.loads((golden / "manifest.json").read_text("utf-8"))["model"]["bind"] == {"batch": 2, "seq": 3}
    outcome = command("verify", golden)
    assert outcome.code == 0, outcome
    with pytest.raises(UsageError, match="batch=2, seq=3 bound"):
        accelsim.verify(golden, accelsim.load(model))


def test_sizes_that_nobody_gave_are_said(tmp_path: Path) -> None:
    """Dynamic dimensions become 1 without an input: in the terminal, in JSON, on the page, in explain and trace."""
    model, words = tmp_path / "linear.onnx", "batch = 1, seq = 1: none given (use --input or --bind)"
    model.write_bytes(linear())
    assert words in command("run", model).stdout
    assert words in command("explain", model).stdout
    assert words in command("trace", model, "-o", tmp_path / "t.svg").stdout
    result = ran(linear(), None)
    assert result.to_dict()["model"]["dimensions"] == [
        {"name": "batch", "size": 1, "origin": "default"},
        {"name": "seq", "size": 1, "origin": "default"},
    ]
    for page in (report_html([result]), result_html(result)):
        assert "batch = 1, seq = 1" in page
        assert "none given (use --input or --bind)" in page
    assert not input_facts(ran(linear(), draw(1, 1, 16)))
    half = command("run", model, "--bind", "batch=2").stdout
    assert "input    seq = 1: none given" in half


def test_batches_are_said() -> None:
    """Energy is per run of so many samples, and per sample; one sample is an inference; else it is a run."""
    four, one = ran(linear(), draw(4, 2, 16)), ran(linear(), draw(1, 2, 16))
    assert (four.model.batch, one.model.batch) == (4, 1)
    latency, energy = facts(four)[:2]
    assert "for batch 4" in latency.remark
    assert energy.remark.startswith("per run of 4 samples, ")
    assert "per sample" in energy.remark
    assert "per inference" not in energy.remark
    assert facts(one)[1].remark.startswith("per inference")
    assert "batch" not in facts(one)[0].remark
    assert "per sample" in report_html([four])
    unknown = ran(wide(), draw(4, 16, size=SMALL))
    assert unknown.model.batch is None
    assert facts(unknown)[1].remark.startswith("per run, ")


@pytest.mark.parametrize("data", [linear(), wide("values"), wide("softmax"), square_convolution(1)])
def test_what_is_written_is_read(data: bytes) -> None:
    """The reader takes what the writer wrote, to the byte."""
    inputs = {3: draw(2, 3, 16), 2: draw(4, 16, size=SMALL), 4: draw(2, 4, 6, 6)}
    rank = len(accelsim.load(data).inputs()["x"].shape)
    text = ran(data, inputs[rank]).to_json()
    assert result_from_dict(json.loads(text), "result.json").to_json() == text


NEW_KEYS = ("subject", "output_lsb", "output_ulp", "behind", "behind_operator", "ignored")


def test_results_without_the_new_keys_are_read() -> None:
    """An earlier version called outputs that differ exact; read today, they are near."""
    near = json.loads(ran(wide(), draw(4, 16, size=SMALL)).to_json())
    exact = json.loads(ran(linear(), draw(1, 1, 16)).to_json())
    for data in (near, exact):
        data["check"] = {key: value for key, value in data["check"].items() if key not in NEW_KEYS}
        data["model"] = {key: value for key, value in data["model"].items() if key not in ("batch", "dimensions")}
        data["check"] |= {"verdict": "exact", "output_distance": None}
    read = [result_from_dict(data, "older.json") for data in (near, exact)]
    assert [result.check.verdict for result in read] == ["near", "exact"]
    assert "7 of 32 outputs differ, behind layers that onnxruntime computes in float" in told(read[0])
    assert read[0].model.dimensions is None
    assert "not recorded" in report_html(read)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"verdict": "exact"}, "check.verdict is exact, but 7 outputs differ"),
        ({"output_mismatched": 0}, "check.verdict is near, but no output differs"),
        ({"output_mismatched": 5}, "check.output_distance.share"),
        ({"verdict": "nearly"}, "check.verdict"),
        ({"output_lsb": -1.0}, "check.output_lsb"),
    ],
)
def test_what_contradicts_itself_is_refused(change: dict[str, object], words: str) -> None:
    """No reader is told near of equal outputs, or exact of different ones."""
    data = json.loads(ran(wide(), draw(4, 16, size=SMALL)).to_json())
    data["check"] |= change
    with pytest.raises(InvalidFileError, match=words):
        result_from_dict(data, "result.json")


def test_scales_along_another_axis_are_said() -> None:
    """Weights quantised along input channels: the kernel reads their scales along output channels, loudly said."""
    inputs = draw(1, 4, 6, 6)
    wrong, right = ran(square_convolution(1), inputs), ran(square_convolution(0), inputs)
    (sentence,) = wrong.check.ignored
    assert sentence.startswith("onnxruntime reads the scales of weights 'w' along output channels (axis 0), although")
    assert right.check.ignored == ()
    judged, literal = (own_session(square_convolution(1), inputs, literal=one)["c_codes"] for one in (False, True))
    share = float((judged != literal).mean())
    assert wrong.check.literal_qdq is not None
    assert wrong.check.literal_qdq.share == share > 0.5
    assert f"but it ignores parameters of the file: read literally, {share:.2%} of the outputs" in told(wrong)
    assert facts(wrong)[2].tone == "plain"
    assert "ignores parameters" not in told(right)


def test_a_bias_is_said_to_be_ignored_only_where_it_is() -> None:
    """A fused Gemm ignores the scale of its bias; a Conv with such a bias stays in float, which reads it."""
    ignored = ran(biased("Gemm", 3e-4 * 1.009), draw(2, 8)).check
    assert [sentence[:60] for sentence in ignored.ignored] == [
        "onnxruntime ignores the scale of the bias of Gemm 'Gemm_c', wh"[:60]
    ]
    inputs = draw(2, 8, 3, 3)
    for scale in (3e-4, 1e-3):
        data = biased("Conv", scale)
        result = ran(data, inputs)
        judged, literal = (own_session(data, inputs, literal=one)["c_codes"] for one in (False, True))
        np.testing.assert_array_equal(judged, literal)
        assert (result.check.ignored, result.check.notes) == ((), ())


def test_nothing_fused_is_not_a_distance_of_zero() -> None:
    """Where onnxruntime fuses no group, the literal evaluation is what it runs anyway."""
    assert "literal float Q/DQ: the same, since onnxruntime fuses no Q/DQ group" in told(
        ran(biased("Conv", 1e-3), draw(2, 8, 3, 3))
    )
    assert "literal float Q/DQ: equal in every output element" in told(ran(linear(), draw(1, 1, 16)))


def test_what_onnxruntime_computes_itself_is_not_counted_as_equal() -> None:
    """Elements of host operators are its own; those that the machine computed are counted alone."""
    result = ran(wide("softmax"), draw(4, 16, size=1e-4 * 2**-20))
    own = result.check.host_elements
    assert own == 32
    text = facts(result)[2].remark
    assert f"{own} are onnxruntime's own" in text
    assert f"{result.check.elements - own - 32} of {result.check.elements} elements equal" in text


def test_golden_folders_keep_the_words(tmp_path: Path) -> None:
    """A record of a near run verifies as equal, and says near."""
    model, inputs = saved(tmp_path, wide(), draw(4, 16, size=SMALL))
    assert command("record", model, "--input", inputs, "-o", tmp_path / "golden").code == 0
    observed = json.loads((tmp_path / "golden" / "manifest.json").read_text("utf-8"))["observed"]["check"]
    assert (observed["verdict"], observed["output_lsb"], observed["behind"]) == ("near", 1.0, "MatMul_product")
    outcome = command("verify", tmp_path / "golden")
    assert outcome.code == 0, outcome
    assert "the verdict against onnxruntime is near" in outcome.stdout


def test_units_of_distances_are_those_of_their_tensors() -> None:
    """Floats are units in the last place apart, codes steps; where both occur both are said."""
    result = ran(wide(), draw(4, 16))
    assert "LSB away" in f"{_exact(result, 'LSB')}"
    assert re.search(r"at most 3 ULP away", _exact(result, "ULP"))
    assert re.search(r"at most 3 LSB and 3 ULP away", _exact(result, "LSB", "ULP"))


def _exact(result: Result, *units: str) -> str:
    """Return what would be said if only tensors of some units were apart, and no output."""
    distances = tuple(FloatReference(unit, 3, 0.5, unit) for unit in units)
    check = replace(result.check, verdict="exact", float_reference=distances)
    return facts(replace(result, check=check))[2].remark


def test_dimensions_that_could_be_bound_are_listed_once() -> None:
    """A near name is suggested, else all of them are."""
    for name, hint in (("batc", "(did you mean 'batch'?)"), ("frames", "(valid: batch, seq)")):
        with pytest.raises(UsageError) as refused:
            ran(linear(), None, bind={name: 1})
        assert hint in str(refused.value)


def test_an_optimiser_that_is_left_out_is_part_of_the_subject() -> None:
    """With sizes bound, too: the sentence says what the reference ran."""
    reference = literal_reference().on("the file as it is").excluding("Fuser")
    assert reference.subject == "the file as it is, without onnxruntime's Fuser, with which it refuses the file"
    bound = reference.on("the file with batch=1 bound").subject
    assert bound == "the file with batch=1 bound, without onnxruntime's Fuser, with which it refuses the file"
