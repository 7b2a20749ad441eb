"""Float models as they come: what preparing must leave alone, and what is refused in words that are true."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

import accelsim
from accelsim.errors import AccelSimError, ResourceLimitError, UnsupportedModelError, UsageError
from accelsim.graph.load.limits import Limits
from accelsim.quantise.network.source import read_float_model
from accelsim.quantise.pipeline import quantize
from tests.qonnx_models import DOMAIN
from tests.quantise.helpers import build, two_convolutions

Array = NDArray[np.generic]


def _normal(*shape: int) -> Array:
    return np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)


def _refused(data: bytes | str) -> str:
    with pytest.raises(AccelSimError) as caught:
        read_float_model(data)
    assert isinstance(caught.value, UnsupportedModelError | UsageError)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("behind", [True, False])
def test_a_transposed_gemm_keeps_its_weights_on_the_right(behind: bool) -> None:
    """Onnxruntime would fuse the transpose, so that the weights become the left operand and no layer is left."""
    gemm, transpose = (("x", "g"), ("g", "y")) if behind else (("t", "y"), ("x", "t"))
    nodes = [
        helper.make_node("Gemm", [gemm[0], "w", "b"], [gemm[1]], name="fc"),
        helper.make_node("Transpose", [transpose[0]], [transpose[1]], name="turn", perm=[1, 0]),
    ]
    model = build(nodes if behind else nodes[::-1], {"w": _normal(8, 8), "b": _normal(8)}, (8, 8))
    x = {"x": _normal(16, 8)}
    quantised = quantize(model, "int8-affine", x)
    assert [(layer.name, layer.weight) for layer in quantised.model.layers] == [("fc", "w")]
    result = accelsim.run(accelsim.load(quantised.onnx), None, {"x": x["x"][:8]})
    assert result.check.verdict == "exact"


def test_a_constant_on_the_left_is_called_that() -> None:
    """W x has no weights where they are looked for, and the sentence says so."""
    said = _refused(
        build([helper.make_node("MatMul", ["w", "x"], ["y"], name="mix")], {"w": _normal(5, 8)}, ("N", 8, 6))
    )
    assert "the constant of MatMul 'mix' is its left operand" in said
    assert "nothing to quantise" in _refused(build([helper.make_node("Relu", ["x"], ["y"])], {}))


@pytest.mark.parametrize(
    ("kind", "name"),
    [(TensorProto.FLOAT16, "float16"), (TensorProto.DOUBLE, "double"), (TensorProto.BFLOAT16, "bfloat16")],
)
def test_floats_of_other_widths_are_named(kind: int, name: str) -> None:
    """Half and double precision: what it is, where, and what to do."""
    proto = ModelProto.FromString(two_convolutions())
    for tensor in proto.graph.initializer:
        values = numpy_helper.to_array(tensor)
        tensor.CopyFrom(helper.make_tensor(tensor.name, kind, values.shape, values.ravel()))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = kind
    said = _refused(proto.SerializeToString())
    assert f"computes in {name} (Conv 'first')" in said
    assert "convert it to float32" in said


def test_qonnx_is_quantised_already() -> None:
    """Also where the file does not import the domain of its quantisers, which onnx's checker refuses."""
    proto = ModelProto.FromString(two_convolutions())
    quantiser = helper.make_node("Quant", ["x", "s", "z", "b"], ["q"], name="quant", domain=DOMAIN)
    proto.graph.node.insert(0, quantiser)
    proto.graph.node[1].input[0] = "q"
    for name, value in (("s", 0.1), ("z", 0.0), ("b", 8.0)):
        proto.graph.initializer.append(numpy_helper.from_array(np.float32(value), name))  # type: ignore[arg-type]
    assert "is quantised already (Quant 'quant')" in _refused(proto.SerializeToString())


def test_what_the_converter_asserts_is_not_shown() -> None:
    """A Gemm of operator set 6 with a free batch trips an assertion of its C++ sources."""
    data = build(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="fc", broadcast=1)],
        {"w": _normal(8, 4), "b": _normal(4)}, ("N", 8), opset=6, ir_version=3,
    )  # fmt: skip
    proto = ModelProto.FromString(data)
    for tensor in proto.graph.initializer:
        proto.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    said = _refused(proto.SerializeToString())
    assert "uses operator set 6" in said
    assert "export it with operator set 13 or later" in said
    assert "ssert" not in said


def test_external_data_beyond_the_limit(tmp_path: Path) -> None:
    """The sentence names the limit that Python can raise; raising it is enough, lowering it is too much."""
    path = tmp_path / "m.onnx"
    proto = ModelProto.FromString(two_convolutions())
    onnx.save_model(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(ResourceLimitError, match=r"or raise Limits\.file_bytes from Python"):
        read_float_model(path, Limits(file_bytes=2000))
    assert len(read_float_model(path, Limits(file_bytes=3000)).layers) == 2


def test_models_of_our_own() -> None:
    """models:NAME-float is read like a file; the quantised form is refused without being built."""
    model = read_float_model("models:autoencoder-float")
    assert model.name == "autoencoder-float"
    assert len(model.layers) == 10
    assert "give its float form, models:autoencoder-float" in _refused("models:autoencoder")
    assert "did you mean 'autoencoder'?" in _refused("models:autoencode-float")
