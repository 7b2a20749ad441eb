"""Quantisation as a property of tensors: every form is recognised, and what is not says why."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from onnx import TensorProto, helper

import accelsim
from accelsim import Arch
from accelsim.explain.layers import explain_model
from tests.generator.placements import Placed
from tests.graph.quantised_models import (
    COLUMNS,
    DEPTH,
    ROWS,
    SCALE,
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

Make = Callable[[Placed, str], str]


def spelled(g: Placed, x: str) -> str:
    """Spell a quantiser with a zero point in float operators."""
    y = g.op("Add", g.op("Round", g.op("Div", x, g.real(SCALE))), g.real(3))
    return g.op("Mul", g.op("Sub", g.op("Clip", y, g.real(-128), g.real(127)), g.real(3)), g.real(SCALE))


def clipped_first(g: Placed, x: str) -> str:
    """Spell a quantiser that clips before it rounds, with a reciprocal."""
    y = g.op("Clip", g.op("Mul", x, g.real(1 / SCALE)), g.real(-8), g.real(7))
    return g.op("Mul", g.op("Round", y), g.real(SCALE))


ACTIVATIONS: dict[str, Make] = {
    "a pair": dequantised,
    "a zero point": lambda g, x: dequantised(g, x, 5),
    "a view": lambda g, x: g.op("Reshape", g.op("Identity", dequantised(g, x)), g.const([ROWS, DEPTH], np.int64)),
    "a transposition": lambda g, x: g.op("Transpose", dequantised(g, g.op("Transpose", x, perm=[1, 0])), perm=[1, 0]),
    "a concatenation": lambda g, x: g.op("Concat", dequantised(g, x), dequantised(g, g.op("Neg", x)), axis=0),
    "a slice": lambda g, x: g.op("Slice", dequantised(g, x), g.const([1]), g.const([3]), g.const([0])),
    "Relu": lambda g, x: g.op("Relu", dequantised(g, x, -5)),
    "a clip on the grid": lambda g, x: g.op("Clip", dequantised(g, x), g.real(-1), g.real(1.5)),
    "a factor": lambda g, x: g.op("Mul", dequantised(g, x), g.real(0.3)),
    "padding": lambda g, x: g.op("Pad", dequantised(g, x, 4), g.const([1, 0, 0, 0])),
    "a gather": lambda g, x: g.op("Gather", dequantised(g, x), g.const([3, 0, 1]), axis=0),
    "a spelled quantiser": spelled,
    "a spelled quantiser that clips first": clipped_first,
    "a dynamic quantiser": dynamic,
}


def second_level(g: Placed) -> str:
    """Weights whose scales are quantised themselves."""
    scales = g.op("DequantizeLinear", g.const(np.arange(1, COLUMNS + 1), np.uint8), g.real(0.001), g.const(0, np.uint8))
    codes = g.const(g.rng.integers(-127, 128, (DEPTH, COLUMNS)), np.int8)
    return g.op("DequantizeLinear", codes, scales, g.const(np.zeros(COLUMNS, np.int8)), axis=1)


def float_weights(g: Placed) -> str:
    """Float weights behind a pair."""
    scales, zeros = g.real(np.full(COLUMNS, 0.004)), g.const(np.zeros(COLUMNS, np.int8))
    codes = g.op("QuantizeLinear", g.real(g.rng.normal(0, 0.2, (DEPTH, COLUMNS))), scales, zeros, axis=1)
    return g.op("DequantizeLinear", codes, scales, zeros, axis=1)


WEIGHTS: dict[str, Callable[[Placed], str]] = {
    "one scale": lambda g: weights(g, each=False),
    "one scale per column": weights,
    "transposed": lambda g: g.op("Transpose", weights(g, shape=(COLUMNS, DEPTH), axis=0), perm=[1, 0]),
    "reshaped": lambda g: g.op(
        "Reshape", weights(g, each=False, shape=(DEPTH * COLUMNS,), axis=0), g.const([DEPTH, COLUMNS])
    ),
    "reshaped with scales": lambda g: g.op(
        "Reshape", weights(g, shape=(2, DEPTH // 2, COLUMNS), axis=2), g.const([DEPTH, COLUMNS])
    ),
    "floats behind a pair": float_weights,
    "scaled once more": lambda g: g.op("Mul", weights(g), g.real(g.rng.uniform(0.5, 2, COLUMNS))),
    "scales of scales": second_level,
}


@pytest.mark.parametrize("form", ACTIVATIONS)
def test_activations_in_every_form_are_multiplied_as_codes(form: str) -> None:
    """Whatever keeps codes codes keeps the product an integer one."""
    g = fresh()
    x = ACTIVATIONS[form](g, "x")
    model = build(g, [g.op("Tanh", pointwise(g, x))])
    rows = {"a concatenation": 8, "a slice": 2, "padding": 5, "a gather": 3}.get(form, ROWS)
    check_product(model, draw(), rows * DEPTH * COLUMNS)


@pytest.mark.parametrize("form", WEIGHTS)
@pytest.mark.parametrize("half", [False, True])
def test_weights_in_every_form_are_multiplied_as_codes(form: str, half: bool) -> None:
    """Constant codes are found through whatever stands between them and the product, in float16 networks, too."""
    g = fresh(half)
    model = build(g, [g.op("MatMul", dequantised(g, "x"), WEIGHTS[form](g))], half=half)
    check_product(model, draw(dtype=np.float16 if half else np.float32), ROWS * DEPTH * COLUMNS)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.5, 2.0), (1.5, 0.0)])
@pytest.mark.parametrize("bias", ["none", "row", "codes", "matrix"])
@pytest.mark.parametrize("quantiser", [False, True])
def test_gemm_takes_any_factors_and_any_bias(alpha: float, beta: float, bias: str, quantiser: bool) -> None:
    """Alpha, beta, and a bias of any scale or shape, in front of a quantiser or of anything else."""
    g = fresh()
    third = {
        "none": list,
        "row": lambda: [g.real(g.rng.normal(0, 1, COLUMNS))],
        "codes": lambda: [g.op("DequantizeLinear", g.const(g.rng.integers(-99, 99, COLUMNS), np.int32), g.real(0.01))],
        "matrix": lambda: [g.real(g.rng.normal(0, 1, (ROWS, COLUMNS)))],
    }[bias]()
    y = g.op("Gemm", dequantised(g, "x"), weights(g), *third, alpha=alpha, beta=beta)
    y = dequantised(g, y) if quantiser else g.op("Sigmoid", y)
    model = build(g, [y])
    result = accelsim.run(accelsim.load(model), Arch(), draw())
    assert result.macs_on_array_share == 1
    assert result.check.verdict in ("exact", "near")
    for mine, theirs in zip(result.outputs.values(), own_session(model, draw()), strict=True):
        assert np.abs(mine - theirs).max() <= (SCALE * 1.001 if quantiser else 2e-6)


def test_two_products_of_activations_are_integer_ones() -> None:
    """Both operands are codes that a transposition and a quantiser in between leave codes."""
    g = fresh()
    keys = g.op("Transpose", dequantised(g, "x"), perm=[0, 2, 1])
    shares = g.op("Softmax", g.op("MatMul", dequantised(g, "x"), keys), axis=-1)
    model = build(g, [g.op("MatMul", dequantised(g, shares), dequantised(g, "x"))], (2, 5, 8))
    check_product(model, draw((2, 5, 8)), 2 * 2 * 5 * 5 * 8)


def test_two_quantisers_of_one_scale_share_one_product() -> None:
    """The second quantiser is the same codes once more; nothing is computed or stored twice."""
    g = fresh()
    y = g.op("Relu", g.op("MatMul", dequantised(g, "x"), weights(g)))
    ends = [g.op("Tanh", dequantised(g, y)), g.op("Exp", dequantised(g, y))]
    result = accelsim.run(accelsim.load(build(g, ends)), Arch(), draw())
    assert [layer.op for layer in result.layers].count("QuantizeLinear") == 1  # that of the input
    assert result.macs_on_array_share == 1
    assert result.check.verdict == "exact"


def test_two_quantisers_of_two_scales_read_one_float_result() -> None:
    """The product is rescaled once, and each quantiser makes its own codes of it."""
    g = fresh()
    y = g.op("MatMul", dequantised(g, "x"), weights(g))
    code = g.op("QuantizeLinear", y, g.real(0.1), g.const(0, np.int8))
    other = g.op("DequantizeLinear", code, g.real(0.1), g.const(0, np.int8))
    result = accelsim.run(accelsim.load(build(g, [dequantised(g, y), other])), Arch(), draw())
    assert [layer.op for layer in result.layers].count("QuantizeLinear") == 3
    assert result.macs_on_array_share == 1


def test_codes_that_the_file_clips_have_fewer_bits() -> None:
    """Four bits of activations and three of weights are what memory holds, and the clips take no time."""
    g = fresh()
    code = g.op("QuantizeLinear", "x", g.real(SCALE), g.const(0, np.int8))
    narrow = g.op("Clip", code, g.const(-8, np.int8), g.const(7, np.int8))
    x = g.op("DequantizeLinear", narrow, g.real(SCALE), g.const(0, np.int8))
    three = g.op(
        "Clip", g.const(g.rng.integers(-9, 9, (DEPTH, COLUMNS)), np.int8), g.const(-3, np.int8), g.const(3, np.int8)
    )
    w = g.op("DequantizeLinear", three, g.real(0.05), g.const(0, np.int8))
    model = accelsim.load(build(g, [g.op("MatMul", x, w)]))
    assert not any(layer.op == "Clip" for layer in accelsim.run(model, Arch(), draw()).layers)
    text = "\n".join(explain_model(model, Arch()))
    assert f"int4[{ROWS}, {DEPTH}]" in text
    assert "4-bit x 3-bit codes" in text


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda g: g.op("Clip", dequantised(g, "x"), g.real(-0.05), g.real(0.05)), "no multiple of the scale"),
        (lambda g: g.op("Concat", dequantised(g, "x"), spelled(g, "x"), axis=0), "different scales"),
        (lambda g: g.op("Sigmoid", "x"), "its first operand holds floats"),
    ],
)
def test_what_is_no_product_of_codes_says_why(make: Callable[[Placed], str], reason: str) -> None:
    """Explain names what stands in the way."""
    g = fresh()
    model = accelsim.load(build(g, [pointwise(g, make(g))]))
    text = "\n".join(explain_model(model, Arch()))
    assert "a float product" in text
    assert reason in text


def late_second(g: Placed) -> str:
    """Multiply by codes whose scale is known at run time only."""
    return g.op("MatMul", dequantised(g, "x"), g.op("Transpose", dynamic(g, "x"), perm=[1, 0]))


def late_both(g: Placed) -> str:
    """Multiply codes of two scales that are known at run time only."""
    return g.op("MatMul", dynamic(g, "x"), g.op("Reshape", dynamic(g, "x"), g.const([DEPTH, ROWS], np.int64)))


@pytest.mark.parametrize(("make", "columns"), [(late_second, ROWS), (late_both, ROWS)])
def test_both_scales_may_be_known_at_run_time_only(make: Callable[[Placed], str], columns: int) -> None:
    """Also where onnxruntime made integer operators of it."""
    g = fresh()
    check_product(build(g, [make(g)]), draw(), ROWS * DEPTH * columns)


def test_an_operator_that_nobody_took_up_says_so() -> None:
    """An Einsum of codes is onnxruntime's."""
    g = fresh()
    x = dequantised(g, "x")
    text = "\n".join(explain_model(accelsim.load(build(g, [g.op("Einsum", x, x, equation="ij,kj->ik")])), Arch()))
    assert "analysis  left to onnxruntime: the machine has no such operator" in text


def test_a_derived_transposition_is_called_one() -> None:
    """Its name is that of the product with what it does behind it."""
    g = fresh()
    x = dequantised(g, "x")
    bias = g.op("Slice", "x", g.const([0]), g.const([ROWS]), g.const([1]))
    g.nodes.append(helper.make_node("Gemm", [x, dequantised(g, g.op("Neg", "x")), bias], ["y"], "product", transB=1))
    result = accelsim.run(accelsim.load(build(g, ["y"])), Arch(), draw())
    found = [(layer.name, layer.op) for layer in result.layers if layer.name.startswith("product")]
    assert found[:2] == [("product/transpose", "Transpose"), ("product", "Gemm")]


def test_scales_along_the_inputs_are_no_scales_of_the_outputs() -> None:
    """Weights with a scale per row of the product's depth stay float, and explain says it."""
    g = fresh()
    model = accelsim.load(build(g, [g.op("Relu", pointwise(g, dequantised(g, "x"), 1))]))
    assert "along another axis" in "\n".join(explain_model(model, Arch()))


def test_deep_constants_take_no_time_to_recognise() -> None:
    """Each constant is looked at once, however many ways lead to it."""
    g = fresh()
    scale = g.real(0.5)
    for _ in range(60):
        half = g.op("Cast", scale, to=TensorProto.FLOAT16)
        scale = g.op("Cast", g.op("Max", half, half), to=TensorProto.FLOAT)
    model = build(g, [g.op("Mul", dequantised(g, "x"), scale)])
    assert accelsim.run(accelsim.load(model), Arch(), draw()).check.verdict == "exact"
