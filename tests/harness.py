"""Samples of real models, and what holds in every run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import accelsim


def sample(model: Path, index: int = 0) -> dict[str, np.ndarray]:
    """Return the sample inputs that lie beside a model."""
    with np.load(model.with_name(f"{model.stem}.in{index}.npz")) as archive:
        return dict(archive)


def assert_sound(result: accelsim.Result) -> None:
    """Check what must hold in every run: verdict, conservation of cycles, MACs and energy."""
    check = result.check
    assert (check.verdict, check.mismatched_elements, check.drifted_elements, check.output_mismatched) == (
        "exact",
        0,
        0,
        0,
    )
    assert check.elements > 0
    for layer in result.layers:
        assert sum(layer.cycle_classes.values()) == layer.cycles, layer.name
        assert layer.acc is None or layer.acc.overflows == 0
    assert np.isclose(sum(sum(layer.energy_pj.values()) for layer in result.layers), result.energy_pj, rtol=1e-12)
