"""Small float models, written node by node, and the digits with their calibration samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tests.cli.command import Outcome, command

ROOT = Path(__file__).resolve().parent.parent.parent
DIGITS = ROOT / "models" / "digits_float.onnx"
CALIBRATION = ROOT / "models" / "digits_calibration.npz"
TEST = ROOT / "models" / "digits_test.npz"


def samples(path: Path = CALIBRATION, count: int | None = None) -> dict[str, NDArray[np.generic]]:
    """Return digits with their labels."""
    with np.load(path) as archive:
        return {name: archive[name][:count] for name in archive.files}


def build(
    nodes: Sequence[NodeProto],
    constants: dict[str, NDArray[np.generic]],
    shape: Sequence[int | str] = ("N", 8, 6, 6),
    *,
    opset: int = 17,
    ir_version: int = 8,
    output: str = "y",
) -> bytes:
    """Return a model with one float input x and one float output."""
    graph = helper.make_graph(
        list(nodes),
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model: ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    return bytes(model.SerializeToString())


def two_convolutions(
    seed: int = 0, spread: float = 1.0, *, clip: tuple[float, float] | None = None, bias: bool = True, channels: int = 8
) -> bytes:
    """Return Conv, Relu (or Clip), Conv; `spread` is how far the first layer's channels differ in range."""
    generator = np.random.default_rng(seed)
    first = generator.normal(0, 0.3, (8, channels, 3, 3)) * np.geomspace(1, spread, 8).reshape(-1, 1, 1, 1)
    second = generator.normal(0, 0.3, (6, 8, 1, 1)) / np.geomspace(1, spread, 8).reshape(1, -1, 1, 1)
    constants = {"w1": first.astype(np.float32), "w2": second.astype(np.float32)}
    if bias:
        constants |= {
            "b1": generator.normal(0, 0.1, 8).astype(np.float32) * first.std(axis=(1, 2, 3)).astype(np.float32)
        }
        constants |= {"b2": generator.normal(0, 0.1, 6).astype(np.float32)}
    middle = helper.make_node("Relu", ["c1"], ["r1"], name="relu")
    if clip is not None:
        constants |= {"low": np.float32(clip[0]), "high": np.float32(clip[1])}  # type: ignore[dict-item]
        middle = helper.make_node("Clip", ["c1", "low", "high"], ["r1"], name="clip")
    nodes = [
        helper.make_node("Conv", ["x", "w1", *(["b1"] if bias else [])], ["c1"], name="first", pads=[1, 1, 1, 1]),
        middle,
        helper.make_node("Conv", ["r1", "w2", *(["b2"] if bias else [])], ["y"], name="second"),
    ]
    return build(nodes, {name: np.asarray(array) for name, array in constants.items()}, ("N", channels, 6, 6))


def noise(count: int = 24, shape: Sequence[int] = (8, 6, 6), seed: int = 1) -> dict[str, NDArray[np.generic]]:
    """Return normal samples for x."""
    return {"x": np.random.default_rng(seed).normal(0, 1, (count, *shape)).astype(np.float32)}


def write_model(tmp_path: Path, data: bytes) -> Path:
    """Write a model as a file."""
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    return path


def quantize_into(folder: Path, model: Path | str, *more: str | Path) -> Outcome:
    """Run the command quantize, its output in a folder."""
    return command("quantize", model, "-o", folder / "q.onnx", *more)
