"""Equalisation and bias correction: what they must leave alone, and what they must repair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper

from accelsim.quantise.calibrate.calibration import load_calibration
from accelsim.quantise.calibrate.observe import run_batches
from accelsim.quantise.methods.bias_correction import corrected_biases
from accelsim.quantise.methods.equalise import equalised, find_pairs
from accelsim.quantise.network.source import read_float_model
from accelsim.quantise.pipeline import quantize
from accelsim.quantise.scheme import parse_scheme
from accelsim.quantise.write.weights import quantise_weights
from tests.quantise.helpers import DIGITS, noise, samples, two_convolutions


def _sqnr(scheme: str, model: bytes, data: dict) -> float:
    quantised = quantize(model, scheme, data)
    original = read_float_model(model)
    exact = run_batches(original, original.original, quantised.data)["y"].astype(np.float64)
    got = run_batches(quantised.model, quantised.onnx, quantised.data, literal=True)["y"]
    return float(10 * np.log10((exact**2).sum() / ((got - exact) ** 2).sum()))


@pytest.mark.parametrize("spread", [1.0, 30.0, 1000.0])
def test_equalisation_leaves_the_network_as_it_is(spread: float) -> None:
    """The float network computes the same afterwards."""
    model = read_float_model(two_convolutions(spread=spread))
    data = load_calibration(noise(), model)
    before = run_batches(model, model.proto.SerializeToString(), data)["y"]
    after = run_batches(model, equalised(model)[0].proto.SerializeToString(), data)["y"]
    assert np.allclose(before, after, rtol=1e-4, atol=1e-4 * np.abs(before).max())


def test_equalised_channels_have_equal_ranges() -> None:
    """The range of an output channel becomes that of the input channel that reads it."""
    model, _ = equalised(read_float_model(two_convolutions(spread=100.0)))
    first = np.abs(model.constant("w1")).reshape(8, -1).max(axis=1)
    second = np.abs(model.constant("w2")).max(axis=(0, 2, 3))
    assert np.allclose(first, second, rtol=1e-3)


def test_equalisation_repairs_per_tensor_weights() -> None:
    """Channels 300 times apart ruin a scale per tensor; equalised they do not."""
    model = two_convolutions(spread=300.0)
    plain, repaired = (_sqnr(name, model, noise()) for name in ("int8-affine", "int8-affine+equalise"))
    assert repaired > plain + 6


def test_channels_that_are_little_but_their_bias_stay_small() -> None:
    """Dead channels of folded batch normalisation have a bias and hardly any weights: it must not fill the range."""
    proto = ModelProto.FromString(two_convolutions())
    for tensor in proto.graph.initializer:
        if tensor.name in ("w1", "b1"):
            values = numpy_helper.to_array(tensor).copy()
            values[:3] *= 1e-9 if tensor.name == "w1" else 1.0
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    model = read_float_model(proto.SerializeToString())
    after = equalised(model)[0]
    assert np.abs(after.constant("b1")).max() <= np.abs(model.constant("b1")).max() * 1.001
    plain, repaired = (
        _sqnr(name, proto.SerializeToString(), noise()) for name in ("int8-affine", "int8-affine+equalise")
    )
    assert repaired > plain - 1


@pytest.mark.parametrize("scheme", ["int8-affine", "int8-symmetric", "int8-per-channel"])
def test_equalisation_repairs_a_depthwise_network(scheme: str, shared_models: Path) -> None:
    """What it is for: MobileNetV1 with a scale per tensor, on samples from a seed."""
    file = (shared_models / "mobilenetv1_025_vww_float.onnx").read_bytes()
    found = []
    for name in (scheme, f"{scheme}+equalise"):
        quantised = quantize(file, name)
        literal = run_batches(quantised.model, quantised.onnx, quantised.data, literal=True)
        exact = run_batches(quantised.model, quantised.model.original, quantised.data)
        ((signal, got),) = zip(exact.values(), literal.values(), strict=True)
        found.append(10 * np.log10((signal**2).sum() / ((got - signal) ** 2).sum()))
    assert found[1] > found[0] + 3


def test_a_clip_is_no_pair() -> None:
    """min(x, 6) does not scale with x, so that channels around it stay."""
    assert find_pairs(read_float_model(two_convolutions(clip=(0.0, 6.0)))) == ()
    assert len(find_pairs(read_float_model(two_convolutions()))) == 1


def test_depthwise_layers_are_paired_in_the_digits() -> None:
    """Chains through depthwise layers count; the residual branch, which two layers read, does not."""
    pairs = {(pair.first.name, pair.second.name, pair.grouped) for pair in find_pairs(read_float_model(DIGITS))}
    assert pairs == {
        ("stem", "reduce", False), ("reduce", "depthwise1", True), ("depthwise1", "pointwise1", False),
        ("depthwise2", "pointwise2", False),
    }  # fmt: skip


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", ["w4a8", "w2a8"])
def test_corrected_layers_have_no_mean_error(bias: bool, name: str) -> None:
    """With the weights rounded, the mean of every channel of the first layer is again that of the float layer."""
    from dataclasses import replace

    from onnx import ModelProto, numpy_helper

    model = read_float_model(two_convolutions(bias=bias), None, 25)
    data = load_calibration({"x": noise()["x"] + 0.5}, model)
    weights = quantise_weights(model, parse_scheme(name))
    biases = corrected_biases(model, data, weights)
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    for tensor in proto.graph.initializer:
        if tensor.name == "w1":
            tensor.CopyFrom(numpy_helper.from_array(weights["first"].restored, "w1"))
    node = next(node for node in proto.graph.node if node.name == "first")
    proto.graph.initializer.append(numpy_helper.from_array(biases["first"], "new_bias"))
    del node.input[2:]
    node.input.append("new_bias")
    for part in (proto, model.proto):
        part.graph.output[0].name = node.output[0]
        del part.graph.node[1:]
    exact = run_batches(model, model.proto.SerializeToString(), data)
    got = run_batches(replace(model, proto=proto), proto.SerializeToString(), data)
    (first,), (second,) = exact.values(), got.values()
    assert np.allclose(first.mean(axis=(0, 2, 3)), second.mean(axis=(0, 2, 3)), atol=1e-4)


def test_bias_correction_improves_few_bits_on_the_digits() -> None:
    """At four bits the outputs' error falls by some dB."""
    from accelsim.quantise.measure.analysis import analyse

    plain, corrected = (analyse(quantize(DIGITS, f"w4a8{more}", samples())) for more in ("", "+bias_correction"))
    assert corrected.output_sqnr_db > plain.output_sqnr_db + 2
