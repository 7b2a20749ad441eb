"""Shared by all tests: where the sample models are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED_MODELS = Path(os.environ.get("ACCEL_SIM_MODELS", ROOT.parent / "shared" / "models"))


@pytest.fixture
def shared_models() -> Path:
    """The folder of real models that are not part of this repository; tests skip visibly without it."""
    if not SHARED_MODELS.is_dir():
        pytest.skip("real models not run: the folder shared/models is not beside this repository")
    return SHARED_MODELS


@pytest.fixture
def digits() -> Path:
    """Our own quantised digits network."""
    return ROOT / "models" / "digits_int8.onnx"
