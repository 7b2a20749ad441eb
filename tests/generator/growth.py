"""A graph that grows operator by operator, and the table of operators that it grows by."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.generator.values import Array, choose_code, dtype_of, limits, sample_codes, through
from tests.strategies import Builder, Draw, Quantisation, Shape

LARGEST = 3000
NARROW_WEIGHTS = (("int4", "uint4"), ("int2", "uint2", "int4"))  # 2 bits came with opset 25


@dataclass(eq=False)
class Tensor:
    """A tensor of the graph: codes, or reals that wait for a quantiser further down (`codes` is empty then).

    sample: some of its values; unit: what they are multiples of; readers: how many nodes read it.
    """

    shape: Shape
    code: Quantisation
    sample: Array
    codes: str = ""
    reals: str = ""
    readers: int = 0


@dataclass(frozen=True)
class Style:
    """What kind of graph is drawn.

    qoperator: percentage of operators that are written as QOperator nodes; dtypes: of activations; loose: percentage of
    results that are left without a quantiser.
    """

    qoperator: int
    dtypes: tuple[str, ...]
    loose: int
    opset: int

    @property
    def wide(self) -> bool:
        """Tell whether some activations have 16 bits."""
        return any(name.endswith("16") for name in self.dtypes)


@dataclass
class Growth:
    """The graph so far; `wraps` says that sums leave int32, which only a 32-bit accumulator that wraps does alike."""

    draw: Draw
    build: Builder
    style: Style
    tensors: list[Tensor] = field(default_factory=list)
    wraps: bool = False
    _shared: dict[str, str] = field(default_factory=dict)

    def dtype(self) -> np.dtype[Any]:
        """Draw the dtype of an activation."""
        return dtype_of(self.draw.choice(self.style.dtypes))

    def pick(self, *ranks: int, lowest: int = 0, where: Callable[[Tensor], bool] | None = None) -> Tensor | None:
        """Draw a tensor, mostly the newest one, of one of some ranks, or of a lowest rank, or of a property."""
        fitting = [
            tensor
            for tensor in self.tensors
            if (not ranks or len(tensor.shape) in ranks)
            and len(tensor.shape) >= lowest
            and (where is None or where(tensor))
        ]
        if not fitting:
            return None
        return fitting[-1] if self.draw.chance(65) else self.draw.choice(fitting)

    def real(self, tensor: Tensor) -> str:
        """Read a tensor as reals, through a DequantizeLinear that is shared with other readers or its own."""
        tensor.readers += 1
        if tensor.reals:
            return tensor.reals
        if tensor.codes in self._shared and self.draw.chance():
            return self._shared[tensor.codes]
        self._shared[tensor.codes] = self.build.dequantise(tensor.codes, tensor.code)
        return self._shared[tensor.codes]

    def coded(self, tensor: Tensor) -> str:
        """Read a tensor as codes; reals are quantised first."""
        tensor.readers += 1
        if not tensor.codes:
            tensor.codes, tensor.reals = self.build.quantise(tensor.reals, tensor.code), ""
        return tensor.codes

    def input(self, shape: Shape, code: Quantisation | None = None) -> Tensor:
        """Add a graph input of codes, or of reals with a quantiser behind."""
        draw = self.draw
        code = code or draw.activation(self.dtype())
        if draw.chance(70):
            name = self.build.input(draw.codes(shape, code.dtype))
        else:
            noise = draw.rng.uniform(-0.6, 0.6, shape)
            reals = (draw.codes(shape, code.dtype).astype(np.float64) - float(code.zero_point) + noise) * code.scale
            name = self.build.quantise(self.build.input(reals.astype(np.float32)), code)
        self.tensors.append(Tensor(shape, code, sample_codes(draw, code), name))
        return self.tensors[-1]

    def other(self, shape: Shape, code: Quantisation | None = None) -> Tensor:
        """Return a second operand of a shape: a tensor that exists, or a new input."""
        fitting = [tensor for tensor in self.tensors if tensor.shape == shape]
        return self.draw.choice(fitting) if fitting and self.draw.chance(70) else self.input(shape, code)

    def result(self, real: str, shape: Shape, sample: Array, unit: float, code: Quantisation | None = None) -> Tensor:
        """Take in a float result: its code is chosen, or given; mostly a quantiser follows, now and then two."""
        code = code or choose_code(self.draw, self.dtype(), sample, unit)
        if self.draw.chance(self.style.loose):
            return self._append(Tensor(shape, code, sample, reals=real))
        sample = through(sample, code)
        if self.draw.chance(4):
            self._append(Tensor(shape, code, sample, self.build.quantise(real, code)))
        return self._append(Tensor(shape, code, sample, self.build.quantise(real, code)))

    def result_codes(self, codes: str, shape: Shape, sample: Array, code: Quantisation) -> Tensor:
        """Take in a result that is codes already."""
        return self._append(Tensor(shape, code, through(sample, code), codes))

    def moved(self, tensor: Tensor, kind: str, inputs: Sequence[str], shape: Shape, **attributes: Any) -> Tensor:
        """Add an operator that only moves elements: on codes, or between Q/DQ with equal or (rarely) other scales."""
        if tensor.codes and tensor.code.dtype.itemsize == 1 and self.draw.chance(self.style.qoperator):
            name = self.build.node(kind, [self.coded(tensor), *inputs], **attributes)
            return self._append(Tensor(shape, tensor.code, tensor.sample, name))
        name = self.build.node(kind, [self.real(tensor), *inputs], **attributes)
        return self.moved_real(tensor, name, shape)

    def moved_real(self, tensor: Tensor, real: str, shape: Shape) -> Tensor:
        """Take in moved reals: often they are not quantised again, rarely with another scale."""
        if self.draw.chance(35):
            return self._append(Tensor(shape, tensor.code, tensor.sample, reals=real))
        if self.draw.chance(8):
            return self.result(real, shape, tensor.sample, float(tensor.code.scale))
        return self._append(Tensor(shape, tensor.code, tensor.sample, self.build.quantise(real, tensor.code)))

    def leaves(self, name: str, dtype: Any, rank: int = 0) -> bool:
        """Make a tensor that nothing can read any further an output of the graph."""
        self.build.output(name, dtype, rank)
        return True

    def _append(self, tensor: Tensor) -> Tensor:
        self.tensors.append(tensor)
        return tensor

    # ---- constants

    def constant(self, shape: Shape, code: Quantisation, axis: int = 0) -> tuple[str, Array]:
        """Add constant codes, dequantised; gives the name and the values."""
        codes = self.draw_codes(shape, code.dtype)
        return self.build.dequantise(self.build.constant(codes), code, axis), values(codes, code, axis)

    def draw_codes(self, shape: Shape, dtype: np.dtype[Any]) -> Array:
        """Draw codes, also of types of less than a byte."""
        lowest, highest = limits(dtype)
        return np.asarray(self.draw.rng.integers(lowest, highest + 1, shape)).astype(dtype)

    def integers(self, values: Any) -> str:
        """Add constant int64."""
        return self.build.constant(values, np.int64)

    def floats(self, values: Any) -> str:
        """Add constant float32."""
        return self.build.constant(values, np.float32)

    def weights_code(self, source: Quantisation, channels: int, *, written: bool = False) -> Quantisation:
        """Draw the quantisation of weights: per tensor or channel, any zero points, 2 or 4 bits at times."""
        draw = self.draw
        if not written and self.style.opset >= 21 and draw.chance(12):
            return draw_narrow(draw, dtype_of(draw.choice(NARROW_WEIGHTS[self.style.opset >= 25])), channels)
        if not written and self.style.opset < 13:  # DequantizeLinear has no axis yet
            return draw.activation(draw.weights_dtype(source.dtype), 0.01)
        if not written and draw.chance(3):
            return draw.weights(draw.dtype(), channels)
        return draw.weights(draw.weights_dtype(source.dtype), channels)


def draw_narrow(draw: Draw, dtype: np.dtype[Any], channels: int) -> Quantisation:
    """Draw the quantisation of weights of less than a byte."""
    lowest, highest = limits(dtype)
    if draw.chance():
        return Quantisation(dtype, draw.scale(0.1), draw.integer(lowest, highest))
    scales = np.array([draw.scale(0.1) for _ in range(channels)], np.float32)
    return Quantisation(dtype, scales, draw.rng.integers(lowest, highest + 1, channels).astype(np.int64))


def values(codes: Array, code: Quantisation, axis: int) -> Array:
    """Dequantise codes; scales and zero points may lie along an axis."""
    along = [1] * codes.ndim
    if np.ndim(code.scale):
        along[axis] = -1
    scale, zero = (np.asarray(part, np.float64) for part in (code.scale, code.zero_point))
    if np.ndim(code.scale):
        scale, zero = scale.reshape(along), zero.reshape(along)
    return np.asarray((codes.astype(np.float64) - zero) * scale)


def fits(shape: Shape) -> bool:
    """Tell whether a shape is small enough to be checked quickly."""
    return math.prod(shape) <= LARGEST


# ---- the table

Step = Callable[[Growth], Any]


@dataclass(frozen=True)
class Operator:
    """One row: name, how to add it to a graph, how often, the lowest opset, and whether it is a QOperator node.

    The step returns None or False when nothing in the graph fits.
    """

    name: str
    step: Step
    weight: int
    opset: int
    written: bool


OPERATORS: dict[str, Operator] = {}


def operator(
    name: str, weight: int = 2, *, opset: int = 11, written: bool = False, **fixed: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a step under a name, with some of its arguments fixed."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        assert name not in OPERATORS
        OPERATORS[name] = Operator(name, lambda growth: function(growth, **fixed), weight, opset, written)
        return function

    return add
