"""Errors taken apart: rounding and clipping are the whole error; figures known by hand; layers and sensitivity."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from accelsim.quantise.grid import CodeSpec, Grid, dequantise, fit, quantise
from accelsim.quantise.measure.analysis import analyse, tensor_error
from accelsim.quantise.measure.sensitivity import rank_layers
from accelsim.quantise.pipeline import quantize
from tests.quantise.helpers import DIGITS, noise, samples, two_convolutions


@given(
    st.integers(0, 2**32 - 1), st.sampled_from([2, 4, 8, 16]), st.booleans(), st.booleans(), st.booleans(),
    st.floats(0.05, 2.0), st.sampled_from(["tensor", "channel", "group"]),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_rounding_and_clipping_are_the_whole_error(
    seed: int, bits: int, signed: bool, symmetric: bool, narrow: bool, share: float, granularity: str
) -> None:
    """For any grid the two parts add up to the squared error, which is computed here by itself."""
    values = np.random.default_rng(seed).standard_t(3, (6, 32)).astype(np.float32)
    spec = CodeSpec(bits, signed, symmetric, narrow)
    rows = {"tensor": values.reshape(1, -1), "channel": values, "group": values.reshape(-1, 8)}[granularity]
    scales, zero_points = fit(rows.min(axis=1) * share, rows.max(axis=1) * share, spec)
    shape = {"tensor": (), "channel": (6,), "group": (6, 4)}[granularity]
    axis = {"tensor": None, "channel": 0, "group": 1}[granularity]
    grid = Grid(spec, scales.reshape(shape), zero_points.reshape(shape), axis, 8 if granularity == "group" else 0)
    found = tensor_error(values, grid)
    whole = float(((dequantise(quantise(values, grid), grid).astype(np.float64) - values) ** 2).sum())
    assert found.rounding + found.clipping == pytest.approx(whole, rel=1e-12, abs=1e-300)
    assert found.total == whole
    assert 0 <= found.clipped_share <= 1
    assert (found.clipping > 0) == (found.clipped_share > 0)
    steps, _ = grid.spread(values.shape)
    assert found.rounding <= float((np.broadcast_to(steps, values.shape).astype(np.float64) ** 2).sum()) / 4 * 1.001


def test_errors_of_a_tensor_equal_figures_worked_out_by_hand() -> None:
    """Codes 0 to 3 of step 1: 0.25 is rounded by 0.25, 5 is clipped by 2, code 2 is unused."""
    grid = Grid(CodeSpec(2, signed=False, symmetric=False, narrow=False), np.float32(1), np.int64(0))  # type: ignore[arg-type]
    grid = Grid(grid.spec, np.asarray(1, np.float32), np.asarray(0))
    found = tensor_error(np.asarray([0, 0.25, 1, 5], np.float32), grid)
    assert (found.rounding, found.clipping, found.total) == (0.0625, 4.0, 4.0625)
    assert (found.clipped_share, found.unused_codes, found.codes) == (0.25, 1, 4)
    assert found.sqnr_db == pytest.approx(10 * math.log10((0.0625 + 1 + 25) / 4.0625))


def test_outliers_are_counted() -> None:
    """Values more than six standard deviations from the mean are outliers."""
    values = np.random.default_rng(0).uniform(-1, 1, 10_000).astype(np.float32)
    values[:5] = 100
    grid = Grid(CodeSpec(8, signed=True, symmetric=True, narrow=True), np.asarray(1, np.float32), np.asarray(0))
    assert tensor_error(values, grid).outlier_share == 5 / 10_000


def test_the_digits_taken_apart() -> None:
    """All layers, weights and activations appear; parts add up in each; the last tensor's error is the outputs'."""
    quantised = quantize(DIGITS, "int8-affine", samples(count=60))
    found = analyse(quantised)
    assert [layer.layer for layer in found.layers][:2] == ["stem", "reduce"]
    assert len(found.weights) == 8
    assert {"image", "stem_relu_out", "residual_relu_out", "logits"} <= {error.tensor for error in found.activations}
    for error in (*found.weights, *found.activations):
        assert error.rounding + error.clipping == pytest.approx(error.total, rel=1e-9)
        assert sum(error.distribution.counts) == error.elements
    assert all(layer.output_sqnr_db is not None for layer in found.layers)
    by_name = {error.tensor: error for error in found.activations}
    assert found.output_sqnr_db == by_name["logits"].propagated_sqnr_db
    assert 20 < found.output_sqnr_db < by_name["image"].sqnr_db


def test_more_bits_give_less_error() -> None:
    """About 6 dB per bit: 16-bit activations are at least 40 dB better than 8-bit ones by themselves."""
    low, high = (analyse(quantize(DIGITS, name, samples(count=30))) for name in ("int8-symmetric", "w8a16"))
    for first, second in zip(low.activations, high.activations, strict=True):
        assert second.sqnr_db > first.sqnr_db + 40


def test_the_layer_that_was_damaged_is_the_most_sensitive() -> None:
    """With two bits in one layer and eight in the other, the first one ranks first."""
    for layer in ("first", "second"):
        quantised = quantize(two_convolutions(), f"int8-per-channel+layer_bits.{layer}=2", noise())
        ranking = rank_layers(quantised)
        assert ranking[0].layer == layer
        assert ranking[0].output_sqnr_db < ranking[1].output_sqnr_db - 10


def test_a_layer_kept_in_float_has_no_weight_error() -> None:
    """It is neither quantised nor ranked."""
    quantised = quantize(two_convolutions(), "int8-per-channel+keep_float=first", noise())
    assert [row.layer for row in rank_layers(quantised)] == ["second"]
    assert analyse(quantised).layers[0].weight_bits is None
    assert any("stay in float: Conv 'first'" in remark for remark in quantised.remarks)
