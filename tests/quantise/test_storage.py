"""Codes that onnxruntime has no kernel for lie in wider elements: every file that is written can be executed."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

import accelsim
from accelsim.quantise.measure.three_way import compare_three
from accelsim.quantise.pipeline import Quantised, quantize
from tests.check.word_models import judged_word
from tests.quantise.graphs import node, normal
from tests.quantise.helpers import build
from tests.tiers import few

# Node, shape of the weights, whether it has a bias, shape of a sample.
LAYERS: dict[str, tuple[str, tuple[int, ...], bool, tuple[int, ...]]] = {
    "Conv": ("Conv", (6, 8, 1, 1), False, (8, 4, 4)),
    "Conv with bias": ("Conv", (6, 8, 3, 3), True, (8, 4, 4)),
    "ConvTranspose": ("ConvTranspose", (8, 6, 1, 1), False, (8, 4, 4)),
    "MatMul": ("MatMul", (8, 6), False, (8,)),
    "MatMul with one column": ("MatMul", (8, 1), False, (8,)),
    "MatMul of rank 3": ("MatMul", (8, 6), False, (3, 8)),
    "stack": ("MatMul", (1, 8, 6), False, (3, 8)),
    "Gemm": ("Gemm", (8, 6), False, (8,)),
    "Gemm with bias": ("Gemm", (8, 6), True, (8,)),
}
SCHEMES = [
    "int8-per-channel+block=4+bias_correction",
    "int8-per-channel+block=4", "uint8+block=4", "int8-affine-weights+block=4", "int8-symmetric+block=2",
    "w4a8-g32+layer_bits.g=8+block=4", "w8a16+block=4", "w8a16+block=4+layer_activation_bits.first=8",
    "w2a8", "w2a8+block=4", "uint8+weight_bits=2", "uint8-per-channel+weight_bits=2", "uint8+layer_bits.g=2",
    "uint8+weight_bits=2+block=4", "uint8+weight_bits=2+weight_mapping=affine",
    "uint8+activation_bits=16+weight_bits=2",
]  # fmt: skip


def quantised(layer: str, scheme: str) -> Quantised:
    """Quantise Relu, the layer, Relu."""
    kind, weights, bias, sample = LAYERS[layer]
    nodes = [
        node("Relu", ["x"], ["r"], name="first"),
        node(kind, ["r", "w", "b"] if bias else ["r", "w"], ["z"], name="g"),
        node("Relu", ["z"], ["y"], name="last"),
    ]
    constants = {"w": normal(*weights)} | ({"b": normal(6)} if bias else {})
    data = build(nodes, constants, ("N", *sample))
    return quantize(data, scheme, {"x": normal(6, *sample)})


def stored(one: Quantised) -> int:
    """Return the element type of the layer's weights."""
    tensors = {tensor.name: tensor for tensor in onnx.load_model_from_string(one.onnx).graph.initializer}
    return int(tensors["w_quantized"].data_type)


@pytest.mark.parametrize("kept", few(["", "+keep_float=last", "+keep_float=first"], 1))
@pytest.mark.parametrize("scheme", few(SCHEMES, SCHEMES[::8]))
@pytest.mark.parametrize("layer", LAYERS)
def test_every_width_runs_in_every_layer(layer: str, scheme: str, kept: str) -> None:
    """Between quantisers, or with floats on either side: exact, and fake quantisation is not far.

    Where this onnxruntime quantises 16-bit activations of the file once more, the outputs are near.
    """
    if kept and "first=8" in scheme:
        scheme = scheme.replace("+layer_activation_bits.first=8", "")
    one = quantised(layer, scheme + kept)
    feeds = {"x": one.data.arrays["x"][:2]}
    result = accelsim.run(one.onnx, accelsim.Arch(acc_bits=48), feeds)
    assert result.check.verdict == judged_word(result.outputs, one.onnx, feeds), result.check.first_mismatch
    assert result.check.verdict == "exact" or "activation_bits=16" in scheme or "w8a16" in scheme
    found = compare_three(one)
    assert found.machine.sqnr_db == pytest.approx(found.literal.sqnr_db, abs=1.5)


TYPES: list[tuple[str, str, Any]] = [
    ("MatMul", "int8-per-channel+block=4", TensorProto.INT16),
    ("MatMul", "w8a16+block=4", TensorProto.INT8),
    ("MatMul", "w8a16+block=4+layer_activation_bits.first=8", TensorProto.INT16),
    ("MatMul", "int8-per-channel", TensorProto.INT8),
    ("MatMul", "int8-per-channel+block=8", TensorProto.INT8),  # one block is no block
    ("MatMul", "int8-per-channel+block=4+keep_float=first", TensorProto.INT16),  # its input is quantised all the same
    ("MatMul", "w4a8+block=4", TensorProto.INT4),
    ("Gemm", "int8-per-channel+block=4", TensorProto.INT8),
    ("Gemm with bias", "uint8+block=4", TensorProto.INT8),
    ("Conv with bias", "int8-per-channel+block=4", TensorProto.INT8),
    ("ConvTranspose", "int8-per-channel+block=4", TensorProto.INT8),
    ("Conv", "int8-per-channel+block=4", TensorProto.INT16),
    ("Conv", "int8-per-channel+block=4+bias_correction", TensorProto.INT8),
    ("Conv", "uint8+weight_bits=2", TensorProto.INT4),
    ("Conv", "uint8+activation_bits=16+weight_bits=2", TensorProto.INT2),
    ("Conv", "w2a8", TensorProto.INT2),
    ("MatMul", "uint8+activation_bits=16+weight_bits=2", TensorProto.INT4),  # six columns of 2 bits are no whole bytes
    ("MatMul", "w2a8", TensorProto.INT2),
]


@pytest.mark.parametrize(("layer", "scheme", "kind"), TYPES)
def test_types_and_what_is_said_of_them(layer: str, scheme: str, kind: int) -> None:
    """Only what has no kernel takes more room, and that is said."""
    one = quantised(layer, scheme)
    assert stored(one) == kind
    bits = one.weights["g"].grid.spec.bits
    wider = kind not in ({2: TensorProto.INT2, 4: TensorProto.INT4, 8: TensorProto.INT8}[bits],)
    words = {2: "stored in 4 bits", 8: "stored in 16 bits"}
    assert any(words.get(bits, "-") in remark and "'g'" in remark for remark in one.remarks) == wider


@pytest.mark.parametrize("scheme", few([*SCHEMES, "w4a8", "int16"], [SCHEMES[0], "w4a8", "int16"]))
def test_files_open_in_onnxruntime(scheme: str) -> None:
    """In any session, or in one with the entry that the remark names."""
    for layer in LAYERS:
        one = quantised(layer, scheme)
        options = onnxruntime.SessionOptions()
        if any("session.qdqisint8allowed=1" in remark for remark in one.remarks):
            options.add_session_config_entry("session.qdqisint8allowed", "1")
        session = onnxruntime.InferenceSession(one.onnx, options, providers=["CPUExecutionProvider"])
        session.run(None, {"x": one.data.arrays["x"][:2]})


@pytest.mark.parametrize(("scheme", "narrow"), [("int8-per-channel+block=4", 8), ("uint8+weight_bits=2", 2)])
def test_codes_are_the_same_in_wider_elements(scheme: str, narrow: int) -> None:
    """The grid, and with it what the weights stand for, is that of the narrow codes."""
    one = quantised("MatMul", scheme)
    weights = one.weights["g"]
    assert weights.grid.spec.bits == narrow
    tensors = {tensor.name: tensor for tensor in onnx.load_model_from_string(one.onnx).graph.initializer}
    codes = onnx.numpy_helper.to_array(tensors["w_quantized"]).astype(np.int64)
    assert np.array_equal(codes, weights.codes)
    assert codes.min() >= -(1 << (narrow - 1))
    assert codes.max() < 1 << (narrow - 1)
