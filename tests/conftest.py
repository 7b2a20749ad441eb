"""Shared by all tests: where the sample models are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODELS = os.environ.get("ACCEL_SIM_MODELS", "")


@pytest.fixture
def shared_models() -> Path:
    """The folder of real models that are not part of this repository; tests skip visibly without it."""
    if not Path(MODELS).is_dir() or not MODELS:
        pytest.skip("real models not run: set ACCEL_SIM_MODELS to a folder of .onnx files with their .in0.npz inputs")
    return Path(MODELS)


@pytest.fixture
def digits() -> Path:
    """Our own quantised digits network."""
    return ROOT / "models" / "digits_int8.onnx"
