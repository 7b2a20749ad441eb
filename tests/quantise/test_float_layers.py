"""What `quantize` lists as staying in float is what `run` then computes in float, layer by layer, by the same names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

import accelsim
from accelsim.quantise.pipeline import Quantised, quantize
from tests.cli.command import command
from tests.quantise.graphs import model, node, normal
from tests.quantise.helpers import DIGITS, build, noise, quantize_into, two_convolutions, write_model
from tests.tiers import few

MOVED = {
    "Transpose",
    "Reshape",
    "Gather",
    "Concat",
    "Slice",
    "Split",
    "Squeeze",
    "Unsqueeze",
    "Expand",
    "Cast",
    "Shape",
}


def attention() -> bytes:
    """Return a block of attention with a normalisation, movements and an activation, as exporters write it."""
    nodes = [
        node("LayerNormalization", ["x", "gain", "shift"], ["n"], name="norm"),
        node("MatMul", ["n", "wq"], ["q"], name="query"),
        node("MatMul", ["n", "wk"], ["k"], name="key"),
        node("Transpose", ["k"], ["t"], name="turn", perm=[0, 2, 1]),
        node("MatMul", ["q", "t"], ["s"], name="scores"),
        node("Softmax", ["s"], ["p"], name="softmax", axis=-1),
        node("MatMul", ["p", "n"], ["m"], name="mix"),
        node("Add", ["m", "x"], ["y"], name="residual"),
    ]
    constants = {"wq": normal(16, 16), "wk": normal(16, 16), "gain": np.ones(16, np.float32),
                 "shift": np.zeros(16, np.float32)}  # fmt: skip
    return model(nodes, constants, {"x": ["N", 6, 16]}, {"y": ["N", 6, 16]})


def tail() -> bytes:
    """Return a layer behind which floats are moved, computed with, and moved again."""
    nodes = [
        node("MatMul", ["x", "w"], ["h"], name="product"),
        node("Transpose", ["h"], ["t"], name="turn", perm=[0, 2, 1]),
        node("Softplus", ["t"], ["s"], name="plus"),
        node("Transpose", ["s"], ["y"], name="back", perm=[2, 0, 1]),
    ]
    return model(nodes, {"w": normal(16, 16)}, {"x": ["N", 6, 16]}, {"y": [6, "N", 16]})


def embedding() -> bytes:
    """Return a table that is read by integers, which are cast on the way."""
    nodes = [
        node("Cast", ["ids"], ["wide"], name="cast", to=TensorProto.INT64),
        node("Gather", ["table", "wide"], ["g"], name="embed"),
        node("MatMul", ["g", "w"], ["h"], name="product"),
        node("Sin", ["h"], ["y"], name="sine"),
    ]
    constants = {"table": normal(40, 16), "w": normal(16, 8)}
    return model(nodes, constants, {"ids": ["N", 6]}, {"y": ["N", 6, 8]}, {"ids": TensorProto.INT32})


def rectified() -> bytes:
    """Return a network all of which becomes integers."""
    nodes = [node("MatMul", ["x", "w"], ["h"], name="product"), node("Sigmoid", ["h"], ["y"], name="sigmoid")]
    return build(nodes, {"w": normal(16, 16)}, ("N", 6, 16))


IDS = {"ids": np.random.default_rng(0).integers(0, 40, (8, 6)).astype(np.int32)}
ROWS = {"x": normal(8, 6, 16)}
NETWORKS = {
    "attention": (attention(), ROWS),
    "tail": (tail(), ROWS),
    "embedding": (embedding(), IDS),
    "rectified": (rectified(), ROWS),
    "convolutions": (two_convolutions(), noise(8)),
    "digits": (DIGITS, None),
    "bert": ("models:bert-tiny-float", None),
}
SCHEMES = [
    "int8-per-channel", "int8-symmetric", "uint8", "w4a8", "w4a8+block=4", "w8a16", "int8-affine+keep_float=product",
    "int8-affine+keep_float=Softmax", "int8-affine+keep_float=Transpose",
]  # fmt: skip


def quantised(network: str, scheme: str) -> Quantised:
    """Return a network under a scheme, without what it does not have."""
    source, samples = NETWORKS[network]
    if "=product" in scheme and network in ("tail", "embedding", "rectified"):
        pytest.skip("nothing would be left to quantise")
    if "keep_float" in scheme and network not in ("attention", "tail"):
        pytest.skip("there is no such operator")
    if "keep_float" in scheme and scheme.rpartition("=")[2] in ("product", "Softmax") and network == "tail":
        pytest.skip("there is no such operator")
    return quantize(source, scheme.replace("=product", "=query"), samples)


@pytest.mark.parametrize("scheme", few(SCHEMES, 1))
@pytest.mark.parametrize("network", NETWORKS)
def test_the_list_is_what_the_run_computes_in_float(network: str, scheme: str) -> None:
    """Names and operators are those of the run's layers that onnxruntime computes and that are no movement of data."""
    made = quantised(network, scheme)
    result = accelsim.run(made.onnx, accelsim.Arch(acc_bits=48), check=False)
    in_float = [(row.name, row.op) for row in result.layers if row.computed_by == "onnxruntime" and row.op not in MOVED]
    assert list(made.float_layers) == in_float
    said = [remark for remark in made.remarks if "stay in float" in remark]
    assert len(said) == bool(in_float)
    assert not said or said[0].startswith(f"{len(in_float)} operator(s) stay in float: {in_float[0][1]} ")
    priced = {row.name for row in result.layers if row.arithmetic not in (None, "integer")}
    assert priced <= {name for name, _ in in_float}


def test_movements_are_not_in_float() -> None:
    """Floats that are only put elsewhere are in no arithmetic."""
    assert [name for name, _ in quantised("tail", "int8-per-channel").float_layers] == ["plus"]


def test_a_table_is_not_in_float() -> None:
    """A function of one code is a table, whatever its name, and the normalisation that is none is listed."""
    assert {kind for _, kind in quantised("bert", "int8-per-channel").float_layers} == {"LayerNormalization", "Tanh"}


def test_the_command_and_the_run_agree(tmp_path: Path) -> None:
    """What is printed on quantising is what result.json of the run says."""
    made = quantize_into(tmp_path, write_model(tmp_path, attention()))
    assert made.code == 0, made.stderr
    run = command("run", tmp_path / "q.onnx", "--json", "--no-check")
    rows = [row for row in json.loads(run.stdout)["layers"] if row["computed_by"] == "onnxruntime"]
    assert "LayerNormalization 'norm'" in " ".join(made.stdout.split())
    assert [row["name"] for row in rows] == ["norm"]
