"""What differs between versions of onnxruntime is found out by a probe, whose answer other sessions confirm."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

import accelsim
from accelsim import operators
from accelsim.graph.importers import elementwise as import_elementwise
from accelsim.graph.importers.elementwise import softmax_table
from accelsim.operators.tensors import TensorType
from accelsim.reference import probes
from accelsim.reference.session import open_session
from accelsim.values.accumulators import AccumulatorFormat
from accelsim.values.execute import execute
from tests.strategies import Draw

Array = NDArray[Any]
SEED = 41_100


def model(nodes: list[onnx.NodeProto], constants: dict[str, Array], kind: int, shapes: list[tuple[int, ...]]) -> bytes:
    """Build a graph from x to y."""
    ends = [helper.make_tensor_value_info(name, kind, shape) for name, shape in zip("xy", shapes, strict=True)]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], initializers)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    built: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    return built


def softmax_case(index: int) -> tuple[Array, dict[str, Array]]:
    """Draw rows and parameters; most scales make float32 products overflow, or put equal codes beside a half."""
    draw = Draw((SEED, index), ties=False)
    kind = np.dtype(draw.choice(["int8", "uint8"]))
    length = 1 if index % 3 == 0 else 2 * draw.integer(1, 99)
    inverse = length * (2 * draw.integer(0, 60) + 1) / 2 if index % 3 == 1 else 10.0 ** draw.integer(3, 37)
    rows = draw.codes((1, length), kind)
    if index % 3 == 1:
        rows[:] = rows[0, 0]
    constants = {
        "x_scale": np.array(0.125, np.float32), "x_zero": np.zeros((), kind),
        "y_scale": np.array(np.float32(1 / inverse), np.float32),
        "y_zero": np.array(draw.zero_point(kind), kind),
    }  # fmt: skip
    return rows, constants


def computed(rows: Array, constants: dict[str, Array], arithmetic: operators.SoftmaxArithmetic) -> Array:
    """Return what the machine computes in one of the arithmetics."""
    inverse, kind = np.float32(np.floor(np.float32(1) / constants["y_scale"][()])), rows.dtype
    table = softmax_table(rows.shape[1], np.float32(constants["x_scale"]))
    target = operators.CodeFormat(kind, int(constants["y_zero"]))
    operator = operators.Softmax(table, inverse, arithmetic, 1, False, target)
    with np.errstate(all="ignore"):
        return execute(operator, [rows], [TensorType.of(kind, rows.shape)], AccumulatorFormat())[0][0]


def test_softmax_has_the_arithmetic_that_the_probe_tells() -> None:
    """Of the ways to compute QLinearSoftmax the one that the probe names gives every code, and no other one does."""
    wrong = dict.fromkeys(get_args(operators.SoftmaxArithmetic), 0)
    for index in range(240):
        rows, constants = softmax_case(index)
        node = helper.make_node("QLinearSoftmax", ["x", *constants], ["y"], domain="com.microsoft", axis=-1, opset=13)
        kind = helper.np_dtype_to_tensor_dtype(rows.dtype)
        expected = open_session(model([node], constants, kind, [rows.shape] * 2)).run(None, {"x": rows})[0]
        for arithmetic in wrong:
            wrong[arithmetic] += bool((computed(rows, constants, arithmetic) != expected).any())
    assert [name for name, count in wrong.items() if count == 0] == [probes.softmax_arithmetic()]


def test_answers_that_nobody_knows_are_taken_for_the_newest_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that was never measured is not refused."""
    monkeypatch.setattr(probes, "_softmax", lambda length, scale: 42)
    assert probes.softmax_arithmetic.__wrapped__() == "float64"


def test_a_wrong_answer_is_found_by_the_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    """The verdict does not rest on the probe: the layer whose arithmetic it got wrong is named."""
    wrong = {"float64": "float32", "float32": "float64", "float32-low-byte": "float64"}[probes.softmax_arithmetic()]
    monkeypatch.setattr(import_elementwise, "softmax_arithmetic", lambda: wrong)
    data, rows = one_softmax("int8", 1, 1 / 256)
    check = accelsim.run(data, inputs={"x": rows}).check
    assert check.verdict == "mismatch"
    assert check.first_mismatch is not None
    assert check.first_mismatch.operator == "QLinearSoftmax"


def one_softmax(kind: str, length: int, scale: float) -> tuple[bytes, Array]:
    """Return a QLinearSoftmax, and two rows for it, one of them of equal codes."""
    zero = np.zeros((), kind)
    constants = {
        "x_scale": np.array(0.125, np.float32), "x_zero": zero, "y_scale": np.array(scale, np.float32), "y_zero": zero,
    }  # fmt: skip
    node = helper.make_node("QLinearSoftmax", ["x", *constants], ["y"], domain="com.microsoft", axis=-1, opset=13)
    rows = Draw((SEED, length), ties=False).codes((2, length), np.dtype(kind))
    rows[1] = 3
    return model([node], constants, helper.np_dtype_to_tensor_dtype(rows.dtype), [rows.shape] * 2), rows


@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_softmax_whose_product_overflows_is_exact(kind: str) -> None:
    """A row of one code, and some with fine output scales, through the whole simulator."""
    for length, scale in ((1, 1 / 256), (4, 1e-5), (180, 1 / 3690), (8, 1e-37)):
        data, rows = one_softmax(kind, length, scale)
        assert accelsim.run(data, inputs={"x": rows}).check.verdict == "exact"


def wide_product(activation: str) -> tuple[bytes, Array, Array]:
    """Return Q/DQ around a product of 16-bit activations and 8-bit weights, codes for it, and its sums."""
    rng, kind = np.random.default_rng(SEED), np.dtype(activation)
    limits = np.iinfo(kind)
    codes = rng.integers(limits.min, limits.max, (3, 40), kind, endpoint=True)
    weights = rng.integers(-128, 127, (40, 8), np.int8, endpoint=True)
    constants = {
        "s": np.array(0.001, np.float32), "z": np.zeros((), kind), "w": weights,
        "w_scale": np.array(0.01, np.float32), "w_zero": np.zeros((), np.int8),
        "y_scale": np.array(0.05, np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s", "z"], ["a"]),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["b"]),
        helper.make_node("MatMul", ["a", "b"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "y_scale", "z"], ["y"]),
    ]
    sums = codes.astype(np.int64) @ weights.astype(np.int64)
    element_type = helper.np_dtype_to_tensor_dtype(kind)
    return model(nodes, constants, element_type, [(3, 40), (3, 8)]), codes, sums


@pytest.mark.parametrize("activation", ["uint16", "int16"])
def test_wide_activations_stay_wide_on_the_machine(activation: str) -> None:
    """Where onnxruntime narrows 16-bit activations the machine does not, and the verdict is about the file as it is."""
    data, codes, sums = wide_product(activation)
    limits = np.iinfo(codes.dtype)
    ideal = np.clip(np.rint(sums * (0.001 * 0.01 / 0.05)), limits.min, limits.max)
    found = open_session(data, optimise="all", entries=(("session.qdqisint8allowed", "1"),)).run(None, {"x": codes})[0]
    narrowed = bool(np.abs(found - ideal).max() > 1)

    result = accelsim.run(data, accelsim.Arch(acc_bits=48), {"x": codes})
    assert np.abs(result.outputs["y"] - ideal).max() <= 1
    assert result.check.output_mismatched == int((result.outputs["y"] != found).sum())
    assert result.check.verdict == ("exact" if result.check.output_mismatched == 0 else "near")
    assert result.check.verdict == ("near" if narrowed else "exact")
    assert max(part.max_lsb for part in result.check.float_reference) <= 1
    assert any("to int8 per block" in note for note in result.check.notes) == narrowed
