"""Ranges: the least squared error beats the extremes where there are outliers, and onnxruntime's calibrators agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from onnx import helper

from accelsim.quantise.calibrate.calibration import load_calibration
from accelsim.quantise.calibrate.observe import run_batches
from accelsim.quantise.calibrate.optimum import Histogram, least_squares_range, shrink_rows, squared_error
from accelsim.quantise.calibrate.ranges import choose_ranges
from accelsim.quantise.calibrate.refine import cross_entropy
from accelsim.quantise.grid import CodeSpec, Grid, fit
from accelsim.quantise.measure.analysis import tensor_error
from accelsim.quantise.network.source import read_float_model
from accelsim.quantise.pipeline import Quantised, quantize
from accelsim.quantise.scheme import parse_scheme
from tests.quantise.helpers import DIGITS, build, noise, samples, two_convolutions
from tests.tiers import few

SPECS = [
    CodeSpec(8, signed=True, symmetric=True, narrow=True),
    CodeSpec(8, signed=False, symmetric=False, narrow=False),
    CodeSpec(4, signed=True, symmetric=True, narrow=True),
    CodeSpec(4, signed=True, symmetric=False, narrow=False),
]


def _error(values: np.ndarray, low: float, high: float, spec: CodeSpec) -> float:
    scale, zero_point = fit(np.asarray([low]), np.asarray([high]), spec)
    return tensor_error(values, Grid(spec, scale.reshape(()), zero_point.reshape(()))).total


def _histogram(values: np.ndarray, bins: int = 2048) -> Histogram:
    counts, edges = np.histogram(values[values != 0], bins, (values.min(), values.max()))
    return Histogram((edges[1:] + edges[:-1]) / 2, counts)


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_least_squares_beats_extremes_with_outliers(spec: CodeSpec, seed: int) -> None:
    """One value in ten thousand, 30 times as large as the rest, costs min-max more than clipping it does."""
    values = np.random.default_rng(seed).normal(0, 1, 40_000).astype(np.float32)
    values[::10_000] *= 30
    low, high = least_squares_range(_histogram(values), spec)
    best, extremes = _error(values, low, high, spec), _error(values, values.min(), values.max(), spec)
    assert best < extremes * (0.5 if spec.bits == 4 else 0.98)


@pytest.mark.parametrize("spec", few(SPECS, 2), ids=str)
def test_least_squares_is_near_the_best_of_all_symmetric_ranges(spec: CodeSpec) -> None:
    """A sweep over 400 ranges by the exact values finds none that is much better."""
    values = np.random.default_rng(4).laplace(0, 1, 20_000).astype(np.float32)
    peak = float(np.abs(values).max())
    found = _error(values, *least_squares_range(_histogram(values), spec), spec)
    swept = min(_error(values, -peak * share, peak * share, spec) for share in np.linspace(0.02, 1, 400))
    assert found <= swept * 1.03


@given(st.integers(0, 2**32 - 1), st.sampled_from(SPECS), st.floats(0.1, 1.0))
@settings(max_examples=30, deadline=None)
def test_the_histogram_estimates_the_true_error(seed: int, spec: CodeSpec, share: float) -> None:
    """What the search minimises is the squared error of the values themselves, but for the width of a bin."""
    values = np.random.default_rng(seed).normal(0, 1, 4000).astype(np.float32)
    low, high = values.min() * share, values.max() * share
    estimate = squared_error(_histogram(values), np.asarray([low]), np.asarray([high]), spec)[0]
    assert estimate == pytest.approx(_error(values, low, high, spec), rel=0.2)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_rows_of_weights_never_lose_by_being_shrunk(spec: CodeSpec) -> None:
    """The full range is among the candidates, so that each row's error is at most that of min-max."""
    rows = np.random.default_rng(3).standard_t(3, (12, 144)).astype(np.float32)
    low, high = rows.min(axis=1), rows.max(axis=1)
    shrunk = shrink_rows(rows, low, high, spec)
    for row, a, b, c, d in zip(rows, low, high, *shrunk, strict=True):
        assert _error(row, c, d, spec) <= _error(row, a, b, spec) * (1 + 1e-6)


METHODS = ["min-max", "percentile", "entropy", "mse", "moving-average", "abs-max"]


@pytest.mark.parametrize("method", few(METHODS, set(METHODS) - {"entropy"}))
def test_ranges_of_the_digits(method: str) -> None:
    """Every method covers the bulk of the values and stays within the extremes, abs-max with their mirror."""
    model = read_float_model(DIGITS)
    data = load_calibration(samples(count=40), model)
    for found in choose_ranges(model, data, parse_scheme(f"int8-per-channel+activation_range={method}")).values():
        assert found.low < found.high
        reach = max(-found.smallest, found.largest)
        assert -reach * 1.001 <= found.low
        assert found.high <= reach * 1.001
        assert found.high >= 0.2 * found.largest


@pytest.mark.parametrize("tails", few(["laplace", "outliers"], 1))
def test_least_divergence_cuts_long_tails(tails: str) -> None:
    """Entropy gives another range than the extremes where few values are large, as percentiles do."""
    x = noise(64)["x"].astype(np.float32).copy()
    if tails == "laplace":
        x = np.random.default_rng(3).laplace(0, 1, x.shape).astype(np.float32)
    else:
        x.reshape(-1)[::5000] = 60
    model = read_float_model(two_convolutions())
    data = load_calibration({"x": x}, model)
    widths = {}
    for method in ("min-max", "entropy"):
        found = choose_ranges(model, data, parse_scheme(f"int8-affine+activation_range={method}"))["x"]
        widths[method] = found.high - found.low
    bulk = float(np.percentile(np.abs(x), 99))
    assert bulk < widths["entropy"] < 0.9 * widths["min-max"]


@pytest.mark.deep
def test_least_divergence_of_few_values_is_that_of_their_extremes() -> None:
    """A hundred values in two thousand bins have no divergence to speak of: they keep their range."""
    model = read_float_model(DIGITS)
    data = load_calibration(samples(count=20), model)
    few, many = (
        choose_ranges(model, data, parse_scheme(f"int8-affine+activation_range={method}"))
        for method in ("min-max", "entropy")
    )
    assert (many["logits"].low, many["logits"].high) == (few["logits"].low, few["logits"].high)
    assert many["pointwise1_out"].high != few["pointwise1_out"].high


def test_min_max_is_what_onnxruntimes_calibrator_finds(tmp_path: Path) -> None:
    """The extremes are those of onnxruntime's MinMax calibrator."""
    from onnxruntime.quantization import CalibrationMethod, create_calibrator

    model = read_float_model(DIGITS)
    data = load_calibration(samples(count=20), model)
    mine = choose_ranges(model, data, parse_scheme("int8-affine"))

    class Reader:
        def __init__(self) -> None:
            self.batches = iter(list(data.batches(model, 20)))

        def get_next(self) -> object:
            return next(self.batches, None)

    calibrator = create_calibrator(
        str(DIGITS), [], str(tmp_path / "augmented.onnx"), calibrate_method=CalibrationMethod.MinMax
    )
    calibrator.collect_data(Reader())
    theirs = calibrator.compute_data().data
    shared = set(mine) & set(theirs)
    assert len(shared) >= 18
    for name in shared:
        low, high = (float(np.min(end)) for end in theirs[name].range_value)
        assert (mine[name].low, mine[name].high) == pytest.approx((low, high), rel=1e-6)


def test_moving_average_depends_on_every_sample() -> None:
    """With weight 0.5 the range is half the last sample's, a quarter of the one before, and so on."""
    x = np.zeros((3, 8, 6, 6), np.float32)
    x[:, 0, 0, 0], x[:, 0, 0, 1] = [1, 2, 4], [-1, -1, -1]
    model = read_float_model(two_convolutions())
    scheme = parse_scheme("int8-affine+activation_range=moving-average+averaging=0.5")
    found = choose_ranges(model, load_calibration({"x": x}, model), scheme)["x"]
    assert (found.low, found.high) == (-1, 2.75)
    assert (found.smallest, found.largest) == (-1, 4)


def loss_of(quantised: Quantised) -> float:
    """Return the loss of the file, executed as it is spelled, on the samples that the search looks at."""
    few = quantised.data.spread(quantised.model, 128)
    assert few.labels is not None
    (logits,) = run_batches(quantised.model, quantised.onnx, few, literal=True).values()
    softmax = any(node.op_type == "Softmax" for node in quantised.model.proto.graph.node)
    return cross_entropy(logits, few.labels, probabilities=softmax)


@pytest.mark.parametrize(
    "scheme",
    few(
        ["w4a8+granularity=tensor", "w4a8", "int8-symmetric", "uint8+weight_bits=2", "w2a8+bias_correction", "w4a16"], 1
    ),
)
def test_cross_entropy_never_raises_the_loss(scheme: str) -> None:
    """The search starts from the least squared error, and what it finds is what is written, clamps or not."""
    labelled = samples(count=60)
    names = [f"{scheme}+activation_range={method}" for method in ("mse", "cross-entropy")]
    before, after = (loss_of(quantize(DIGITS, name, labelled)) for name in names)
    assert after <= before


@pytest.mark.parametrize("batch", few(["N", 3, 50], 1))
@pytest.mark.parametrize("end", ["Relu", "Softmax", "Clip"])
def test_cross_entropy_behind_clamps_and_softmax(end: str, batch: int | str) -> None:
    """Ranges that onnxruntime's quantiser fixes are not searched; a fixed batch gets whole batches."""
    generator = np.random.default_rng(3)
    weights = {f"w{at}": generator.normal(0, 0.5, (8, 8)).astype(np.float32) for at in (1, 2)}
    weights |= {"low": np.float32(-1), "high": np.float32(1)}  # type: ignore[dict-item]
    nodes = [
        helper.make_node("Gemm", ["x", "w1"], ["h"], name="first"),
        helper.make_node("Clip", ["h", "low", "high"], ["r"], name="clip")
        if end == "Clip"
        else helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("Gemm", ["r", "w2"], ["z"], name="second"),
        helper.make_node("Softmax" if end == "Softmax" else "Identity", ["z"], ["y"], name="last"),
    ]
    model = build(nodes, weights, (batch, 8))
    data = {"x": generator.normal(0, 1, (150, 8)).astype(np.float32), "labels": generator.integers(0, 8, 150)}
    for scheme in ("w2a8", "int8-symmetric+weight_bits=2"):
        names = [f"{scheme}+activation_range={method}" for method in ("mse", "cross-entropy")]
        before, after = (quantize(model, name, data) for name in names)
        assert after.data.spread(after.model, 128).samples == {"N": 128, 3: 126, 50: 100}[batch]
        assert loss_of(after) <= loss_of(before)


def test_cross_entropy_of_known_numbers() -> None:
    """Equal logits of four classes give log 4; a probability of a half gives log 2."""
    labels = np.asarray([0, 3])
    assert cross_entropy(np.zeros((2, 4), np.float32), labels) == pytest.approx(np.log(4))
    half = np.full((2, 2), 0.5, np.float32)
    assert cross_entropy(half, np.asarray([0, 1]), probabilities=True) == pytest.approx(np.log(2))


def test_synthetic_data_carries_a_warning() -> None:
    """Ranges from drawn samples work, and say that they mean nothing."""
    quantised = quantize(two_convolutions(), "int8-affine", None, seed=3)
    assert any("synthetic" in remark for remark in quantised.remarks)
    again = quantize(two_convolutions(), "int8-affine", None, seed=3)
    assert quantised.onnx == again.onnx
    assert quantize(two_convolutions(), "int8-affine", noise()).remarks == ()
