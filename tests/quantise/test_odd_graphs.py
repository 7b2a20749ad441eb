"""Graphs that are legal and unusual: the outputs stay near the float network's, on the machine bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, TensorProto

import accelsim
from accelsim.errors import UnsupportedModelError, UsageError
from accelsim.quantise.calibrate.calibration import load_calibration
from accelsim.quantise.measure.schemes import compare_schemes
from accelsim.quantise.measure.three_way import compare_three
from accelsim.quantise.network.source import read_float_model
from accelsim.quantise.pipeline import quantize
from accelsim.quantise.scheme import named
from tests.quantise.graphs import X, model, near, node, normal, sqnr
from tests.quantise.helpers import two_convolutions
from tests.tiers import few

VECTOR = {"x": ["N", 16]}
IMAGES = {"x": normal(24, 4, 8, 8)}
IMAGE = {"x": ["N", 4, 8, 8]}


def test_a_gather_keeps_the_codes_of_its_table() -> None:
    """A Gather from a constant table: the codes of the table are the codes of what it gives."""
    data = model(
        [node("Gather", ["table", "ids"], ["g"], name="embed"), node("MatMul", ["g", "w"], ["y"], name="project")],
        {"table": normal(50, 16), "w": normal(16, 8)},
        {"ids": ["N", 5]},
        {"y": ["N", 5, 8]},
        {"ids": TensorProto.INT64},
    )
    near(data, {"ids": np.random.default_rng(0).integers(0, 50, (20, 5))})
    with pytest.raises(UsageError, match="cannot run the float network on these samples"):
        quantize(data, "int8-per-channel", {"ids": np.full((20, 5), 50)})


@pytest.mark.parametrize("middle", ["Relu", "Clip"])
def test_outputs_in_front_of_a_clamp(middle: str) -> None:
    """A tensor that is an output and clamped for others keeps the values that the clamp takes away."""
    clamp = ["h"] if middle == "Relu" else ["h", "low", "high"]
    data = model(
        [node("Gemm", ["x", "w", "b"], ["h"], name="first"), node(middle, clamp, ["r"], name="clamp"),
         node("Gemm", ["r", "v"], ["y"], name="second")],
        {"w": normal(16, 16), "b": normal(16), "v": normal(16, 4), "low": np.float32(-0.1), "high": np.float32(0.1)},
        VECTOR,
        {"h": ["N", 16], "y": ["N", 4]},
    )  # fmt: skip
    near(data, X, least_db=30)


@pytest.mark.parametrize("scheme", ["int8-per-channel", "w4a8", "int8-per-channel+bias_correction"])
def test_a_bias_that_is_computed_is_added_behind(scheme: str) -> None:
    """The product then has room for a bias of its own, which bias correction uses."""
    data = model(
        [node("Gemm", ["x", "w", "c"], ["y"], name="product", alpha=0.5, beta=2.0)],
        {"w": normal(16, 16)},
        {**VECTOR, "c": ["N", 16]},
        {"y": ["N", 16]},
    )
    quantised = near(data, {**X, "c": normal(40, 16, scale=3.0)}, scheme, 15)
    assert not any("no constant bias" in remark for remark in quantised.remarks)
    constants = {tensor.name for tensor in quantised.emission.proto.graph.initializer}
    assert ("product_int32_bias" in constants) == ("bias_correction" in scheme)


def shared_matrix() -> bytes:
    return model(
        [node("MatMul", ["x", "w"], ["h"], name="first"), node("Relu", ["h"], ["r"], name="relu"),
         node("Gemm", ["r", "w", "b"], ["y"], name="second", transB=1)],
        {"w": normal(16, 16) * np.geomspace(0.1, 10, 16, dtype=np.float32), "b": normal(16)},
        VECTOR,
        {"y": ["N", 16]},
    )  # fmt: skip


@pytest.mark.parametrize("scheme", ["int8-per-channel", "int8-affine", "w4a8", "w4a8+block=4", "w8a16"])
def test_one_matrix_seen_from_two_sides(scheme: str) -> None:
    """Output channels are columns to a MatMul and rows to a Gemm with transB: each has scales along its own."""
    near(shared_matrix(), X, scheme, 10 if "w4" in scheme else 25)


@pytest.mark.parametrize("wide", ["c1", "c2"])
def test_shared_weights_of_two_widths(wide: str) -> None:
    """A width by layer is that of the layer which was named, and of no other one."""
    data = model(
        [node("Conv", ["x", "w", "b"], ["h"], name="c1", pads=[1] * 4), node("Relu", ["h"], ["r"], name="relu"),
         node("Conv", ["r", "w"], ["y"], name="c2", pads=[1] * 4)],
        {"w": normal(4, 4, 3, 3, scale=0.3), "b": normal(4)},
        IMAGE,
        {"y": ["N", 4, 8, 8]},
    )  # fmt: skip
    quantised = near(data, IMAGES, f"int8-per-channel+layer_bits.{wide}=4", 12)
    assert {name: one.grid.spec.bits for name, one in quantised.weights.items()} == {"c1": 8, "c2": 8} | {wide: 4}
    alike = near(data, IMAGES, "int8-per-channel")
    names = [tensor.name for tensor in alike.emission.proto.graph.initializer]
    assert [name for name in names if name.startswith("w") and name.endswith("_quantized")] == ["w_quantized"]


@pytest.mark.parametrize("scheme", ["int8-per-channel", "int8-affine"])
def test_shared_weights_have_room_for_both_biases(scheme: str) -> None:
    """A bias that widens the scales moves the steps of both layers' biases."""
    data = model(
        [node("Conv", ["x", "w", "b1"], ["y1"], name="c1"), node("Conv", ["x", "w", "b2"], ["y2"], name="c2")],
        {"w": normal(4, 4, 3, 3, scale=1e-4), "b1": np.full(4, 0.5, np.float32), "b2": np.full(4, 3e3, np.float32)},
        IMAGE,
        {"y1": None, "y2": None},
    )
    quantised = quantize(data, scheme, IMAGES)
    assert any("bias decides their scale" in remark for remark in quantised.remarks)
    result = accelsim.run(quantised.onnx, inputs={"x": IMAGES["x"][:2]})
    assert result.check.verdict == "exact"
    assert np.allclose(result.outputs["y1"], 0.5, atol=0.01)
    assert np.allclose(result.outputs["y2"], 3e3, rtol=0.01)


@pytest.mark.parametrize("name", [
    "h_scale", "x_scale", "w_scale", "h_zero_point", "w_quantized", "h_QuantizeLinear_Output", "g1_int32_bias",
    "h_DequantizeLinear_Output", "x_QuantizeLinear_Input", "b_quantized", "g1_int32_bias_scale",
    "y_QuantizeLinear_Input", "h_scale_DequantizeLinear_Output", "g1_float_bias",
])  # fmt: skip
@pytest.mark.parametrize("constant", few([True, False], 1))
def test_names_that_quantisers_want_for_themselves(name: str, constant: bool) -> None:
    """Tensors called like something that will be added beside another one."""
    first, last = node("Gemm", ["x", "w", "b"], ["h"], name="g1"), node("Gemm", ["m", "v"], ["y"], name="g2")
    between = [node("Mul", ["h", name], ["m"], name="mul")]
    if not constant:
        between = [node("Sigmoid", ["h"], [name], name="s"), node("Relu", [name], ["m"], name="relu")]
    constants = {"w": normal(16, 16), "b": normal(16), "v": normal(16, 4)} | ({name: normal(16)} if constant else {})
    near(model([first, *between, last], constants, VECTOR, {"y": ["N", 4]}), X)


def test_nodes_and_outputs_with_such_names() -> None:
    """Inputs and outputs keep theirs; what gives way is what has the other name."""
    data = model(
        [node("Gemm", ["x", "w"], ["h"], name="x_QuantizeLinear"), node("Relu", ["h"], ["h_scale"], name="relu")],
        {"w": normal(16, 16)},
        VECTOR,
        {"h_scale": ["N", 16]},
    )
    assert near(data, X).model.outputs == ("h_scale",)
    data = model([node("Gemm", ["x", "w"], ["x_scale"], name="g")], {"w": normal(16, 16)}, VECTOR, {"x_scale": None})
    with pytest.raises(UnsupportedModelError, match="'x' and 'x_scale'"):
        quantize(data, "int8-affine", X)


@pytest.mark.parametrize(
    "scheme", few(["int8-per-channel", "int8-affine", "w4a8", "w8a16", "int8-affine+bias_correction"], 2)
)
@pytest.mark.parametrize("shape", [(8, 6), (8, 1), (1, 6), (6,), (1, 1), (1,), ()])
def test_shapes_of_a_bias(shape: tuple[int, ...], scheme: str) -> None:
    """A Gemm adds anything that broadcasts; what is no vector of its outputs is added behind it."""
    data = model(
        [node("Gemm", ["x", "w", "b"], ["y"], name="g")],
        {"w": normal(16, 6), "b": normal(*shape) if shape else np.float32(0.5)},
        {"x": [8, 16]},
        {"y": [8, 6]},
    )
    near(data, X, scheme, 12 if scheme == "w4a8" else 25)


@pytest.mark.parametrize("scheme", ["int8-per-channel", "int8-affine", "w4a8", "int8-per-channel+bias_correction"])
@pytest.mark.parametrize("bias", [True, False])
def test_transposed_convolutions_in_groups(scheme: str, bias: bool) -> None:
    """Groups share the scales of a channel, their biases have steps each."""
    data = model(
        [node("ConvTranspose", ["x", "w", *(["b"] if bias else [])], ["y"], name="up", strides=[2, 2], group=2)],
        {"w": normal(4, 3, 2, 2), "b": normal(6)},
        IMAGE,
        {"y": ["N", 6, 16, 16]},
    )
    near(data, IMAGES, scheme, 12 if scheme == "w4a8" else 25)


@pytest.mark.parametrize("scheme", ["int8-per-channel", "int8-affine-weights-per-channel", "w4a8+block=2", "w8a16"])
def test_a_stack_of_matrices_has_one_scale(scheme: str) -> None:
    """Weights with a matrix for every place of the batch have one scale."""
    data = model(
        [node("MatMul", ["x", "w"], ["y"], name="m")],
        {"w": normal(3, 6, 8)},
        {"x": ["N", 3, 5, 6]},
        {"y": ["N", 3, 5, 8]},
    )
    quantised = near(data, {"x": normal(10, 3, 5, 6)}, scheme, 12 if "w4" in scheme else 25)
    assert quantised.weights["m"].grid.scales.size == 1


def test_recurrent_networks_without_their_sequence() -> None:
    """An LSTM whose first output is left out stays in float, on the host."""
    data = model(
        [node("MatMul", ["x", "w"], ["h"], name="m"),
         node("LSTM", ["h", "W", "R"], ["", "y"], name="lstm", hidden_size=4)],
        {"w": normal(6, 6), "W": normal(1, 16, 6), "R": normal(1, 16, 4)},
        {"x": ["N", 3, 6]},
        {"y": [1, 3, 4]},
    )  # fmt: skip
    quantised = near(data, {"x": normal(20, 3, 6)})
    assert any("LSTM 'lstm'" in remark for remark in quantised.remarks)


@pytest.mark.parametrize("kind", ["ReduceMean", "Transpose"])
def test_outputs_whose_first_axis_is_not_the_batch(kind: str) -> None:
    """They are compared value by value, batch by batch; there are no classes in them."""
    attributes = {"axes": [0, 1], "keepdims": 0} if kind == "ReduceMean" else {"perm": [1, 0]}
    data = model(
        [node("MatMul", ["x", "w"], ["h"], name="m"), node(kind, ["h"], ["y"], name="last", **attributes)],
        {"w": normal(16, 8)},
        VECTOR,
        {"y": None},
    )
    found = compare_three(near(data, X))
    assert (found.machine.accuracy, found.machine.agreement) == (None, None)


def test_reconstructions_have_no_classes() -> None:
    """An output of an input's shape is not asked for its largest value."""
    data = model([node("MatMul", ["x", "w"], ["y"], name="m")], {"w": normal(16, 16)}, VECTOR, {"y": ["N", 16]})
    assert compare_three(near(data, X)).machine.agreement is None


@pytest.mark.parametrize("kept", ["second", "Gemm"])
def test_operators_in_float_are_named(kept: str) -> None:
    """Also the last one, and one between quantisers whose weights are floats; two that onnxruntime joins are one."""
    last = node("Gemm" if kept == "Gemm" else "MatMul", ["r", "v"], ["h2"], name="second")
    data = model(
        [node("MatMul", ["x", "w"], ["h"], name="first"), node("Relu", ["h"], ["r"], name="relu"), last,
         node("Softplus", ["h2"], ["y"], name="plus")],
        {"w": normal(16, 16), "v": normal(16, 4)},
        VECTOR,
        {"y": ["N", 4]},
    )  # fmt: skip
    quantised = near(data, X, f"int8-affine+keep_float={kept}")
    joined = {"fused second": "FusedGemm"}
    assert dict(quantised.float_layers) == (joined if kept == "Gemm" else {"second": "MatMul", "plus": "Softplus"})


def test_narrow_accumulators_are_widened_for_the_comparison() -> None:
    """The machine's row is about quantisation, not about sums that do not fit; its name says what was done."""
    data = model([node("MatMul", ["x", "w"], ["y"], name="m")], {"w": normal(16, 8)}, VECTOR, {"y": ["N", 8]})
    quantised = quantize(data, "int16", X)
    narrow = compare_three(quantised, None, accelsim.Arch(acc_bits=24))
    assert sqnr(narrow) > 70
    assert narrow.machine.name.startswith("machine, ")
    assert compare_three(quantised, None, accelsim.Arch(acc_bits=48)).machine.name == "machine"


def test_repairs_that_find_nothing_to_do_say_so() -> None:
    """Equalisation without two neighbouring convolutions, bias correction without a bias."""
    data = model([node("MatMul", ["x", "w"], ["y"], name="m")], {"w": normal(16, 8)}, VECTOR, {"y": ["N", 8]})
    said = quantize(data, "int8-affine+equalise+bias_correction", X).remarks
    assert any("no two convolutions follow each other" in remark for remark in said)
    assert any("no constant bias that could be corrected: 'm'" in remark for remark in said)


def test_prepared_networks_compute_what_they_did() -> None:
    """New names and biases that moved change no value."""
    from accelsim.quantise.calibrate.observe import run_batches

    data = model(
        [node("Gemm", ["x", "w", "b"], ["h"], name="g"), node("Mul", ["h", "h_scale"], ["y"], name="mul")],
        {"w": normal(16, 6), "b": normal(8, 1), "h_scale": normal(6)},
        {"x": [8, 16]},
        {"y": [8, 6]},
    )
    read = read_float_model(data)
    quantised = quantize(data, "int8-affine", X)
    before, after = (run_batches(read, proto, quantised.data) for proto in (data, read.proto.SerializeToString()))
    assert np.allclose(before["y"], after["y"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("operands", [("x", "x"), ("x", "zero")])
def test_float16_of_operators_that_read_an_input_twice(operands: tuple[str, str]) -> None:
    """The converter of onnxruntime casts the input anew for each reader, under one name."""
    data = model(
        [node("Max", operands, ["u"], name="up"), node("Min", ["x", "zero"], ["v"], name="down"),
         node("Concat", ["u", "v"], ["t"], name="both", axis=1), node("Conv", ["t", "w"], ["y"], name="product")],
        {"zero": np.float32(0), "w": normal(4, 8, 1, 1)},
        IMAGE,
        {"y": ["N", 4, 8, 8]},
    )  # fmt: skip
    prepared = read_float_model(data)
    (row,) = compare_schemes(prepared, [named("fp16")], load_calibration(IMAGES, prepared)).rows
    assert row.sqnr_db is not None, row.remarks
    assert row.sqnr_db > 60


def test_float16_networks_that_onnxruntime_refuses_are_no_matter_of_keep_float(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row stays, and what it says is what can be done about it."""
    prepared = read_float_model(two_convolutions())
    monkeypatch.setattr("accelsim.quantise.measure.schemes.as_float16", lambda proto: ModelProto(ir_version=8))
    data = load_calibration({"x": normal(4, 8, 6, 6)}, prepared)
    (row,) = compare_schemes(prepared, [named("fp16")], data).rows
    assert row.remarks[0].endswith("leave fp16 out of the table")


@pytest.mark.parametrize("other", ["nothing", "bias", "weight", "computed bias"])
def test_equalisation_leaves_alone_what_others_read(other: str) -> None:
    """Rescaled channels change whoever else reads the bias; weights get a copy; a computed bias stays as it is."""
    spread = np.geomspace(1, 100, 4, dtype=np.float32)
    constants = {
        "w1": normal(4, 4, 1, 1) * spread.reshape(-1, 1, 1, 1),
        "b": normal(4) * spread,
        "w2": normal(1, 4, 1, 1) / spread.reshape(1, -1, 1, 1),
    }
    bias = "mean" if other == "computed bias" else "b"
    before = [node("ReduceMean", ["x"], ["mean"], name="average", axes=[0, 2, 3], keepdims=0)]
    pair = [
        node("Conv", ["x", "w1", bias], ["c"], name="first"), node("Relu", ["c"], ["r"], name="relu"),
        node("Conv", ["r", "w2"], ["h"], name="second"),
    ]  # fmt: skip
    behind = {
        "nothing": [node("Sigmoid", ["h"], ["y"], name="last")],
        "bias": [node("Add", ["h", "b"], ["y"], name="add")],
        "weight": [node("Mul", ["x", "w2"], ["t"], name="times"), node("Add", ["h", "t"], ["y"], name="add")],
        "computed bias": [node("Sigmoid", ["h"], ["y"], name="last")],
    }
    nodes = [*(before if other == "computed bias" else ()), *pair, *behind[other]]
    data = model(nodes, constants, {"x": ["N", 4, 8, 4]}, {"y": None})
    plain, equal = (
        quantize(data, f"int8-per-channel{option}", {"x": normal(24, 4, 8, 4)}) for option in ("", "+equalise")
    )
    left_alone = other in ("bias", "computed bias")
    assert any("can be equalised" in remark for remark in equal.remarks) == left_alone
    if left_alone:
        assert sqnr(compare_three(equal)) == sqnr(compare_three(plain))
    else:
        assert sqnr(compare_three(equal)) > sqnr(compare_three(plain)) + 3
