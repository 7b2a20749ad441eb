"""The replay of one element: operands, accumulators, outputs, intervals against the datapath and against hand work."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from accelsim import operators as ops
from accelsim.check.replay import (
    INT32_HIGHEST,
    INT32_LOWEST,
    Element,
    accumulate_element,
    accumulators_giving,
    element_of,
    finish,
    saturating_pairs,
    wrap_to,
)
from accelsim.operators.geometry import ConvolutionGeometry, DepthWindow
from accelsim.operators.tensors import TensorType
from accelsim.values.accumulators import AccumulatorFormat
from accelsim.values.contraction import convolve, multiply
from accelsim.values.execute import execute
from tests.operators.drawn import (
    draw_accumulator,
    draw_code,
    draw_codes,
    draw_convolution,
    draw_epilogue,
    draw_weights,
)
from tests.tiers import examples


def product(weights: list[int], codes: list[int], **changes: object) -> Element:
    """Return an element with a bias of 0, uint8 codes and no requantiser, but for the changes."""
    values = {
        "bias": 0,
        "weights": weights,
        "codes": codes,
        "zero_point": 0,
        "folded": True,
        "code": ops.CodeFormat(np.dtype(np.uint8), 0),
        "row": 0,
        "rows": 1,
        "epilogue": ops.Raw(),
        "channels_last": list(range(len(weights))),
    }
    return Element(**(values | changes))  # type: ignore[arg-type]


def replayed(
    op: ops.Operator, inputs: list[NDArray[np.generic]], shape: tuple[int, ...], accumulator: AccumulatorFormat
) -> tuple[list[float], int]:
    """Replay every output element of an operator; returns the values in order and all overflow events."""
    values, events = [], 0
    for index in np.ndindex(*shape):
        element = element_of(op, inputs, index, shape)
        assert element is not None
        total, narrowed = accumulate_element(element, accumulator)
        bound = wrap_to(total, 32) if accumulator.bits <= 32 else total
        values.append(finish(element, bound))
        events += narrowed
    return values, events


def same(got: NDArray[np.generic], values: list[float]) -> bool:
    """Tell whether an array holds these values, bit for bit."""
    return got.reshape(-1).tolist() == values


def test_convolutions_are_replayed() -> None:
    """Convolutions of every kind, in accumulators of every width: values and overflow events equal the kernels'."""
    rng = np.random.default_rng(31_001)
    for _ in range(60):
        op, shape, window = draw_convolution(rng)
        codes, accumulator = draw_codes(rng, op.input, shape), draw_accumulator(rng)
        height, width = (1, shape[2]) if len(shape) == 3 else shape[2:]
        size = window.size(height, width)
        out_shape = (shape[0], op.weights.values.shape[0], *(size[1:] if len(shape) == 3 else size))
        got, use = convolve(codes, op, out_shape, accumulator)
        values, events = replayed(op, [codes], out_shape, accumulator)
        assert same(got, values), (op, accumulator)
        assert use.overflows == events


@pytest.mark.parametrize("dynamic", [False, True], ids=["constant weights", "two activations"])
def test_products_are_replayed(dynamic: bool) -> None:
    """Matrix products with leading axes, transposed and not, equal the kernels' in values and overflow events."""
    rng = np.random.default_rng(31_002)
    for _ in range(60):
        rows, depth, columns = (int(size) for size in rng.integers(1, 6, 3))
        leading = tuple(int(size) for size in rng.integers(1, 3, rng.integers(0, 3)))
        transpose, code, accumulator = bool(rng.integers(2)), draw_code(rng), draw_accumulator(rng)
        first = draw_codes(rng, code, (*leading, depth, rows) if transpose else (*leading, rows, depth))
        other = draw_code(rng) if dynamic else None
        second = None if other is None else draw_codes(rng, other, (*leading[1:], depth, columns))
        weights = None if dynamic else draw_weights(rng, columns, depth)
        op = ops.MatrixMultiply(code, weights, other, draw_epilogue(rng, columns), transpose)
        out_shape = (*leading, rows, columns)
        got, use = multiply(first, second, op, out_shape, accumulator)
        values, events = replayed(op, [first] if second is None else [first, second], out_shape, accumulator)
        assert same(got, values), (op, accumulator)
        assert use.overflows == events


def test_vectors_are_replayed() -> None:
    """A vector as an operand is a row or a column, which the result lacks."""
    rng = np.random.default_rng(31_005)
    code, other = draw_code(rng), draw_code(rng)
    matrix, row = draw_codes(rng, code, (3, 4)), draw_codes(rng, code, (4,))
    column, right = draw_codes(rng, other, (4,)), draw_codes(rng, other, (2, 4, 5))
    op = ops.MatrixMultiply(code, None, other, ops.Raw())
    for first, second, out_shape in ((matrix, column, (3,)), (row, right, (2, 5)), (row, column, ())):
        got, _ = multiply(first, second, op, out_shape, AccumulatorFormat())
        assert same(got, replayed(op, [first, second], out_shape, AccumulatorFormat())[0])
    constant = ops.MatrixMultiply(code, draw_weights(rng, 6, 4), None, ops.Raw())
    got, _ = multiply(row, None, constant, (6,), AccumulatorFormat())
    assert same(got, replayed(constant, [row], (6,), AccumulatorFormat())[0])


def test_volumes_and_inserted_zeros_are_replayed() -> None:
    """A 3-D convolution and one on spread pixels, with strides, dilations, pads and groups, equal the kernels'."""
    rng = np.random.default_rng(31_006)
    code = draw_code(rng)
    plane = ConvolutionGeometry((2, 3), (2, 1), (1, 2), (1, 0, 1, 2))
    volume = ops.Convolution(plane, 2, draw_weights(rng, 4, 36), code, ops.Raw(), DepthWindow(2, 2, 2, (1, 1)))
    spread = ConvolutionGeometry((3, 2), (1, 1), (1, 1), (2, 1, 2, 1), (2, 3))
    transposed = ops.Convolution(spread, 1, draw_weights(rng, 3, 12), code, ops.Raw())
    for op, shape, out_shape in (
        (volume, (2, 6, 4, 5, 6), (2, 4, 2, 3, 4)),
        (transposed, (2, 2, 3, 3), (2, 3, 7, 8)),
    ):
        codes = draw_codes(rng, code, shape)
        for bits in (12, 32):
            accumulator = AccumulatorFormat(bits, "saturate")
            got, use = convolve(codes, op, out_shape, accumulator)
            values, events = replayed(op, [codes], out_shape, accumulator)
            assert same(got, values), op
            assert use.overflows == events


def test_row_sums_are_replayed() -> None:
    """Codes of asymmetric weights with the sum of the activations beside them, in narrow and wide accumulators."""
    rng = np.random.default_rng(31_008)
    code = ops.CodeFormat(np.dtype(np.uint8), 131)
    for bits, overflow, zp_mode in ((12, "wrap", "fold"), (14, "saturate", "subtract"), (32, "wrap", "fold")):
        zeros = rng.integers(-128, 128, 4).astype(np.int32)
        values = rng.integers(-128, 128, (4, 12)) - zeros[:, None]
        weights = ops.Weights(values.astype(np.int16), rng.integers(-500, 500, 4).astype(np.int32), 8, zeros)
        accumulator = AccumulatorFormat(bits, overflow, zp_mode, "row-sum")
        dense = ops.MatrixMultiply(code, weights, None, ops.Raw())
        codes = draw_codes(rng, code, (3, 12))
        got, _ = multiply(codes, None, dense, (3, 4), accumulator)
        assert same(got, replayed(dense, [codes], (3, 4), accumulator)[0])
        grouped = ops.Convolution(ConvolutionGeometry((2, 3)), 2, weights, code, ops.Raw())
        image = draw_codes(rng, code, (1, 4, 4, 5))
        got, _ = convolve(image, grouped, (1, 4, 3, 3), accumulator)
        assert same(got, replayed(grouped, [image], (1, 4, 3, 3), accumulator)[0])


def test_parameters_known_at_run_time_are_replayed() -> None:
    """Zero point and scale that are inputs of a product count as those of the element."""
    rng = np.random.default_rng(31_007)
    code = ops.CodeFormat(np.dtype(np.uint8), 0)
    runtime = ops.RuntimeParameters(zero_point=1, scale=2)
    epilogue = ops.Rescale(np.array([0.01], np.float32))
    op = ops.MatrixMultiply(code, draw_weights(rng, 3, 5), None, epilogue, False, runtime)
    inputs = [draw_codes(rng, code, (2, 5)), np.array(7, np.uint8), np.array(0.3, np.float32)]
    got = execute(op, inputs, [TensorType.of(np.float32, (2, 3))], AccumulatorFormat())[0][0]
    assert same(got, replayed(op, inputs, (2, 3), AccumulatorFormat())[0])


def test_global_average_pools_are_replayed() -> None:
    """A global pool is a sum with weights of one and one multiplier."""
    rng = np.random.default_rng(31_003)
    for _ in range(20):
        code, output = draw_code(rng), draw_code(rng)
        codes = draw_codes(rng, code, (2, 3, 4, 5))
        op = ops.GlobalAveragePool(code, np.float32(rng.uniform(0.01, 0.1)), output)
        got = execute(op, [codes], [TensorType.of(output.dtype, (2, 3, 1, 1))], AccumulatorFormat())[0][0]
        assert same(got, replayed(op, [codes], (2, 3, 1, 1), AccumulatorFormat())[0])


def test_operators_without_accumulators_have_no_element() -> None:
    """Nothing is invented where no sum exists."""
    assert element_of(ops.View((1,)), [np.zeros(1, np.uint8)], (0,), (1,)) is None


@examples(4, 20)
def test_accumulators_that_give_a_code(count: int) -> None:
    """The interval is exactly the set found by trying every accumulator in a range."""
    rng = np.random.default_rng(31_004)
    for _ in range(count):
        code = draw_code(rng)
        epilogue = ops.Requantise(np.float32(10.0 ** rng.uniform(-2, 0.3, 1)).astype(np.float32), code)
        element = product([], [], epilogue=epilogue)
        tried: dict[float, list[int]] = {}
        for total in range(-3000, 3000):
            tried.setdefault(finish(element, total), []).append(total)
        for value in range(code.lowest, code.highest + 1):
            inside = tried.get(value, [])
            if value in (code.lowest, code.highest) or {-3000, 2999} & set(inside):
                continue  # the range that was tried may cut these off
            interval = accumulators_giving(element, value)
            if inside:
                assert interval == (inside[0], inside[-1])
                assert inside == list(range(inside[0], inside[-1] + 1))
            else:
                assert interval is None or interval[1] < -3000 or interval[0] >= 3000


def test_intervals_at_the_ends() -> None:
    """The lowest code takes everything below, the highest everything above, an impossible one nothing."""
    code = ops.CodeFormat(np.dtype(np.uint8), 10)
    element = product([], [], epilogue=ops.Requantise(np.array([0.5], np.float32), code, lowest=10))
    assert accumulators_giving(element, 10) == (INT32_LOWEST, 1)
    assert accumulators_giving(element, 11) == (2, 2)
    assert accumulators_giving(element, 255) == (490, INT32_HIGHEST)
    assert accumulators_giving(element, 3) is None
    assert accumulators_giving(product([], []), -7) == (-7, -7)
    rescaled = product([], [], epilogue=ops.Rescale(np.array([0.25], np.float32), np.array([1.0], np.float32)))
    assert accumulators_giving(rescaled, 3.5) == (10, 10)
    assert accumulators_giving(rescaled, 3.6) is None
    falling = product([], [], epilogue=ops.Rescale(np.array([-0.25], np.float32), np.array([1.0], np.float32)))
    assert accumulators_giving(falling, 3.5) == (-10, -10)
    assert accumulators_giving(falling, 3.6) is None


def test_saturated_pairs_by_hand() -> None:
    """255 * 127 twice is 64770, which a pair saturates to 32767; alone it fits; zero points are corrected exactly."""
    order = [0, 1, 2, 3]
    assert saturating_pairs(product([127, 127, 1, 1], [255] * 4), order) == 32767 + 510
    assert saturating_pairs(product([127, 127, 1, 1], [255] * 4), [0, 2, 1, 3]) == 2 * (32385 + 255)
    assert saturating_pairs(product([127], [255], bias=5), [0]) == 32385 + 5
    assert saturating_pairs(product([-128, -128], [255, 255]), [0, 1]) == -32768
    shifted = product([127, 127], [255, 255], zero_point=3)
    assert saturating_pairs(shifted, [0, 1]) == 32767 - 3 * 254
    signed = product([127, 127], [127, 127], code=ops.CodeFormat(np.dtype(np.int8), 0))
    assert saturating_pairs(signed, [0, 1]) == 32767 - 128 * 254
    assert saturating_pairs(product([200, 1], [1, 1]), [0, 1]) is None
