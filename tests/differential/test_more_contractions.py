"""Contractions beyond the common ones: transposed and 3-D convolutions, vectors, run-time scales and zero points."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import accelsim
from accelsim.energy import load_table
from accelsim.results.result import LayerResult
from tests.strategies import MICROSOFT, Builder, Case, Draw, Quantisation

SEED = 60_101


def run(case: Case, machine: accelsim.Arch | None = None) -> accelsim.Result:
    """Run a drawn model on its inputs."""
    return accelsim.run(accelsim.load(case.model), machine, case.inputs)


def on_the_array(result: accelsim.Result) -> list[LayerResult]:
    """Return the layers of the array, and demand that no product runs elsewhere."""
    assert not {layer.op for layer in result.layers if layer.placement == "host"}
    return [layer for layer in result.layers if layer.placement == "array"]


def transposed_case(draw: Draw, rank: int) -> Case:
    """Draw DQ -> ConvTranspose -> Q."""
    build, source = Builder(draw), draw.activation()
    groups, per_group, filters = draw.choice([1, 1, 2, 3]), draw.integer(1, 3), draw.integer(1, 4)
    kernel, strides = draw.integers(1, 4, rank), draw.integers(1, 3, rank)
    dilations = draw.integers(1, 2, rank)
    reach = [dilation * (size - 1) for dilation, size in zip(dilations, kernel, strict=True)]
    pads = [draw.integer(0, (most + 1) // 2) for most in reach + reach]
    sizes = [draw.integer(3, 7) for _ in range(rank)]
    extra = [draw.integer(0, stride - 1) for stride in strides]
    weights = draw.weights(draw.weights_dtype(source.dtype), filters)
    real = build.node(
        "ConvTranspose",
        [
            build.activation((draw.integer(1, 2), groups * per_group, *sizes), source),
            build.weight((groups * per_group, filters, *kernel), weights, 1),
            *([build.constant(draw.rng.normal(size=groups * filters), np.float32)] if draw.chance() else []),
        ],
        group=groups, strides=strides, pads=pads, dilations=dilations, output_padding=extra,
    )  # fmt: skip
    unit = float(source.scale) * weights.mean_scale
    return build.finish(real, draw.result(source.dtype, unit, 40 * 40 * float(np.sqrt(per_group * np.prod(kernel)))))


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("index", range(12))
def test_transposed_convolutions_run_on_the_array(rank: int, index: int) -> None:
    """In float for onnxruntime: our integers are within one step of its result."""
    draw = Draw((SEED, rank, index), ties=index % 2 == 1)
    result = run(transposed_case(draw, rank), draw.machine())
    assert result.check.verdict == ("near" if result.check.output_mismatched else "exact")
    assert len(on_the_array(result)) == 1
    assert result.check.float_reference[0].max_lsb <= 1


def test_inserted_zeros_take_time_but_are_no_multiply_accumulates() -> None:
    """Stride 2 with a 2x2 kernel meets one pixel per output pixel and channel: a quarter of the slots."""
    draw = Draw((SEED, 7), ties=False)
    build, source = Builder(draw), draw.activation()
    weights = Quantisation(np.dtype(np.int8), np.float32(0.01), 0)
    inputs = [build.activation((1, 8, 6, 6), source), build.weight((8, 4, 2, 2), weights, 1)]
    real = build.node("ConvTranspose", inputs, strides=[2, 2])
    result = run(build.finish(real, draw.activation(source.dtype)))
    (layer,) = on_the_array(result)
    assert (layer.m, layer.k, layer.n) == (144, 32, 4)
    assert layer.macs == 144 * 32 * 4 // 4
    assert layer.energy_pj["mac"] < 144 * 32 * 4 * load_table().multiplier(9, 8).value_pj


@pytest.mark.parametrize("index", range(12))
def test_three_dimensional_convolutions_are_exact(index: int) -> None:
    """Each output slice is an image whose channels are the slices it needs."""
    draw = Draw((SEED, 3, index), ties=index % 2 == 1)
    build, source = Builder(draw), draw.activation()
    groups, per_group = draw.choice([1, 1, 2]), draw.integer(1, 3)
    filters = groups * draw.integer(1, 4)
    kernel = draw.integers(1, 3, 3)
    weights = draw.weights(draw.weights_dtype(source.dtype), filters)
    real = build.node(
        "Conv",
        [
            build.activation((draw.integer(1, 2), groups * per_group, *draw.integers(3, 6, 3)), source),
            build.weight((filters, per_group, *kernel), weights, 0),
        ],
        group=groups, strides=draw.integers(1, 2, 3), pads=draw.integers(0, 2, 6),
    )  # fmt: skip
    unit = float(source.scale) * weights.mean_scale
    spread = 40 * 40 * float(np.sqrt(per_group * np.prod(kernel)))
    result = run(build.finish(real, draw.result(source.dtype, unit, spread)), draw.machine())
    assert result.check.verdict == "exact"
    assert not result.check.float_reference
    assert len(on_the_array(result)) == 1


@pytest.mark.parametrize(("first", "second"), [((5,), (5, 3)), ((4, 5), (5,)), ((5,), (5,)), ((2, 4, 5), (5,))])
@pytest.mark.parametrize("constant", [False, True])
def test_vectors_are_rows_and_columns(first: tuple[int, ...], second: tuple[int, ...], constant: bool) -> None:
    """A vector operand of a product is one row or one column, which the result lacks."""
    draw = Draw((SEED, 4), ties=True)
    build, one, two = Builder(draw), draw.activation(np.dtype(np.uint8)), draw.activation(np.dtype(np.uint8))
    left = build.activation(first, one)
    right = build.weight(second, two, -1) if constant else build.activation(second, two)
    result = run(build.finish(build.node("MatMul", [left, right]), draw.activation(np.dtype(np.uint8), 0.5)))
    assert result.check.verdict == "exact"
    assert len(on_the_array(result)) == 1


def integer_inputs(draw: Draw, build: Builder, kind: Any, *, computed: bool) -> str:
    """Add a zero point: constant, or a graph input."""
    zero = np.array(draw.zero_point(kind), kind)
    return build.input(zero) if computed else build.constant(zero)


@pytest.mark.parametrize("index", range(12))
def test_integer_products_with_zero_points_known_at_run_time(index: int) -> None:
    """MatMulInteger gives onnxruntime's int32, whether operands and zero points are constant or computed."""
    draw = Draw((SEED, 5, index), ties=False)
    build, left = Builder(draw), draw.dtype()
    right = draw.weights_dtype(left)
    depth, columns = draw.integer(1, 40), draw.integer(1, 20)
    first = build.input(draw.codes((draw.integer(1, 3), draw.integer(1, 20), depth), left))
    codes = draw.codes((depth, columns), right)
    constant = index % 3 != 0
    second = build.constant(codes) if constant else build.input(codes)
    zeros = [
        integer_inputs(draw, build, left, computed=index % 2 == 0),
        integer_inputs(draw, build, right, computed=not constant),
    ]
    name = build.node("MatMulInteger", [first, second, *zeros])
    build.output(name, np.int32)
    result = run(build.case(), draw.machine())
    assert result.check.verdict == "exact"
    assert len(on_the_array(result)) == 1


@pytest.mark.parametrize("index", range(8))
def test_integer_convolutions_pad_with_the_zero_point(index: int) -> None:
    """ConvInteger pads with the zero point, constant or not."""
    draw = Draw((SEED, 6, index), ties=False)
    build = Builder(draw)
    channels, filters = draw.integer(1, 4), draw.integer(1, 6)
    weights = build.constant(draw.codes((filters, channels, 3, 3), np.dtype(np.uint8)))
    first = build.input(draw.codes((2, channels, 6, 7), np.dtype(np.uint8)))
    zeros = [integer_inputs(draw, build, np.dtype(np.uint8), computed=index % 2 == 0)]
    zeros += [build.constant(draw.codes((1,) if index % 3 else (), np.dtype(np.uint8)))] if index % 4 else []
    name = build.node("ConvInteger", [first, weights, *zeros], pads=draw.integers(0, 2, 4))
    build.output(name, np.int32)
    result = run(build.case(), draw.machine())
    assert result.check.verdict == "exact"
    assert len(on_the_array(result)) == 1


@pytest.mark.parametrize("index", range(12))
def test_dynamically_quantised_products_equal_onnxruntime(index: int) -> None:
    """DynamicQuantizeMatMul: the activation is quantised by its own extremes, then multiplied as integers."""
    draw = Draw((SEED, 8, index), ties=index % 2 == 1)
    build = Builder(draw)
    depth, columns = draw.integer(1, 40), draw.integer(1, 20)
    scale = draw.scale(0.01) if index % 3 else np.array([draw.scale(0.01) for _ in range(columns)], np.float32)
    kind = draw.dtype()
    values = draw.rng.normal(draw.choice([-2.0, 0.0, 0.0, 3.0]), 1.0, (3, draw.integer(1, 5), depth))
    name = build.node(
        "DynamicQuantizeMatMul",
        [
            build.input(values.astype(np.float32)),
            build.constant(draw.codes((depth, columns), kind)),
            build.constant(scale, np.float32),
            build.constant(draw.codes(np.shape(scale), kind)),
            *([build.constant(draw.rng.normal(size=columns), np.float32)] if draw.chance() else []),
        ],
        MICROSOFT,
    )
    build.output(name, np.float32, 3)
    result = run(build.case(), draw.machine())
    assert result.check.verdict == "exact"
    assert [layer.placement for layer in result.layers] == ["vector", "array"]


@pytest.mark.parametrize("index", range(8))
def test_the_factor_of_a_gemm_joins_the_first_scale(index: int) -> None:
    """QGemm with alpha: fl32(fl32(alpha * s_a) * s_b), with quantised and with float output."""
    draw = Draw((SEED, 10, index), ties=index % 2 == 1)
    build, kind = Builder(draw), draw.dtype()
    source, columns = draw.activation(kind), draw.integer(1, 12)
    weights, alpha = draw.weights(draw.weights_dtype(kind), columns), float(draw.scale(0.5))
    inputs = [build.codes((5, 17), source), *build.parameters(source)]
    inputs += [build.constant(draw.codes((17, columns), weights.dtype)), *build.parameters(weights)]
    inputs += [build.constant(draw.rng.integers(-5000, 5000, columns), np.int32)]
    output = draw.result(kind, float(source.scale) * weights.mean_scale * alpha, 40 * 40 * 4)
    quantised = index % 3 > 0
    inputs += build.parameters(output) if quantised else []
    build.output(build.node("QGemm", inputs, MICROSOFT, alpha=alpha), kind if quantised else np.float32, 2)
    result = run(build.case(), draw.machine())
    assert result.check.verdict == "exact"
    assert len(on_the_array(result)) == 1


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((2, 4)),
        np.full((2, 4), 3.5),
        np.full((2, 4), -1e-30),
        [[1e30, -1e30]],
        [[1e-45, 0]],
        [[-1e-43, 0], [3e-44, 0]],
        [[1.9e-43, -1e-45]],
    ],
)
def test_dynamic_quantisation_at_the_edges(values: Any) -> None:
    """All zero, one sign only, denormal and huge ranges, and ranges whose scale underflows to 0."""
    build = Builder(Draw((SEED, 9), ties=False))
    names = build.nodes_of("DynamicQuantizeLinear", [build.input(np.asarray(values, np.float32))], 3)
    for name, kind in zip(names, (np.uint8, np.float32, np.uint8), strict=True):
        build.output(name, kind)
    result = run(build.case())
    assert result.check.verdict == "exact"
    assert result.layers[0].placement == "vector"


def test_accumulators_that_leave_as_they_are_pay_no_requantiser() -> None:
    """MatMulInteger stores its sums; only an epilogue that scales them is charged for scaling."""
    draw = Draw((SEED, 11), ties=False)
    build = Builder(draw)
    first = build.input(draw.codes((4, 8), np.dtype(np.uint8)))
    build.output(build.node("MatMulInteger", [first, build.constant(draw.codes((8, 4), np.dtype(np.uint8)))]), np.int32)
    (layer,) = run(build.case()).layers
    assert layer.energy_pj.get("requantiser", 0.0) == 0.0
