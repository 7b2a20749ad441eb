"""QONNX quantisers, number by number: the expanded operators in onnxruntime and our codes against the naive twins."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from accelsim.check.oracle import final_outputs
from accelsim.graph.load.loader import load_bytes
from accelsim.graph.normalise.normalise import normalise
from accelsim.graph.qonnx.grid import odd_part, sums_are_exact
from accelsim.kernels.values.thresholds import threshold_rows
from accelsim.operators.thresholds import UNREACHED
from accelsim.operators.uniform import Decoding
from tests.oracles import qonnx as naive
from tests.qonnx_models import MODES, QonnxGraph
from tests.tiers import few

RANGES = tuple(product(range(1, 9), (0, 1), (0, 1)))


def values_around(scale: np.float32, count: int = 700) -> np.ndarray:
    """Return reals on, beside and between the ties and the codes of a scale, far ones and both zeros."""
    rng = np.random.default_rng(count)
    ties = (np.arange(-300, 301, dtype=np.float32) / 2) * scale
    near = [np.nextafter(ties, np.float32(end)) for end in (np.inf, -np.inf)]
    free = (rng.normal(size=count) * 40 * scale).astype(np.float32)
    return np.concatenate([ties, *near, free, np.float32([0.0, -0.0, 1e30, -1e30, 1e-40])]).astype(np.float32)


def run_reference(graph: QonnxGraph, output: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what onnxruntime computes for the expanded graph, and what the only quantiser gives."""
    model = load_bytes(graph.model(output))
    reference = final_outputs(normalise(model), {"x": x})[output]
    quantiser = model.quantisers[0].quantiser
    return reference, quantiser.values(quantiser.codes(x))


def assert_same_bits(got: np.ndarray, expected: np.ndarray) -> None:
    """Demand equal bits; the sign of a zero does not count, since codes have none."""
    assert np.array_equal((got + np.float32(0)).view(np.uint32), (expected + np.float32(0)).view(np.uint32))


@pytest.mark.parametrize("mode", few([*MODES, "half_up", "Floor"], 3))
def test_quant_in_onnxruntime_and_here_is_its_definition(mode: str) -> None:
    """Every width, signed and narrow, with and without zero point: both equal the definition, bit for bit."""
    for bits, signed, narrow in RANGES:
        scale, zero_point = np.float32([0.25, 0.3, 1.7][bits % 3]), [0, 3, 0, -2][(bits + signed) % 4]
        x = values_around(scale)
        graph = QonnxGraph()
        output = graph.quant(graph.add_input("x", x.size), scale, zero_point, bits, signed, narrow, mode)
        expected = np.array([naive.quant(v, scale, zero_point, bits, signed, narrow, mode) for v in x])
        for got in run_reference(graph, output, x):
            assert_same_bits(got, expected)


@pytest.mark.parametrize("operator", ["Quant", "IntQuant"])
@pytest.mark.parametrize("domain", ["qonnx.custom_op.general", "onnx.brevitas", "qonnx.custom_op.general.intquant"])
@pytest.mark.parametrize("opset", [9, 11, 13, 18])
def test_quant_per_channel_in_every_domain_and_opset(operator: str, domain: str, opset: int) -> None:
    """Scales and zero points per channel broadcast as in numpy, whatever the domain and the opset of the file."""
    scales = np.float32([0.5, 0.3, 0.125]).reshape(1, 3, 1)
    zeros = np.float32([0, 1, -3]).reshape(1, 3, 1)
    x = np.random.default_rng(opset).normal(size=(4, 3, 50)).astype(np.float32)
    graph = QonnxGraph(opset, domain)
    output = graph.quant(graph.add_input("x", *x.shape), scales, zeros, 4)
    graph.nodes[0].op_type = operator
    expected = np.empty_like(x)
    for where in np.ndindex(x.shape):
        scale, zero_point = scales[0, where[1], 0], int(zeros[0, where[1], 0])
        expected[where] = naive.quant(x[where], scale, zero_point, 4, 1, 0, "ROUND")
    for got in run_reference(graph, output, x):
        assert_same_bits(got, expected)


def test_bipolar_quant_is_its_definition() -> None:
    """The sign, both zeros being positive."""
    x = values_around(np.float32(0.3))
    graph = QonnxGraph()
    output = graph.bipolar(graph.add_input("x", x.size), 0.3)
    for got in run_reference(graph, output, x):
        assert_same_bits(got, np.array([naive.bipolar_quant(v, 0.3) for v in x]))


@pytest.mark.parametrize("mode", few(MODES, 2))
def test_trunc_of_both_versions_is_its_definition(mode: str) -> None:
    """Version 1 keeps scale and range, version 2 clamps to its own scale, with zero points that need not stay whole."""
    for wide, bits, zero_point in product((8, 10), (3, 5, 8), (0, 4, 3)):
        scale = np.float32(0.5)
        x = (np.arange(-(2 ** (wide - 1)), 2 ** (wide - 1)) * scale).astype(np.float32)
        graph = QonnxGraph()
        output = graph.trunc(graph.add_input("x", x.size), scale, zero_point, wide, bits, mode)
        expected = np.array([naive.trunc_1(v, scale, zero_point, wide, bits, mode) for v in x])
        for got in run_reference(graph, output, x):
            assert_same_bits(got, expected)
        out_scale = np.float32(scale * 2.0 ** (wide - bits) * 1.1)
        for signed, narrow in product((0, 1), (0, 1)):
            graph = QonnxGraph()
            parameters = [graph.constant(v) for v in (scale, zero_point, wide, out_scale, bits)]
            flags = {"signed": signed, "narrow": narrow, "rounding_mode": mode}
            x_name = graph.add_input("x", x.size)
            output = graph.node("Trunc", x_name, *parameters, domain=graph.domain, **flags)
            expected = np.array([naive.trunc_2(v, scale, zero_point, out_scale, bits, signed, narrow, mode) for v in x])
            for got in run_reference(graph, output, x):
                assert_same_bits(got, expected)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("narrow", [0, 1])
def test_quant_without_zero_point_is_quantise_clip_dequantise(bits: int, signed: int, narrow: int) -> None:
    """ROUND with zero point 0 equals QuantizeLinear, Clip on integers, DequantizeLinear in plain onnxruntime."""
    import onnxruntime
    from onnx import helper, numpy_helper

    scale = np.float32(0.3)
    x = values_around(scale)
    graph = QonnxGraph()
    output = graph.quant(graph.add_input("x", x.size), scale, 0, bits, signed, narrow)
    low, high = naive.code_bounds(bits, signed, narrow)
    dtype = np.int8 if signed else np.uint8
    constants = {"s": scale, "z": dtype(0), "low": dtype(low), "high": dtype(high)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("Clip", ["q", "low", "high"], ["c"]),
        helper.make_node("DequantizeLinear", ["c", "s", "z"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, 1, [x.size]) for name in ("x", "y")]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "qcdq", ends[:1], ends[1:], tensors),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": x})[0]
    for got in run_reference(graph, output, x):
        assert_same_bits(got, expected)


def test_threshold_kernel_counts() -> None:
    """The binary search gives what counting one threshold after the other gives, repeated thresholds included."""
    rng = np.random.default_rng(1)
    for levels in (0, 1, 2, 3, 7, 15, 255):
        thresholds = np.sort(rng.integers(-50, 50, (6, levels)), axis=1).astype(np.int64)
        thresholds[2, levels // 2 :] = UNREACHED
        first, step = rng.integers(-8, 8, 6).astype(np.int32), rng.choice([-2, -1, 1, 2], 6).astype(np.int32)
        acc = rng.integers(-60, 60, (6, 40)).astype(rng.choice([np.int32, np.int64]))
        out = np.empty(acc.shape, np.int16)
        threshold_rows(acc, thresholds, first, step, out)
        assert np.array_equal(out, naive.threshold_rows(acc, thresholds, first, step))


def test_decoding_finds_codes_and_says_what_is_none() -> None:
    """Encoding is the inverse of decoding; a value between two codes becomes a code that the dtype does not have."""
    decoding = Decoding("t", np.float32(0.3), np.float32(3), np.dtype(np.int8))
    codes = np.arange(-128, 128)
    values = (codes.astype(np.float32) - np.float32(3)) * np.float32(0.3)
    assert np.array_equal(decoding.encode(values), codes)
    assert decoding.encode(np.float32([0.31, np.nan, np.inf, -0.0])).tolist() == [128, 128, 128, 3]


def test_sums_called_exact_are_exact_in_any_order() -> None:
    """Where the proof holds, float32 sums of products equal the integer sum in every order tried."""
    rng = np.random.default_rng(2)
    proved = 0
    for _ in range(200):
        scales = np.float32(rng.choice([1.0, 0.5, 0.75, 1.25, 0.3, 3.0], 2))
        depth, bits = int(rng.integers(1, 400)), int(rng.integers(1, 9))
        x, w = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) + 1, (2, depth))
        reach = np.array([np.abs(w).sum() * 2 ** (bits - 1)])
        unit = np.float64(scales[0]) * np.float64(scales[1])
        if not sums_are_exact(reach, (scales[:1], scales[1:]), np.array([unit])):
            continue
        proved += 1
        terms = (x.astype(np.float32) * scales[0]) * (w.astype(np.float32) * scales[1])
        for _ in range(5):
            total = np.float32(0)
            for term in rng.permutation(terms):
                total = np.float32(total + term)
            assert float(total) == float((x * w).sum()) * unit
    assert 50 < proved < 200


def test_odd_part_of_scales() -> None:
    """Powers of two have the odd part 1, whatever their exponent."""
    assert odd_part(np.float32([1, 0.125, 2.0**-60, 0.75, 6, 2**-126])).tolist() == [1, 1, 1, 3, 3, 1]
