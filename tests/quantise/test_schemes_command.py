"""The command schemes: rows that say what they should, whatever stands beside them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.cli.command import command
from tests.quantise.helpers import (
    CALIBRATION,
    DIGITS,
    TEST,
    noise,
    two_convolutions,
)
from tests.tiers import deep


@deep
def test_schemes_side_by_side(tmp_path: Path) -> None:
    """One table: quality, bytes, cycles; a float format is priced as the energy page says, with a remark."""
    names = "int8-symmetric,int8-affine,w4a8,w4a8-g32,int16,fp16,fp32"
    arguments = ("schemes", DIGITS, "--schemes", names, "--calib", CALIBRATION, "--test", TEST)
    shown = command(*arguments)
    assert shown.code == 0, shown.stderr
    assert max(map(len, shown.stdout.splitlines())) <= 100
    assert "of an array of float units, mapped like int8-affine" in " ".join(shown.stdout.split())
    assert "accumulators of 32 bits overflow" in shown.stdout
    rows = {row["scheme"]: row for row in json.loads(command(*arguments, "--json").stdout)["rows"]}
    assert list(rows) == names.split(",")
    assert rows["fp32"]["cycles"] == rows["fp16"]["cycles"] == rows["int8-affine"]["cycles"]
    assert rows["fp32"]["energy_pj"] > 1.9 * rows["fp16"]["energy_pj"] > 3 * rows["int8-affine"]["energy_pj"]
    assert rows["fp32"]["model_bytes"] == 2 * rows["fp16"]["model_bytes"] == 4 * 19_242
    assert rows["w4a8"]["model_bytes"] < rows["int8-affine"]["model_bytes"] < rows["fp16"]["model_bytes"]
    assert rows["w4a8"]["cycles"] <= rows["int8-affine"]["cycles"]
    assert rows["int8-affine"]["accuracy"] >= rows["fp32"]["accuracy"] - 0.005
    assert rows["int16"]["sqnr_db"] > rows["int8-affine"]["sqnr_db"] > rows["w4a8"]["sqnr_db"]
    assert rows["w4a8-g32"]["integer"] < 1
    assert rows["int16"]["safe_acc_bits"] > 32
    assert all(row["verdict"] in ("exact", "near", None) for row in rows.values())


@deep
def test_a_scheme_is_the_same_in_any_company() -> None:
    """Rows are those of the scheme alone, whatever operator sets the others need."""
    arguments = ("schemes", DIGITS, "--calib", CALIBRATION, "--json", "--schemes")
    together = json.loads(command(*arguments, "int8-affine,w4a8,w2a8").stdout)["rows"]
    for row in together:
        (alone,) = json.loads(command(*arguments, row["scheme"]).stdout)["rows"]
        assert alone == row


def test_a_scheme_that_does_not_fit_keeps_its_row(tmp_path: Path, small: Path, calibrated: Path) -> None:
    """The other rows are there, and the reason stands below."""
    names = "w4a8+activation_range=cross-entropy,int8-affine"
    shown = command("schemes", small, "--schemes", names, "--calib", calibrated)
    assert shown.code == 0
    assert "ranges by cross-entropy need the class of each sample" in " ".join(shown.stdout.split())


def test_blocks_that_do_not_divide_a_layer_are_said(tmp_path: Path, calibrated: Path) -> None:
    """The scheme has all its figures, and the remark names the layer without groups."""
    path = tmp_path / "m.onnx"
    path.write_bytes(two_convolutions(channels=48))
    np.savez(calibrated, **noise(shape=(48, 6, 6)))
    shown = command("schemes", path, "--schemes", "w4a8-g32,int8-affine", "--calib", calibrated)
    assert shown.code == 0
    assert "do not divide the input channels of 'first' 48" in " ".join(shown.stdout.split())
    rows = json.loads(command("schemes", path, "--schemes", "w4a8-g32", "--calib", calibrated, "--json").stdout)["rows"]
    assert all(rows[0][figure] is not None for figure in ("sqnr_db", "cycles", "worst_layer", "effective_bits"))


def test_asymmetric_activations_are_free_and_asymmetric_weights_are_not(tmp_path: Path, small: Path) -> None:
    """The white paper's point: same cycles for all three, more energy for zero points of weights only."""
    np.savez(tmp_path / "x.npz", **noise())
    names = "int8-symmetric,int8-affine,int8-affine-weights"
    shown = command("schemes", small, "--schemes", names, "--calib", tmp_path / "x.npz", "--json")
    symmetric, affine, weights = json.loads(shown.stdout)["rows"]
    assert symmetric["cycles"] == affine["cycles"]
    assert symmetric["energy_pj"] == affine["energy_pj"]
    assert weights["energy_pj"] > affine["energy_pj"]
