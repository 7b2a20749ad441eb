"""Valid models outside of what can run: exit code 4, all reasons at once, each with a way out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from accelsim.graph.load.constraints import OPSET_WINDOW
from tests.cli.command import assert_refused, run_model
from tests.hostile.builders import around, constant, floats, model_of, node, quantised


def _branch() -> GraphProto:
    """Return a subgraph that copies "a"."""
    return helper.make_graph([helper.make_node("Identity", ["a"], ["c"])], "branch", [], [floats("c")])


def _if() -> NodeProto:
    return helper.make_node("If", ["condition"], ["b"], "choose", then_branch=_branch(), else_branch=_branch())


def _loop() -> NodeProto:
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Identity", ["v"], ["w"])],
        "body",
        [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), floats("v")],
        [value("go_on", TensorProto.BOOL, []), floats("w")],
    )
    return helper.make_node("Loop", ["trips", "", "a"], ["b"], "repeat", body=body)


CONDITION = constant("condition", np.bool_(True))
SINGLE = {
    "unknown domain": (helper.make_node("Foo", ["a"], ["b"], "foo", domain="my.ops"), "Foo 'foo': its domain 'my.ops'"),
    "unknown contributed operator": (
        helper.make_node("Foo", ["a"], ["b"], "foo", domain="com.microsoft"),
        "Foo 'foo': the installed onnxruntime has no such operator",
    ),
    "unknown operator": (
        helper.make_node("Foo", ["a"], ["b"], "foo"),
        "Foo 'foo': neither ONNX nor onnxruntime has such an operator",
    ),
    "operator of a later opset": (
        helper.make_node("Gelu", ["a"], ["b"], "late"),
        "Gelu 'late': opset 17 has no such operator; export with a newer opset",
    ),
    "operator of an earlier opset": (
        helper.make_node("Upsample", ["a", "a"], ["b"], "old"),
        "Upsample 'old': opset 17 no longer has it; replace it by its successor",
    ),
    "If": (_if(), "If 'choose': control flow with subgraphs"),
    "Loop": (_loop(), "Loop 'repeat': control flow with subgraphs"),
    "random": (helper.make_node("RandomNormalLike", ["a"], ["b"], "noise"), "'noise': its output is random"),
    "training": (
        helper.make_node("Dropout", ["a", "", "condition"], ["b"], "drop"),
        "Dropout 'drop': it may run in training mode",
    ),
    "strings": (
        helper.make_node("Constant", [], ["b"], "words", value_strings=["a", "b"]),
        "Constant 'words': strings are not executed",
    ),
}


@pytest.mark.parametrize(("bad", "words"), SINGLE.values(), ids=SINGLE)
def test_operator_that_cannot_run(tmp_path: Path, bad: NodeProto, words: str) -> None:
    """One node that cannot run is named with its operator, the reason and a remedy."""
    model = around(bad, initialisers=[CONDITION, constant("trips", np.int64(3))])
    assert_refused(run_model(tmp_path, model), 4, "1 reason(s)", words, "; ")


def test_all_reasons_are_listed_at_once(tmp_path: Path) -> None:
    """Several nodes, an input and a constant that cannot run appear in one list, one line each."""
    model = around(
        helper.make_node("RandomNormalLike", ["a"], ["r"], "noise"),
        helper.make_node("Foo", ["r"], ["f"], "foo", domain="my.ops"),
        helper.make_node("SequenceConstruct", ["f"], ["s"], "collect"),
        _if(),
        initialisers=[CONDITION, helper.make_tensor("words", TensorProto.STRING, [1], [b"\xff\xfe"])],
    )
    model.graph.input.append(helper.make_tensor_value_info("text", TensorProto.STRING, [1]))
    outcome = run_model(tmp_path, model)
    labels = ("input 'text'", "constant 'words'", "'noise'", "'foo'", "'collect'", "'choose'")
    assert_refused(outcome, 4, "6 reason(s)", *labels)
    assert [line[:4] for line in outcome.stderr.splitlines()[1:]] == ["  - "] * 6


def test_long_lists_are_cut(tmp_path: Path) -> None:
    """A hundred reasons do not flood the terminal: the count is exact, the first forty are shown."""
    names = ["a", *(f"v{i}" for i in range(99)), "b"]
    chain = [helper.make_node("Foo", [names[i]], [names[i + 1]], f"n{i}", domain="d") for i in range(100)]
    outcome = run_model(tmp_path, around(*chain))
    assert_refused(outcome, 4, "100 reason(s) (the first 40 of them)")
    assert len(outcome.stderr.splitlines()) == 41


def _with_sparse() -> ModelProto:
    values, indices = helper.make_tensor("sparse", 1, [1], [1.0]), helper.make_tensor("places", 7, [1], [2])
    model = quantised()
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))
    return model


def _with_sequence_input() -> ModelProto:
    model = quantised()
    model.graph.input.append(helper.make_tensor_sequence_value_info("list", TensorProto.FLOAT, [1]))
    return model


def _with_input_type(element_type: int) -> ModelProto:
    model = quantised()
    model.graph.input[0].type.tensor_type.elem_type = element_type
    return model


def _without_shape() -> ModelProto:
    model = quantised()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    return model


OTHERS = {
    "sparse initialiser": (_with_sparse(), "sparse initializer 'sparse'"),
    "sequence input": (_with_sequence_input(), "sequence 'list': only dense tensors"),
    "string input": (_with_input_type(TensorProto.STRING), "input 'x': element type string"),
    "8-bit float input": (_with_input_type(TensorProto.FLOAT8E4M3FN), "input 'x': element type float8e4m3fn"),
    "complex input": (_with_input_type(TensorProto.COMPLEX64), "input 'x': element type complex64"),
    "input of no type": (_with_input_type(0), "input 'x': element type undefined"),
    "input of a type from the future": (_with_input_type(99), "input 'x': element type number 99"),
    "input without a shape": (_without_shape(), "input 'x': it has no shape"),
}


@pytest.mark.parametrize(("model", "words"), OTHERS.values(), ids=OTHERS)
def test_contents_that_cannot_run(tmp_path: Path, model: ModelProto, words: str) -> None:
    """Functions, sparse and foreign tensors are refused by name."""
    assert_refused(run_model(tmp_path, model), 4, words)


def test_narrow_codes_where_floats_belong(tmp_path: Path) -> None:
    """A 4-bit input can be fed, but not to a QuantizeLinear."""
    assert_refused(run_model(tmp_path, _with_input_type(TensorProto.INT4)), 5, "tensor(int4)", "QuantizeLinear")


@pytest.mark.parametrize("opset", [1, 9, 999, -1, 2**40])
def test_opset_outside_of_the_window(tmp_path: Path, opset: int) -> None:
    """An opset that is too old or not invented yet is refused with the window, even where onnx would run it."""
    model = quantised()
    model.opset_import[0].version = opset
    lowest, highest = OPSET_WINDOW
    assert_refused(run_model(tmp_path, model), 4, f"opset {opset} is outside of {lowest}..{highest}", "export with")


def test_a_model_without_opset_is_refused(tmp_path: Path) -> None:
    """A model must say which version of the operators it means."""
    model = quantised()
    del model.opset_import[:]
    assert_refused(run_model(tmp_path, model), 4, "no opset of the standard operators")


def test_a_float_model_is_told_how_to_quantise(tmp_path: Path) -> None:
    """A float model is told what it lacks, which layers it has, and how to quantise it."""
    weights = constant("w", np.eye(8, dtype=np.float32))
    names = ["x", *(f"m{i}" for i in range(29)), "y"]
    layers = [helper.make_node("MatMul", [names[i], "w"], [names[i + 1]], f"layer{i}") for i in range(30)]
    outcome = run_model(tmp_path, model_of(layers, [weights]))
    assert_refused(outcome, 4, "no Q/DQ nodes", "MatMul 'layer0'", "MatMul 'layer11' and 18 more", "quantize_static")


def test_float_model_with_hostile_names(tmp_path: Path) -> None:
    """Names of layers in that message are inert."""
    weights = constant("w", np.eye(8, dtype=np.float32))
    layer = helper.make_node("MatMul", ["x", "w"], ["y"], "\x1b[31mred\n")
    assert_refused(run_model(tmp_path, model_of([layer], [weights])), 4, "'?[31mred?'")


def test_dropout_for_inference_runs(tmp_path: Path) -> None:
    """A Dropout without a training input copies its input, so it is no reason to refuse a model."""
    assert run_model(tmp_path, around(helper.make_node("Dropout", ["a"], ["b"], "drop"))).code == 0


def test_subgraph_cannot_hide_behind_its_type(tmp_path: Path) -> None:
    """A subgraph whose attribute claims to be an integer is still seen."""
    model = around(_if(), initialisers=[CONDITION])
    for attribute in node(model, "choose").attribute:
        attribute.type = 2  # INT
    assert_refused(run_model(tmp_path, model), 4, "control flow with subgraphs")


def test_nested_control_flow_is_refused_like_one_level(tmp_path: Path) -> None:
    """Twenty levels of If inside each other are refused like one."""
    inner = _if()
    for _ in range(20):
        graph = helper.make_graph([inner], "level", [], [floats("b")])
        inner = helper.make_node("If", ["condition"], ["b"], "choose", then_branch=graph, else_branch=_branch())
    assert_refused(run_model(tmp_path, around(inner, initialisers=[CONDITION])), 4, "1 reason(s)", "control flow")
