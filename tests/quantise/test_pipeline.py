"""Float in, Q/DQ out, on the machine: against onnxruntime's own quantiser, and for every scheme."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

import accelsim
from accelsim.errors import UsageError
from accelsim.quantise.calibrate.observe import run_batches
from accelsim.quantise.measure.analysis import analyse
from accelsim.quantise.network.source import read_float_model
from accelsim.quantise.pipeline import Quantised, quantize
from accelsim.quantise.scheme import NAMES, named, parse_scheme
from accelsim.results.result import Result
from tests.quantise.helpers import DIGITS, TEST, build, noise, samples, two_convolutions
from tests.tiers import few, few_rows

INTEGER = [name for name in NAMES if named(name).is_integer]


def _run(quantised: Quantised, x: dict[str, NDArray[np.generic]], acc_bits: int = 32) -> Result:
    return accelsim.run(accelsim.load(quantised.onnx), accelsim.Arch(acc_bits=acc_bits), x)


@pytest.mark.parametrize("name", few(INTEGER, 6))
def test_every_scheme_runs_on_the_machine(name: str) -> None:
    """The digits under every named scheme: verdict exact, classes as before (two bits lose them)."""
    quantised = quantize(DIGITS, name, samples(count=60))
    few = {"image": samples(TEST, 6)["image"]}
    result = _run(quantised, few, 48 if name == "int16" else 32)
    assert result.check.verdict == ("near" if result.check.output_mismatched else "exact"), result.check.first_mismatch
    exact = run_batches(quantised.model, quantised.model.original, quantised.data)["logits"]
    assert exact.shape == (60, 10)
    if name != "w2a8":
        assert np.array_equal(result.outputs["logits"].argmax(axis=1), samples(TEST, 6)["labels"])


@pytest.mark.parametrize(
    ("name", "kinds"),
    [("int8-per-channel", ("QInt8", "QInt8", True, False)), ("int8-affine", ("QInt8", "QInt8", False, False)),
     ("int8-symmetric", ("QInt8", "QInt8", False, True)), ("uint8-per-channel", ("QUInt8", "QInt8", True, False))],
)  # fmt: skip
def test_numbers_are_those_of_quantize_static(name: str, kinds: tuple[str, str, bool, bool]) -> None:
    """Where onnxruntime can do it all, its scales, zero points and weight codes are ours."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    activation, weight, per_channel, symmetric = kinds
    data = samples(count=30)
    quantised = quantize(DIGITS, name, data)

    class Reader:
        def __init__(self) -> None:
            self.batches = iter([{"image": data["image"]}])

        def get_next(self) -> object:
            return next(self.batches, None)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "static.onnx"
        quantize_static(
            str(DIGITS), str(path), Reader(), quant_format=QuantFormat.QDQ, per_channel=per_channel,
            activation_type=getattr(QuantType, activation), weight_type=getattr(QuantType, weight),
            extra_options={"ActivationSymmetric": symmetric},
        )  # fmt: skip
        theirs = _constants(onnx.load(path))
    mine = _constants(ModelProto.FromString(quantised.onnx))
    shared = [key for key in theirs if key in mine and not key.endswith("_bias_quantized")]
    clamped = {activation.tensor for activation in quantised.emission.activations if activation.clamped}
    compared = 0
    for key in shared:
        if key.removesuffix("_scale").removesuffix("_zero_point") in clamped:
            continue  # takes the range behind its Relu
        if key.endswith("_scale"):
            assert np.allclose(mine[key], theirs[key], rtol=2e-7), key
        elif key != "dense_weight_quantized":  # the same weights, transposed
            differ = mine[key].astype(int) != theirs[key].astype(int)
            assert differ.mean() < 0.002, (
                key
            )  # a tie may fall the other way when the scale is a unit in the last place off
        compared += 1
    assert compared >= 40


def _constants(proto: ModelProto) -> dict[str, NDArray[np.generic]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


@pytest.mark.parametrize("method", few(["min-max", "abs-max", "percentile", "mse"], 2))
@pytest.mark.parametrize("bounds", [None, (0.0, 6.0), (-0.3, 0.4), (0.2, 0.9)])
@pytest.mark.parametrize("name", ["int8-affine", "int8-symmetric", "uint8"])
def test_clamps_keep_their_effect_under_every_range(method: str, bounds: tuple[float, float] | None, name: str) -> None:
    """A Relu or Clip keeps its effect under every range: outputs stay near the float network's."""
    quantised = quantize(two_convolutions(clip=bounds), f"{name}+activation_range={method}+percentile=99.9", noise())
    exact = run_batches(quantised.model, quantised.model.original, quantised.data)["y"]
    result = _run(quantised, {"x": quantised.data.arrays["x"]})
    assert result.check.verdict == "exact"
    error = result.outputs["y"].astype(np.float64) - exact
    assert 10 * np.log10((exact**2).sum() / (error**2).sum()) > 20


def test_a_clamp_costs_no_layer() -> None:
    """Symmetric activations keep a Relu in the file, which is a bound of the requantiser on the machine."""
    symmetric, affine = (quantize(two_convolutions(), name, noise()) for name in ("int8-symmetric", "int8-affine"))
    assert "Relu" in {node.op_type for node in ModelProto.FromString(symmetric.onnx).graph.node}
    first, second = (_run(quantised, {"x": noise()["x"][:1]}) for quantised in (symmetric, affine))
    assert first.cycles == second.cycles
    assert [layer.op for layer in first.layers] == [layer.op for layer in second.layers]


@pytest.mark.parametrize("name", ["int8-per-channel", "w4a8", "int8-symmetric-per-channel"])
def test_dead_channels_do_not_overflow(name: str) -> None:
    """Channels of tiny weights with an ordinary bias get a scale that their bias decides, not one of 1e-30."""
    model = ModelProto.FromString(two_convolutions())
    for tensor in model.graph.initializer:
        if tensor.name == "w1":
            values = numpy_helper.to_array(tensor).copy()
            values[2] *= 1e-12
            values[5] = 0
            tensor.CopyFrom(numpy_helper.from_array(values, "w1"))
    quantised = quantize(model.SerializeToString(), name, noise())
    result = _run(quantised, {"x": noise()["x"]})
    assert result.check.verdict == "exact"
    assert not any(layer.acc.overflows for layer in result.layers if layer.acc is not None)
    assert any("the bias decides their scale" in remark for remark in quantised.remarks)
    exact = run_batches(quantised.model, quantised.model.original, quantised.data)["y"]
    error = result.outputs["y"].astype(np.float64) - exact
    assert 10 * np.log10((exact**2).sum() / (error**2).sum()) > (10 if name == "w4a8" else 25)


def test_groups_restore_the_weights_that_onnxruntime_restores() -> None:
    """Blocked four-bit weights in the file are the codes and scales that the analysis looks at."""
    quantised = quantize(two_convolutions(channels=64), "w4a8-g32", noise(shape=(64, 6, 6)))
    weights = quantised.weights["first"]
    assert weights.grid.scales.shape == (8, 2, 3, 3)
    assert quantised.weights["second"].grid.block == 0  # eight channels are less than a block
    proto = ModelProto.FromString(quantised.onnx)
    node = next(node for node in proto.graph.node if node.op_type == "Conv" and node.name == "first")
    outputs = node.input[1]
    del proto.graph.output[:]
    proto.graph.output.append(onnx.helper.make_tensor_value_info(outputs, onnx.TensorProto.FLOAT, None))
    from accelsim.reference.session import open_session

    (restored,) = open_session(proto.SerializeToString()).run([outputs], {"x": noise(1, (64, 6, 6))["x"]})
    assert np.array_equal(restored, weights.restored)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_one_layer_may_have_other_weights_than_the_rest(bits: int) -> None:
    """One layer may have other weights than the rest; the file and the figures follow."""
    quantised = quantize(two_convolutions(), f"int8-per-channel+layer_bits.second={bits}", noise())
    assert quantised.weights["first"].grid.spec.bits == 8
    assert quantised.weights["second"].grid.spec.bits == bits
    assert _run(quantised, {"x": noise()["x"][:2]}).check.verdict == "exact"


@pytest.mark.parametrize("method", few(["min-max", "mse", "cross-entropy"], 1))
@pytest.mark.parametrize(
    ("base", "layer", "bits"),
    few_rows([("int8-per-channel", "residual_add", 16), ("w8a16", "stem", 8), ("int8-symmetric", "reduce", 16),
     ("uint8", "image", 16), ("int16", "pointwise1", 8), ("w4a8-g32", "dense", 16)], 2),
)  # fmt: skip
def test_activations_of_mixed_widths(base: str, layer: str, bits: int, method: str) -> None:
    """What one layer writes has another width, in the file and on the machine; all others keep theirs."""
    scheme = parse_scheme(f"{base}+activation_range={method}+layer_activation_bits.{layer}={bits}")
    quantised = quantize(DIGITS, scheme, samples(count=20))
    wide = {a.tensor for a in quantised.emission.activations if a.grid.spec.bits == bits}
    shared = {"residual_add": {"pool_out"}}  # a MaxPool passes codes on
    around = {"image"} if layer == "image" else {f"{layer}_out", f"{layer}_relu_out"}
    around |= {"residual_relu_out"} if layer == "residual_add" else set()
    around |= {"logits"} if layer == "dense" else set()
    assert wide
    assert wide <= around | shared.get(layer, set())
    result = _run(quantised, {"image": samples(TEST, 3)["image"]}, 48)
    assert result.check.verdict == ("near" if result.check.output_mismatched else "exact"), result.check.first_mismatch
    assert np.array_equal(result.outputs["logits"].argmax(axis=1), samples(TEST, 3)["labels"])


def test_a_wider_activation_is_a_finer_one() -> None:
    """The tensor's own error falls by the 8 bits (48 dB), its codes are of 16 bits, and the others' errors stay."""
    narrow, wide = (
        {e.tensor: e for e in analyse(quantize(DIGITS, f"int8-per-channel{more}", samples(count=20))).activations}
        for more in ("", "+layer_activation_bits.reduce=16")
    )
    assert wide["reduce_relu_out"].bits == 16
    assert 45 < wide["reduce_relu_out"].sqnr_db - narrow["reduce_relu_out"].sqnr_db < 51
    others = [name for name in narrow if name != "reduce_relu_out"]
    assert [wide[name].sqnr_db for name in others] == [narrow[name].sqnr_db for name in others]


@pytest.mark.parametrize(
    ("option", "words"),
    [("pool=16", "'pool' passes on codes of 8 bits, from the layer before it or from a constant table"),
     ("stm=16", "did you mean 'stem'?"), ("dense=16+keep_float=Gemm", "nothing that 'dense' writes is quantised")],
)  # fmt: skip
def test_widths_that_no_tensor_can_have(option: str, words: str) -> None:
    """A layer without codes of its own cannot have another width, and the sentence says which can."""
    with pytest.raises(UsageError, match=words[:20].replace("?", ".")) as caught:
        quantize(DIGITS, f"int8-affine+layer_activation_bits.{option}", samples(count=4))
    assert words in str(caught.value)


def test_old_files_are_converted() -> None:
    """Operator set 9 with constants among the inputs becomes one that has quantisers with an axis."""
    proto = ModelProto.FromString(two_convolutions())
    proto.opset_import[0].version, proto.ir_version = 9, 3
    for tensor in proto.graph.initializer:
        proto.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, 1, list(tensor.dims)))
    quantised = quantize(proto.SerializeToString(), "int8-per-channel", noise())
    assert _run(quantised, {"x": noise()["x"][:2]}).check.verdict == "exact"


def test_factors_of_a_gemm_become_part_of_its_constants() -> None:
    """alpha, beta and the layout of a Gemm's weights are folded; a shared bias is not changed for others."""
    generator = np.random.default_rng(0)
    constants = {
        "w": generator.normal(0, 1, (8, 8)).astype(np.float32),
        "b": generator.normal(0, 1, 8).astype(np.float32),
    }
    nodes = [
        onnx.helper.make_node("Gemm", ["x", "w", "b"], ["h"], name="first", alpha=0.5, beta=2.0),
        onnx.helper.make_node("Gemm", ["h", "w", "b"], ["y"], name="second", transB=1),
    ]
    x = {"x": generator.normal(0, 1, (40, 8)).astype(np.float32)}
    quantised = quantize(build(nodes, constants, ("N", 8)), "int8-per-channel", x)
    exact = run_batches(quantised.model, quantised.model.original, quantised.data)["y"]
    tidy = run_batches(quantised.model, quantised.model.proto.SerializeToString(), quantised.data)["y"]
    assert np.allclose(exact, tidy, rtol=1e-5, atol=1e-5)
    result = _run(quantised, x)
    assert result.check.verdict == "exact"
    assert np.abs(result.outputs["y"] - exact).max() < 0.05 * np.abs(exact).max()


def test_the_file_says_where_it_comes_from() -> None:
    """Scheme and digest of the float file stand in the metadata; equal input gives equal bytes."""
    first, second = (quantize(DIGITS, "w4a8", samples(count=20)) for _ in range(2))
    assert first.onnx == second.onnx
    found = {entry.key: entry.value for entry in ModelProto.FromString(first.onnx).metadata_props}
    assert found == {"quantisation_scheme": "w4a8", "float_sha256": read_float_model(DIGITS).sha256}


@pytest.mark.deep
def test_int8_loses_nothing_on_the_digits() -> None:
    """Post-training int8 is within half a point of float on the held-back images."""
    from accelsim.quantise.calibrate.calibration import load_calibration
    from accelsim.quantise.measure.three_way import compare_three

    quantised = quantize(DIGITS, "int8-per-channel", samples())
    found = compare_three(quantised, load_calibration(samples(TEST), quantised.model))
    assert found.samples == 360
    assert found.machine.accuracy is not None
    assert found.original.accuracy is not None
    assert found.machine.accuracy > found.original.accuracy - 0.005
    assert found.literal.accuracy == pytest.approx(found.machine.accuracy, abs=0.01)
    assert found.distances[0].max_lsb is not None
    assert found.distances[0].max_lsb <= 2


def test_blocked_products_are_priced_on_the_array_and_spatial_ones_on_the_host() -> None:
    """One tap and blocks of channels: a float product on the array; nine taps: host, and the share says so."""
    generator = np.random.default_rng(0)
    constants = {
        "w": generator.normal(0, 1, (16, 64, 1, 1)).astype(np.float32),
        "v": generator.normal(0, 1, (8, 64, 3, 3)).astype(np.float32),
    }
    for weight, share in (("w", 1.0), ("v", 0.0)):
        node = onnx.helper.make_node("Conv", ["x", weight], ["y"], name="conv")
        quantised = quantize(
            build([node], {weight: constants[weight]}, ("N", 64, 6, 6)), "w4a8-g32", noise(shape=(64, 6, 6))
        )
        result = _run(quantised, {"x": noise(1, (64, 6, 6))["x"]})
        assert result.check.verdict == "exact"
        assert result.macs_on_array_share == share
        layer = next(layer for layer in result.layers if layer.op == "Conv")
        assert (layer.placement, layer.computed_by) == ("array" if share else "host", "onnxruntime")
        if share:
            assert (layer.m, layer.k, layer.n, layer.arithmetic) == (36, 64, 16, "float32")
