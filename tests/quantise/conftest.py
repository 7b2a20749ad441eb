"""A small float model and samples for it, as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.quantise.helpers import noise, two_convolutions


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.onnx"
    path.write_bytes(two_convolutions())
    return path


@pytest.fixture
def calibrated(tmp_path: Path) -> Path:
    path = tmp_path / "x.npz"
    np.savez(path, **noise())
    return path
