"""The smallest case of each bug that was found by hand, so that it stays found."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import accelsim
from accelsim.check import checker as check
from accelsim.files.json_writing import _finite
from accelsim.graph.importers.windows import window_geometry
from accelsim.machine.arch import parse_array
from accelsim.machine.description import load_arch
from accelsim.mapping.search import choose_plan
from accelsim.operators.geometry import ConvolutionGeometry
from accelsim.program.plan import StreamPlan
from accelsim.program.work import ContractionWork, ImageLayout, StreamWork
from accelsim.reports.terminal.diagnosis import diagnosis_lines
from accelsim.results.differing import differing
from accelsim.results.result import LayerResult
from accelsim.timing.recurrence import time_layer
from accelsim.timing.registers import step_gemm
from accelsim.values.accumulators import AccumulatorUse
from tests.cli.command import process
from tests.hostile.builders import WIDTH, around, constant, floats, model_of, parameters, quantised


def test_a_window_larger_than_its_input_is_invalid() -> None:
    """A kernel of 4 over 2 pixels is refused, not floored to an empty output."""
    with pytest.raises(accelsim.InvalidModelError, match="larger than its padded input"):
        window_geometry({}, (4,), (2,))


def test_sums_that_are_never_positive_need_no_extra_bit() -> None:
    """Partial sums from -128 to -128 fit 8 bits."""
    assert AccumulatorUse(8, -128, -128, 0).min_safe_bits == 8


def test_json_has_no_infinities() -> None:
    """NaN and infinities become null."""
    assert json.dumps(_finite({"a": [float("inf"), 1.5], "b": float("nan")})) == '{"a": [null, 1.5], "b": null}'


@pytest.mark.parametrize("text", ["1_6x16", "\uff11\uff16x16", "16x16x16", "", "16x", "True"])
def test_only_plain_numbers_are_array_shapes(text: str) -> None:
    """Spellings that Python's int() would take are not shapes."""
    with pytest.raises(accelsim.UsageError, match="not an array shape"):
        parse_array(text)


@pytest.mark.parametrize(
    "setting", ["clock.ghz=5e-324", "array.rows=" + "9" * 5000, "array.rows=" + "[" * 5000, "array.rows=8\ncols=2"]
)
def test_absurd_settings_are_usage_errors(setting: str) -> None:
    """Settings that make a TOML parser stumble end in one sentence."""
    with pytest.raises(accelsim.UsageError):
        load_arch(settings=(setting,))


def gemm_model(bias_scale: float) -> bytes:
    """Build a Gemm whose three operands are quantised, the bias with a scale of its own."""
    constants = {
        "s": np.float32(0.1), "z": np.uint8(0), "ws": np.float32(0.2), "wz": np.int8(0), "bs": np.float32(bias_scale),
        "bz": np.int32(0), "w": np.ones((4, 3), np.int8), "b": np.ones(3, np.int32),
    }  # fmt: skip
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s", "z"], ["xr"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wr"]),
        helper.make_node("DequantizeLinear", ["b", "bs", "bz"], ["br"]),
        helper.make_node("Gemm", ["xr", "wr", "br"], ["yr"], name="dense"),
        helper.make_node("QuantizeLinear", ["yr", "s", "z"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "gemm",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [2, 4])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [2, 3])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    data: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8
    ).SerializeToString()
    return data


def test_a_gemm_bias_in_other_units_is_what_onnxruntime_makes_of_it() -> None:
    """Onnxruntime's QGemm ignores the scale of the bias: so do we, and we say so."""
    assert accelsim.run(accelsim.load(gemm_model(0.1 * 0.2))).check.ignored == ()
    inputs = {"x": np.arange(8, dtype=np.uint8).reshape(2, 4)}
    result = accelsim.run(accelsim.load(gemm_model(0.4)), None, inputs)
    session = onnxruntime.InferenceSession(gemm_model(0.4), providers=["CPUExecutionProvider"])
    assert (result.outputs["y"] == session.run(None, inputs)[0]).all()
    assert result.check.verdict == "exact"
    assert "dense" in result.check.ignored[0]


def test_scalars_are_compared_as_scalars() -> None:
    """A difference in a tensor without axes has the index ()."""
    assert differing(np.float32(1.0)[()], np.float32(2.0)[()]).shape == ()


def host_layer(kind: str, constant: np.ndarray) -> LayerResult:
    """Run DQ -> operator with a constant -> Q and return the layer of the operator."""
    scales = {"s": np.float32(0.1), "z": np.uint8(0), "c": constant}
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s", "z"], ["r"]),
        helper.make_node(kind, ["r", "c"], ["t"], name="middle"),
        helper.make_node("QuantizeLinear", ["t", "s", "z"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "host",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [2, 64])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in scales.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()
    return next(layer for layer in accelsim.run(accelsim.load(model)).layers if layer.name == "middle")


def test_constants_of_host_operators_are_read() -> None:
    """The weights of a float product that stays on the host cross the DMA engine like its activations."""
    layer = host_layer("MatMul", np.ones((64, 256), np.float32))
    assert layer.placement == "host"
    assert layer.dram_bytes >= 64 * 256 * 4


def test_walking_the_input_costs_the_stationary_dataflows_alike() -> None:
    """Activations that fit are loaded once on IS as on WS: only burst rounding and outputs differ."""
    work = ContractionWork(
        1024, 144, 16, 1, ImageLayout(1, 32, 32, 32, 32, ConvolutionGeometry((3, 3), pads=(1, 1, 1, 1))), False, 1, 8
    )
    loaded = {}
    for dataflow in ("ws", "is"):
        arch = accelsim.Arch(dataflow=dataflow)
        loaded[dataflow] = time_layer(work, choose_plan("layer", work, arch).plan, arch).event("activation_fill_bytes")
    assert loaded["is"] == 16 * 32 * 32 <= loaded["ws"]


def test_more_scratchpad_is_never_worse(digits: Path) -> None:
    """Cycles times DRAM bytes, which the mapping minimises, never grow with the activation scratchpad."""
    model = accelsim.load(digits)
    costs = []
    for size in (8, 16, 32, 64, 192, 1024):
        result = accelsim.run(model, accelsim.Arch(spm_act=size * 1024), values=False)
        costs.append([layer.cycles * layer.dram_bytes for layer in result.layers if layer.placement == "array"])
    for smaller, larger in itertools.pairwise(costs):
        assert all(after <= before for before, after in zip(smaller, larger, strict=True))


def test_the_literal_run_is_left_out_for_heavy_weights(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where float32 weights would exceed the budget the literal distance is missing, and the verdict stays."""
    monkeypatch.setattr(check, "LITERAL_BUDGET_BYTES", 1000)
    verdict = accelsim.run(digits).check
    assert (verdict.verdict, verdict.literal_qdq) == ("exact", None)


def test_warnings_of_onnxruntime_stay_inside(tmp_path: Path) -> None:
    """A deprecated attribute, about which onnxruntime's kernel warns on its default logger, leaves stderr empty."""
    attributes = {"mode": "nearest", "coordinate_transformation_mode": "tf_half_pixel_for_nn"}
    model = around(
        helper.make_node("Resize", ["a", "", "scales"], ["wide"], "widen", **attributes),
        helper.make_node("Slice", ["wide", "start", "end", "axes"], ["b"], "cut"),
        initialisers=[
            constant("scales", np.array([1, 2], np.float32)),
            constant("start", np.array([0])),
            constant("end", np.array([8])),
            constant("axes", np.array([1])),
        ],
    )
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    outcome = process("run", path, "-q")
    assert (outcome.code, outcome.stderr) == (0, "")


def test_reductions_do_not_depend_on_where_an_array_begins() -> None:
    """The mean of a piece that begins at an odd address equals that of onnxruntime's own piece, to the last bit."""
    rng = np.random.default_rng(80_001)
    pieces = [3, 1]
    constants = {"s": np.float32(0.1), "z": np.uint8(3), "sizes": np.array(pieces), "f": np.float32(0.37)}
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s", "z"], ["r"]),
        helper.make_node("Mul", ["r", "f"], ["t"]),
        helper.make_node("Split", ["t", "sizes"], ["first", "second"], axis=1),
        helper.make_node("ReduceMean", ["second"], ["y"], axes=[2], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "pieces",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, sum(pieces), 7])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    model = accelsim.load(proto.SerializeToString())
    for _ in range(20):
        codes = rng.integers(0, 256, (1, sum(pieces), 7)).astype(np.uint8)
        assert accelsim.run(model, inputs={"x": codes}).check.verdict == "exact"


def test_gathered_scalars_stay_scalars() -> None:
    """A single element that Gather takes out of a vector has no axes, and goes on into operators that expect none."""
    constants = {"s": np.float32(0.1), "z": np.uint8(3), "place": np.array(-1)}
    nodes = [
        helper.make_node("Gather", ["x", "place"], ["t"]),
        helper.make_node("QLinearMul", ["t", "s", "z", "t", "s", "z", "s", "z"], ["y"], domain="com.microsoft"),
    ]
    graph = helper.make_graph(
        nodes,
        "scalar",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [4])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    result = accelsim.run(accelsim.load(model.SerializeToString()))
    assert result.check.verdict == "exact"
    assert result.outputs["y"].shape == ()


def test_a_fold_that_gathers_faster_keeps_behind_the_one_before() -> None:
    """Two folds of 2 and 1 lanes, gathered one by one: the second read a sum that was not committed yet."""
    machine = accelsim.Arch(array=(2, 1), x_gather_words_per_cycle=1)
    stepped = step_gemm(np.ones((1, 3), int), np.ones((1, 3), int), np.zeros(1, int), machine)
    assert accelsim.gemm_timing(1, 3, 1, machine).cycles == stepped.cycles == 2 + (4 + 1) + 1 + 2 + 1
    assert stepped.accumulators.tolist() == [[3]]


def test_a_last_block_without_output_waits_for_the_store_before_it() -> None:
    """One byte over two blocks: the first block stores it, and the layer ends with that store, not before it."""
    timing = time_layer(StreamWork("vector", (), ((1, 1),), 0, (), 2), StreamPlan(2), accelsim.Arch(dram_burst=1))
    assert timing.cycles == 1 + accelsim.Arch().dram_latency


def test_constants_that_old_files_list_as_inputs_are_no_inputs() -> None:
    """IR version 3 has every initialiser among the inputs; one that the optimiser uses up is not fed."""
    model = quantised()
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    result = accelsim.run(accelsim.load(model.SerializeToString()))
    assert result.check.verdict == "exact"
    assert [layer.op for layer in result.layers] == ["QuantizeLinear", "QLinearMatMul", "DequantizeLinear"]


@pytest.mark.parametrize("core", ["Sigmoid", "Tanh"])
def test_a_table_of_16_bits_does_not_have_to_fit_beside_a_single_element(core: str) -> None:
    """The table of 65,536 codes is loaded in pieces, also where the tensor has one element."""
    names = ["scale", "zero"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", *names], ["codes"]),
        helper.make_node("DequantizeLinear", ["codes", *names], ["real"]),
        helper.make_node(core, ["real"], ["b"]),
        helper.make_node("QuantizeLinear", ["b", *names], ["out"]),
        helper.make_node("DequantizeLinear", ["out", *names], ["y"]),
    ]
    constants = [constant("scale", np.float32(0.001)), constant("zero", np.uint16(9))]
    model = model_of(nodes, constants, [floats("x", [1])], [floats("y", [1])], opset=21)
    model.ir_version = 10
    result = accelsim.run(accelsim.load(model.SerializeToString()))
    assert result.check.verdict == "exact"
    assert result.layers[1].placement == "vector"


def test_a_literal_file_whose_outputs_have_another_shape_is_not_measured() -> None:
    """The optimiser takes Expand to no element for a copy, which onnxruntime's own literal execution contradicts."""
    model = around(helper.make_node("Expand", ["a", "none"], ["b"]), initialisers=[constant("none", np.array([0, 8]))])
    result = accelsim.run(accelsim.load(model.SerializeToString()))
    assert result.check.verdict == "exact"
    assert result.check.literal_qdq is None
    assert "other shapes" in result.check.literal_remark


def test_a_linear_resize_of_three_axes_is_refused_by_the_reference() -> None:
    """It is not taken for one of two axes whose result would have another shape."""
    resize = helper.make_node("Resize", ["x4", "", "", "sizes"], ["b"], mode="linear")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["codes"]),
        helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["x4"]),
        resize,
        helper.make_node("QuantizeLinear", ["b", "scale", "zero"], ["out"]),
        helper.make_node("DequantizeLinear", ["out", "scale", "zero"], ["y"]),
    ]
    constants = [*parameters(), constant("sizes", np.array([1, 4, 8, 10]))]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    model = model_of(nodes, constants, [floats("x", [1, 2, 4, 5])], [output])
    with pytest.raises(accelsim.UnsupportedModelError, match="onnxruntime, the reference, fails"):
        accelsim.run(accelsim.load(model.SerializeToString()))


@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
def test_sums_of_16_bits_beyond_the_accumulator(overflow: str) -> None:
    """What onnxruntime adds up in float does not wrap: the exact sum, beyond int32, gives the value that is right."""
    codes = np.full((WIDTH, 2), 32767, np.int16)
    names = ["scale", "zero"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", *names], ["codes"]),
        helper.make_node("DequantizeLinear", ["codes", *names], ["real"]),
        helper.make_node("DequantizeLinear", ["weights", "scale"], ["w"]),
        helper.make_node("MatMul", ["real", "w"], ["product"], "product"),
        helper.make_node("QuantizeLinear", ["product", "wide", "zero"], ["out"]),
        helper.make_node("DequantizeLinear", ["out", "wide", "zero"], ["y"]),
    ]
    constants = [
        constant("weights", codes),
        constant("scale", np.float32(0.01)),
        constant("wide", np.float32(100)),
        constant("zero", np.uint16(0)),
    ]
    proto = model_of(nodes, constants, outputs=[floats("y", (1, 2))], opset=21)
    proto.ir_version = 10
    x = np.full((1, WIDTH), 600, np.float32)
    machine = accelsim.Arch(overflow=overflow)
    first = accelsim.run(accelsim.load(proto.SerializeToString()), machine, {"x": x}).check.first_mismatch
    seen = first.diagnosis.accumulator
    assert (first.layer, first.diagnosis.cause) == ("product", "accumulator-overflow")
    assert seen.reference == seen.exact == WIDTH * 60_000 * 32_767
    assert f"{seen.exact:,} (exact)" in diagnosis_lines(first)[1]
