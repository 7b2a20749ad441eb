"""Short names of layers, as tables print them, mean the layers when they come back."""

from __future__ import annotations

import pytest

from accelsim.errors import UsageError
from accelsim.quantise.network.names import short_layer, short_names, with_full_names
from accelsim.quantise.network.source import read_float_model
from accelsim.quantise.pipeline import quantize
from accelsim.quantise.scheme import parse_scheme
from tests.quantise.graphs import X, model, node, normal

FIRST, SECOND = "net/block/dense/MatMul;net/block/dense/BiasAdd", "net/other/dense/MatMul"
DATA = model(
    [node("MatMul", ["x", "w"], ["h"], name=FIRST), node("Relu", ["h"], ["r"], name="net/block/relu"),
     node("Gemm", ["r", "v"], ["y"], name=SECOND)],
    {"w": normal(16, 16), "v": normal(16, 4)}, {"x": ["N", 16]}, {"y": ["N", 4]},
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "short"),
    [(FIRST, "dense/MatMul"), ("dense/MatMul/MatMulAddFusion", "dense/MatMul"), ("conv1", "conv1"), (";a/b/c", "b/c"),
     ("x" * 50, "x" * 39 + "…"), ("a\x1bb", "a?b")],
)  # fmt: skip
def test_long_names_of_layers_are_cut_to_their_last_parts(name: str, short: str) -> None:
    assert short_layer(name) == short


def test_names_that_two_share_stay_long() -> None:
    """A table must tell layers apart."""
    assert short_names([FIRST, SECOND, "a/b/c"]) == {FIRST: FIRST, SECOND: SECOND, "a/b/c": "b/c"}
    assert short_names(["MatMul;z"]) == {"MatMul;z": "MatMul;z"}  # a kind of operator means all of them


def test_short_names_in_schemes() -> None:
    """A name that means one node is that node; one that means two is no name."""
    prepared = read_float_model(DATA)
    scheme = with_full_names(
        parse_scheme("int8-affine+keep_float=block/relu+layer_activation_bits.block/relu=16"), prepared
    )
    assert scheme.keep_float == ("net/block/relu",)
    assert scheme.layer_activation_bits[0].layer == "net/block/relu"
    with pytest.raises(UsageError, match="there is no layer or operator 'dense/MatMul'"):
        quantize(DATA, "int8-affine+keep_float=dense/MatMul", X)
    options = "layer_activation_bits.block/relu=16+layer_activation_bits.net/block/relu=8"
    with pytest.raises(UsageError, match="layer_activation_bits gives a layer two widths"):
        quantize(DATA, f"int8-affine+{options}", X)


def test_what_onnxruntime_appends_need_not_be_known() -> None:
    """MatMul and Add become a Gemm of another name; the name in the file works as well."""
    data = model(
        [node("MatMul", ["x", "w"], ["p"], name="dense"), node("Add", ["p", "b"], ["h"], name="bias"),
         node("Gemm", ["h", "v"], ["y"], name="last")],
        {"w": normal(16, 16), "b": normal(16), "v": normal(16, 4)}, {"x": ["N", 16]}, {"y": ["N", 4]},
    )  # fmt: skip
    quantised = quantize(data, "int8-affine+layer_bits.dense=4", X)
    assert quantised.weights["dense/MatMulAddFusion"].grid.spec.bits == 4
