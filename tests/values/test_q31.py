"""The integer requantiser against a replay in Python integers: primitives, multipliers, rows, additions, products."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray

from accelsim import operators
from accelsim.kernels import numerics
from accelsim.operators import fixed_point
from accelsim.operators.tensors import TensorType
from accelsim.values.accumulators import AccumulatorFormat
from accelsim.values.epilogue import apply_epilogue
from accelsim.values.execute import execute
from tests.oracles import fixed_point as exact
from tests.strategies import Draw, bounds
from tests.tiers import drawn, few

INT32 = st.one_of(
    st.integers(exact.LOWEST, exact.HIGHEST),
    st.builds(
        lambda e, s, d: exact.saturate(s * 2**e + d), st.integers(0, 31), st.sampled_from((1, -1)), st.integers(-3, 3)
    ),
)
EDGES = sorted({exact.saturate(sign * 2**e + d) for e in range(32) for sign in (1, -1) for d in (-1, 0, 1)})


def test_the_only_saturating_product_is_the_square_of_the_lowest() -> None:
    """-2^31 * -2^31 gives 2^31 - 1; its neighbours do not saturate."""
    assert numerics.doubling_high_multiply(exact.LOWEST, exact.LOWEST) == exact.HIGHEST
    assert numerics.doubling_high_multiply(exact.LOWEST, exact.HIGHEST) == -exact.HIGHEST
    assert numerics.doubling_high_multiply(exact.LOWEST, exact.LOWEST + 1) == exact.HIGHEST


def test_ties_of_the_high_product_go_up_and_ties_of_the_shift_away_from_zero() -> None:
    """The two roundings differ for negative ties: -1/2 becomes 0 in the product and -1 in the shift."""
    assert numerics.doubling_high_multiply(1, 2**30) == 1
    assert numerics.doubling_high_multiply(-1, 2**30) == 0
    assert numerics.doubling_high_multiply(-3, 2**30) == -1
    assert [numerics.rounding_shift_right(value, 1) for value in (-3, -1, 1, 3)] == [-2, -1, 1, 2]
    assert [numerics.rounding_shift_right(value, 2) for value in (-6, -2, 2, 6)] == [-2, -1, 1, 2]


def test_primitives_on_a_grid_of_edges() -> None:
    """All pairs of numbers beside powers of two, and every shift of each of them."""
    for a in EDGES:
        for b in EDGES:
            assert numerics.doubling_high_multiply(a, b) == exact.high_multiply(a, b), (a, b)
        for exponent in range(32):
            assert numerics.rounding_shift_right(a, exponent) == exact.divide_by_power(a, exponent), (a, exponent)


@drawn(80, 400, INT32, INT32, st.integers(0, 31))
def test_primitives_on_any_numbers(a: int, b: int, exponent: int) -> None:
    """High product and rounding shift equal exact quotients, rounded."""
    assert numerics.doubling_high_multiply(a, b) == exact.high_multiply(a, b)
    assert numerics.rounding_shift_right(a, exponent) == exact.divide_by_power(a, exponent)


@drawn(80, 400, st.integers(-(2**63), 2**63 - 1), st.integers(2**30, 2**31 - 1), st.integers(-31, 31))
def test_accumulators_saturate_to_int32_before_they_are_scaled(value: int, mantissa: int, shift: int) -> None:
    """64-bit accumulators saturate to int32 where they enter; left shifts saturate, right shifts round."""
    assert numerics.scale_fixed(np.int64(value), mantissa, shift) == exact.scale(value, mantissa, shift)
    assert numerics.scale_fixed(np.int64(value), -mantissa, shift) == exact.scale(value, -mantissa, shift)
    assert numerics.scale_fixed(np.int64(value), 0, shift) == 0


# ---- multipliers

SPECIAL = [
    0.0,
    1e-11,
    2.0**-33,
    2.0**-32,
    np.nextafter(2.0**-32, 0),
    0.5,
    1 - 2.0**-40,
    1.0,
    1.5,
    2.0**31,
    2.0**30,
    1e12,
    np.inf,
]


@pytest.mark.parametrize("real", SPECIAL)
def test_special_multipliers_equal_big_integers(real: float) -> None:
    """Zero, tiny ones, powers of two, those that round up to the next power, and what is too large for any code."""
    fixed = fixed_point.fixed_multiplier(real)
    assert (int(fixed.mantissa[0]), int(fixed.shift[0])) == exact.multiplier(real)


def test_a_multiplier_below_the_smallest_shift_is_zero() -> None:
    """Below 2^-32 no int32 reaches one half: 0, as in TFLite."""
    fixed = fixed_point.fixed_multiplier([1e-11, 2.0**-33, 2.0**-32])
    assert fixed.mantissa.tolist() == [0, 0, 2**30]
    assert fixed.shift.tolist() == [0, 0, -31]


@drawn(80, 400, st.floats(1e-11, 2.0**31, width=64), st.floats(np.float32(1e-9), 2.0**31, width=32))
def test_any_multiplier_is_rounded_to_31_bits(wide: float, single: float) -> None:
    """float64 multipliers are rounded to 31 bits, float32 ones are represented exactly."""
    fixed = fixed_point.fixed_multiplier([wide, single])
    for index, real in enumerate((wide, single)):
        assert (int(fixed.mantissa[index]), int(fixed.shift[index])) == exact.multiplier(real)
    represented = Fraction(int(fixed.mantissa[1]), 2**31) * Fraction(2) ** int(fixed.shift[1])
    assert represented == (Fraction(single) if single < 2.0**31 else Fraction(exact.HIGHEST))


# ---- rows of accumulators


def ties(real: float, code: operators.CodeFormat, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return accumulators around every rounding tie of a multiplier, the ends of int32, and random ones."""
    steps = np.arange(code.lowest - code.zero_point - 2, code.highest - code.zero_point + 2) + 0.5
    centres = np.rint(steps / real) if 0 < real < np.inf else np.zeros(1)
    window = (centres[:, None] + np.arange(-2, 3)).reshape(-1)
    near = window[np.abs(window) < 2**31]
    spread = rng.integers(-(2**31), 2**31, 64) >> rng.integers(0, 31, 64)
    return np.unique(np.concatenate([near, spread, [exact.LOWEST, exact.HIGHEST, 0, 1, -1]])).astype(np.int64)


@pytest.mark.parametrize("index", few(range(60), 20))
def test_rows_around_every_tie(index: int) -> None:
    """One multiplier from 1e-11 to 2^31, three of four beside a power of two: every code around every tie."""
    rng = np.random.default_rng([70_001, index])
    exponent = float(rng.uniform(-36.5, 31)) if index % 4 == 3 else float(index - 34)
    real = float(Draw((70_002, index), ties=True).beside(2.0**exponent))
    dtype = np.dtype(("uint8", "int8", "int16", "uint16")[index % 4 if index % 5 else 2])
    lowest, highest = bounds(dtype)
    code = operators.CodeFormat(dtype, int(rng.integers(lowest, highest + 1)))
    totals = ties(real, code, rng)[:4000]
    epilogue = operators.Requantise(np.array([real], np.float32), code)
    operator = fixed_point.machine_operator(operators.MatrixMultiply(code, None, code, epilogue), "q31")
    assert isinstance(operator, operators.MatrixMultiply)
    expected = [exact.requantise(int(total), real, code.zero_point, (lowest, highest)) for total in totals]
    for kind in (np.int32, np.int64):
        assert apply_epilogue(totals.astype(kind)[None], operator.epilogue)[0].tolist() == expected


def test_rows_have_their_own_multipliers_and_wide_sums_saturate() -> None:
    """Accumulators of up to 63 bits, one multiplier per row, and bounds narrower than the code."""
    rng = np.random.default_rng(70_003)
    acc = rng.integers(-(2**62), 2**62, (40, 50)) >> rng.integers(0, 62, (40, 50))
    reals = np.array([2.0**-e * 1.37 for e in range(-4, 36)], np.float32)
    code = operators.CodeFormat(np.dtype(np.int8), -7)
    epilogue = fixed_point.FixedRequantise(reals, code, -100, 90, fixed=fixed_point.fixed_multiplier(reals))
    expected = [
        [exact.requantise(int(t), float(r), -7, (-100, 90)) for t in row] for row, r in zip(acc, reals, strict=True)
    ]
    assert apply_epilogue(acc, epilogue).tolist() == expected


def test_each_code_is_within_one_step_of_the_exact_product() -> None:
    """Two roundings never move a result by more than one step from the exactly rounded one."""
    rng = np.random.default_rng(70_004)
    for real in np.exp2(rng.uniform(-20, 1, 200)):
        mantissa, shift = exact.multiplier(float(np.float32(real)))
        for value in rng.integers(-(2**24), 2**24, 20):
            distance = abs(exact.scale(int(value), mantissa, shift) - Fraction(float(np.float32(real))) * int(value))
            assert distance <= Fraction(1, 2) + Fraction(1, 2) * Fraction(2) ** min(shift, 0)


# ---- element by element


def formats(index: int) -> tuple[Draw, list[operators.CodeFormat]]:
    """Draw three formats of one dtype."""
    draw = Draw((70_005, index), ties=index % 2 == 0)
    dtype = np.dtype(("uint8", "int8")[index % 2])
    return draw, [operators.CodeFormat(dtype, draw.zero_point(dtype)) for _ in range(3)]


def run(operator: Any, arrays: list[NDArray[Any]], target: TensorType) -> NDArray[Any]:
    """Execute the integer form of an operator."""
    fixed = fixed_point.machine_operator(operator, "q31")
    assert type(fixed) is not type(operator)
    return execute(fixed, arrays, [target], AccumulatorFormat())[0][0]


def pairs(codes: list[operators.CodeFormat], index: int) -> list[NDArray[Any]]:
    """Return all 65,536 pairs of codes for a few sets of parameters, 600 drawn ones for the others."""
    low, high = codes[0].lowest, codes[0].highest
    if index < 2:
        first, second = np.meshgrid(np.arange(low, high + 1), np.arange(low, high + 1))
        return [first.reshape(-1).astype(codes[0].dtype), second.reshape(-1).astype(codes[0].dtype)]
    rng = np.random.default_rng([70_006, index])
    return [rng.integers(low, high + 1, 600).astype(codes[0].dtype) for _ in range(2)]


@pytest.mark.parametrize("index", few(range(24), range(2, 24)))
def test_addition_equals_three_scalings_in_exact_integers(index: int) -> None:
    """Additions of codes equal TFLite's three scalings in exact integers; ratios from 2^-12 to 2^12."""
    draw, codes = formats(index)
    ratios = [draw.beside(2.0 ** draw.integer(-12, 12) * (1 if draw.ties else 1.3)) for _ in range(2)]
    a, b = pairs(codes, index)
    operator = operators.ElementwiseAdd(codes[0], codes[1], *ratios, False, codes[2])
    got = run(operator, [a, b], TensorType.of(codes[2].dtype, a.shape))
    zeros, limits = [code.zero_point for code in codes], (codes[2].lowest, codes[2].highest)
    reals = [float(ratio) for ratio in ratios]
    assert got.tolist() == [exact.add((int(x), int(y)), zeros, reals, limits) for x, y in zip(a, b, strict=True)]


@pytest.mark.parametrize("index", few(range(24), range(2, 24)))
def test_multiplication_equals_one_scaling_of_the_exact_product(index: int) -> None:
    """Products of codes equal one scaling of the exact product."""
    draw, codes = formats(index)
    ratio = draw.beside(2.0 ** draw.integer(-18, 3))
    a, b = pairs(codes, index)
    got = run(
        operators.ElementwiseMultiply(codes[0], codes[1], ratio, codes[2]), [a, b], TensorType.of(a.dtype, a.shape)
    )
    zeros, limits = [code.zero_point for code in codes], (codes[2].lowest, codes[2].highest)
    assert got.tolist() == [
        exact.multiply((int(x), int(y)), zeros, float(ratio), limits) for x, y in zip(a, b, strict=True)
    ]


@pytest.mark.parametrize("index", range(12))
def test_global_average_equals_the_requantised_exact_sum(index: int) -> None:
    """Global averages equal the requantised exact sum."""
    draw, codes = formats(index)
    shape = (2, 5, draw.integer(1, 7), draw.integer(1, 7))
    image = draw.codes(shape, codes[0].dtype)
    multiplier = draw.beside(2.0 ** draw.integer(-8, 1))
    got = run(
        operators.GlobalAveragePool(codes[0], multiplier, codes[2]), [image], TensorType.of(image.dtype, (2, 5, 1, 1))
    )
    sums = (image.astype(int) - codes[0].zero_point).sum(axis=(2, 3)).reshape(-1)
    limits = (codes[2].lowest, codes[2].highest)
    expected = [exact.requantise(int(s), float(multiplier), codes[2].zero_point, limits) for s in sums]
    assert got.reshape(-1).tolist() == expected


# ---- which operators change


def test_only_what_scales_changes_and_it_can_be_undone() -> None:
    """In mode f32 nothing changes; in q31 requantisers, Add, Mul and global averages do, and it can be undone."""
    code, one = operators.CodeFormat(np.dtype(np.uint8), 3), np.float32(0.5)
    contraction = operators.MatrixMultiply(code, None, code, operators.Requantise(np.ones(1, np.float32), code, 5, 9))
    changing = [
        contraction,
        operators.ElementwiseAdd(code, code, one, one, True, code),
        operators.ElementwiseMultiply(code, code, one, code),
        operators.GlobalAveragePool(code, one, code),
    ]
    keeping = [
        operators.MatrixMultiply(code, None, code, operators.Raw()),
        operators.MatrixMultiply(code, None, code, operators.Rescale(np.ones(1, np.float32))),
        operators.Quantise(one, code),
        operators.View((1,)),
    ]
    for operator in (*changing, *keeping):
        assert fixed_point.machine_operator(operator, "f32") is operator
        assert fixed_point.float_twin(operator) is operator
    for operator in keeping:
        assert fixed_point.machine_operator(operator, "q31") is operator
    for operator in changing:
        fixed = fixed_point.machine_operator(operator, "q31")
        assert fixed_point.is_fixed(fixed)
        twin = fixed_point.float_twin(fixed)
        assert type(twin) is type(operator)
        assert not fixed_point.is_fixed(twin)
        if not isinstance(operator, operators.MatrixMultiply):
            assert twin == operator
    twin = fixed_point.float_twin(fixed_point.machine_operator(contraction, "q31"))
    assert isinstance(twin, operators.MatrixMultiply)
    assert isinstance(twin.epilogue, operators.Requantise)
    assert twin.epilogue.bounds == (5, 9)
