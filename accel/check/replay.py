"""Replays one element of a contraction in Python integers: what its accumulator was, and what others would give.

Nothing here is fast and nothing is shared with the kernels, so that a replay can convict them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsim.operators import (
    CodeFormat,
    Convolution,
    Epilogue,
    GlobalAveragePool,
    MatrixMultiply,
    Operator,
    Raw,
    Requantise,
    Rescale,
    Weights,
)
from accelsim.operators.zero_points import uses_row_sums
from accelsim.values.accumulators import AccumulatorFormat
from accelsim.values.epilogue import apply_epilogue
from accelsim.values.runtime import complete

Array = NDArray[np.generic]
Integers = list[int]

INT32_LOWEST, INT32_HIGHEST = -(2**31), 2**31 - 1
INT16_LOWEST, INT16_HIGHEST = -(2**15), 2**15 - 1


@dataclass(frozen=True)
class Element:
    """The operands of one accumulator."""

    bias: int
    """What the accumulator starts from, without any folded zero point."""
    weights: Integers
    """Factors, zero points subtracted, in the normative order of k."""
    codes: Integers
    """Activations' codes in the same order, padding included."""
    zero_point: int
    """Of the codes."""
    folded: bool
    """The zero point may be folded into the bias."""
    code: CodeFormat
    """Format of the activations."""
    row: int
    """Index of the multiplier."""
    rows: int
    """How many multipliers there are."""
    epilogue: Epilogue
    channels_last: Integers
    """The order of k in which channels are innermost."""
    summed_zero: int | None = None
    """Zero point of the weights where a machine with row sums multiplies their codes, else None."""

    @property
    def exact(self) -> int:
        """The sum in unbounded integers."""
        products = (w * (x - self.zero_point) for w, x in zip(self.weights, self.codes, strict=True))
        return self.bias + sum(products)


def element_of(op: Operator, inputs: Sequence[Array], index: tuple[int, ...], shape: tuple[int, ...]) -> Element | None:
    """Gather the operands of the accumulator behind one output element, or None where there is no accumulator.

    Args:
        op: the operator.
        inputs: what it read.
        index: of the output element.
        shape: of the output.
    """
    if isinstance(op, Convolution | MatrixMultiply):
        op = complete(op, inputs)
    if isinstance(op, Convolution):
        return _convolution_element(op, inputs[0], index)
    if isinstance(op, MatrixMultiply):
        return _product_element(op, inputs, index, shape)
    if isinstance(op, GlobalAveragePool):
        codes = inputs[0][index[0], index[1]].reshape(-1).tolist()
        epilogue = Requantise(np.array([op.multiplier], np.float32), op.output)
        order = list(range(len(codes)))
        return Element(0, [1] * len(codes), codes, op.input.zero_point, False, op.input, 0, 1, epilogue, order)
    return None


def _convolution_element(op: Convolution, codes: Array, index: tuple[int, ...]) -> Element:
    """Gather the window of one output pixel tap by tap; padding and inserted pixels hold the zero point."""
    filters, zero = op.weights.values.shape[0], op.input.zero_point
    channels = codes.shape[1] // op.groups
    first = index[1] // (filters // op.groups) * channels
    part = codes[index[0], first : first + channels].astype(np.int64)
    part = part if part.ndim > 2 else part[:, None, :]
    position = index[2:] if len(index) > 3 else (0, *index[2:])
    window = part
    for number, (at, axis) in enumerate(zip(position, _axes(op), strict=True), 1):
        window = _taken(window, number, at, axis, zero)
    order = np.moveaxis(np.arange(window.size).reshape(window.shape), 0, -1).reshape(-1).tolist()
    weights, bias = op.weights.values[index[1]].tolist(), int(op.weights.bias[index[1]])
    values = window.reshape(-1).tolist()
    summed = _summed_zero(op.weights, index[1])
    return Element(bias, weights, values, zero, True, op.input, index[1], filters, op.epilogue, order, summed)


# Kernel size, stride, dilation, padding in front and distance of the input's pixels along one axis.
Axis = tuple[int, int, int, int, int]


def _axes(op: Convolution) -> list[Axis]:
    """Return the window along each axis, depth first where there is one."""
    shape, depth = op.geometry, op.depth
    plane = zip(shape.kernel, shape.strides, shape.dilations, shape.pads[:2], shape.insertion, strict=True)
    front = [] if depth is None else [(depth.kernel, depth.stride, depth.dilation, depth.pads[0], 1)]
    return [*front, *plane]


def _taken(image: NDArray[np.int64], number: int, at: int, axis: Axis, outside: int) -> NDArray[np.int64]:
    """Keep the entries along one axis that a window at one place meets; others are what lies outside."""
    kernel, stride, dilation, pad, distance = axis
    places = at * stride - pad + dilation * np.arange(kernel)
    met = (places >= 0) & (places % distance == 0) & (places // distance < image.shape[number])
    taken = np.take(image, np.where(met, places // distance, 0), axis=number)
    shape = [1] * image.ndim
    shape[number] = kernel
    return np.where(met.reshape(shape), taken, outside)


def _product_element(
    op: MatrixMultiply, inputs: Sequence[Array], index: tuple[int, ...], shape: tuple[int, ...]
) -> Element:
    """Take one row and one column of a matrix product."""
    first = inputs[0] if inputs[0].ndim > 1 else inputs[0][None, :]
    first = first.swapaxes(-1, -2) if op.transpose_first else first
    zero = op.input.zero_point
    if op.weights is not None:
        depth = op.weights.values.shape[1]
        at = int(np.ravel_multi_index(index[:-1], shape[:-1])) if len(index) > 1 else 0
        codes = first.reshape(-1, depth)[at].tolist()
        weights, bias = op.weights.values[index[-1]].tolist(), int(op.weights.bias[index[-1]])
        order = list(range(depth))
        summed = _summed_zero(op.weights, index[-1])
        return Element(bias, weights, codes, zero, True, op.input, index[-1], shape[-1], op.epilogue, order, summed)
    second = inputs[1] if inputs[1].ndim > 1 else inputs[1][:, None]
    index = index if inputs[1].ndim > 1 else (*index, 0)
    index = index if inputs[0].ndim > 1 else (*index[:-1], 0, index[-1])
    leading = np.broadcast_shapes(first.shape[:-2], second.shape[:-2])
    codes = np.broadcast_to(first, (*leading, *first.shape[-2:]))[index[:-1]].tolist()
    columns = np.broadcast_to(second, (*leading, *second.shape[-2:])).swapaxes(-1, -2)[(*index[:-2], index[-1])]
    shift = op.second.zero_point if op.second is not None else 0
    weights = [int(code) - shift for code in columns.tolist()]
    order = list(range(len(codes)))
    return Element(0, weights, codes, zero, False, op.input, index[-1], second.shape[-1], op.epilogue, order)


def _summed_zero(weights: Weights, row: int) -> int | None:
    """Return the zero point of a row of weights if row sums apply to them."""
    if not uses_row_sums(weights, "row-sum"):
        return None
    zeros = weights.zero_points.reshape(-1)
    return int(zeros[row if zeros.size > 1 else 0])


def accumulate_element(element: Element, accumulator: AccumulatorFormat) -> tuple[int, int]:
    """Replay the configured accumulator step by step: the bias first, then one product after the other.

    Returns:
        What the accumulator holds in the end, and how many steps narrowing changed (timing contract, section 2).
    """
    fold = element.folded and accumulator.zp_mode == "fold"
    zero = element.zero_point
    start = element.bias - (zero * sum(element.weights) if fold else 0)
    operands = [code - (0 if fold else zero) for code in element.codes]
    if accumulator.weight_zero_point != "row-sum" or element.summed_zero is None:
        return _accumulated(start, element.weights, operands, accumulator)
    codes = [weight + element.summed_zero for weight in element.weights]
    raw, events = _accumulated(start, codes, operands, accumulator)
    total, more = _accumulated(0, [1] * len(operands), operands, accumulator)
    value, last = _narrow(raw - element.summed_zero * total, accumulator)
    return value, events + more + last


def _accumulated(
    start: int, weights: Sequence[int], operands: Sequence[int], accumulator: AccumulatorFormat
) -> tuple[int, int]:
    """Add products to what the accumulator starts from, narrowing after each step."""
    value, events = _narrow(start, accumulator)
    for weight, operand in zip(weights, operands, strict=True):
        value, changed = _narrow(value + weight * operand, accumulator)
        events += changed
    return value, events


def _narrow(value: int, accumulator: AccumulatorFormat) -> tuple[int, int]:
    """Bring a value into the accumulator; the second answer is 1 where that changed it."""
    lowest, highest = accumulator.lowest, accumulator.highest
    if lowest <= value <= highest:
        return value, 0
    if accumulator.overflow == "saturate":
        return min(max(value, lowest), highest), 1
    return wrap_to(value, accumulator.bits), 1


def wrap_to(value: int, bits: int) -> int:
    """Return a value modulo 2^bits in two's complement."""
    half = 1 << (bits - 1)
    return (value + half) % (1 << bits) - half


def saturating_pairs(element: Element, order: Sequence[int]) -> int | None:
    """Return the sum of a CPU that adds products in pairs saturated to int16 (vpmaddubsw), or None if it has no such.

    The instruction takes uint8 activations and int8 weights; int8 activations enter shifted by 128 (ONNX Runtime
    semantics, section 9). Zero points are corrected afterwards, exactly.

    Args:
        element: the operands.
        order: positions of k in the order in which they are paired.
    """
    if element.code.dtype.itemsize != 1 or any(not -128 <= weight <= 127 for weight in element.weights):
        return None
    shift = 128 if element.code.dtype.kind == "i" else 0
    products = [element.weights[k] * (element.codes[k] + shift) for k in order]
    products += [0] * (len(products) % 2)
    pairs = zip(products[::2], products[1::2], strict=True)
    total = sum(min(max(first + second, INT16_LOWEST), INT16_HIGHEST) for first, second in pairs)
    correction = (element.zero_point + shift) * sum(element.weights)
    return wrap_to(element.bias + total - correction, 32)


def before_rounding(element: Element, accumulator: int) -> float | None:
    """Return f32(f32(A) * M), which the requantiser clamps and rounds; None where nothing is rounded in float32."""
    if type(element.epilogue) is not Requantise:
        return None
    factors = element.epilogue.multiplier.reshape(-1)
    factor = factors[element.row if factors.size > 1 else 0]
    with np.errstate(over="ignore"):
        return float(np.float32(_float(accumulator) * np.float32(factor)))


def _float(accumulator: int) -> np.float32:
    """Round an accumulator to float32 once; by way of Python's float it would be rounded twice."""
    return np.float32(np.array(accumulator, np.int64).astype(np.float32))


def finish(element: Element, accumulator: int) -> float | int:
    """Return the output element that an accumulator gives, computed apart from the kernels where the formula is known.

    Args:
        element: the operands, for their epilogue.
        accumulator: any int32 (or wider) value.
    """
    epilogue, row = element.epilogue, element.row
    scaled = before_rounding(element, accumulator)
    if type(epilogue) is Requantise and scaled is not None:  # one that scales in integers is a subclass
        zero = epilogue.output.zero_point
        lowest, highest = epilogue.bounds
        return int(np.rint(min(max(scaled, lowest - zero), highest - zero))) + zero
    if isinstance(epilogue, Rescale):
        return _rescaled(epilogue, row, accumulator)
    if isinstance(epilogue, Raw):
        return wrap_to(accumulator, 32)
    column = np.zeros((element.rows, 1), np.int64)
    column[row, 0] = accumulator
    result: float | int = apply_epilogue(column, epilogue)[row, 0].item()
    return result


def _rescaled(epilogue: Rescale, row: int, accumulator: int) -> float | int:
    """Return the float that an accumulator gives, or what is made of it."""
    with np.errstate(all="ignore"):
        value = _float(accumulator) * _entry(epilogue.scale, row)
        if epilogue.bias is not None:
            value = value + _entry(epilogue.bias, row)
        if epilogue.bounds is not None:
            value = np.minimum(np.maximum(value, np.float32(epilogue.bounds[0])), np.float32(epilogue.bounds[1]))
        if epilogue.quantise is None:
            return float(np.float16(value) if epilogue.half else value)
        code = epilogue.quantise.output
        ratio = np.float32(value) / np.float32(epilogue.quantise.scale)
    zero = code.zero_point
    return zero + int(np.rint(min(max(float(ratio), code.lowest - zero), code.highest - zero)))


def _entry(values: NDArray[np.float32], row: int) -> np.float32:
    """Return the entry of a row in an array of one or of many."""
    flat = values.reshape(-1)
    return np.float32(flat[row if flat.size > 1 else 0])


def accumulators_giving(element: Element, value: float | int) -> tuple[int, int] | None:
    """Return the lowest and the highest int32 accumulator that give an output element; None when none does.

    Outputs never fall when accumulators rise, or never rise: multipliers and steps of thresholds have one sign.
    """
    if isinstance(element.epilogue, Raw):
        return int(value), int(value)
    sign = 1 if finish(element, INT32_LOWEST) <= finish(element, INT32_HIGHEST) else -1
    lowest = _first(lambda a: sign * finish(element, a) >= sign * value)
    beyond = _first(lambda a: sign * finish(element, a) > sign * value)
    if lowest is None or finish(element, lowest) != value:
        return None
    return lowest, INT32_HIGHEST if beyond is None else beyond - 1


def _first(holds: Callable[[int], bool]) -> int | None:
    """Return the first int32 for which a condition holds that stays true from there on."""
    low, high = INT32_LOWEST, INT32_HIGHEST
    if not holds(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
