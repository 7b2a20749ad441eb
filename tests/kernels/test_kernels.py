"""Every kernel of the requantiser, the vector unit and the patch gatherer against its naive twin."""

from __future__ import annotations

import math
from typing import Any, get_args

import numba
import numpy as np
import pytest
from numpy.typing import NDArray

import accelsim
from accelsim import operators
from accelsim.graph.importers.contractions import output_scale
from accelsim.graph.importers.elementwise import softmax_table
from accelsim.graph.shapes import window_shape
from accelsim.kernels import numerics
from accelsim.kernels.values import accumulate, elementwise
from accelsim.operators.geometry import ConvolutionGeometry
from accelsim.operators.tensors import TensorType
from accelsim.values.accumulators import AccumulatorFormat
from accelsim.values.execute import execute
from tests.oracles import naive
from tests.strategies import Builder, Case, Draw, Quantisation, bounds
from tests.tiers import few

Array = NDArray[Any]

CODES = ("uint8", "int8")
PARAMETER_SETS = 56


@numba.njit
def fused_multiply_add(a: Any, b: Any, c: Any) -> Any:
    """Call the intrinsic from Python."""
    return numerics.fused_multiply_add(a, b, c)


def random_floats(rng: np.random.Generator, count: int) -> Array:
    """Draw float32 of all magnitudes, by their bits, without NaN and infinity."""
    values = rng.integers(0, 2**32, 2 * count, np.uint32).view(np.float32)
    return values[np.isfinite(values)][:count]


def twin(code: Quantisation) -> naive.Code:
    """Return the naive description of a code."""
    return naive.Code(code.dtype.name, int(code.zero_point))


# ---- the twins' own arithmetic


def test_exact_fractions_round_like_ieee_arithmetic() -> None:
    """The twins' float32 operations, made of fractions, equal numpy's on random bit patterns and on conversions."""
    rng = np.random.default_rng(40_000)
    first, second = random_floats(rng, 3000), random_floats(rng, 3000)
    with np.errstate(all="ignore"):
        pairs = (
            (naive.times, first * second),
            (naive.plus, first + second),
            (naive.divided, first / second),
        )
    for function, expected in pairs:
        got = [function(a, b) for a, b in zip(first, second, strict=True)]
        assert got == expected.tolist()
    totals = rng.integers(-(2**62), 2**62, 3000) >> rng.integers(0, 62, 3000)
    assert [naive.float32(int(total)) for total in totals] == totals.astype(np.float32).tolist()


# ---- scalar functions


def test_fused_multiply_add_rounds_once() -> None:
    """The fused multiply-add equals exact arithmetic, also where rounding the sum to float64 first would differ."""
    rng = np.random.default_rng(40_001)
    size = 4000
    a = rng.integers(-255, 256, size).astype(np.float32)
    b, c = random_floats(rng, 2 * size).reshape(2, size)
    half = size // 2
    b[:half] = (2.0 ** rng.uniform(-20, 10, half)).astype(np.float32)
    c[:half] = -(a[:half] * b[:half])  # cancellation leaves the error of the product
    traps = [
        (np.float32(1 + 2**-23), np.float32(1 + 2**-23), np.float32(2**30)),
        (np.float32(2**-60), np.float32(1), np.float32(1 + 2**-23)),
        (np.float32(3 * 2**-50), np.float32(2**-30), np.float32(1)),
    ]
    base = np.float32(1 + 2**-12)  # its square is a float64 tie after adding a term below half a unit
    traps += [(base, base, np.float32(sign * 2.0**exponent)) for sign in (1, -1) for exponent in range(-80, 30)]
    with np.errstate(over="ignore"):
        for x, y, z in [*zip(a, b, c, strict=True), *traps]:
            assert fused_multiply_add(x, y, z) == naive.fused_multiply_add(x, y, z), (x, y, z)


def test_fused_multiply_add_is_not_a_float64_sum() -> None:
    """97 * 172961 = 2^24 + 1 lies between two float32; adding 2^-40 decides upwards, which float64 would lose."""
    a, b, c = np.float32(97), np.float32(172_961), np.float32(2.0**-40)
    assert np.float32(float(a) * float(b) + float(c)) == 2**24
    assert fused_multiply_add(a, b, c) == naive.fused_multiply_add(a, b, c) == 2**24 + 2


@pytest.mark.parametrize("bits", [*range(8, 64)])
def test_wrap_and_clamp_narrow_like_integers(bits: int) -> None:
    """Wrap and clamp equal the twin at, around and far beyond both ends of every width."""
    rng = np.random.default_rng([40_002, bits])
    half = 2 ** (bits - 1)
    near = [end + step for end in (-half, half, 0) for step in range(-3, 4)]
    values = [*near, *rng.integers(-(2**62), 2**62, 50).tolist()]
    for value in values:
        if not -(2**63) + half <= value < 2**63 - half:
            continue
        assert numerics.wrap(np.int64(value), np.int64(-half), np.int64(2 * half - 1)) == naive.narrow(
            value, bits, "wrap"
        )
        assert numerics.clamp(np.int64(value), np.int64(-half), np.int64(half - 1)) == naive.narrow(
            value, bits, "saturate"
        )


EDGES = [2.0**31, np.nextafter(np.float32(2**31), np.float32(0)), 2.0**40, 3e38, np.inf, np.nan, 0.5, 1.5, 2.5, 254.5]


@pytest.mark.parametrize("dtype", CODES)
def test_rounding_goes_to_even_and_then_clamps(dtype: str) -> None:
    """Ties go to even; from 2^31 on, and for NaN, the answer is the lowest code; large negative values clamp."""
    code = naive.Code(dtype)
    ties = np.arange(-300, 300, 0.5, dtype=np.float32)
    edges = np.array([sign * value for value in EDGES for sign in (1, -1)], np.float32)
    for value in [*ties, *edges]:
        got = numerics.round_then_clamp(value, code.lowest, code.highest)
        assert got == naive.round_then_clamp(value, code), value
    for value in (2.0**31, 1e20, np.inf, np.nan, -np.inf, -1e20):
        assert numerics.round_then_clamp(np.float32(value), code.lowest, code.highest) == code.lowest
    below = np.nextafter(np.float32(2**31), np.float32(0))
    assert numerics.round_then_clamp(below, code.lowest, code.highest) == code.highest


# ---- requantisation


def tie_windows(multiplier: np.float32, code: naive.Code) -> Array:
    """Return all int32 accumulators within two of a rounding tie or of an end of the code's range.

    Beyond 2^24, where float32 skips integers, neighbours at half and whole float32 steps come in addition.
    """
    codes = np.arange(code.lowest - code.zero_point - 2, code.highest - code.zero_point + 2) + 0.5
    centres = np.rint(codes / float(multiplier))[:, None]
    offsets = np.arange(-2, 3)
    half_steps = np.maximum(np.spacing(np.abs(centres).astype(np.float32)) / 2, 1)
    windows = np.concatenate([centres + offsets, centres + offsets * half_steps, centres + 2 * offsets * half_steps])
    kept = windows[np.abs(windows) < 2**31]
    return np.unique(np.concatenate([kept, [-(2**31), 2**31 - 1, 0]])).astype(np.int64)


def requantisation_parameters(index: int) -> tuple[np.float32, np.float32, np.float32, naive.Code]:
    """Draw s_x, s_w, s_y and the output code; the multiplier goes from 2^-24 to 4, three of four sets beside 2^-n."""
    draw = Draw((40_003, index), ties=index % 4 != 3)
    code = naive.Code(CODES[index % 2], draw.zero_point(np.dtype(CODES[index % 2])))
    input_scale, weight_scale = draw.scale(), draw.scale(0.01)
    ratio = 2.0 ** (2 - index % 27) * (1 if draw.ties else float(draw.rng.uniform(0.5, 1)))
    return input_scale, weight_scale, draw.beside(float(input_scale) * float(weight_scale) / ratio), code


@pytest.mark.parametrize("index", few(range(PARAMETER_SETS), 20))
def test_requantisation_around_every_tie(index: int) -> None:
    """For one set of scales, every accumulator around each of the 256 rounding ties gives the twin's code.

    The multiplier itself, fl32(fl32(s_x * s_w) / s_y), is compared too; int32 and int64 accumulators give the same.
    """
    input_scale, weight_scale, out_scale, code = requantisation_parameters(index)
    multiplier = output_scale(input_scale, np.array([weight_scale]), out_scale)
    assert multiplier.tolist() == [naive.output_multiplier(input_scale, weight_scale, out_scale)]
    totals = tie_windows(multiplier[0], code)
    expected = [naive.requantise(int(total), multiplier[0], code) for total in totals]
    for dtype in (np.int32, np.int64):
        out = np.empty((1, totals.size), code.dtype)
        acc = totals.astype(dtype)[None]
        elementwise.requantise_rows(acc, multiplier, code.zero_point, code.lowest, code.highest, out)
        assert out[0].tolist() == expected
    if 2.0**-21 < multiplier[0] < 1:  # int32 reaches all codes, and each of them is hit
        assert sorted(set(expected)) == list(range(code.lowest, code.highest + 1))


def test_requantisation_of_wide_accumulators() -> None:
    """Accumulators up to 62 bits, one multiplier per row: a single rounding to float32, then the clamp."""
    rng = np.random.default_rng(40_004)
    acc = rng.integers(-(2**62), 2**62, (40, 30)) >> rng.integers(0, 62, (40, 30))
    acc[:, 0] = (1 << 60) + (1 << 36) + 1  # a float64 in between would drop the last bit and round down to even
    multiplier = np.array([2.0**-exponent for exponent in range(20, 60)], np.float32)
    code = naive.Code("int8", -7)
    out = np.empty(acc.shape, np.int8)
    elementwise.requantise_rows(acc, multiplier, code.zero_point, code.lowest, code.highest, out)
    expected = [[naive.requantise(int(t), m, code) for t in row] for row, m in zip(acc, multiplier, strict=True)]
    assert out.tolist() == expected


# ---- element by element


def draw_binary(index: int) -> tuple[Draw, Quantisation, Quantisation, Quantisation, list[Array]]:
    """Draw formats of two operands and a result, and 300 pairs of codes."""
    draw = Draw((40_005, index), ties=index % 3 != 0)
    dtype = np.dtype(CODES[index % 2])
    first = draw.activation(dtype)
    second = Quantisation(dtype, draw.beside(float(first.scale) * 2.0 ** draw.integer(-3, 3)), draw.zero_point(dtype))
    return draw, first, second, draw.activation(dtype, 0.05), [draw.codes((300,), dtype) for _ in range(2)]


@pytest.mark.parametrize("index", few(range(48), 20))
def test_addition_equals_three_exact_fused_multiply_adds(index: int) -> None:
    """QLinearAdd equals three exact fused multiply-adds; some ratios send results beyond int32."""
    _, first, second, output, (a, b) = draw_binary(index)
    scale = np.float32(1e-11) if index % 8 == 7 else output.scale
    ratios = np.float32(first.scale / scale), np.float32(second.scale / scale)
    codes, out = (twin(first), twin(second), twin(output)), np.empty(a.size, output.dtype)
    lowest, highest = bounds(output.dtype)
    elementwise.add_codes(a, b, first.zero_point, second.zero_point, *ratios, output.zero_point, lowest, highest, out)
    assert out.tolist() == [naive.add(int(x), int(y), codes, *ratios) for x, y in zip(a, b, strict=True)]


@pytest.mark.parametrize("index", range(48))
def test_multiplication_equals_an_exact_product_rounded_once(index: int) -> None:
    """QLinearMul equals an exact product, one multiplication, one addition and one rounding to the code."""
    draw, first, second, output, (a, b) = draw_binary(index)
    ratio = np.float32(1e9) if index % 8 == 7 else draw.beside(2.0 ** draw.integer(-9, -1))
    codes, out = (twin(first), twin(second), twin(output)), np.empty(a.size, output.dtype)
    lowest, highest = bounds(output.dtype)
    elementwise.multiply_codes(
        a, b, first.zero_point, second.zero_point, ratio, output.zero_point, lowest, highest, out
    )
    assert out.tolist() == [naive.multiply_codes(int(x), int(y), codes, ratio) for x, y in zip(a, b, strict=True)]


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
def test_quantisers_equal_their_twins_on_ties_and_beyond_the_range(dtype: str) -> None:
    """QuantizeLinear on ties, beside them, on NaN, infinities and huge values; DequantizeLinear of what came out."""
    for index in range(12):
        draw = Draw((40_006, index), ties=index % 2 == 0)
        code = draw.activation(np.dtype(dtype))
        ties = (np.arange(-300, 300) + 0.5) * float(code.scale)
        special = [np.nan, np.inf, -np.inf, 3e38, -3e38, 0.0, -0.0, 1e-45]
        ends = (np.array(bounds(code.dtype)) - code.zero_point) * float(code.scale)
        values = np.array([*ties, *special, *ends, *(1.0001 * ends)], np.float32)
        values = np.concatenate([values, np.nextafter(values, np.float32(0))])
        expected = [naive.quantise(value, code.scale, twin(code)) for value in values]
        lowest, highest = bounds(code.dtype)
        out = np.empty(values.size, code.dtype)
        elementwise.quantise_all(values, code.scale, code.zero_point, lowest, highest, out)
        assert out.tolist() == expected
        assert expected[600] == lowest
        reals = np.empty(out.size, np.float32)
        elementwise.dequantise_all(out, code.scale, code.zero_point, reals)
        assert reals.tolist() == [naive.dequantise(item, code.scale, code.zero_point) for item in expected]


# ---- windows


def draw_window(draw: Draw, *, dilated: bool) -> tuple[naive.Window, int, int]:
    """Draw a window with pads smaller than the kernel, and a plane that it fits."""
    kernel = draw.integer(1, 3), draw.integer(1, 3)
    dilations = (draw.integer(1, 2), draw.integer(1, 2)) if dilated else (1, 1)
    top, left, bottom, right = (draw.integer(0, kernel[axis] - 1) for axis in (0, 1, 0, 1))
    strides = draw.integer(1, 3), draw.integer(1, 3)
    window = naive.Window(kernel, strides, dilations, (top, left, bottom, right), ceil=draw.chance())
    return window, draw.integer(5, 8), draw.integer(5, 8)


@pytest.mark.parametrize("index", range(40))
def test_average_pool_equals_a_sequential_float32_sum(index: int) -> None:
    """Average pooling equals a sequential float32 sum per window, divided by the pixels inside or by the window."""
    draw = Draw((40_007, index), ties=index % 2 == 0)
    window, height, width = draw_window(draw, dilated=False)
    source = draw.activation()
    target = Quantisation(source.dtype, draw.beside(float(source.scale)), draw.zero_point(source.dtype))
    planes, whole = draw.codes((2, height, width), source.dtype), draw.chance()
    lowest, highest = bounds(target.dtype)
    out = np.empty((2, *window.size(height, width)), target.dtype)
    elementwise.average_pool(
        planes, window.kernel, window.strides, window.pads[:2], source.scale, source.zero_point,
        target.scale, target.zero_point, lowest, highest, whole, out,
    )  # fmt: skip
    codes = twin(source), source.scale, twin(target), target.scale
    assert out.tolist() == [naive.average_pool(plane, window, *codes, whole=whole).tolist() for plane in planes]


@pytest.mark.parametrize("index", range(40))
def test_global_average_pool_equals_a_requantised_integer_sum(index: int) -> None:
    """Global average pooling, as imported, is an integer sum per plane, requantised with fl32(s_x / fl32(s_y * N))."""
    draw = Draw((40_014, index), ties=index % 2 == 0)
    build, source = Builder(draw), draw.activation()
    size = draw.integer(1, 6), draw.integer(1, 6)
    target = Quantisation(source.dtype, draw.beside(float(source.scale)), draw.zero_point(source.dtype))
    codes = draw.codes((2, 3, *size), source.dtype)
    pooled = build.node("GlobalAveragePool", [build.dequantise(build.input(codes), source)])
    (operator,) = operators_of(build.finish(pooled, target), operators.GlobalAveragePool)
    assert operator.multiplier == naive.global_multiplier(source.scale, target.scale, size[0] * size[1])
    (out,), _ = execute(operator, [codes], [TensorType.of(target.dtype, (2, 3, 1, 1))], AccumulatorFormat())
    formats = twin(source), source.scale, twin(target), target.scale
    planes = codes.reshape(6, -1).tolist()
    assert out.reshape(-1).tolist() == [naive.global_average_pool(plane, *formats) for plane in planes]


def test_output_sizes_of_windows() -> None:
    """The inferred size of a window's output, ceil_mode included, equals counting the positions one by one."""
    draw = Draw((40_015,), ties=False)
    for _ in range(400):
        window, height, width = draw_window(draw, dilated=True)
        geometry = ConvolutionGeometry(window.kernel, window.strides, window.dilations, window.pads)
        shape = window_shape((1, 2, height, width), geometry, 2, ceil=window.ceil)
        assert shape == (1, 2, *window.size(height, width)), (window, height, width)


@pytest.mark.parametrize("index", range(40))
def test_max_pool_equals_the_maximum_under_each_window(index: int) -> None:
    """Max pooling equals the maximum of the codes under each window, dilated windows and ceil_mode included."""
    draw = Draw((40_008, index), ties=False)
    window, height, width = draw_window(draw, dilated=True)
    dtype = draw.dtype()
    planes = draw.codes((2, height, width), dtype)
    lowest, _ = bounds(dtype)
    out = np.empty((2, *window.size(height, width)), dtype)
    elementwise.max_pool(planes, window.kernel, window.strides, window.dilations, window.pads[:2], lowest, out)
    assert out.tolist() == [naive.max_pool(plane, window, lowest).tolist() for plane in planes]


@pytest.mark.parametrize("index", range(40))
def test_gathered_patches_equal_im2col(index: int) -> None:
    """Patches gathered block by block equal im2col in the order (channel, kernel row, kernel column)."""
    draw = Draw((40_009, index), ties=False)
    window, height, width = draw_window(draw, dilated=True)
    window = naive.Window(window.kernel, window.strides, window.dilations)
    image = draw.rng.integers(-255, 256, (draw.integer(1, 3), height, width)).astype(np.int16)
    expected = naive.patches(image, window)
    depth, pixels = expected.shape
    block, got = draw.integer(1, pixels), np.zeros((depth, pixels), np.int16)
    shape = (window.kernel, window.strides, window.dilations, window.size(height, width)[1])
    for first in range(0, pixels, block):
        part = np.zeros((depth, min(block, pixels - first)), np.int16)
        accumulate.gather_patches(image, *shape, first, part)
        got[:, first : first + block] = part
    assert got.tolist() == expected.tolist()


@pytest.mark.parametrize("index", few(range(40), 20))
def test_convolution_kernels_in_blocks(index: int) -> None:
    """Exact and narrow convolution of one image, cut into blocks of any size, equal the direct loops."""
    draw = Draw((40_010, index), ties=False)
    window, height, width = draw_window(draw, dilated=True)
    window = naive.Window(window.kernel, window.strides, window.dilations)
    groups, channels, filters = draw.choice([1, 2, 3]), draw.integer(1, 2), draw.integer(1, 3)
    image = draw.rng.integers(-255, 256, (groups * channels, height, width)).astype(np.int16)
    weights = draw.rng.integers(-255, 256, (groups * filters, channels, *window.kernel)).astype(np.int16)
    bias = draw.rng.integers(-(2**20), 2**20, groups * filters)
    out_height, out_width = window.size(height, width)
    bits, overflow = draw.choice([8, 12, 16, 18, 20, 24]), draw.choice(["wrap", "saturate"])
    shape = (groups, window.kernel, window.strides, window.dilations, out_width, draw.integer(1, 40))
    flat = np.ascontiguousarray(weights.reshape(groups * filters, -1))
    start = np.repeat(bias[:, None], out_height * out_width, axis=1)

    def direct(width_of_accumulator: int) -> tuple[Array, naive.Accumulation]:
        accumulator = naive.Accumulator(width_of_accumulator, overflow, "subtract")
        values, record = naive.convolve(image[None], 0, weights, bias, window, groups, accumulator)
        return values.reshape(start.shape), record

    exact, record = direct(64)
    for dtype in (np.int32, np.int64):
        acc, extremes = start.astype(dtype), np.array([2**62, -(2**62)])
        accumulate.convolve_exact(image, flat, acc, *shape, extremes)
        assert acc.tolist() == exact.tolist()
        assert extremes.tolist() == [record.lowest, record.highest]
    narrowed, record = direct(bits)
    acc = start.copy()
    assert accumulate.convolve_narrow(image, flat, acc, *shape, bits, overflow == "saturate") == record.overflows
    assert acc.tolist() == narrowed.tolist()


# ---- softmax and tables


ARITHMETICS = get_args(operators.SoftmaxArithmetic)


def softmax(rows: Array, table: Array, inverse: np.float32, code: naive.Code, arithmetic: str) -> list[list[int]]:
    """Run the operator on rows."""
    kind = np.dtype(code.dtype)
    target = operators.CodeFormat(kind, code.zero_point)
    operator = operators.Softmax(table, inverse, arithmetic, 1, False, target)  # type: ignore[arg-type]
    with np.errstate(over="ignore"):
        return execute(operator, [rows], [TensorType.of(kind, rows.shape)], AccumulatorFormat(32, "wrap"))[0][
            0
        ].tolist()


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("dtype", CODES)
def test_softmax_equals_its_sequential_twin(dtype: str, arithmetic: str) -> None:
    """Softmax rows of 1 to 40 codes equal the sequential twin, also where a float32 product would overflow."""
    for index in range(30):
        draw = Draw((40_011, index), ties=index % 2 == 0)
        length = 1 if index < 4 else draw.integer(2, 40)
        scale, code = draw.scale(0.05), naive.Code(dtype, draw.zero_point(np.dtype(dtype)))
        inverse = np.float32(math.floor(1 / draw.choice([1 / 256, 0.0039, 0.01, 0.02, 1e-4, 1e-9, 1e-12])))
        exponentials = naive.softmax_exponentials(length, scale)
        table = softmax_table(length, scale)
        assert table.tolist() == exponentials
        rows = draw.codes((5, length), np.dtype(dtype))
        expected = [naive.softmax([int(x) for x in row], exponentials, inverse, code, arithmetic) for row in rows]
        assert softmax(rows, table, inverse, code, arithmetic) == expected, index


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_softmax_of_equal_codes_at_ties(arithmetic: str) -> None:
    """The quotient lies beside a half, on the side that the sequential float32 sum and the divisions decide."""
    results = []
    for length in range(2, 200, 2):
        table, inverse = softmax_table(length, np.float32(0.125)), np.float32(length * 41 / 2)
        code, rows = naive.Code("int8", -3), np.full((1, length), 7, np.int8)
        results.append(softmax(rows, table, inverse, code, arithmetic)[0])
        assert results[-1] == naive.softmax([7] * length, list(table), inverse, code, arithmetic), length
    assert {codes[0] for codes in results} == {17, 18}


@pytest.mark.parametrize("arithmetic", ["float32", "float64"])
def test_softmax_adds_from_left_to_right(arithmetic: str) -> None:
    """With codes of 32 bits every bit of the quotient is visible: the sum is sequential, in float32."""
    code, inverse = naive.Code("int32", 5), np.float32(2**26)
    for index in range(30):
        draw = Draw((40_016, index), ties=False)
        length, scale = draw.integer(20, 60), draw.scale(0.02)
        table = softmax_table(length, scale) * np.float32(2.0**-40)
        rows = draw.codes((3, length), draw.dtype())
        expected = [naive.softmax(row.tolist(), list(table), inverse, code, arithmetic) for row in rows]
        assert softmax(rows, table, inverse, code, arithmetic) == expected, index


def operators_of(case: Case, kind: type) -> list[Any]:
    """Return the operators of one type that a model is imported to."""
    graph = accelsim.load(case.model).bind().graph
    return [node.operator for node in graph.nodes if isinstance(node.operator, kind)]


@pytest.mark.parametrize("index", range(12))
def test_tables_of_leaky_relu(index: int) -> None:
    """The imported table of a LeakyRelu equals the twin's 256 entries."""
    draw = Draw((40_012, index), ties=index % 2 == 0)
    build, source = Builder(draw), draw.activation(around=0.05)
    target = draw.activation(source.dtype, 0.05)
    slope = np.float32(draw.choice([0.01, 0.1, 0.25]))
    real = build.dequantise(build.codes((3, 4), source), source)
    case = build.finish(build.node("LeakyRelu", [real], alpha=float(slope)), target)
    (operator,) = operators_of(case, operators.TableLookup)
    expected = naive.table(twin(source), source.scale, twin(target), target.scale, naive.leaky_relu(slope))
    assert operator.table.tolist() == expected


@pytest.mark.parametrize("index", range(12))
def test_inputs_of_a_concatenation_pass_through_the_twins_table(index: int) -> None:
    """Each input of a Concat whose scale differs passes through the twin's table; an equal one is not touched."""
    draw = Draw((40_013, index), ties=index % 2 == 0)
    build, target = Builder(draw), draw.activation()
    other = Quantisation(target.dtype, draw.beside(2 * float(target.scale)), draw.zero_point(target.dtype))
    reals = [build.dequantise(build.codes((2, 3), code), code) for code in (other, target)]
    (operator,) = operators_of(build.finish(build.node("Concat", reals, axis=1), target), operators.Concatenate)
    expected = naive.table(twin(other), other.scale, twin(target), target.scale, lambda real: real)
    assert operator.tables[0].tolist() == expected
    assert operator.tables[1] is None
