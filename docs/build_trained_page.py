"""Writes the table of docs/models.md between its markers: few bits, trained for them or rounded afterwards."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

import accelsim
from accelsim.quantise.calibrate.refine import cross_entropy
from accelsim.quantise.pipeline import quantize

PAGE = Path(__file__).resolve().parent / "models.md"
MODELS = PAGE.parent.parent / "models"
# What it is called, and a file of models/ or a scheme for the float network.
NETWORKS = {
    "float": "digits_float.onnx",
    "8 bits": "digits_int8.onnx",
    "4 bits, whole range": "digits_w4_ptq.onnx",
    "4 bits, `w4a8`": "w4a8",
    "4 bits, `w4a8+bias_correction`": "w4a8+bias_correction",
    "4 bits, `w4a8+granularity=tensor`": "w4a8+granularity=tensor",
    "4 bits, `w4a8-g32`": "w4a8-g32",
    "**4 bits, trained**": "digits_w4_qat.onnx",
    "2 bits, whole range": "digits_w2_ptq.onnx",
    "2 bits, `w2a8+bias_correction`": "w2a8+bias_correction",
    "**2 bits, trained**": "digits_w2_qat.onnx",
}
HEAD = ("| weights | held-back digits | each shifted 25 ways | cross-entropy of these |", "|---|---|---|---|")
_REACH = 2  # pixels to each side
_BATCH = 500


@dataclass(frozen=True)
class Score:
    """How good a network is: accuracy on the machine (of a float one, in float), then on shifted digits as spelled."""

    accuracy: float
    shifted: float
    cross_entropy: float


def shifted(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return every image moved by up to two pixels each way, all images in one place before those in the next."""
    size = images.shape[-1]
    padded = np.pad(images, ((0, 0), (0, 0), (_REACH, _REACH), (_REACH, _REACH)))
    places = range(2 * _REACH + 1)
    return np.concatenate([padded[:, :, y : y + size, x : x + size] for y in places for x in places])


@cache
def score(what: str) -> Score:
    """Measure one network: a file of models/, or the float network under a scheme."""
    with np.load(MODELS / "digits_test.npz") as archive:
        images, labels = archive["image"], archive["labels"]
    if what.endswith(".onnx"):
        model = (MODELS / what).read_bytes()
    else:
        with np.load(MODELS / "digits_calibration.npz") as archive:
            model = quantize(MODELS / "digits_float.onnx", what, dict(archive)).onnx
    if what == "digits_float.onnx":
        classes = _literally(model, images).argmax(axis=1)
    else:
        result = accelsim.run(model, inputs={"image": images})
        if not result.check.passed():
            raise SystemExit(f"{what}: the machine differs from onnxruntime: {result.check.first_mismatch}")
        classes = result.outputs["logits"].argmax(axis=1)
    moved = shifted(images)
    logits = _literally(model, moved)
    truth = np.tile(labels, len(moved) // len(labels))
    return Score(
        float((classes == labels).mean()), float((logits.argmax(axis=1) == truth).mean()), cross_entropy(logits, truth)
    )


def _literally(model: bytes, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what onnxruntime computes operator by operator, in float between quantisers."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    parts = [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
    return np.concatenate([session.run(["logits"], {"image": part})[0] for part in parts])


def rows(names: Sequence[str] = tuple(NETWORKS)) -> list[str]:
    """Return the lines of the table for some networks."""
    lines = []
    for name in names:
        found = score(NETWORKS[name])
        lines.append(f"| {name} | {found.accuracy:.2%} | {found.shifted:.1%} | {found.cross_entropy:.2f} |")
    return lines


def page(text: str) -> str:
    """Return the page with a fresh table."""
    marked = "\n".join(("<!-- ci:trained -->", *HEAD, *rows(), "<!-- end -->"))
    return re.sub(r"<!-- ci:trained -->\n.*?<!-- end -->", lambda _: marked, text, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
    sys.stdout.write(f"wrote {PAGE.name}\n")
