"""Networks trained with rounding in the loop, elsewhere and here, come in as they were written, and are exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import accelsim
from accelsim.reports.terminal.verdict import reference_words
from tests.tiers import deep

EXPORTS = Path(__file__).parent / "exports"
MODELS = Path(__file__).resolve().parents[2] / "models"


@pytest.mark.parametrize(
    ("name", "data", "lsb"),
    [("pytorch_qdq", "pytorch", 1.0), ("brevitas_qcdq", "brevitas", 0.0), ("brevitas_qonnx", "brevitas", 0.0)],
)
def test_graphs_trained_elsewhere_are_exact(name: str, data: str, lsb: float) -> None:
    """Q/DQ from PyTorch, QCDQ and QONNX from Brevitas: equal onnxruntime, and say what the framework says."""
    with np.load(EXPORTS / f"{data}{'_qdq' if data == 'pytorch' else ''}.npz") as archive:
        known = dict(archive)
    result = accelsim.run(EXPORTS / f"{name}.onnx", None, {"image": known["image"]})
    assert result.check.verdict == "exact"
    assert result.macs_on_array_share == 1.0
    assert "host" not in {layer.placement for layer in result.layers}
    (logits,) = result.outputs.values()
    steps = np.unique(np.abs(logits - known["logits"]))
    step = np.diff(np.unique(known["logits"])).min()
    assert steps.max() <= lsb * step * 1.01
    assert (logits.argmax(1) == known["logits"].argmax(1)).all()


def accuracy(name: str) -> float:
    """Share of the held-back digits that a network of ours tells right, on the machine, no layer wrong."""
    with np.load(MODELS / "digits_test.npz") as archive:
        images, labels = archive["image"], archive["labels"]
    result = accelsim.run(MODELS / f"{name}.onnx", None, {"image": images})
    assert result.check.passed()
    (logits,) = result.outputs.values()
    return float((logits.argmax(1) == labels).mean())


@deep
def test_training_with_rounding_beats_rounding_afterwards() -> None:
    """4-bit and 2-bit weights of the digits network: trained in the loop against taken from the float network."""
    trained, plain = ({bits: accuracy(f"digits_w{bits}_{way}") for bits in (4, 2)} for way in ("qat", "ptq"))
    assert trained[4] > plain[4]
    assert trained[2] > plain[2] + 0.5
    assert trained[4] >= accuracy("digits_int8") - 0.005


def addition(shape: tuple[int, ...]) -> bytes:
    """Two quantised tensors added and quantised, with scales of a shape."""
    pair = ("QuantizeLinear", "DequantizeLinear")
    nodes = []
    for source, target in (("x", "a"), ("z", "b")):
        nodes += [helper.make_node(pair[0], [source, "scale", "zero"], [f"{target}_codes"]),
                  helper.make_node(pair[1], [f"{target}_codes", "scale", "zero"], [target])]  # fmt: skip
    nodes += [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node(pair[0], ["sum", "scale", "zero"], ["y"])]
    constants = [
        numpy_helper.from_array(np.full(shape, 0.5, np.float32), "scale"),
        numpy_helper.from_array(np.zeros(shape, np.uint8), "zero"),
    ]
    value = helper.make_tensor_value_info
    inputs = [value(name, TensorProto.FLOAT, [4]) for name in "xz"]
    graph = helper.make_graph(nodes, "g", inputs, [value("y", TensorProto.UINT8, [4])], constants)
    data: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    return data


@pytest.mark.parametrize("shape", [(), (1,)])
def test_scales_of_shape_one_are_compared_with_the_file_itself(shape: tuple[int, ...]) -> None:
    """Where onnxruntime's fusions break a file, the reference is that file without them, and says so."""
    inputs = {name: np.array([1, 2.2, 0.4, 3], np.float32) for name in "xz"}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    broken = False
    try:
        session = onnxruntime.InferenceSession(addition(shape), options)
    except Exception:  # of a class that not every version has
        broken = True
        left_out = ["QDQSelectorActionTransformer"]
        session = onnxruntime.InferenceSession(addition(shape), options, disabled_optimizers=left_out)
    result = accelsim.run(accelsim.load(addition(shape)), None, inputs)
    assert ("without QDQSelectorActionTransformer" in result.check.reference) == broken
    said = "without onnxruntime's QDQSelectorActionTransformer, with which it refuses the file"
    assert result.check.subject == f"the file as it is, {said}" if broken else "the file as it is"
    assert (said in reference_words(result.check)) == broken
    assert (result.outputs["y"] == session.run(None, inputs)[0]).all()
