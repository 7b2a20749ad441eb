"""Grids: worked examples, and onnxruntime's own quantisers on the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from accelsim.quantise.grid import CodeSpec, Grid, clipped, dequantise, fit, quantise
from accelsim.reference.session import open_session

UINT8 = CodeSpec(8, signed=False, symmetric=False, narrow=False)
INT8 = CodeSpec(8, signed=True, symmetric=True, narrow=True)


def grid(low: float, high: float, spec: CodeSpec) -> Grid:
    scale, zero_point = fit(np.asarray([low]), np.asarray([high]), spec)
    return Grid(spec, scale.reshape(()), zero_point.reshape(()))


@pytest.mark.parametrize(
    ("low", "high", "scale", "zero_point"),
    [(-1, 3, 4 / 255, 64), (0, 2, 2 / 255, 0), (-0.5, 1.5, 2 / 255, 64)],
)
def test_affine_ranges_in_uint8(low: float, high: float, scale: float, zero_point: int) -> None:
    """Textbook ranges give the scale and zero point that one gets by hand."""
    found = grid(low, high, UINT8)
    assert float(found.scales) == pytest.approx(scale)
    assert int(found.zero_points) == zero_point


def test_a_value_by_hand() -> None:
    """1.5 in [-1, 3] is code 160, which stands for 1.5059."""
    found = grid(-1, 3, UINT8)
    code = quantise(np.asarray([1.5], np.float32), found)
    assert code[0] == 160
    assert float(dequantise(code, found)[0]) == pytest.approx(1.5059, abs=5e-5)


@pytest.mark.parametrize(("narrow", "steps", "lowest"), [(True, 127, -127), (False, 127.5, -128)])
def test_symmetric_int8_steps_are_the_range_over_127_or_127_and_a_half(narrow: bool, steps: float, lowest: int) -> None:
    """[-1, 1] in int8: a / 127 without the lowest code, a / 127.5 with it; zero is exact."""
    found = grid(-1, 1, CodeSpec(8, signed=True, symmetric=True, narrow=narrow))
    assert float(found.scales) == pytest.approx(1 / steps)
    assert quantise(np.asarray([-5, 0, 5], np.float32), found).tolist() == [lowest, 0, 127]


@pytest.mark.parametrize(("bits", "narrow", "codes"), [(4, True, 15), (4, False, 16), (2, True, 3), (2, False, 4)])
def test_few_bits_have_the_codes_of_their_width(bits: int, narrow: bool, codes: int) -> None:
    """Four bits have 15 or 16 codes, two bits 3 (ternary) or 4."""
    found = grid(-1, 1, CodeSpec(bits, signed=True, symmetric=True, narrow=narrow))
    assert len(np.unique(quantise(np.linspace(-2, 2, 4001, dtype=np.float32), found))) == codes


def test_zero_always_has_a_code() -> None:
    """A range beside 0 is widened to it, since padding has to be exact."""
    found = grid(1, 3, UINT8)
    assert int(found.zero_points) == 0
    assert float(found.scales) == pytest.approx(3 / 255)


def test_an_empty_range_takes_its_neighbours_scale() -> None:
    """A channel of zeros must not get a scale that makes its bias coarse or huge."""
    scales, _ = fit(np.asarray([-1.0, 0.0]), np.asarray([1.0, 0.0]), INT8)
    assert scales.tolist() == [scales[0], scales[0]]
    alone, _ = fit(np.asarray([0.0]), np.asarray([0.0]), INT8)
    assert alone.tolist() == [1.0]


def test_effective_bits_count_scales_and_zero_points() -> None:
    """Blocks of 32 four-bit weights with a float32 scale have 5 bits each, with a zero point 5.125."""
    scales, zeros = np.ones((4, 2), np.float32), np.zeros((4, 2), np.int64)
    symmetric = Grid(CodeSpec(4, signed=True, symmetric=True, narrow=True), scales, zeros, 1, 32)
    affine = Grid(CodeSpec(4, signed=True, symmetric=False, narrow=False), scales, zeros, 1, 32)
    assert symmetric.effective_bits(4 * 64) == 5
    assert affine.effective_bits(4 * 64) == 5.125


@given(
    st.floats(-100, 0, width=32), st.floats(0, 100, width=32), st.sampled_from([(8, True), (8, False), (16, True)]),
    st.booleans(), st.integers(0, 2**32 - 1),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_codes_are_those_of_onnxruntime(
    low: float, high: float, kind: tuple[int, bool], symmetric: bool, seed: int
) -> None:
    """QuantizeLinear and DequantizeLinear of onnxruntime give the same codes and values."""
    bits, signed = kind
    found = grid(low, high, CodeSpec(bits, signed=signed, symmetric=symmetric, narrow=False))
    values = np.random.default_rng(seed).uniform(low * 1.3 - 1, high * 1.3 + 1, 200).astype(np.float32)
    codes, restored = _onnxruntime(values, found)
    assert np.array_equal(quantise(values, found), codes)
    assert np.array_equal(dequantise(quantise(values, found), found), restored)


def _onnxruntime(values: NDArray[np.float32], found: Grid) -> list[NDArray[np.generic]]:
    spec = found.spec
    kind = {(8, True): TensorProto.INT8, (8, False): TensorProto.UINT8, (16, True): TensorProto.INT16}[
        spec.bits, spec.signed
    ]
    constants = [
        numpy_helper.from_array(found.scales, "s"), helper.make_tensor("z", kind, [], [int(found.zero_points)])
    ]  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, [len(values)])],
        [helper.make_tensor_value_info("q", kind, None), helper.make_tensor_value_info("y", 1, None)], constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return list(open_session(model.SerializeToString()).run(None, {"x": values}))


def test_clipped_means_that_the_nearest_step_has_no_code() -> None:
    """Half a step beyond the last code is rounded to it; more is clipped."""
    found = grid(0, 255, UINT8)
    values = np.asarray([-0.4, -0.6, 255.4, 255.6, 100], np.float32)
    assert clipped(values, found).tolist() == [False, True, False, True, False]
