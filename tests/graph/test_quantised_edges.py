"""Where codes stop being codes, or mean something else: each case once gave other values, or a float product."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

import accelsim
from accelsim import Arch
from accelsim.check.float_distance import beyond, product_error
from accelsim.graph.importers import products as import_products
from accelsim.operators import Rescale
from accelsim.values.accumulators import AccumulatorFormat
from accelsim.values.execute import execute
from tests.check.word_models import own_session as judge
from tests.generator.placements import Placed
from tests.graph.quantised_models import (
    COLUMNS,
    DEPTH,
    ROWS,
    SCALE,
    Fixed,
    build,
    check_product,
    dequantised,
    draw,
    dynamic,
    fresh,
    own_session,
    pointwise,
    weights,
)

Array = NDArray[Any]
MACS = ROWS * DEPTH * COLUMNS


def limited(g: Placed, x: str, low: int, high: int) -> str:
    """Quantise to codes of fewer bits."""
    parts = g.real(SCALE), g.const(0, np.int8)
    code = g.op("Clip", g.op("QuantizeLinear", x, *parts), g.const(low, np.int8), g.const(high, np.int8))
    return g.op("DequantizeLinear", code, *parts)


def joined(g: Placed) -> str:
    """Join codes of four bits and of eight; a clip then cuts the wide ones only."""
    both = g.op("Concat", limited(g, "x", -8, 7), dequantised(g, "x"), axis=0)
    return g.op("Clip", both, g.real(-SCALE * 20), g.real(SCALE * 20))


def padded(g: Placed) -> str:
    """Pad codes of four bits with one that has eight, then clip."""
    more = g.op("Pad", limited(g, "x", -8, 7), g.const([1, 0, 0, 0]), g.real(SCALE * 100))
    return g.op("Clip", more, g.real(-SCALE * 20), g.real(SCALE * 20))


# What is multiplied, and how many rows of it there are.
EDGES: dict[str, tuple[Callable[[Placed], str], int]] = {
    "a factor behind a dynamic quantiser": (lambda g: g.op("Mul", dynamic(g, "x"), g.real(0.25)), ROWS),
    "a divisor behind a dynamic quantiser": (lambda g: g.op("Div", dynamic(g, "x"), g.real(4)), ROWS),
    "limits of one part of a Concat": (joined, 2 * ROWS),
    "limits that padding leaves": (padded, ROWS + 1),
}


@pytest.mark.parametrize("edge", EDGES)
def test_codes_keep_their_meaning(edge: str) -> None:
    """The product is one of integers, and its values are those of the file."""
    make, rows = EDGES[edge]
    g = fresh()
    check_product(build(g, [pointwise(g, make(g))]), draw(), rows * DEPTH * COLUMNS)


def raised(g: Placed) -> str:
    """Multiply by one number of higher rank, which raises that of the product."""
    return g.op("Mul", dequantised(g, "x"), g.real(np.full((1, 1, 1, 1), 0.5)))


def spelled_higher(g: Placed) -> str:
    """Spell a quantiser whose divisor raises the rank."""
    y = g.op("Round", g.op("Div", "x", g.real(np.full((1, 1, 1, 1), SCALE))))
    return g.op("Mul", g.op("Clip", y, g.real(-128), g.real(127)), g.real(SCALE))


def beyond_all_codes(g: Placed) -> str:
    """Clip to values that no code has."""
    return g.op("Clip", dequantised(g, "x"), g.real(1000), g.real(2000))


@pytest.mark.parametrize("make", [raised, spelled_higher, beyond_all_codes])
def test_what_is_no_code_any_more_runs_otherwise(make: Callable[[Placed], str]) -> None:
    """No crash, and the values of the file, whoever computes them."""
    g = fresh()
    model = build(g, [g.op("Tanh", g.op("MatMul", make(g), weights(g)))])
    result = accelsim.run(accelsim.load(model), Arch(), draw())
    assert result.check.verdict in ("exact", "near")
    (mine,) = result.outputs.values()
    judges = [next(iter(judge(model, draw(), literal=literal).values())) for literal in (False, True)]
    # what onnxruntime itself quantises once more is the file read literally, on the machine
    assert min(float(np.abs(mine - theirs).max()) for theirs in judges) <= 2e-6


def test_maxima_of_codes_need_a_scale_that_is_positive() -> None:
    """With a negative one the largest code is the smallest value."""
    g = fresh()
    real = g.op("DequantizeLinear", g.op("QuantizeLinear", "x", g.real(SCALE), g.const(0, np.int8)), "scale")
    pooled = g.op("MaxPool", g.op("Unsqueeze", real, g.const([1])), kernel_shape=[2])
    y = g.op("Conv", g.op("Transpose", pooled, perm=[0, 2, 1]), weights(g, shape=(3, DEPTH - 1, 1), axis=0))
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [ROWS, DEPTH])]
    ends.append(helper.make_tensor_value_info("scale", TensorProto.FLOAT, []))
    proto = helper.make_graph(
        g.nodes, "net", ends, [helper.make_tensor_value_info(y, TensorProto.FLOAT, None)], g.constants
    )
    data = helper.make_model(proto, opset_imports=[helper.make_opsetid("", 19)], ir_version=9).SerializeToString()
    for scale in (0.05, -0.05):
        feeds = {**draw(), "scale": np.array(scale, np.float32)}
        result = accelsim.run(accelsim.load(data), Arch(), feeds)
        theirs = own_session(data, feeds)[0]
        np.testing.assert_allclose(next(iter(result.outputs.values())), theirs, atol=2e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("quantised", [False, True])
def test_clips_of_opset_10_keep_their_bounds_in_attributes(quantised: bool) -> None:
    """In front of a product, and behind one."""
    g = fresh()
    x = g.op("Clip", dequantised(g, "x"), min=0.0, max=0.5)
    w = g.op("DequantizeLinear", g.const(g.rng.integers(-99, 99, (COLUMNS, DEPTH, 1)), np.int8), g.real(0.01),
             g.const(0, np.int8))  # fmt: skip
    y = g.op("Clip", g.op("Conv", g.op("Unsqueeze", x, axes=[2]), w), min=-0.25, max=0.75)
    y = dequantised(g, y) if quantised else y
    proto = helper.make_graph(
        g.nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [ROWS, DEPTH])],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, None)], g.constants,
    )  # fmt: skip
    data = helper.make_model(proto, opset_imports=[helper.make_opsetid("", 10)], ir_version=5).SerializeToString()
    result = accelsim.run(accelsim.load(data), Arch(), draw())
    theirs = own_session(data, draw())[0]
    np.testing.assert_allclose(next(iter(result.outputs.values())), theirs, atol=SCALE if quantised else 1e-5)
    assert theirs.max() == 0.75
    assert sum(layer.macs for layer in result.layers if layer.arithmetic == "integer") == MACS


@pytest.mark.parametrize("kind", ["float", "codes"])
def test_pools_that_pad_by_themselves_take_no_notice_of_dilations(kind: str) -> None:
    """Their output is smaller than the rule of ONNX says, in onnxruntime."""
    g = fresh()
    parts = g.real(SCALE), g.const(0, np.int8)
    image = g.op("Reshape", "x", g.const([1, 2, 4, 8]))
    code = g.op("QuantizeLinear", image, *parts)
    window = {"kernel_shape": [2, 2], "dilations": [2, 2], "auto_pad": "SAME_UPPER"}
    if kind == "codes":
        y = g.op("DequantizeLinear", g.op("MaxPool", code, **window), *parts)
    else:
        y = dequantised(g, g.op("MaxPool", g.op("DequantizeLinear", code, *parts), **window))
    model = build(g, [y])
    result = accelsim.run(accelsim.load(model), Arch(), draw())
    np.testing.assert_array_equal(next(iter(result.outputs.values())), own_session(model, draw())[0])


def reshaped(g: Placed, x: str, *shape: int) -> str:
    return g.op("Reshape", x, g.const(shape, np.int64))


def batched(g: Placed) -> str:
    """Multiply by constant matrices with a scale per column."""
    w = weights(g, shape=(2, DEPTH, COLUMNS), axis=2)
    return g.op("MatMul", reshaped(g, dequantised(g, "x"), 2, ROWS // 2, DEPTH), w)


def one_batch(g: Placed) -> str:
    """Multiply by one constant matrix of rank 3."""
    return g.op(
        "MatMul", reshaped(g, dequantised(g, "x"), 1, ROWS, DEPTH), weights(g, shape=(1, DEPTH, COLUMNS), axis=2)
    )


def turned(g: Placed) -> str:
    """Transpose both operands of a Gemm."""
    first = reshaped(g, dequantised(g, "x"), DEPTH, ROWS)
    second = reshaped(g, dequantised(g, g.op("Tile", g.op("Neg", "x"), g.const([2, 1]))), COLUMNS, DEPTH)
    return g.op("Gemm", first, second, transA=1, transB=1)


def biased(g: Placed) -> str:
    """Add a bias that is computed to a convolution."""
    bias = g.op("Slice", reshaped(g, "x", -1), g.const([0]), g.const([COLUMNS]), g.const([0]))
    return g.op(
        "Conv", reshaped(g, dequantised(g, "x"), ROWS, DEPTH, 1), weights(g, shape=(COLUMNS, DEPTH, 1), axis=0), bias
    )


def spelled(g: Placed) -> str:
    """Spell the quantiser of the weights, too, which onnxruntime folds to floats."""
    floats = g.real(g.rng.normal(0, 0.3, (COLUMNS, DEPTH, 1)))
    scale = g.real(g.rng.uniform(0.02, 0.04, (COLUMNS, 1, 1)))
    whole = g.op("Clip", g.op("Round", g.op("Div", floats, scale)), g.real(-7), g.real(7))
    return g.op("Conv", reshaped(g, dequantised(g, "x"), ROWS, DEPTH, 1), g.op("Mul", whole, scale))


# onnxruntime has no kernel for weights of rank 3 with several scales, and a float result.
FORMS = [(make, quantiser) for make in (turned, biased, spelled) for quantiser in (False, True)]


@pytest.mark.parametrize(("make", "quantiser"), [*FORMS, (batched, True), (one_batch, True)])
def test_products_in_every_form_are_integer_ones(make: Callable[[Placed], str], quantiser: bool) -> None:
    """In front of a quantiser or not."""
    g = fresh()
    y = make(g)
    model = build(g, [dequantised(g, y) if quantiser else g.op("Tanh", y)])
    try:
        judged = own_session(model, draw())
    except (
        onnxruntime.capi.onnxruntime_pybind11_state.Fail
    ) as refusal:  # 1.31 has no kernel for matrices of rank 3 with a scale per column
        pytest.skip(f"onnxruntime itself cannot run it: {str(refusal)[:80]}")
    result = accelsim.run(accelsim.load(model), Arch(), draw())
    assert sum(layer.macs for layer in result.layers if layer.arithmetic == "integer") == MACS
    assert result.macs_on_array_share == 1
    for mine, theirs in zip(result.outputs.values(), judged, strict=True):
        assert np.abs(mine - theirs).max() <= (SCALE * 1.001 if quantiser else 2e-5)


@pytest.mark.parametrize("form", ["Relu", "Clip", "Mul", "Pad", "Concat", "Gather"])
def test_codes_that_onnxruntime_quantises_once_more_are_multiplied_as_they_are(form: str) -> None:
    """MatMul becomes MatMulNBits in some versions: near, said, and the values are those of the file read literally."""
    g = fresh()
    x = dequantised(g, "x", -5)
    rows = {"Pad": ROWS + 1, "Concat": 2 * ROWS, "Gather": 3}.get(form, ROWS)
    more: dict[str, Callable[[], str]] = {
        "Relu": lambda: g.op("Relu", x),
        "Clip": lambda: g.op("Clip", x, g.real(-1), g.real(1.5)),
        "Mul": lambda: g.op("Mul", x, g.real(0.3)),
        "Pad": lambda: g.op("Pad", x, g.const([1, 0, 0, 0])),
        "Concat": lambda: g.op("Concat", x, dequantised(g, g.op("Neg", "x"), -5), axis=0),
        "Gather": lambda: g.op("Gather", x, g.const([3, 0, 1]), axis=0),
    }
    model = build(g, [g.op("MatMul", more[form](), weights(g))])
    result = accelsim.run(accelsim.load(model), Arch(), draw())
    assert sum(layer.macs for layer in result.layers if layer.arithmetic == "integer") == rows * DEPTH * COLUMNS
    mine, theirs = next(iter(result.outputs.values())), own_session(model, draw())[0]
    assert result.check.output_mismatched == int((mine != theirs).sum())
    assert result.check.literal_qdq is None or result.check.literal_qdq.max_abs < 1e-5
    if any(layer.op == "MatMulNBits" for layer in result.layers):
        assert any("once more, to int8 per block" in note for note in result.check.notes)


def test_constants_are_dequantised_before_the_run() -> None:
    """Not by a layer that reads and writes them in every run."""
    g = fresh()
    gain = g.op(
        "DequantizeLinear", g.const(g.rng.integers(1, 99, (DEPTH,)), np.int8), g.real(0.01), g.const(0, np.int8)
    )
    model = build(g, [g.op("LayerNormalization", dequantised(g, "x"), gain, axis=-1)])
    result = accelsim.run(accelsim.load(model), Arch(), draw())
    assert [layer.op for layer in result.layers] == ["QuantizeLinear", "DequantizeLinear", "LayerNormalization"]
    assert result.check.verdict == "exact"


def test_attention_of_scaled_codes_has_no_float_work_in_front() -> None:
    """The scores read codes, so that nothing dequantises them or multiplies them by the factor."""
    g = Fixed(np.random.default_rng(5), half=False)
    query, keys, values = (reshaped(g, dequantised(g, "x"), 1, 2, 4, 8) for _ in range(3))
    y = g.op("Attention", g.op("Mul", query, g.real(0.25)), keys, values, scale=1.0)
    proto = helper.make_graph(
        g.nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [ROWS, DEPTH])],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, None)], g.constants,
    )  # fmt: skip
    data = helper.make_model(proto, opset_imports=[helper.make_opsetid("", 23)], ir_version=11).SerializeToString()
    result = accelsim.run(accelsim.load(data), Arch(), draw())
    assert result.check.verdict == "exact"
    assert "DequantizeLinear" not in [layer.op for layer in result.layers]
    assert "Mul" not in [layer.op for layer in result.layers]


def test_another_product_is_a_mismatch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong scale gives results that no rounding explains, though float layers have no codes to compare."""
    g = fresh()
    model = build(g, [pointwise(g, dequantised(g, "x"))])
    assert accelsim.run(accelsim.load(model), Arch(), draw()).check.verdict in ("exact", "near")
    right = import_products.epilogue_of

    def wrong(*arguments: Any) -> Any:
        epilogue = right(*arguments)
        assert isinstance(epilogue, Rescale)
        return replace(epilogue, scale=epilogue.scale * np.float32(1.001))

    monkeypatch.setattr(import_products, "epilogue_of", wrong)
    check = accelsim.run(accelsim.load(model), Arch(), draw()).check
    assert check.verdict == "mismatch"
    assert check.first_mismatch is not None
    assert check.first_mismatch.operator in ("Conv", "MatMul")


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("depth", [1, 64, 1000])
def test_float_sums_in_any_order_stay_within_the_error(depth: int, half: bool) -> None:
    """Forwards, backwards, in pairs, as numpy does; operands rounded to half precision where that is allowed."""
    g = fresh()
    data = build(g, [pointwise_of(g, depth)], (ROWS, depth))
    (operator,) = (node.operator for node in accelsim.load(data).bind().graph.nodes if node.kind == "Conv")
    rng = np.random.default_rng(depth)
    codes = rng.integers(-128, 128, (ROWS, depth, 1)).astype(np.int8)
    exact, _ = execute(
        operator, [codes], [accelsim.operators.tensors.TensorType.of("f4", (ROWS, COLUMNS, 1))], AccumulatorFormat()
    )
    error = product_error(operator, [codes], half=half)
    assert error is not None
    kind = np.float16 if half else np.float32
    scale = np.float32(operator.epilogue.scale.reshape(-1)[0] / SCALE)
    first = (codes[..., 0].astype(np.float32) * np.float32(SCALE)).astype(kind).astype(np.float32)
    second = (operator.weights.values.astype(np.float32) * scale).astype(kind).astype(np.float32)
    terms = first[:, None, :] * second[None]
    for ordered in (terms, terms[..., ::-1], rng.permutation(terms, axis=-1)):
        result = np.add.accumulate(ordered, axis=-1, dtype=np.float32)[..., -1]
        assert not beyond(exact[0][..., 0], result.astype(kind).astype(np.float32), error).any()
    assert error < 0.05 * np.abs(exact[0]).max() or depth == 1 or half


def pointwise_of(g: Placed, depth: int) -> str:
    """Multiply rows of a depth by constant codes of one scale."""
    w = weights(g, each=False, shape=(COLUMNS, depth, 1), axis=0)
    return g.op("Conv", g.op("Unsqueeze", dequantised(g, "x"), g.const([2])), w)
