"""Slow, obvious twins of the datapath: Python integers, exact fractions, one scalar at a time.

Nothing here is shared with the package under test. Accumulators are Python integers of unlimited size; every float32
operation is computed exactly with fractions and rounded once, so that no compiler, no vector unit and no wider
intermediate type can hide a wrong order of operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Term = tuple[int, int]
Number = int | float | Fraction | np.floating[Any]

INT32_LOWEST = -(2**31)


# ---- float32 by exact arithmetic


def float32(value: Number) -> np.float32:
    """Round an exact number once to float32: ties to even, subnormals kept, infinity beyond the largest finite."""
    if isinstance(value, float | np.floating) and not math.isfinite(value):
        return np.float32(value)
    exact = Fraction(value) if isinstance(value, int | Fraction) else Fraction(float(value))
    if exact == 0:
        return np.float32(0)
    magnitude = abs(exact)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if magnitude < Fraction(2) ** exponent:
        exponent -= 1
    step = Fraction(2) ** max(exponent - 23, -149)
    rounded = round(exact / step) * step  # Fraction.__round__ takes ties to even
    if abs(rounded) >= 2**128:
        return np.float32(math.copysign(math.inf, exact))
    return np.float32(float(rounded))


def _finite(*values: Number) -> bool:
    return all(math.isfinite(value) for value in values)


def times(a: Number, b: Number) -> np.float32:
    """Multiply with one rounding."""
    if _finite(a, b):
        return float32(Fraction(float(a)) * Fraction(float(b)))
    return np.float32(float(a) * float(b))


def plus(a: Number, b: Number) -> np.float32:
    """Add with one rounding."""
    if _finite(a, b):
        return float32(Fraction(float(a)) + Fraction(float(b)))
    return np.float32(float(a) + float(b))


def divided(a: Number, b: Number) -> np.float32:
    """Divide with one rounding; the divisor is not zero."""
    if _finite(a, b):
        return float32(Fraction(float(a)) / Fraction(float(b)))
    return np.float32(float(a) / float(b))


def fused_multiply_add(a: Number, b: Number, c: Number) -> np.float32:
    """Return a * b + c with a single rounding."""
    if _finite(a, b, c):
        return float32(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)))
    return np.float32(float(a) * float(b) + float(c))


# ---- accumulators


def narrow(value: int, bits: int, overflow: str) -> int:
    """Bring an integer into two's complement of `bits`, by wrapping or by saturating."""
    lowest, highest = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    if overflow == "saturate":
        return lowest if value < lowest else highest if value > highest else value
    span = 1 << bits
    remainder = value % span
    return remainder - span if remainder > highest else remainder


@dataclass
class Accumulation:
    """What many accumulators went through: extremes of the exact partial sums, changes made by narrowing."""

    lowest: int | None = None
    highest: int | None = None
    overflows: int = 0

    def see(self, exact: int) -> None:
        """Remember an exact partial sum."""
        self.lowest = exact if self.lowest is None else min(self.lowest, exact)
        self.highest = exact if self.highest is None else max(self.highest, exact)

    @property
    def peak(self) -> int:
        """Largest magnitude of an exact partial sum, the bias included."""
        assert self.lowest is not None
        assert self.highest is not None
        return max(abs(self.lowest), abs(self.highest))

    @property
    def safe_bits(self) -> int:
        """Smallest width that holds all exact partial sums, found by trying."""
        assert self.lowest is not None
        assert self.highest is not None
        bits = 1
        while not (-(2 ** (bits - 1)) <= self.lowest and self.highest <= 2 ** (bits - 1) - 1):
            bits += 1
        return bits

    def run(self, start: int, terms: Iterable[Term], bits: int, overflow: str) -> int:
        """Replay one accumulator: load the bias, then add every product in order, narrowing each time."""
        exact = start
        self.see(exact)
        value = narrow(start, bits, overflow)
        self.overflows += value != start
        for weight, operand in terms:
            exact += weight * operand
            self.see(exact)
            total = value + weight * operand
            value = narrow(total, bits, overflow)
            self.overflows += value != total
        return value


def integers(array: Array) -> Array:
    """Return an array of Python integers."""
    return np.array(array.tolist(), dtype=object).reshape(array.shape)


def accumulate(
    stationary: Array, streamed: Array, start: Array, bits: int, overflow: str
) -> tuple[Array, Accumulation]:
    """Replay stationary[rows, K] times streamed[K, lanes] from start[rows, lanes]."""
    left, right = integers(stationary), integers(streamed)
    record = Accumulation()
    values = np.empty(start.shape, object)
    for row, lane in np.ndindex(*start.shape):
        terms = [(left[row, k], right[k, lane]) for k in range(left.shape[1])]
        values[row, lane] = record.run(int(start[row, lane]), terms, bits, overflow)
    return values, record


# ---- contractions


@dataclass(frozen=True)
class Window:
    """A sliding window over two axes; pads are top, left, bottom, right."""

    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    ceil: bool = False

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return the output size, counting one window position after the other."""
        return self._count(height, 0), self._count(width, 1)

    def _count(self, size: int, axis: int) -> int:
        before, after = self.pads[axis], self.pads[axis + 2]
        extent, padded = self.dilations[axis] * (self.kernel[axis] - 1) + 1, before + size + after
        count = 0
        while True:
            first = count * self.strides[axis]
            inside = first + extent <= padded
            reaches = self.ceil and first - self.strides[axis] + extent < padded and first < before + size
            if not (inside or reaches):
                return count
            count += 1

    def positions(self, row: int, column: int) -> Iterator[tuple[int, int]]:
        """Yield the image coordinates under the window at an output pixel, row-major, also those in the padding."""
        for i, j in product(range(self.kernel[0]), range(self.kernel[1])):
            yield (
                row * self.strides[0] + i * self.dilations[0] - self.pads[0],
                column * self.strides[1] + j * self.dilations[1] - self.pads[1],
            )


@dataclass(frozen=True)
class Accumulator:
    """How wide accumulators are, what they do beyond, and where the zero point of the activations goes."""

    bits: int = 32
    overflow: str = "wrap"
    zp_mode: str = "fold"

    def operand(self, code: int, zero_point: int) -> int:
        """Return what enters the array for a code."""
        return code if self.zp_mode == "fold" else code - zero_point

    def start(self, bias: int, zero_point: int, weights: Iterable[int]) -> int:
        """Return what is loaded before the first product."""
        return bias - zero_point * sum(weights) if self.zp_mode == "fold" else bias


def _pixel(plane: Array, position: tuple[int, int], outside: int) -> int:
    """Read a pixel, or what stands for the padding."""
    row, column = position
    if 0 <= row < plane.shape[0] and 0 <= column < plane.shape[1]:
        return int(plane[row, column])
    return outside


def convolve(
    codes: Array, zero_point: int, weights: Array, bias: Array, window: Window, groups: int, accumulator: Accumulator
) -> tuple[Array, Accumulation]:
    """Convolve codes[B, C, H, W] directly with weights[N, C / groups, kernel] (zero points already subtracted)."""
    record = Accumulation()
    filters, channels = weights.shape[0], weights.shape[1]
    height, width = window.size(*codes.shape[2:])
    values = np.empty((codes.shape[0], filters, height, width), object)
    for image, n, row, column in np.ndindex(*values.shape):
        first = n // (filters // groups) * channels
        terms = []
        for channel in range(channels):
            factors = [int(w) for w in weights[n, channel].reshape(-1)]
            pixels = [_pixel(codes[image, first + channel], p, zero_point) for p in window.positions(row, column)]
            terms += [(w, accumulator.operand(x, zero_point)) for w, x in zip(factors, pixels, strict=True)]
        start = accumulator.start(int(bias[n]), zero_point, [weight for weight, _ in terms])
        values[image, n, row, column] = record.run(start, terms, accumulator.bits, accumulator.overflow)
    return values, record


def multiply(
    codes: Array, zero_point: int, weights: Array, bias: Array, accumulator: Accumulator
) -> tuple[Array, Accumulation]:
    """Multiply codes[..., M, K] by weights[N, K] (zero points already subtracted); gives [..., M, N]."""
    record = Accumulation()
    values = np.empty((*codes.shape[:-1], weights.shape[0]), object)
    for *row, n in np.ndindex(*values.shape):
        factors = [int(w) for w in weights[n]]
        terms = [(w, accumulator.operand(int(x), zero_point)) for w, x in zip(factors, codes[tuple(row)], strict=True)]
        start = accumulator.start(int(bias[n]), zero_point, factors)
        values[(*row, n)] = record.run(start, terms, accumulator.bits, accumulator.overflow)
    return values, record


def multiply_activations(
    first: Array, first_zero: int, second: Array, second_zero: int, accumulator: Accumulator
) -> tuple[Array, Accumulation]:
    """Multiply codes[..., M, K] by codes[..., K, N] with broadcasting; both zero points are subtracted beforehand."""
    record = Accumulation()
    leading = np.broadcast_shapes(first.shape[:-2], second.shape[:-2])
    left = np.broadcast_to(first, leading + first.shape[-2:])
    right = np.broadcast_to(second, leading + second.shape[-2:])
    values = np.empty((*leading, first.shape[-2], second.shape[-1]), object)
    for *lead, m, n in np.ndindex(*values.shape):
        a, b = left[tuple(lead)][m], right[tuple(lead)][:, n]
        terms = [(int(y) - second_zero, int(x) - first_zero) for x, y in zip(a, b, strict=True)]
        values[(*lead, m, n)] = record.run(0, terms, accumulator.bits, accumulator.overflow)
    return values, record


def patches(image: Array, window: Window) -> Array:
    """Return im2col of an already padded image[C, H, W]: one row per (channel, kernel row, kernel column)."""
    height, width = window.size(*image.shape[1:])
    columns = []
    for row, column in product(range(height), range(width)):
        places = list(window.positions(row, column))
        columns.append([int(plane[place]) for plane in image for place in places])
    return np.array(columns, dtype=object).T


# ---- codes


@dataclass(frozen=True)
class Code:
    """Range and zero point of a code."""

    dtype: str
    zero_point: int = 0
    lowest: int = field(init=False)
    highest: int = field(init=False)

    def __post_init__(self) -> None:
        bits, signed = int(self.dtype.removeprefix("u").removeprefix("int")), self.dtype.startswith("int")
        object.__setattr__(self, "lowest", -(2 ** (bits - 1)) if signed else 0)
        object.__setattr__(self, "highest", 2 ** (bits - 1) - 1 if signed else 2**bits - 1)

    def every(self) -> list[int]:
        """Return all codes of an 8-bit type in the order of their unsigned bytes."""
        return [byte if byte <= self.highest else byte - 256 for byte in range(256)]


def output_multiplier(input_scale: Number, weight_scale: Number, output_scale: Number) -> np.float32:
    """Return fl32(fl32(s_x * s_w) / s_y)."""
    return divided(times(input_scale, weight_scale), output_scale)


def clamp_then_round(value: np.float32, code: Code) -> int:
    """Clamp while still a float, round half to even, then add the zero point."""
    lowest, highest = code.lowest - code.zero_point, code.highest - code.zero_point
    if value <= lowest:
        return code.lowest
    if value >= highest:
        return code.highest
    return round(float(value)) + code.zero_point


def round_then_clamp(value: np.float32, code: Code) -> int:
    """Round half to even and clamp a value that holds the zero point; from 2^31 on and for NaN: the lowest code."""
    if math.isnan(value) or value >= 2**31 or value == -math.inf:
        return code.lowest
    return min(max(round(float(value)), code.lowest), code.highest)


def requantise(total: int, multiplier: np.float32, code: Code) -> int:
    """Accumulator to code: to float32, one multiplication, clamp, round, zero point."""
    return clamp_then_round(times(float32(total), multiplier), code)


def quantise(value: np.float32, scale: np.float32, code: Code) -> int:
    """QuantizeLinear of one value; NaN gives the lowest code."""
    if math.isnan(value):
        return code.lowest
    return clamp_then_round(divided(value, scale), code)


def dequantise(value: int, scale: np.float32, zero_point: int) -> np.float32:
    """DequantizeLinear of one code."""
    return times(float32(value - zero_point), scale)


def table(
    source: Code, scale: np.float32, target: Code, target_scale: np.float32, function: Callable[[np.float32], Number]
) -> list[int]:
    """Return the 256 output codes of a unary function, by input byte."""
    reals = [dequantise(code, scale, source.zero_point) for code in source.every()]
    return [quantise(float32(function(real)), target_scale, target) for real in reals]


def leaky_relu(slope: np.float32) -> Callable[[np.float32], np.float32]:
    """Return the function t -> t if t >= 0 else fl32(slope * t)."""
    return lambda real: real if real >= 0 else times(slope, real)


# ---- vector unit


def add(a: int, b: int, codes: tuple[Code, Code, Code], ratio_a: np.float32, ratio_b: np.float32) -> int:
    """QLinearAdd of two codes (formats of a, b and the sum): three fused multiply-adds, zero points in one offset."""
    first, second, output = codes
    zeros = fused_multiply_add(ratio_a, first.zero_point, times(ratio_b, second.zero_point))
    offset = plus(output.zero_point, -zeros)
    return round_then_clamp(fused_multiply_add(a, ratio_a, fused_multiply_add(b, ratio_b, offset)), output)


def multiply_codes(a: int, b: int, codes: tuple[Code, Code, Code], ratio: np.float32) -> int:
    """QLinearMul of two codes: exact product, then three roundings."""
    first, second, output = codes
    exact = (a - first.zero_point) * (b - second.zero_point)
    return round_then_clamp(plus(times(float32(exact), ratio), output.zero_point), output)


def _under(plane: Array, window: Window, row: int, column: int) -> list[int]:
    """Return the codes of the plane under a window, those in the padding left out."""
    height, width = plane.shape
    places = window.positions(row, column)
    return [int(plane[i, j]) for i, j in places if 0 <= i < height and 0 <= j < width]


def average_pool(
    plane: Array, window: Window, source: Code, scale: np.float32, target: Code, out_scale: np.float32, *, whole: bool
) -> Array:
    """QLinearAveragePool of one plane; `whole` divides by the full window."""
    result = np.empty(window.size(*plane.shape), object)
    for row, column in np.ndindex(*result.shape):
        codes = _under(plane, window, row, column)
        total = np.float32(0)
        for code in codes:
            total = plus(total, dequantise(code, scale, source.zero_point))
        mean = divided(total, window.kernel[0] * window.kernel[1] if whole else len(codes))
        result[row, column] = round_then_clamp(plus(divided(mean, out_scale), target.zero_point), target)
    return result


def global_multiplier(scale: np.float32, out_scale: np.float32, count: int) -> np.float32:
    """Return the multiplier of a global average pool: fl32(s_x / fl32(s_y * N))."""
    return divided(scale, times(out_scale, count))


def global_average_pool(
    codes: Sequence[int], source: Code, scale: np.float32, target: Code, out_scale: np.float32
) -> int:
    """QLinearGlobalAveragePool of one plane: integer sum, one multiplier."""
    total = sum(code - source.zero_point for code in codes)
    return requantise(total, global_multiplier(scale, out_scale, len(codes)), target)


def max_pool(plane: Array, window: Window, lowest: int) -> Array:
    """Maximum of codes; a window that lies wholly in the padding gives the lowest code."""
    result = np.empty(window.size(*plane.shape), object)
    for row, column in np.ndindex(*result.shape):
        result[row, column] = max([lowest, *_under(plane, window, row, column)])
    return result


def softmax_exponentials(length: int, scale: np.float32) -> list[np.float32]:
    """Return the 256 exponentials of QLinearSoftmax for rows of a length."""
    largest = (2 - Fraction(1, 2**23)) * 2**127
    limit = float32(math.log(float(float32(largest / length))))
    shift = max(0.0, float(limit) - 5.0) / float(scale)
    return [_exponential((index - 255.0 + shift) * float(scale)) for index in range(256)]


def _exponential(value: float) -> np.float32:
    """Return e^value in double precision, rounded to float32."""
    try:
        return float32(math.exp(value))
    except OverflowError:
        return np.float32(math.inf)


def softmax(
    row: Sequence[int],
    exponentials: Sequence[np.float32],
    inverse: np.float32,
    code: Code,
    arithmetic: str = "float32",
) -> list[int]:
    """QLinearSoftmax of one row: table, sequential sum, multiply, divide, to int32, zero point."""
    shift = 255 - max(row)
    values = [exponentials[item + shift] for item in row]
    total = np.float32(0)
    for value in values:
        total = plus(total, value)
    if arithmetic == "float64":
        quotients = [float(value) * float(inverse) / float(total) for value in values]
        return [min(max(round(quotient) + code.zero_point, code.lowest), code.highest) for quotient in quotients]
    return [_softmax_code(times(value, inverse), total, code, arithmetic) for value in values]


def _softmax_code(numerator: np.float32, total: np.float32, code: Code, arithmetic: str) -> int:
    """Divide and convert; what does not fit int32 becomes its lowest value, and the sum with the zero point wraps."""
    invalid = not _finite(numerator) and not _finite(total)
    quotient = np.float32(math.nan) if invalid or total == 0 else divided(numerator, total)
    rounded = round(float(quotient)) if abs(quotient) < 2**31 else INT32_LOWEST
    shifted = narrow(rounded + code.zero_point, 32, "wrap")
    if code.dtype == "uint8":  # clamped from above only, then the low byte
        return min(shifted, 255) % 256
    if arithmetic == "float32-low-byte":  # the same, though int8 ends at 127
        low = min(shifted, 255) % 256
        return low - 256 if low > 127 else low
    return min(max(shifted, code.lowest), code.highest)
