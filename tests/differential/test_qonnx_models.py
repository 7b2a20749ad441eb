"""Random QONNX networks and real ones, end to end against their literal execution in onnxruntime."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import accelsim
from tests.qonnx_models import MODES, QonnxGraph, Style, random_cnn, random_mlp, random_residual
from tests.tiers import few

NETWORKS = (random_mlp, random_cnn, random_residual)


@pytest.mark.parametrize("make", few(NETWORKS, 1))
@pytest.mark.parametrize("start", few(range(0, 40, 10), 1))
def test_networks_with_power_of_two_scales_are_exact(make, start: int) -> None:  # type: ignore[no-untyped-def]
    """Every tensor of every network is exact, none is only near: sums of such floats have no rounding."""
    for seed in range(start, start + 10):
        data, inputs = make(seed, Style(powers_of_two=True))
        check = accelsim.run(accelsim.load(data), inputs=inputs).check
        assert (check.verdict, check.output_mismatched, check.float_reference) == ("exact", 0, ()), seed


@pytest.mark.parametrize("make", few(NETWORKS, 1))
def test_networks_with_any_scales_are_near(make) -> None:  # type: ignore[no-untyped-def]
    """Sums of other floats are rounded in the reference: such layers are called float-reference, and are near."""
    near = 0
    for seed in range(20):
        data, inputs = make(seed, Style(powers_of_two=False))
        result = accelsim.run(accelsim.load(data), inputs=inputs)
        assert result.check.verdict == ("near" if result.check.output_mismatched else "exact"), seed
        distances = [distance for distance in result.check.float_reference if "codes" in distance.tensor]
        assert all(distance.max_lsb <= 1 for distance in distances), seed
        near += len(distances)
    assert near > 10


@pytest.mark.parametrize("mode", few(MODES, 2))
def test_one_rounding_mode_throughout(mode: str) -> None:
    """Networks that use a single rounding mode are exact as well."""
    for seed in range(100, 104):
        for make in NETWORKS:
            data, inputs = make(seed, Style(mode=mode))
            assert accelsim.run(accelsim.load(data), inputs=inputs).check.verdict == "exact", seed


def test_what_stands_between_codes_is_swallowed() -> None:
    """Normalisation, scale, bias and Relu between a product and its quantiser leave no layer of their own."""
    rng = np.random.default_rng(5)
    graph = QonnxGraph()
    x = graph.quant(graph.add_input("x", 3, 12), 0.25, 0, 4)
    weights = graph.quant(graph.constant(rng.normal(size=(12, 7))), 0.25, 0, 2)
    y = graph.normalise(graph.node("MatMul", x, weights), 7, rng)
    y = graph.node("Relu", graph.node("Add", y, graph.constant(rng.normal(size=7))))
    y = graph.quant(y, 0.5, 0, 3, signed=0)
    result = accelsim.run(accelsim.load(graph.model(y)), inputs={"x": rng.normal(size=(3, 12)).astype(np.float32)})
    assert [layer.op for layer in result.layers] == ["Quant", "MatMul", "Dequantise"]
    assert result.layers[1].placement == "array"
    assert result.check.verdict == "exact"
    assert result.check.elements == 3 * (12 + 7 + 7)


def test_what_is_not_monotone_runs_on_floats() -> None:
    """A function of the sum that rises and falls cannot become thresholds: the sums leave as floats, still exact."""
    rng = np.random.default_rng(6)
    graph = QonnxGraph()
    x = graph.quant(graph.add_input("x", 4, 9), 0.25, 0, 4)
    weights = graph.quant(graph.constant(rng.normal(size=(9, 5))), 0.25, 0, 3)
    y = graph.node("Abs", graph.node("MatMul", x, weights))
    y = graph.quant(y, 0.5, 0, 3, signed=0)
    result = accelsim.run(accelsim.load(graph.model(y)), inputs={"x": rng.normal(size=(4, 9)).astype(np.float32)})
    assert [layer.op for layer in result.layers] == ["Quant", "MatMul", "Abs", "Quant", "Dequantise"]
    assert result.check.verdict == "exact"


def test_two_readers_of_a_sum_share_it_as_floats() -> None:
    """A tensor that two quantisers read stays a tensor of floats."""
    rng = np.random.default_rng(7)
    graph = QonnxGraph()
    x = graph.quant(graph.add_input("x", 4, 9), 0.25, 0, 4)
    y = graph.node("MatMul", x, graph.quant(graph.constant(rng.normal(size=(9, 5))), 0.25, 0, 3))
    outputs = graph.quant(y, 0.5, 0, 3), graph.bipolar(y, 1.0)
    result = accelsim.run(accelsim.load(graph.model(*outputs)), inputs={"x": np.ones((4, 9), np.float32)})
    assert Counter(layer.op for layer in result.layers) == Counter(
        {"Quant": 2, "MatMul": 1, "BipolarQuant": 1, "Dequantise": 2}
    )
    assert result.check.verdict == "exact"


def test_activations_multiplied_with_activations() -> None:
    """A product of two activations is an integer product, and its quantiser thresholds."""
    rng = np.random.default_rng(8)
    graph = QonnxGraph()
    a = graph.quant(graph.add_input("a", 2, 6, 8), 0.25, 0, 3)
    b = graph.quant(graph.add_input("b", 2, 8, 5), 0.5, 1, 4, signed=0)
    y = graph.quant(graph.node("MatMul", a, b), 0.5, 0, 5)
    inputs = {name: rng.normal(size=shape).astype(np.float32) for name, shape in (("a", (2, 6, 8)), ("b", (2, 8, 5)))}
    result = accelsim.run(accelsim.load(graph.model(y)), inputs=inputs)
    assert [layer.op for layer in result.layers] == ["Quant", "Quant", "MatMul", "Dequantise"]
    assert result.check.verdict == "exact"


@pytest.mark.parametrize("kernel", [2, 3, 5])
@pytest.mark.parametrize("pads", [0, 1])
def test_average_and_truncation_are_a_sum_and_a_shift(kernel: int, pads: int) -> None:
    """AveragePool, its factor and Trunc become one integer layer, for windows of any size."""
    rng = np.random.default_rng(kernel)
    graph = QonnxGraph()
    x = graph.quant(graph.add_input("x", 2, 3, 9, 9), 0.25, 0, 4, signed=0)
    y = graph.node("AveragePool", x, kernel_shape=[kernel] * 2, pads=[pads] * 4, count_include_pad=1, strides=[2, 1])
    y = graph.trunc(graph.node("Mul", y, graph.constant(float(kernel**2))), 0.25, 0, 9, 4)
    values = rng.normal(size=(2, 3, 9, 9)).astype(np.float32)
    result = accelsim.run(accelsim.load(graph.model(y)), inputs={"x": values * 3})
    assert [layer.op for layer in result.layers] == ["Quant", "AveragePool", "Dequantise"]
    assert result.check.verdict == "exact"


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_biases_quantised_to_the_sums_are_where_the_sums_start(bits: int) -> None:
    """A bias of the product of the scales is an integer of any width; the sums behind it leave as exact floats."""
    rng = np.random.default_rng(bits)
    graph = QonnxGraph()
    x = graph.quant(graph.add_input("x", 2, 3, 6, 6), 0.25, 0, 4)
    weights = graph.quant(graph.constant(rng.normal(size=(5, 3, 3, 3))), 0.125, 0, 4)
    bias = graph.quant(graph.constant(rng.normal(size=5)), 0.25 * 0.125, 0, bits)
    y = graph.node("Conv", x, weights, bias, kernel_shape=[3, 3])
    model = accelsim.load(graph.model(y))
    result = accelsim.run(model, inputs={"x": rng.normal(size=(2, 3, 6, 6)).astype(np.float32)})
    assert [layer.op for layer in result.layers] == ["Quant", "Conv"]
    assert (result.check.verdict, result.check.float_reference) == ("exact", ())
    assert model.bind().graph.nodes[1].operator.weights.bias.any()


@pytest.mark.parametrize("weight_zero_point", ["wide-operand", "row-sum"])
@pytest.mark.parametrize("zeros", [0, 3, (0, 1, 2, 255, 7)])
@pytest.mark.parametrize("signed", [0, 1])
def test_weights_with_zero_points(weight_zero_point: str, zeros: object, signed: int) -> None:
    """Unsigned and shifted weights are exact however the machine treats their zero points."""
    rng = np.random.default_rng(12)
    zero_points = np.float32(zeros).reshape(-1, 1) if isinstance(zeros, tuple) else zeros
    machine = accelsim.Arch(weight_zero_point=weight_zero_point)
    for bits in (4, 8):
        graph = QonnxGraph()
        x = graph.quant(graph.add_input("x", 3, 20), 0.25, 1, 4)
        w = graph.quant(graph.constant(rng.normal(size=(5, 20)) * 4), 2.0**-bits, zero_points, bits, signed)
        y = graph.node("MatMul", x, graph.node("Transpose", w, perm=[1, 0]))
        y = graph.quant(graph.normalise(y, 5, rng), 0.5, 0, 4)
        result = accelsim.run(accelsim.load(graph.model(y)), machine)
        assert [layer.op for layer in result.layers] == ["Quant", "MatMul", "Dequantise"]
        assert result.check.verdict == "exact"


def test_large_weights_of_an_old_opset() -> None:
    """Weights that are kept apart from the model's message go through expansion and converter as small ones do."""
    rng = np.random.default_rng(10)
    graph = QonnxGraph(opset=9)
    x = graph.quant(graph.add_input("x", 1, 1024), 0.25, 0, 2)
    weights = graph.quant(graph.constant(rng.normal(size=(1024, 300))), 0.5, 0, 2)
    y = graph.quant(graph.normalise(graph.node("MatMul", x, weights), 300, rng), 0.5, 0, 2)
    check = accelsim.run(accelsim.load(graph.model(y))).check
    assert (check.verdict, check.float_reference) == ("exact", ())


def test_narrow_accumulators_are_counted_behind_thresholds() -> None:
    """Eight-bit accumulators overflow under thresholds as under any requantiser, and the verdict says so."""
    rng = np.random.default_rng(9)
    graph = QonnxGraph()
    x = graph.quant(graph.add_input("x", 8, 200), 0.25, 0, 4)
    y = graph.node("MatMul", x, graph.quant(graph.constant(rng.normal(size=(200, 6))), 0.25, 0, 4))
    y = graph.quant(y, 4.0, 0, 4)
    inputs = {"x": rng.normal(size=(8, 200)).astype(np.float32)}
    result = accelsim.run(accelsim.load(graph.model(y)), accelsim.Arch(acc_bits=8), inputs)
    assert result.check.verdict == "mismatch"
    assert result.layers[1].acc is not None
    assert result.layers[1].acc.overflows > 0
    assert accelsim.run(accelsim.load(graph.model(y)), accelsim.Arch(acc_bits=16), inputs).check.verdict == "exact"


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
@pytest.mark.parametrize("zp_mode", ["fold", "subtract"])
def test_values_do_not_depend_on_the_machine(dataflow: str, zp_mode: str) -> None:
    """Dataflow, array and zero-point mode change cycles, never codes."""
    data, inputs = random_cnn(7, Style())
    machine = accelsim.Arch(array=(5, 3), dataflow=dataflow, zp_mode=zp_mode)
    assert accelsim.run(accelsim.load(data), machine, inputs).check.verdict == "exact"


@pytest.mark.parametrize("name", ["tfc_1w1a_qonnx", "tfc_2w2a_qonnx"])
def test_real_networks_equal_the_executor_of_qonnx(shared_models: Path, name: str) -> None:
    """The exported networks are exact, their products on the array, and all samples' outputs those of qonnx."""
    path = shared_models / f"{name}.onnx"
    model = accelsim.load(path)
    samples = sorted(shared_models.glob(f"{name}.in*.npz"))
    assert len(samples) == 10
    for sample in samples:
        with np.load(sample) as inputs, np.load(str(sample).replace(".in", ".out")) as outputs:
            result = accelsim.run(model, inputs=dict(inputs))
            assert (result.check.verdict, result.check.output_mismatched, result.check.float_reference) == (
                "exact",
                0,
                (),
            )
            assert all(np.array_equal(result.outputs[key], outputs[key]) for key in outputs)
    placed = Counter(layer.op for layer in result.layers if layer.placement == "array")
    assert placed == Counter({"MatMul": 4})
    assert result.model.macs == 59008
