"""What transformers are made of: residual products, embedding tables tied to the last layer, masks of infinity."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, TensorProto

from accelsim.errors import UsageError
from accelsim.quantise.calibrate.calibration import load_calibration
from accelsim.quantise.calibrate.observe import run_batches
from accelsim.quantise.measure.report import report_on
from accelsim.quantise.measure.schemes import compare_schemes
from accelsim.quantise.network.source import read_float_model
from accelsim.quantise.pipeline import quantize
from accelsim.quantise.scheme import named
from tests.quantise.graphs import Array, model, near, node, normal
from tests.tiers import deep, few

IDS = {"ids": np.random.default_rng(0).integers(0, 40, (24, 6))}
SCHEMES = ["int8-per-channel", "int8-affine", "uint8", "w8a16"]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", ["MatMul", "MatMul of rank 3", "Gemm"])
def test_products_with_an_activation_added(kind: str, scheme: str) -> None:
    """Onnxruntime makes one Gemm of them, whose bias is no constant: the addition has a grid of its own."""
    rank = [5, 8] if "rank" in kind else [8]
    first = node("Gemm" if kind == "Gemm" else "MatMul", ["x", "w1"], ["h"], name="first")
    last = [node("MatMul", ["r", "w2"], ["p"], name="second"), node("Add", ["p", "x"], ["y"], name="residual")]
    if kind == "Gemm":
        last = [node("Gemm", ["r", "w2", "x"], ["y"], name="second")]
    data = model(
        [first, node("Relu", ["h"], ["r"], name="relu"), *last],
        {"w1": normal(8, 8), "w2": normal(8, 8, seed=1)},
        {"x": ["N", *rank]},
        {"y": ["N", *rank]},
    )
    near(data, {"x": normal(24, *rank)}, scheme)


@pytest.mark.parametrize("scheme", few([*SCHEMES, "w4a8"], 2))
@pytest.mark.parametrize("beta", [0.5, -1.0, 0.0, 1.0])
@pytest.mark.parametrize("bias", ["x", "h"])
def test_gemms_with_a_share_of_an_activation(bias: str, beta: float, scheme: str) -> None:
    """A factor of the added activation is a multiplication of its own."""
    data = model(
        [node("Gemm", ["x", "w1"], ["h"], name="first"),
         node("Gemm", ["h", "w2", bias], ["y"], name="second", beta=beta)],
        {"w1": normal(8, 8), "w2": normal(8, 8, seed=1)}, {"x": ["N", 8]}, {"y": ["N", 8]},
    )  # fmt: skip
    near(data, {"x": normal(24, 8)}, scheme, 10 if scheme == "w4a8" else 25)


@pytest.mark.parametrize("scheme", [*SCHEMES, "w4a8", "int8-per-channel+block=4"])
@pytest.mark.parametrize("other", ["Gather", "Mul"])
def test_weights_that_something_else_reads(other: str, scheme: str) -> None:
    """A table tied to the last layer keeps its own codes and scales, the layer has a copy."""
    if other == "Gather":
        nodes = [node("Gather", ["w", "ids"], ["g"], name="embed"), node("Relu", ["g"], ["r"], name="relu"),
                 node("ReduceMean", ["r"], ["m"], name="mean", axes=[1], keepdims=0),
                 node("Gemm", ["m", "w"], ["y"], name="last", transB=1)]  # fmt: skip
        data = model(nodes, {"w": normal(40, 8)}, {"ids": ["N", 6]}, {"y": ["N", 40]}, {"ids": TensorProto.INT64})
        quantised = near(data, IDS, scheme, 10)
    else:
        nodes = [node("MatMul", ["x", "w"], ["h"], name="product"), node("Mul", ["h", "w"], ["y"], name="times")]
        data = model(nodes, {"w": normal(8, 8)}, {"x": ["N", 8, 8]}, {"y": ["N", 8, 8]})
        quantised = near(data, {"x": normal(24, 8, 8)}, scheme, 10)
    axes_bytes = 8 if other == "Gather" and quantised.scheme.opset > 17 else 0  # of ReduceMean, from operator set 18 on
    assert quantised.float_bytes == 4 * (320 if other == "Gather" else 64) + axes_bytes  # the copy is not counted


def test_the_report_on_a_tied_table_is_about_the_file() -> None:
    """The error of what a Gather reads is that of its own quantiser, not of the layer's four bits."""
    nodes = [node("Gather", ["w", "ids"], ["g"], name="embed"),
             node("MatMul", ["g", "v"], ["h"], name="middle"),
             node("MatMul", ["h", "w"], ["y"], name="last")]  # fmt: skip
    data = model(
        nodes, {"w": normal(40, 40), "v": normal(40, 40)}, {"ids": ["N", 6]}, {"y": ["N", 6, 40]},
        {"ids": TensorProto.INT64},
    )  # fmt: skip
    quantised = quantize(data, "int8-affine+weight_bits=4", IDS)
    (error,) = [one for one in report_on(quantised).errors.activations if one.tensor == "g"]
    gathered = normal(40, 40)[IDS["ids"]]
    (at,) = [one for one in quantised.emission.activations if one.tensor == "g"][:1]
    proto = ModelProto.FromString(quantised.onnx)
    restored = run_literal(proto, at.restored)
    apart = (restored.astype(np.float64) - gathered) ** 2
    assert error.total == pytest.approx(apart.sum(), rel=1e-4)


def run_literal(proto: ModelProto, tensor: str) -> Array:
    """Return a tensor of a quantised model, each node executed for itself."""
    from accelsim.quantise.calibrate.observe import open_float, with_outputs

    session = open_float(with_outputs(proto, [tensor]), literal=True)
    (array,) = session.run(session.outputs, IDS)
    return array


def masked(value: float) -> bytes:
    """Return scores under a causal mask, softmax, and a product."""
    mask = np.triu(np.full((6, 6), value, np.float32), 1)
    nodes = [
        node("MatMul", ["x", "w"], ["s"], name="scores"), node("Add", ["s", "mask"], ["m"], name="masked"),
        node("Softmax", ["m"], ["p"], name="softmax", axis=-1), node("MatMul", ["p", "v"], ["y"], name="values"),
    ]  # fmt: skip
    return model(nodes, {"w": normal(8, 6), "v": normal(6, 4), "mask": mask}, {"x": ["N", 6, 8]}, {"y": ["N", 6, 4]})


ROWS = {"x": normal(24, 6, 8)}


def test_a_mask_of_infinity() -> None:
    """What takes infinity cannot have a grid, but may stay in float."""
    with pytest.raises(UsageError, match=r"NaN or infinity in 'm'.* or keep the operators around it in float"):
        quantize(masked(-np.inf), "int8-per-channel", ROWS)
    for method in ("min-max", "mse", "moving-average", "abs-max"):
        options = f"+keep_float=masked+keep_float=softmax+activation_range={method}"
        near(masked(-np.inf), ROWS, f"int8-per-channel{options}", 20)


@pytest.mark.parametrize("scheme", ["int8-symmetric", "int8-affine", "int16"])
def test_a_mask_of_the_least_float(scheme: str) -> None:
    """Its grid ends at finite values; the ratio of what is left is a number or a word, never a crash."""
    quantised = quantize(masked(float(np.finfo(np.float32).min)), scheme, ROWS)
    report_on(quantised).to_json()
    for activation in quantised.emission.activations:
        low, high = activation.grid.bounds()
        assert np.isfinite([low, high]).all()


@pytest.mark.parametrize("scheme", ["w2a8", "int8-affine"])
def test_cross_entropy_with_an_embedding_table(scheme: str) -> None:
    """Grids of tables come with the table; they are not searched."""
    nodes = [node("Gather", ["table", "ids"], ["g"], name="embed"),
             node("ReduceMean", ["g"], ["m"], name="mean", axes=[1], keepdims=0),
             node("Gemm", ["m", "w"], ["y"], name="last")]  # fmt: skip
    data = model(
        nodes, {"table": normal(40, 8), "w": normal(8, 5)}, {"ids": ["N", 6]}, {"y": ["N", 5]},
        {"ids": TensorProto.INT64},
    )  # fmt: skip
    labelled = {**IDS, "labels": np.arange(24) % 5}
    near(data, labelled, f"{scheme}+activation_range=cross-entropy", 0)


def test_16_bit_activations_times_each_other_need_wide_accumulators() -> None:
    """The remark is about products that there are: of two activations, not of widths in different layers."""
    nodes = [node("MatMul", ["x", "w"], ["q"], name="query"),
             node("Transpose", ["q"], ["k"], name="keys", perm=[0, 2, 1]),
             node("MatMul", ["q", "k"], ["y"], name="scores")]  # fmt: skip
    data = model(nodes, {"w": normal(8, 8)}, {"x": ["N", 6, 8]}, {"y": ["N", 6, 6]})
    assert any("give them with --acc-bits" in remark for remark in quantize(data, "w4a16", ROWS).remarks)
    assert not any("--acc-bits" in remark for remark in quantize(data, "int8-per-channel", ROWS).remarks)
    two = model(
        [node("MatMul", ["x", "w"], ["h"], name="first"), node("MatMul", ["h", "v"], ["y"], name="second")],
        {"w": normal(8, 8), "v": normal(8, 4)}, {"x": ["N", 6, 8]}, {"y": ["N", 6, 4]},
    )  # fmt: skip
    apart = quantize(two, "int8-per-channel+layer_bits.first=16+layer_activation_bits.second=16", ROWS)
    assert not any("--acc-bits" in remark for remark in apart.remarks)
    together = quantize(two, "int8-per-channel+layer_bits.first=16+layer_activation_bits.x=16", ROWS)
    assert any("give them with --acc-bits" in remark for remark in together.remarks)


@deep
@pytest.mark.parametrize("name", few(["bert-tiny", "decoder-decode"], 1))
def test_our_own_transformers_are_taken_apart(name: str) -> None:
    """Onnxruntime's optimiser runs over its own work again: names that it made must not meet."""
    prepared = read_float_model(f"models:{name}-float")
    data = load_calibration(None, prepared)
    again = run_batches(prepared, prepared.proto.SerializeToString(), data)
    exact = run_batches(prepared, prepared.original, data)
    for key, values in exact.items():
        assert np.allclose(again[key], values, atol=1e-3)
    rows = compare_schemes(prepared, [named("int8-affine"), named("fp16")], data).rows
    assert [row.sqnr_db is not None and row.cycles is not None for row in rows] == [True, True]


def test_classes_that_have_the_shape_of_an_input() -> None:
    """With labels an output is no reconstruction, however many classes there are."""
    data = model([node("Gemm", ["x", "w"], ["y"], name="last")], {"w": normal(8, 8)}, {"x": ["N", 8]}, {"y": ["N", 8]})
    samples = {"x": normal(24, 8)}
    assert report_on(quantize(data, "int8-affine", samples)).comparison.machine.agreement is None
    labelled = report_on(quantize(data, "int8-affine", {**samples, "labels": np.arange(24) % 8}))
    assert labelled.comparison.machine.accuracy is not None


def test_labels_without_classes_are_explained() -> None:
    """Where the first output is no vector of classes, a remark says so."""
    data = model(
        [node("MatMul", ["x", "w"], ["y"], name="last")], {"w": normal(8, 8)}, {"x": ["N", 6, 8]}, {"y": ["N", 6, 8]}
    )
    labelled = {**ROWS, "labels": np.arange(24) % 8}
    quantised = quantize(data, "int8-affine", labelled)
    assert any("there is no accuracy" in remark for remark in report_on(quantised).remarks)
    rows = compare_schemes(quantised.model, [named("int8-affine"), named("fp32")], quantised.data).rows
    assert all(any("there is no accuracy" in remark for remark in row.remarks) for row in rows)
