"""Accumulators of every width against a replay with Python integers: values, overflow events, extremes, safe widths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

from accelsim.kernels.values.accumulate import accumulate_narrow
from accelsim.operators import (
    CodeFormat,
    Convolution,
    Epilogue,
    MatrixMultiply,
    Raw,
    Requantise,
    Rescale,
    Weights,
)
from accelsim.operators.geometry import ConvolutionGeometry
from accelsim.values.accumulators import AccumulatorFormat, AccumulatorUse
from accelsim.values.contraction import accumulate, convolve, multiply
from tests.operators.drawn import (
    INT32,
    MODES,
    Int16s,
    draw_accumulator,
    draw_code,
    draw_codes,
    draw_convolution,
    draw_epilogue,
    draw_operands,
    draw_weights,
)
from tests.oracles import naive

WIDTHS = range(8, 65)
CASES_PER_WIDTH = 25
CONTRACTIONS = 150

Int64s = NDArray[np.int64]


@dataclass(frozen=True)
class Case:
    """One product in bias-initialised accumulators."""

    stationary: Int16s
    streamed: Int16s
    start: Int64s
    bits: int
    overflow: str


def check(case: Case, *, fits_int32: bool = False) -> naive.Accumulation:
    """Assert that `accumulate` equals the replay in everything it reports."""
    accumulator = AccumulatorFormat(case.bits, case.overflow)
    values, use = accumulate(case.stationary, case.streamed, case.start, accumulator, fits_int32=fits_int32)
    expected, record = naive.accumulate(case.stationary, case.streamed, case.start, case.bits, case.overflow)
    assert values.tolist() == expected.tolist(), case
    assert_same_use(use, record, case.bits)
    return record


def assert_same_use(use: AccumulatorUse, record: naive.Accumulation, bits: int) -> None:
    """Assert that the reported use of accumulators is the replayed one."""
    assert (use.lowest, use.highest) == (record.lowest, record.highest)
    assert use.overflows == record.overflows
    assert (use.peak, use.min_safe_bits) == (record.peak, record.safe_bits)
    assert use.bits == bits


# ---- the accumulators alone


def draw_start(rng: np.random.Generator, shape: tuple[int, ...], bits: int) -> Int64s:
    """Draw biases: none, the ends of int32, the ends of the accumulator, or far beyond them."""
    half = 2 ** (min(bits, 63) - 1)
    choice = rng.integers(5)
    if choice == 0:
        return np.zeros(shape, np.int64)
    if choice == 1:
        return rng.choice([*INT32, 0], shape).astype(np.int64)
    if choice == 2:
        return rng.integers(*INT32, shape, endpoint=True)
    near = rng.choice([-half, half - 1], shape).astype(np.int64)
    reach = 70_000 if choice == 3 else min(half, 2**40)
    return near + rng.integers(-reach, reach, shape, endpoint=True)


def draw_case(rng: np.random.Generator, bits: int, overflow: str) -> Case:
    """Draw a product of up to 4 rows, 24 terms and 4 lanes."""
    rows, depth, lanes = (int(size) for size in rng.integers(1, (5, 25, 5)))
    stationary, streamed = draw_operands(rng, (rows, depth)), draw_operands(rng, (depth, lanes))
    return Case(stationary, streamed, draw_start(rng, (rows, lanes), bits), bits, overflow)


@pytest.mark.parametrize("overflow", MODES)
def test_accumulate_equals_the_replay(overflow: str) -> None:
    """Drawn products at every width from 8 to 64: values, events, extremes and safe width equal the replay.

    Wherever the replay shows that int32 holds all exact sums, the int32 route is taken as well.
    """
    rng = np.random.default_rng(20_001)
    cases = overflowing = narrowed = 0
    for bits in WIDTHS:
        for _ in range(CASES_PER_WIDTH):
            case = draw_case(rng, bits, overflow)
            record = check(case)
            if record.safe_bits <= 32:
                check(case, fits_int32=True)
                narrowed += 1
            overflowing += record.overflows > 0
            cases += 1
    print(f"{overflow}: {cases} cases, {overflowing} with overflow, {narrowed} again in int32")
    assert cases == CASES_PER_WIDTH * len(WIDTHS)
    assert cases // 4 < overflowing < cases


operands = st.sampled_from([-255, -128, -1, 0, 1, 127, 255]) | st.integers(-255, 255)


@st.composite
def accumulations(draw: st.DrawFn) -> Case:
    """Small products whose every number can be shrunk."""
    bits, overflow = draw(st.integers(8, 64)), draw(st.sampled_from(MODES))
    rows, depth, lanes = draw(st.integers(1, 2)), draw(st.integers(1, 5)), draw(st.integers(1, 2))
    half = 2 ** (min(bits, 62) - 1)
    bias = st.sampled_from([0, *INT32, half, half - 1, -half, -half - 1]) | st.integers(-2 * half, 2 * half)
    stationary = draw(st.lists(operands, min_size=rows * depth, max_size=rows * depth))
    streamed = draw(st.lists(operands, min_size=depth * lanes, max_size=depth * lanes))
    start = draw(st.lists(bias, min_size=rows * lanes, max_size=rows * lanes))
    return Case(
        np.array(stationary, np.int16).reshape(rows, depth),
        np.array(streamed, np.int16).reshape(depth, lanes),
        np.array(start, np.int64).reshape(rows, lanes),
        bits,
        overflow,
    )


@settings(max_examples=600, deadline=None, derandomize=True)
@given(accumulations())
def test_accumulate_equals_the_replay_for_searched_cases(case: Case) -> None:
    """A search by Hypothesis finds no product whose report differs from the replay."""
    check(case)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(accumulations())
def test_min_safe_bits_is_safe_and_minimal(case: Case) -> None:
    """At the reported safe width nothing is narrowed, whatever the mode; one bit less changes at least one value."""
    *_, use = accumulate(case.stationary, case.streamed, case.start, AccumulatorFormat(64, case.overflow))
    exact, _ = naive.accumulate(case.stationary, case.streamed, case.start, 100, case.overflow)
    for bits, safe in ((use.min_safe_bits, True), (use.min_safe_bits - 1, False)):
        if not 1 < bits < 64:
            continue
        acc = case.start.copy()
        events = accumulate_narrow(case.stationary, case.streamed, acc, bits, case.overflow == "saturate")
        assert (events == 0) == safe
        assert not safe or acc.tolist() == exact.tolist()


def one(start: int, products: list[int], bits: int, overflow: str) -> tuple[int, AccumulatorUse]:
    """Accumulate products of at most 9 bits, times one, in a single accumulator; returns value and use."""
    weights = np.ones((1, len(products)), np.int16)
    streamed = np.array(products, np.int16).reshape(-1, 1)
    case = Case(weights, streamed, np.array([[start]], np.int64), bits, overflow)
    check(case)
    values, use = accumulate(weights, streamed, case.start, AccumulatorFormat(bits, overflow))
    return int(values[0, 0]), use


@pytest.mark.parametrize("overflow", MODES)
@pytest.mark.parametrize("bits", [8, 9, 12, 16, 20, 24, 31, 32, 33, 40, 48, 63])
def test_the_last_value_fits_and_the_next_one_does_not(bits: int, overflow: str) -> None:
    """A peak of exactly 2^(n-1) - 1 or -2^(n-1) is no overflow; one more on either side is exactly one."""
    top, bottom = 2 ** (bits - 1) - 1, -(2 ** (bits - 1))
    assert one(top - 100, [100], bits, overflow)[0] == top
    assert one(bottom + 100, [-100], bits, overflow)[0] == bottom
    for start, step, fits in ((top, 0, True), (top, 1, False), (bottom, 0, True), (bottom, -1, False)):
        value, use = one(start, [step], bits, overflow)
        assert use.overflows == (not fits)
        assert use.min_safe_bits == bits + (not fits)
        if fits:
            assert value == start
        else:
            other_end = bottom if start == top else top
            assert value == (start if overflow == "saturate" else other_end)


def test_saturation_depends_on_the_order() -> None:
    """100 + 100 - 100 saturates on the way in 8 bits and ends at 27; 100 - 100 + 100 stays exact."""
    value, use = one(0, [100, 100, -100], 8, "saturate")
    assert (value, use.overflows, use.peak) == (27, 1, 200)
    value, use = one(0, [100, -100, 100], 8, "saturate")
    assert (value, use.overflows, use.peak) == (100, 0, 100)


def test_wrapping_comes_back_but_is_counted() -> None:
    """A sum that leaves the range and returns has the exact value, and two events."""
    value, use = one(0, [100, 100, -100], 8, "wrap")
    assert (value, use.overflows, use.min_safe_bits) == (100, 2, 9)


@pytest.mark.parametrize(("overflow", "value"), [("wrap", 0), ("saturate", -(2**15))])
def test_a_bias_beyond_the_width_is_narrowed_at_load(overflow: str, value: int) -> None:
    """The most negative int32 bias enters a 16-bit accumulator narrowed, which counts once."""
    got, use = one(INT32[0], [0, 0], 16, overflow)
    assert (got, use.overflows, use.lowest, use.min_safe_bits) == (value, 1, INT32[0], 32)


@pytest.mark.parametrize(("overflow", "value"), [("wrap", 2**31 - 1), ("saturate", -(2**31))])
def test_the_lowest_bias_minus_one(overflow: str, value: int) -> None:
    """INT_MIN - 1 in 32 bits wraps to INT_MAX or stays at INT_MIN; one bit more would have been enough."""
    got, use = one(INT32[0], [-1], 32, overflow)
    assert (got, use.overflows, use.min_safe_bits) == (value, 1, 33)


@pytest.mark.parametrize(("overflow", "value"), [("wrap", 1), ("saturate", 127)])
def test_an_accumulator_narrower_than_a_product(overflow: str, value: int) -> None:
    """255 * 255 = 65025 in 8 bits: the sum is formed exactly and narrowed once."""
    operand = np.full((1, 1), 255, np.int16)
    acc, use = accumulate(operand, operand, np.zeros((1, 1), np.int64), AccumulatorFormat(8, overflow))
    assert (acc.item(), use.overflows, use.peak, use.min_safe_bits) == (value, 1, 65025, 17)


def test_the_bias_counts_as_a_partial_sum() -> None:
    """A large bias that the first products cancel decides the peak."""
    _, use = one(-1000, [255, 255, 255, 235], 32, "wrap")
    assert (use.lowest, use.highest, use.peak, use.min_safe_bits) == (-1000, 0, 1000, 11)


# ---- whole convolutions and matrix products


def finished(total: int, column: int, epilogue: Epilogue) -> int | float:
    """Apply an epilogue to one accumulator with the naive arithmetic."""
    if isinstance(epilogue, Requantise):
        multiplier = epilogue.multiplier[column % epilogue.multiplier.size]
        return naive.requantise(total, multiplier, twin_code(epilogue.output))
    if isinstance(epilogue, Rescale):
        scaled = naive.times(naive.float32(total), epilogue.scale[column % epilogue.scale.size])
        return float(scaled if epilogue.bias is None else naive.plus(scaled, epilogue.bias[column]))
    return naive.narrow(total, 32, "wrap")


def twin_code(code: CodeFormat) -> naive.Code:
    """Return the naive description of a code."""
    return naive.Code(code.dtype.name, code.zero_point)


def twin_accumulator(accumulator: AccumulatorFormat) -> naive.Accumulator:
    """Return the naive description of an accumulator."""
    return naive.Accumulator(accumulator.bits, accumulator.overflow, accumulator.zp_mode)


def test_convolutions_equal_direct_convolution() -> None:
    """Convolutions of all shapes in narrow accumulators, fold and subtract, equal the direct loop over integers.

    Outputs of all three epilogues, overflow events, extremes and safe widths are compared.
    """
    rng = np.random.default_rng(20_002)
    overflowing = 0
    for case in range(CONTRACTIONS):
        (operator, shape, window), accumulator = draw_convolution(rng), draw_accumulator(rng)
        codes, twin = draw_codes(rng, operator.input, shape), twin_accumulator(accumulator)
        planes = codes.reshape(*shape[:2], -1 if len(shape) == 4 else 1, shape[-1])
        kernels = operator.weights.values.reshape(-1, shape[1] // operator.groups, *window.kernel)
        zero_point, bias = operator.input.zero_point, operator.weights.bias
        expected, record = naive.convolve(planes, zero_point, kernels, bias, window, operator.groups, twin)
        out_shape = (*expected.shape[:2], *expected.shape[4 - len(shape) + 2 :])
        outputs, use = convolve(codes, operator, out_shape, accumulator)
        wanted = [finished(expected[i], i[1], operator.epilogue) for i in np.ndindex(*expected.shape)]
        assert outputs.shape == out_shape, case
        assert outputs.reshape(-1).tolist() == wanted, case
        assert_same_use(use, record, accumulator.bits)
        overflowing += use.overflows > 0
    print(f"{CONTRACTIONS} convolutions, {overflowing} with overflow")
    assert overflowing > CONTRACTIONS // 4


def test_products_with_constant_weights_equal_the_replay() -> None:
    """Matrix products, few and many rows, first operand transposed or not, equal the replay in everything."""
    rng = np.random.default_rng(20_003)
    overflowing = 0
    for case in range(CONTRACTIONS):
        depth, columns = (int(size) for size in rng.integers(1, (25, 8)))
        rows = [(int(rng.integers(1, 24)),), (2, int(rng.integers(1, 12))), (3, 2, 4)][int(rng.integers(3))]
        weights, accumulator = draw_weights(rng, columns, depth), draw_accumulator(rng)
        turned = bool(rng.integers(2))
        operator = MatrixMultiply(draw_code(rng), weights, None, draw_epilogue(rng, columns), turned)
        codes = draw_codes(rng, operator.input, (*rows, depth))
        expected, record = naive.multiply(
            codes, operator.input.zero_point, weights.values, weights.bias, twin_accumulator(accumulator)
        )
        first = np.ascontiguousarray(codes.swapaxes(-1, -2)) if turned else codes
        outputs, use = multiply(first, None, operator, (*rows, columns), accumulator)
        wanted = [finished(expected[i], i[-1], operator.epilogue) for i in np.ndindex(*expected.shape)]
        assert outputs.reshape(-1).tolist() == wanted, case
        assert_same_use(use, record, accumulator.bits)
        overflowing += use.overflows > 0
    print(f"{CONTRACTIONS} products, {overflowing} with overflow")
    assert overflowing > CONTRACTIONS // 4


LEADING = [((), ()), ((2,), (2,)), ((2,), ()), ((), (3,)), ((2, 1), (3,)), ((1, 3), (2, 1))]


def test_products_of_activations_equal_the_replay() -> None:
    """Products of two computed operands with broadcasting equal the replay, in both treatments of zero points."""
    rng = np.random.default_rng(20_004)
    overflowing = 0
    for case in range(CONTRACTIONS):
        rows, depth, columns = (int(size) for size in rng.integers(1, (6, 20, 6)))
        lead, other = LEADING[int(rng.integers(len(LEADING)))]
        first, second, accumulator = draw_code(rng), draw_code(rng), draw_accumulator(rng)
        operator = MatrixMultiply(first, None, second, draw_epilogue(rng, columns))
        left, right = draw_codes(rng, first, (*lead, rows, depth)), draw_codes(rng, second, (*other, depth, columns))
        twin = twin_accumulator(accumulator)
        expected, record = naive.multiply_activations(left, first.zero_point, right, second.zero_point, twin)
        outputs, use = multiply(left, right, operator, expected.shape, accumulator)
        wanted = [finished(expected[i], i[-1], operator.epilogue) for i in np.ndindex(*expected.shape)]
        assert outputs.reshape(-1).tolist() == wanted, case
        assert_same_use(use, record, accumulator.bits)
        overflowing += use.overflows > 0
    print(f"{CONTRACTIONS} products of activations, {overflowing} with overflow")
    assert overflowing > CONTRACTIONS // 4


def narrow_convolution(zp_mode: str, bits: int) -> tuple[list[int], AccumulatorUse]:
    """Convolve a 3x3 image of 200 (zero point 200) with four ones and padding in a saturating accumulator."""
    weights = Weights(np.ones((1, 4), np.int16), np.zeros(1, np.int32))
    geometry = ConvolutionGeometry((2, 2), pads=(1, 1, 0, 0))
    operator = Convolution(geometry, 1, weights, CodeFormat(np.dtype(np.uint8), 200), Raw())
    codes = np.full((1, 1, 3, 3), 200, np.uint8)
    outputs, use = convolve(codes, operator, (1, 1, 3, 3), AccumulatorFormat(bits, "saturate", zp_mode))
    return outputs.reshape(-1).tolist(), use


def test_fold_and_subtract_agree_without_overflow_and_differ_with_it() -> None:
    """All operands equal the zero point: exact sums are 0 in both modes, but folding starts at -800.

    In 10 bits the folded bias saturates at -512, after which 4 * 200 gives 288; subtracting never leaves 0.
    """
    for bits in (11, 32):
        assert narrow_convolution("fold", bits)[0] == narrow_convolution("subtract", bits)[0] == [0] * 9
    folded, use = narrow_convolution("fold", 10)
    assert folded == [288] * 9
    assert (use.overflows, use.lowest, use.highest, use.min_safe_bits) == (9, -800, 0, 11)
    subtracted, use = narrow_convolution("subtract", 10)
    assert subtracted == [0] * 9
    assert (use.overflows, use.peak, use.min_safe_bits) == (0, 0, 1)
