"""A figure that cannot be had costs its cell, with the reason beside it, never the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from accelsim.errors import AccelSimError, ResourceLimitError, UnsupportedModelError, UsageError
from accelsim.quantise.calibrate.calibration import load_calibration
from accelsim.quantise.measure.schemes import compare_schemes
from accelsim.quantise.measure.sensitivity import rank_layers
from accelsim.quantise.network.source import read_float_model
from accelsim.quantise.pipeline import quantize
from accelsim.quantise.scheme import parse_scheme
from accelsim.reports.page.page import quantisation_html
from accelsim.results.quantisation_reader import read_quantisation
from tests.cli.command import command
from tests.quantise.helpers import noise, quantize_into, two_convolutions
from tests.tiers import deep, few

REASON = "onnxruntime refuses the network (a reason): do something"
ERRORS = [UnsupportedModelError, UsageError, ResourceLimitError]

# Where each optional figure of `quantize` comes from, and how often it is missing.
FIGURES = {
    "float": "measure.three_way.float_outputs",
    "fake quantisation": "measure.three_way.run_batches",
    "machine": "measure.three_way.run_machine",
    "sensitivity": "measure.sensitivity.run_batches",
    "errors in the network": "measure.analysis._propagated",
    "activations": "measure.analysis._activations",
}


def failing(error: type[AccelSimError]) -> Callable[..., Any]:
    """Return a function that fails as one of ours does."""

    def fail(*arguments: object, **options: object) -> None:
        raise error(REASON)

    return fail


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("error", few(ERRORS, 1))
def test_a_missing_figure_costs_a_cell(
    figure: str, error: type[AccelSimError], small: Path, calibrated: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    """The file is written, the exit code is 0, the reason is printed, and reports in both forms hold up."""
    monkeypatch.setattr(f"accelsim.quantise.{FIGURES[figure]}", failing(error))
    report = tmp_path / "q.json"
    made = quantize_into(tmp_path, small, "--calib", calibrated, "--report", report)
    assert made.code == 0, made.stderr
    assert (tmp_path / "q.onnx").exists()
    text = " ".join(made.stdout.split())
    assert f"n/a, because {REASON}" in text
    assert "wrote" in text
    data = json.loads(report.read_text())
    assert any(REASON in remark for remark in data["remarks"])
    back = read_quantisation(report)
    assert back.to_json() == report.read_text()
    assert REASON.partition(" (")[0] in quantisation_html(back)


def test_only_what_failed_is_missing(small: Path, calibrated: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """One layer's variant fails: its cell is n/a and comes last, the other's is a number."""
    from accelsim.quantise.measure import sensitivity

    real = sensitivity.run_batches

    def fail(model: Any, proto: bytes, *arguments: Any, **options: Any) -> Any:
        if b"second_input_codes" in proto:
            raise UnsupportedModelError(REASON)
        return real(model, proto, *arguments, **options)

    monkeypatch.setattr(sensitivity, "run_batches", fail)
    made = quantize_into(tmp_path, small, "--calib", calibrated, "--json")
    assert made.code == 0
    first, second = json.loads(made.stdout)["sensitivity"]
    assert (first["layer"], first["reason"], second["layer"]) == ("first", None, "second")
    assert first["output_sqnr_db"] > 0
    assert (second["output_sqnr_db"], second["reason"]) == (None, REASON)


@pytest.mark.parametrize(
    ("place", "lost", "kept"),
    [
        ("run_machine", ("accuracy", "sqnr_db"), ("cycles", "worst_layer", "model_bytes")),
        ("run", ("cycles", "energy_pj"), ("sqnr_db", "worst_layer", "model_bytes")),
        ("float_rank", ("worst_layer",), ("sqnr_db", "cycles", "model_bytes")),
    ],
)
def test_schemes_lose_cells_only(place: str, lost: tuple[str, ...], kept: tuple[str, ...], monkeypatch: Any) -> None:
    """Quality, costs and sensitivity of a row do not depend on each other."""
    target = "measure.sensitivity.run_batches" if place == "float_rank" else f"measure.schemes.{place}"
    monkeypatch.setattr(f"accelsim.quantise.{target}", failing(UnsupportedModelError))
    model = read_float_model(two_convolutions())
    table = compare_schemes(model, [parse_scheme("w4a8+weight_bits=8")], load_calibration(noise(), model))
    (row,) = table.rows
    assert all(getattr(row, name) is None for name in lost)
    assert all(getattr(row, name) is not None for name in kept)
    assert any(remark.endswith(f"n/a, {REASON}") for remark in row.remarks)


def test_half_precision_that_cannot_run_keeps_its_size(monkeypatch: Any) -> None:
    """Bytes and bits of fp16 are known without running it."""
    monkeypatch.setattr("accelsim.quantise.measure.schemes.run_batches", failing(UnsupportedModelError))
    model = read_float_model(two_convolutions())
    (row,) = compare_schemes(model, [parse_scheme("fp16")], load_calibration(noise(), model)).rows
    assert (row.sqnr_db, row.effective_bits) == (None, 16.0)
    assert row.cycles is not None


@pytest.mark.parametrize("name", few(["models:ds-cnn-float", "models:bert-tiny-float"], 1))
@pytest.mark.parametrize("scheme", few(["w4a8", "int8-per-channel", "w4a16"], 1))
def test_every_layer_of_our_networks_is_ranked(name: str, scheme: str) -> None:
    """Onnxruntime once refused the variants in which an int8 quantiser stood in front of a Reshape."""
    ranking = rank_layers(quantize(name, scheme))
    assert [row.layer for row in ranking if row.reason is not None] == []


@deep
def test_the_command_on_bert(tmp_path: Path) -> None:
    """The whole run, synthetic samples and all."""
    made = command("quantize", "models:bert-tiny-float", "--scheme", "w4a8", "-o", tmp_path / "q.onnx")
    assert made.code == 0, made.stderr
    assert "n/a" not in made.stdout
