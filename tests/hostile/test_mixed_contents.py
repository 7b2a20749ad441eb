"""Models that mix what can run with what cannot, refer to themselves, or divide badly: exit 4 or 5, one sentence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, helper

import accelsim
from tests.check.word_models import judged_word
from tests.cli.command import assert_refused, run_model
from tests.hostile.builders import around, constant, floats, model_of, quantised

FINDING = re.compile(r"  - [\w.]+ '[^']*': .+; .+")


def branch(*nodes: NodeProto) -> GraphProto:
    """Return a subgraph that ends in "b"."""
    return helper.make_graph(list(nodes), "branch", [], [floats("b")])


def choice(name: str, *nodes: NodeProto) -> NodeProto:
    """Return an If whose branches consist of some nodes."""
    return helper.make_node("If", ["yes"], [name], name, then_branch=branch(*nodes), else_branch=branch(*nodes))


def function(domain: str, name: str, *called: tuple[str, str]) -> FunctionProto:
    """Return a function that calls others, one after the other."""
    names = ["X", *(f"v{i}" for i in range(1, len(called))), "Y"]
    nodes = [helper.make_node(kind, [names[i]], [names[i + 1]], domain=where) for i, (where, kind) in enumerate(called)]
    opsets = [helper.make_opsetid(where, 17 if not where else 1) for where in dict.fromkeys(["", domain])]
    return helper.make_function(domain, name, ["X"], ["Y"], nodes, opsets)


def with_functions(call: NodeProto, *functions: FunctionProto) -> ModelProto:
    """Return a quantised model with local functions, one of which is called."""
    model = around(call)
    model.functions.extend(functions)
    known = {entry.domain for entry in model.opset_import}
    model.opset_import.extend(helper.make_opsetid(domain, 1) for domain in {f.domain for f in functions} - known)
    return model


# ---- everything at once


def test_a_mixture_is_listed_node_by_node(tmp_path: Path) -> None:
    """Domains, functions, subgraphs in subgraphs, sequences, strings, sparse and random: one line each, all at once."""
    inner = choice("inner", helper.make_node("Identity", ["a"], ["b"]))
    nodes = [
        helper.make_node("Scaler", ["a"], ["m1"], "scaled", domain="ai.onnx.ml"),
        helper.make_node("Twice", ["m1"], ["m2"], "doubled", domain="local"),
        choice("outer", inner),
        helper.make_node("SplitToSequence", ["m2"], ["m3"], "pieces"),
        helper.make_node("SequenceAt", ["m3", "first"], ["m4"], "piece"),
        helper.make_node("Optional", ["m4"], ["m5"], "perhaps"),
        helper.make_node("OptionalGetElement", ["m5"], ["m6"], "surely"),
        helper.make_node("StringNormalizer", ["words"], ["m7"], "tidied"),
        helper.make_node("Bernoulli", ["m6"], ["m8"], "tossed"),
        helper.make_node("MyOp", ["m8"], ["m9"], "mine", domain="com.example"),
        helper.make_node("Foo", ["m9"], ["b"], "unknown"),
    ]
    model = around(*nodes, initialisers=[constant("yes", np.bool_(True)), constant("first", np.int64(0))])
    model.functions.append(function("local", "Twice", ("", "Abs")))
    model.graph.input.append(helper.make_tensor_value_info("words", TensorProto.STRING, [3]))
    model.graph.output.append(helper.make_tensor_sequence_value_info("m3", TensorProto.FLOAT, None))
    outcome = run_model(tmp_path, model)
    put_in_place = {"doubled", "outer"}  # a function, and an If whose condition is a constant
    names = [*(node.name for node in nodes if node.name not in put_in_place), "words", "m3"]
    assert_refused(outcome, 4, f"{len(names)} reason(s)", *(f"'{name}'" for name in names))
    lines = outcome.stderr.splitlines()[1:]
    assert all(FINDING.fullmatch(line) for line in lines), lines
    assert len(lines) == len(names)


# ---- functions that call each other


RECURSIVE = {
    "itself": (function("local", "F", ("local", "F")),),
    "each other": (function("local", "F", ("local", "G")), function("local", "G", ("local", "F"))),
    "a name of ONNX": (function("", "Abs", ("", "Abs")), function("local", "F", ("", "Abs"))),
    "one domain as two": (function("local", "F", ("other", "F")), function("other", "F", ("local", "F"))),
    "doubling": tuple(function("local", f"F{i or ''}", *[("local", f"F{i + 1}")] * 2) for i in range(40)),
}


@pytest.mark.parametrize("functions", RECURSIVE.values(), ids=RECURSIVE)
def test_functions_that_never_end(tmp_path: Path, functions: tuple[FunctionProto, ...]) -> None:
    """Functions are refused before anybody expands them, however they call each other."""
    call = helper.make_node("F", ["a"], ["b"], "call", domain="local")
    outcome = run_model(tmp_path, with_functions(call, *functions))
    if len(functions) > 2:
        assert_refused(outcome, 6, "nodes", "once its functions are put in place")
    else:
        assert_refused(outcome, 5, "calls itself")


def test_a_subgraph_inside_of_a_function(tmp_path: Path) -> None:
    """Control flow that a function hides, with a condition that the function does not have, is refused as such."""
    hidden = function("local", "F", ("", "Abs"))
    hidden.node.append(choice("hidden", helper.make_node("Identity", ["X"], ["b"])))
    call = helper.make_node("F", ["a"], ["b"], "call", domain="local")
    assert_refused(run_model(tmp_path, with_functions(call, hidden)), 4, "control flow with subgraphs")


# ---- types inside of types


def nested_type(levels: int) -> TypeProto:
    """Return a sequence of sequences of ... of floats."""
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, [1])
    for _ in range(levels):
        kind = helper.make_sequence_type_proto(kind)
    return kind


@pytest.mark.parametrize("levels", [1, 2, 30])
def test_sequences_of_sequences_are_refused_by_name(tmp_path: Path, levels: int) -> None:
    """An input of nested sequences is refused by name, whatever the depth."""
    model = quantised()
    model.graph.input.append(helper.make_value_info("nested", nested_type(levels)))
    assert_refused(run_model(tmp_path, model), 4, "sequence 'nested': only dense tensors")


TYPES: dict[str, tuple[TypeProto, str]] = {
    "optional": (helper.make_optional_type_proto(nested_type(1)), "optional 'strange'"),
    "sparse": (helper.make_sparse_tensor_type_proto(TensorProto.FLOAT, [4]), "sparse tensor 'strange'"),
    "map": (helper.make_map_type_proto(TensorProto.INT64, nested_type(0)), "map 'strange'"),
}


@pytest.mark.parametrize(("kind", "words"), TYPES.values(), ids=TYPES)
@pytest.mark.parametrize("side", ["input", "output"])
def test_values_that_are_no_tensors(tmp_path: Path, kind: TypeProto, words: str, side: str) -> None:
    """Optionals, sparse tensors and maps are refused by name, coming in or going out."""
    model = quantised()
    getattr(model.graph, side).append(helper.make_value_info("strange", kind))
    assert_refused(run_model(tmp_path, model), 4, words)


@pytest.mark.parametrize("domain", ["ai.onnx.ml", "ai.onnx.training", "AI.ONNX", "com.microsoft ", "\x1b[31m"])
def test_a_domain_that_resembles_a_known_one(tmp_path: Path, domain: str) -> None:
    """Domains are compared letter by letter and printed without control characters."""
    node = helper.make_node("Add", ["a", "a"], ["b"], "sum", domain=domain)
    outcome = run_model(tmp_path, around(node))
    assert_refused(outcome, 4, "Add 'sum': its domain", "is unknown; replace it")
    assert "\x1b" not in outcome.stderr


# ---- blocked weights


def blocked(depth: int, block: int, scales: tuple[int, ...], axis: int = 0) -> ModelProto:
    """Return floats times 4-bit weights[depth, 8] with a scale per block."""
    rng = np.random.default_rng(depth)
    weights = helper.make_tensor("w", TensorProto.INT4, [depth, 8], rng.integers(-8, 8, depth * 8).tolist())
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["real"], "blocks", axis=axis, block_size=block),
        helper.make_node("MatMul", ["x", "real"], ["y"], "product"),
    ]
    constants = [weights, constant("s", rng.uniform(0.1, 1, scales).astype(np.float32))]
    model = model_of(nodes, constants, [floats("x", (3, depth))], [floats("y", (3, 8))], opset=21)
    model.ir_version = 10
    return model


@pytest.mark.parametrize(("depth", "block"), [(64, 16), (40, 16), (33, 32), (40, 64), (64, 24), (17, 3), (40, 2**40)])
def test_blocks_that_do_not_divide_the_depth_run(depth: int, block: int) -> None:
    """Where the last block is shorter, or the only one, onnxruntime runs it, and so does the simulator."""
    data, inputs = (
        blocked(depth, block, (-(-depth // block), 8)).SerializeToString(),
        {"x": np.random.default_rng(depth).normal(size=(3, depth)).astype(np.float32)},
    )
    result = accelsim.run(accelsim.load(data), inputs=inputs)
    assert result.check.verdict == judged_word(result.outputs, data, inputs)
    assert result.check.verdict == "exact" or block >= depth  # one scale per column: integers again


BAD_BLOCKS: dict[str, tuple[ModelProto, str]] = {
    "rounded down": (blocked(40, 16, (2, 8)), "scales of shape [2, 8] for blocks of 16 on axis 0 of [40, 8]"),
    "one too many": (blocked(40, 16, (4, 8)), "scales of shape [4, 8] for blocks of 16"),
    "too few columns": (blocked(40, 16, (3, 7)), "scales of shape [3, 7] for blocks of 16"),
    "no size": (blocked(40, 0, (3, 8)), "scales of 2 dimensions without a block size"),
    "negative size": (blocked(40, -16, (3, 8)), "a block size of -16"),
    "one dimension": (blocked(40, 16, (3,)), "scales of shape [3] for blocks of 16"),
    "no such axis": (blocked(40, 16, (3, 8), axis=2), "quantises axis 2 of 2"),
    "the other axis": (blocked(40, 16, (3, 8), axis=1), "for blocks of 16 on axis 1 of [40, 8]"),
}


@pytest.mark.parametrize(("model", "words"), BAD_BLOCKS.values(), ids=BAD_BLOCKS)
def test_blocks_that_do_not_fit(tmp_path: Path, model: ModelProto, words: str) -> None:
    """Scales that do not match the blocks are refused before onnxruntime sees them."""
    assert_refused(run_model(tmp_path, model), 5, "DequantizeLinear 'blocks'", words)


def packed(**changes: Any) -> ModelProto:
    """Return a MatMulNBits of 40 inputs and 8 outputs in blocks of 16, some of its sizes changed."""
    sizes = {"K": 40, "N": 8, "bits": 4, "block_size": 16}
    node = helper.make_node("MatMulNBits", ["x", "w", "s"], ["y"], "packed", domain="com.microsoft", **sizes | changes)
    constants = [constant("w", np.zeros((8, 3, 8), np.uint8)), constant("s", np.ones(24, np.float32))]
    return model_of([node], constants, [floats("x", (3, 40))], [floats("y", (3, 8))])


SIZES: tuple[dict[str, int], ...] = (
    {"K": 41}, {"K": 0}, {"K": -1}, {"K": 2**62}, {"N": 7}, {"N": 0}, {"bits": 3}, {"bits": 0}, {"block_size": 8},
    {"block_size": 0}, {"block_size": -16}, {"block_size": 24}, {"block_size": 2**40}, {"accuracy_level": 99},
)  # fmt: skip


@pytest.mark.parametrize("changes", SIZES, ids=str)
def test_packed_weights_that_do_not_fit(tmp_path: Path, changes: dict[str, int]) -> None:
    """Sizes that contradict the weights or mean nothing end in one sentence, or run as in onnxruntime."""
    outcome = run_model(tmp_path, packed(**changes))
    assert outcome.code in (0, 4, 5)
    if outcome.code:
        assert_refused(outcome, outcome.code, ":")
