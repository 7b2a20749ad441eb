"""Real float networks, quantised and simulated in two commands each: verdict exact, the same classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import accelsim
from accelsim.quantise.calibrate.observe import run_batches
from accelsim.quantise.network.source import read_float_model
from tests.cli.command import command
from tests.tiers import few

MODELS = (
    "resnet8_cifar10_float", "mobilenetv1_025_vww_float", "autoencoder_ad_float", "mnist_cnn_float",
    "ultraface_rfb320_float",
)  # fmt: skip
SCHEMES = ("int8-symmetric", "int8-affine", "int8-per-channel", "int8-symmetric-per-channel")
CLASSIFIERS = ("resnet8_cifar10_float", "mobilenetv1_025_vww_float", "mnist_cnn_float")


def _samples(folder: Path, name: str) -> dict[str, NDArray[np.generic]]:
    files = sorted(folder.glob(f"{name}.in*.npz"))
    archives = [dict(np.load(path)) for path in files]
    return {key: np.concatenate([archive[key] for archive in archives]) for key in archives[0]}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", few(MODELS, ("autoencoder_ad_float", "mnist_cnn_float")))
def test_quantize_then_run_is_exact_and_classifies_as_in_float(
    shared_models: Path, tmp_path: Path, name: str, scheme: str
) -> None:
    """First quantize, then run: exit code 0, every layer on the machine in class exact, classes as in float."""
    arrays = _samples(shared_models, name)
    np.savez(tmp_path / "calib.npz", **arrays)
    source, target = shared_models / f"{name}.onnx", tmp_path / "q.onnx"
    made = command("quantize", source, "-o", target, "--calib", tmp_path / "calib.npz", "--scheme", scheme, "-q")
    assert (made.code, made.stdout, made.stderr) == (0, "", "")
    first = {key: array[:1] for key, array in arrays.items()}
    np.savez(tmp_path / "input.npz", **first)
    assert command("run", target, "--input", tmp_path / "input.npz", "-q").code == 0
    result = accelsim.run(accelsim.load(target), None, first)
    assert result.check.verdict == "exact"
    assert result.check.float_reference == ()
    assert result.macs_on_array_share == 1
    if name in CLASSIFIERS:
        model = read_float_model(source)
        from accelsim.quantise.calibrate.calibration import load_calibration

        exact = next(iter(run_batches(model, model.original, load_calibration(arrays, model)).values()))
        loaded = accelsim.load(target)
        step = len(exact) if model.dynamic_batch() else 1
        for start in range(0, len(exact), step):
            feeds = {key: array[start : start + step] for key, array in arrays.items()}
            got = next(iter(accelsim.run(loaded, None, feeds, check=False).outputs.values()))
            assert np.array_equal(got.argmax(axis=1), exact[start : start + step].argmax(axis=1))
