"""Networks trained with rounding in the loop, elsewhere and here, come in as they were written, and are exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import accelsim
from accelsim.graph.scalar_scales import make_scales_scalar

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
    """Share of the held-back digits that a network of ours tells right, on the machine, its verdict exact."""
    with np.load(MODELS / "digits_test.npz") as archive:
        images, labels = archive["image"], archive["labels"]
    result = accelsim.run(MODELS / f"{name}.onnx", None, {"image": images})
    assert result.check.verdict == "exact"
    (logits,) = result.outputs.values()
    return float((logits.argmax(1) == labels).mean())


def test_training_with_rounding_beats_rounding_afterwards() -> None:
    """4-bit and 2-bit weights of the digits network: trained in the loop against taken from the float network."""
    trained, plain = ({bits: accuracy(f"digits_w{bits}_{way}") for bits in (4, 2)} for way in ("qat", "ptq"))
    assert trained[4] > plain[4]
    assert trained[2] > plain[2] + 0.5
    assert trained[4] >= accuracy("digits_int8") - 0.005


def parameters(shape: tuple[int, ...], consumer: str) -> onnx.ModelProto:
    """A quantiser whose scale has a shape, and another reader of that scale."""
    nodes = [
        helper.make_node("Identity", ["scale"], ["handed"]),
        helper.make_node("QuantizeLinear", ["x", "handed", "zero"], ["codes"]),
        helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["y"]),
    ]
    if consumer:
        nodes.append(helper.make_node(consumer, ["scale", "x"], ["z"]))
    constants = [
        numpy_helper.from_array(np.full(shape, 0.5, np.float32), "scale"),
        numpy_helper.from_array(np.zeros(shape, np.uint8), "zero"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, [4])], [value("y", TensorProto.FLOAT, [4])], constants
    )
    return helper.make_model(graph)


@pytest.mark.parametrize(
    ("shape", "consumer", "dims"), [((1,), "", []), ((), "", []), ((2,), "", [2]), ((1,), "Mul", [1])]
)
def test_only_scales_become_scalars(shape: tuple[int, ...], consumer: str, dims: list[int]) -> None:
    """Constants of one element that are nothing but scales, also through an Identity; all others keep their shape."""
    model = parameters(shape, consumer)
    make_scales_scalar(model)
    assert list(model.graph.initializer[0].dims) == dims
    assert list(model.graph.initializer[1].dims) == (dims if not consumer else [])
