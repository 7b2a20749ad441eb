"""Broken graphs: values nobody writes, cycles, duplicates; and unusual ones that must run."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

import accelsim
from accelsim.errors import ResourceLimitError
from accelsim.graph.load.limits import Limits
from tests.cli.command import assert_refused, run_model
from tests.hostile.builders import Edit, around, floats, initialiser, model_of, node, parameters, quantised
from tests.tiers import few_rows


def _without_weights(model: ModelProto) -> None:
    model.graph.initializer.remove(initialiser(model, "weights"))


def _cycle(model: ModelProto) -> None:
    node(model, "quantise").input[0] = "y"


def _self_cycle(model: ModelProto) -> None:
    node(model, "product").input[0] = "product"


def _backwards(model: ModelProto) -> None:
    nodes = [*model.graph.node][::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _written_twice(model: ModelProto) -> None:
    node(model, "quantise_out").output[0] = "codes"


def _constant_overwritten(model: ModelProto) -> None:
    node(model, "quantise").output[0] = "weights"


def _two_inputs_of_one_name(model: ModelProto) -> None:
    model.graph.input.append(model.graph.input[0])


def _two_constants_of_one_name(model: ModelProto) -> None:
    model.graph.initializer.append(initialiser(model, "scale"))


def _no_outputs(model: ModelProto) -> None:
    del model.graph.output[:]


def _lost_output(model: ModelProto) -> None:
    model.graph.output[0].name = "nothing"


def _reference_attribute(model: ModelProto) -> None:
    attribute = helper.make_attribute("axis", 1)
    attribute.ref_attr_name = "axis"
    node(model, "dequantise").attribute.append(attribute)


def _unknown_attribute(model: ModelProto) -> None:
    node(model, "product").attribute.append(helper.make_attribute("speed", 9000))


def _too_few_inputs(model: ModelProto) -> None:
    del node(model, "product").input[1:]


BROKEN = {
    "missing initialiser": (_without_weights, "'dequantise_weights' reads 'weights', which nothing writes"),
    "cycle": (_cycle, "QuantizeLinear 'quantise' reads 'y' before it is written, so the nodes form a cycle"),
    "cycle of one node": (_self_cycle, "MatMul 'product' reads 'product' before it is written"),
    "nodes out of order": (_backwards, "before it is written"),
    "output written twice": (_written_twice, "QuantizeLinear 'quantise_out' writes 'codes', which exists already"),
    "constant overwritten": (_constant_overwritten, "writes 'weights', which exists already"),
    "two inputs of one name": (_two_inputs_of_one_name, "not a valid ONNX model"),
    "two constants of one name": (_two_constants_of_one_name, "not a valid ONNX model"),
    "no outputs": (_no_outputs, "has no outputs"),
    "output that nothing writes": (_lost_output, "nothing writes the output 'nothing'"),
    "attribute of a function": (_reference_attribute, "'dequantise' refers to the parameter of a function"),
    "unknown attribute": (_unknown_attribute, "speed"),
    "too few inputs": (_too_few_inputs, "product"),
}


@pytest.mark.parametrize(("edit", "words"), BROKEN.values(), ids=BROKEN)
def test_a_broken_graph_is_refused_with_node_and_value(tmp_path: Path, edit: Edit, words: str) -> None:
    """A graph that contradicts itself is refused with the node and the value at fault."""
    assert_refused(run_model(tmp_path, quantised(edit)), 5, words)


@pytest.mark.parametrize("names", [["same"] * 6, [""] * 6, ["same", "same_2", "same", "same", "x", "x"]])
def test_equal_node_names_are_legal(names: list[str]) -> None:
    """ONNX lets nodes share a name or have none; the model runs, and its layers can be told apart."""

    def edit(model: ModelProto) -> None:
        for entry, name in zip(model.graph.node, names, strict=True):
            entry.name = name

    result = accelsim.run(accelsim.load(quantised(edit).SerializeToString()))
    assert result.check.verdict == "exact"
    assert ("equal node names" in result.check.subject) == (len({*names} - {""}) < len([*filter(None, names)]))
    shown = [layer.name for layer in result.layers]
    assert len(set(shown)) == len(shown)


@pytest.mark.parametrize(
    ("operator", "length", "same_names"), few_rows([("Neg", 2_000, False), ("Identity", 50_000, True)], 1)
)
def test_a_long_chain_is_walked_in_linear_time(operator: str, length: int, same_names: bool) -> None:
    """A chain of many thousand nodes is walked in loops, never by recursion, in time that grows with its length."""
    names = ["a", *(f"v{i}" for i in range(length - 1)), "b"]
    chain = [
        helper.make_node(operator, [names[i]], [names[i + 1]], "same" if same_names else f"n{i}") for i in range(length)
    ]
    started = time.monotonic()
    result = accelsim.run(accelsim.load(around(*chain).SerializeToString()))
    assert result.check.verdict == "exact"
    assert time.monotonic() - started < 60


def test_the_number_of_nodes_is_bounded() -> None:
    """The number of nodes is bounded."""
    with pytest.raises(ResourceLimitError, match="has 6 nodes, the limit is 5"):
        accelsim.load(quantised().SerializeToString(), Limits(nodes=5))


def _pair(first: list[int | str], second: list[int | str]) -> ModelProto:
    """Return a model that adds two quantised inputs."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["c1"]),
        helper.make_node("QuantizeLinear", ["z", "scale", "zero"], ["c2"]),
        helper.make_node("DequantizeLinear", ["c1", "scale", "zero"], ["d1"]),
        helper.make_node("DequantizeLinear", ["c2", "scale", "zero"], ["d2"]),
        helper.make_node("Add", ["d1", "d2"], ["s"]),
        helper.make_node("QuantizeLinear", ["s", "scale", "zero"], ["c3"]),
        helper.make_node("DequantizeLinear", ["c3", "scale", "zero"], ["y"]),
    ]
    return model_of(nodes, parameters(), [floats("x", first), floats("z", second)], [floats("y", ["M", 8])])


def test_inputs_that_share_a_dimension(tmp_path: Path) -> None:
    """Two inputs that share a symbolic dimension run with equal sizes and are refused with different ones."""
    model = _pair(["N", 8], ["N", 8])
    path = tmp_path / "inputs.npz"
    np.savez(path, x=np.ones((2, 8), np.float32), z=np.ones((2, 8), np.float32))
    assert run_model(tmp_path, model, "--input", str(path)).code == 0
    np.savez(path, x=np.ones((2, 8), np.float32), z=np.ones((1, 8), np.float32))
    assert_refused(run_model(tmp_path, model, "--input", str(path)), 2, "dimension 'N' is 2", "1 in 'z'")


def test_operands_that_do_not_broadcast(tmp_path: Path) -> None:
    """Shapes that contradict each other are refused, whoever notices first."""
    assert_refused(run_model(tmp_path, _pair([3, 8], [2, 8])), 5)


def _output_is_input(model: ModelProto) -> None:
    model.graph.output.append(model.graph.input[0])


def _output_is_constant(model: ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("weights", TensorProto.INT8, [8, 8]))


def _output_without_shape(model: ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("codes", TensorProto.UINT8, None))


def _output_with_wrong_shape(model: ModelProto) -> None:
    model.graph.output[0].CopyFrom(floats("y", ["N", "M"]))


def _no_inputs(model: ModelProto) -> None:
    del model.graph.input[:]
    model.graph.initializer.append(helper.make_tensor("x", TensorProto.FLOAT, [1, 8], [0.5] * 8))


def _unused_input(model: ModelProto) -> None:
    model.graph.input.append(floats("spare", ["K", 3]))


def _default_for_an_input(model: ModelProto) -> None:
    model.graph.input.append(floats("scale", []))


UNUSUAL = {
    "output is an input": (_output_is_input, {"x", "y"}),
    "output is a constant": (_output_is_constant, {"weights", "y"}),
    "output without a shape": (_output_without_shape, {"codes", "y"}),
    "output with symbolic shape": (_output_with_wrong_shape, {"y"}),
    "no inputs": (_no_inputs, {"y"}),
    "unused input": (_unused_input, {"y"}),
    "input with a default": (_default_for_an_input, {"y"}),
}


@pytest.mark.parametrize(("edit", "outputs"), UNUSUAL.values(), ids=UNUSUAL)
def test_legal_oddities_run_and_are_exact(edit: Edit, outputs: set[str]) -> None:
    """Legal oddities run and are exact."""
    result = accelsim.run(accelsim.load(quantised(edit).SerializeToString()))
    assert result.check.verdict == "exact"
    assert set(result.outputs) == outputs
