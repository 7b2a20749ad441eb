"""Tensors without elements: a network that slices all of a tensor away still runs, or is refused in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import NodeProto, TensorProto, helper

import accelsim
from tests.cli.command import command
from tests.hostile.builders import constant, floats, model_of, parameters

RNG_SEED = 90_001


def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> NodeProto:
    """Return a named node."""
    return helper.make_node(kind, inputs, [output], output, **attributes)


def run_on_nothing(
    core: NodeProto, shape: tuple[int, ...], axis: int = 0, weights: tuple[int, ...] = (), kind: str = "u1"
) -> accelsim.Result:
    """Run an operator "y0" between Q/DQ on a tensor "a" whose axis was cut to no element; "w" are its weights."""
    rng = np.random.default_rng(RNG_SEED)
    nodes = [
        node("QuantizeLinear", ["x", "scale", "zero"], "codes"),
        node("Slice", ["codes", "nought", "nought", "axis"], "none"),
        node("DequantizeLinear", ["none", "scale", "zero"], "a"),
        node("DequantizeLinear", ["w_codes", "w_scale", "w_zero"], "w"),
        core,
        node("QuantizeLinear", ["y0", "scale", "zero"], "y_codes"),
        node("DequantizeLinear", ["y_codes", "scale", "zero"], "y"),
    ]
    constants = [
        *parameters()[:1],
        constant("zero", np.array(3, kind)),
        constant("nought", np.array([0])),
        constant("axis", np.array([axis])),
        constant("w_codes", rng.integers(-90, 90, weights).astype(np.int8)),
        constant("w_scale", np.float32(0.01)),
        constant("w_zero", np.int8(0)),
        constant("repeats", np.array([1, 0])),
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    model = model_of(nodes, constants, [floats("x", shape)], [output], opset=21)
    model.ir_version = 10
    return accelsim.run(accelsim.load(model.SerializeToString()))


@pytest.mark.parametrize("kind", ["u1", "i1", "u2"])
@pytest.mark.parametrize(
    ("core", "shape", "weights"),
    [
        (node("Conv", ["a", "w"], "y0"), (2, 4, 5, 5), (3, 4, 2, 2)),
        (node("ConvTranspose", ["a", "w"], "y0"), (2, 4, 5, 5), (4, 3, 2, 2)),
        (node("MatMul", ["a", "w"], "y0"), (2, 4), (4, 3)),
        (node("MatMul", ["a", "a"], "y0"), (2, 4, 4), ()),
        (node("Gemm", ["a", "w"], "y0"), (2, 4), (4, 3)),
        (node("GlobalAveragePool", ["a"], "y0"), (2, 4, 3, 3), ()),
    ],
    ids=["convolution", "transposed", "product", "two activations", "gemm", "global average"],
)
def test_a_batch_of_none_gives_a_result_of_none(
    core: NodeProto, shape: tuple[int, ...], weights: tuple[int, ...], kind: str
) -> None:
    """A batch of none gives a result of none, and every cycle has a class."""
    result = run_on_nothing(core, shape, weights=weights, kind=kind)
    assert result.check is not None
    assert result.check.verdict == "exact"
    assert [array.size for array in result.outputs.values()] == [0]
    assert all(sum(layer.cycle_classes.values()) == layer.cycles for layer in result.layers)


def test_weights_without_columns_are_no_work() -> None:
    """Weights without columns are no work."""
    result = run_on_nothing(node("MatMul", ["x", "w"], "y0"), (2, 4), weights=(4, 0))
    assert result.outputs["y"].shape == (2, 0)


def test_sums_of_nothing_are_refused() -> None:
    """Sums of nothing are whatever onnxruntime finds in memory: refused."""
    with pytest.raises(accelsim.UnsupportedModelError, match="QLinearMatMul 'y0' sums over an empty tensor"):
        run_on_nothing(node("MatMul", ["a", "w"], "y0"), (2, 4), axis=1, weights=(0, 3))


def test_a_tile_by_none_moves_nothing() -> None:
    """Tile by 0 moves nothing."""
    result = run_on_nothing(node("Tile", ["x", "repeats"], "y0"), (2, 4))
    assert result.outputs["y"].shape == (2, 0)


def open_model(core: list[NodeProto], shape: tuple[int | str, ...], *weights: tuple[int, ...], **more: Any) -> bytes:
    """Return nodes that make "y" of "x", which a quantiser gives as "a", and of float weights "w0", "w1"."""
    rng = np.random.default_rng(RNG_SEED)
    nodes = [
        node("QuantizeLinear", ["x", "scale", "zero"], "codes"),
        node("DequantizeLinear", ["codes", "scale", "zero"], "a"),
        *[node("DequantizeLinear", [f"c{i}", "scale", "zero"], f"w{i}") for i in range(len(weights))],
        *core,
    ]
    tensors = [constant(f"c{i}", rng.integers(0, 255, size).astype(np.uint8)) for i, size in enumerate(weights)]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    inputs = [floats("x", shape), *more.get("inputs", [])]
    return model_of(nodes, [*parameters(), *tensors], inputs, [output]).SerializeToString()


def test_keys_of_length_none_are_the_first_step_of_a_decoder() -> None:
    """The first step of a decoder: the keys before it are of length 0."""
    core = [
        node("MatMul", ["a", "w0"], "new"),
        node("Concat", ["past", "new"], "keys", axis=1),
        node("Transpose", ["keys"], "turned", perm=[0, 2, 1]),
        node("MatMul", ["a", "turned"], "y"),
    ]
    model = open_model(core, ("n", "s", 8), (8, 8), inputs=[floats("past", ("n", "t", 8))])
    rng = np.random.default_rng(RNG_SEED)
    feeds = {"x": rng.normal(0, 1, (1, 3, 8)).astype(np.float32), "past": np.zeros((1, 0, 8), np.float32)}
    result = accelsim.run(accelsim.load(model), inputs=feeds)
    (expected,) = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, feeds)
    np.testing.assert_array_equal(result.outputs["y"], expected)
    assert result.model.macs + sum(layer.off_array_macs for layer in result.layers) == 3 * 8 * 8 + 3 * 3 * 8


@pytest.mark.parametrize(
    ("core", "shape", "weights"),
    [
        (node("Softmax", ["a"], "y"), (8,), ()),
        (node("Relu", ["x"], "y"), (8,), ()),
        (node("Conv", ["a", "w0"], "y"), (4, 5, 5), [(3, 4, 2, 2)]),
        (node("MatMul", ["a", "w0"], "y"), (8,), [(8, 4)]),
    ],
    ids=["softmax", "no cycles", "convolution", "product"],
)
def test_every_report_of_no_samples(
    tmp_path: Path, core: NodeProto, shape: tuple[int, ...], weights: list[tuple[int, ...]]
) -> None:
    """No work is no multiply-accumulate and no number that is none, wherever a run is shown."""
    model, given, result = (tmp_path / name for name in ("m.onnx", "x.npz", "r.json"))
    model.write_bytes(open_model([core], ("n", *shape), *weights))
    np.savez(given, x=np.zeros((0, *shape), np.float32))
    run = command("run", model, "--input", given, "--json")
    result.write_text(run.stdout, "utf-8")
    outcomes = [
        run,
        command("run", model, "--input", given, "-v", "--zero-gating"),
        command("check", model, "--input", given),
        command("explain", model, "--input", given),
        command("compare", result, result),
        command("report", result, "-o", tmp_path / "r.html"),
    ]
    assert [outcome.code for outcome in outcomes] == [0] * len(outcomes)
    assert not any("nan" in outcome.stdout.lower().split() for outcome in outcomes)
    bare = accelsim.run(model, inputs={"x": np.zeros((0, *shape), np.float32)})
    assert (bare.model.macs, bare.macs_on_array_share) == (0, None)
    assert (
        sum(layer.off_array_macs + (layer.lane_operations or 0) for layer in bare.layers if layer.outputs == ("y",))
        == 0
    )
    trace = command("trace", model, "--input", given, "-o", tmp_path / "t.json", "--format", "perfetto")
    assert (trace.code, "takes no cycles" in trace.stderr) == ((2, True) if not bare.cycles else (0, False))


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3)])
def test_recurrent_layers_without_samples(kind: str, gates: int) -> None:
    """At which onnxruntime aborts: refused before it can."""
    core = [node(kind, ["a", "w0", "w1"], "y", hidden_size=4)]
    model = open_model(core, ("t", "n", 5), (1, gates * 4, 5), (1, gates * 4, 4))
    with pytest.raises(accelsim.UnsupportedModelError, match="gets no samples"):
        accelsim.run(accelsim.load(model), inputs={"x": np.zeros((3, 0, 5), np.float32)})
