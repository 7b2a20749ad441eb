"""The requantiser against onnxruntime's own integer kernels, around every rounding tie of every output code.

The accumulator of onnxruntime is set from outside: by the int32 bias of QLinearConv and QGemm, one channel per
accumulator, and by the digits of a product in QLinearMatMul, which has no bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from accelsim.graph.importers.contractions import output_scale
from accelsim.kernels.values import elementwise
from accelsim.reference.session import open_session
from tests.strategies import MICROSOFT, Builder, Draw, Quantisation, bounds
from tests.tiers import few

Array = NDArray[Any]

SEED = 60_001
PARAMETER_SETS = 208
SETS_PER_TEST = 26
CODES = ("uint8", "int8")
KINDS = ("QLinearConv", "QGemm", "QLinearMatMul")
WINDOW = np.arange(-8, 9)


@dataclass(frozen=True, eq=False)
class Parameters:
    """Formats of input, weights and output, and the multiplier that they give."""

    source: Quantisation
    weights: Quantisation
    target: Quantisation

    @property
    def multiplier(self) -> np.float32:
        """fl32(fl32(s_x * s_w) / s_y)."""
        return output_scale(self.source.scale, np.array([self.weights.scale]), self.target.scale)[0]


def draw_parameters(dtype: np.dtype[Any], index: int) -> tuple[Draw, Parameters]:
    """Draw a set: half of them tie-rich; multipliers from 1e-11 to 64, most of them where int32 reaches every code."""
    draw = Draw((SEED, index, dtype.itemsize, int(dtype.kind == "i")), ties=index % 2 == 0)
    source, weights = draw.activation(dtype), draw.activation(draw.weights_dtype(dtype), 0.01)
    if index % 13 == 12:
        ratio = draw.choice([1e-11, 3e-9, 2.0**-31, 2.0**-27, 1.0, 5.0, 64.0])
    else:
        ratio = 2.0 ** (1 - index % 26) * (1 if draw.ties else float(draw.rng.uniform(0.5, 1)))
    scale = draw.beside(float(source.scale) * float(weights.scale) / ratio)
    return draw, Parameters(source, weights, Quantisation(dtype, scale, draw.zero_point(dtype)))


def totals_around_ties(parameters: Parameters) -> Array:
    """Return the int32 accumulators within eight of every rounding tie and of the ends of the output's range.

    Beyond 2^24 float32 skips integers: neighbours at halves of a float32 step come in addition.
    """
    lowest, highest = bounds(parameters.target.dtype)
    zero = int(parameters.target.zero_point)
    codes = np.arange(lowest - zero - 2, highest - zero + 3) - 0.5
    centres = np.rint(codes / float(parameters.multiplier))[:, None]
    half_steps = np.maximum(np.spacing(np.abs(centres).astype(np.float32)) / 2, 1)
    near = np.concatenate([centres + WINDOW, centres + WINDOW * half_steps]).reshape(-1)
    ends = [-(2**31), -(2**31) + 1, -1, 0, 1, 2**31 - 1]
    return np.unique(np.concatenate([near[np.abs(near) < 2**31], ends])).astype(np.int32)


def biased(draw: Draw, parameters: Parameters, totals: Array, kind: str) -> Array:
    """Let QLinearConv or QGemm requantise accumulators that are its bias: the weights are their own zero point."""
    build, source, weights = Builder(draw), parameters.source, parameters.weights
    window = (1, 1) if kind == "QLinearConv" else ()
    neutral = np.full((totals.size, 1, *window), weights.zero_point, weights.dtype)
    codes = build.input(np.full((1, 1, *window), draw.codes((), source.dtype), source.dtype))
    inputs = [codes, *build.parameters(source), build.constant(neutral), *build.parameters(weights)]
    target, bias = build.parameters(parameters.target), build.constant(totals)
    if kind == "QLinearConv":
        result = build.node(kind, [*inputs, *target, bias])
    else:
        result = build.node(kind, [*inputs, bias, *target], MICROSOFT, transB=1)
    build.output(result, parameters.target.dtype, 2 + len(window))
    return run(build)


def digits(totals: Array, largest: int, depth: int) -> tuple[Array, Array]:
    """Write totals as products: one row of `largest`s and a 1 at the end, and per total a column of digits."""
    column = np.zeros((depth, totals.size), np.int64)
    quotient = np.rint(totals / largest).astype(np.int64)
    column[-1] = totals - quotient * largest
    for position in range(depth - 1):
        column[position] = np.clip(quotient, -127, 127)
        quotient -= column[position]
    assert not quotient.any()
    assert np.abs(column).max() <= 127
    return np.array([[largest] * (depth - 1) + [1]]), column


def multiplied(draw: Draw, parameters: Parameters, totals: Array) -> Array:
    """Let QLinearMatMul form accumulators out of digits; both zero points lie in the middle, where digits fit."""
    middle = {np.dtype(np.uint8): 128, np.dtype(np.int8): 0}
    source, weights = parameters.source, parameters.weights
    depth = 2 + int(np.abs(totals.astype(np.int64)).max()) // (127 * 127)
    row, columns = digits(totals, 127, depth)
    build = Builder(draw)
    first, second = (Quantisation(code.dtype, code.scale, middle[code.dtype]) for code in (source, weights))
    inputs = [build.input((row + first.zero_point).astype(first.dtype)), *build.parameters(first)]
    inputs += [build.constant((columns + second.zero_point).astype(second.dtype)), *build.parameters(second)]
    result = build.node("QLinearMatMul", [*inputs, *build.parameters(parameters.target)])
    build.output(result, parameters.target.dtype, 2)
    return run(build)


def run(build: Builder) -> Array:
    """Run a model of one node in onnxruntime and return what it gives, flat."""
    session = open_session(build.proto().SerializeToString())
    return np.asarray(session.run(None, build.inputs)[0]).reshape(-1)


def requantised(parameters: Parameters, totals: Array, dtype: type[np.signedinteger[Any]]) -> Array:
    """Requantise with the machine's kernel, from accumulators of a width."""
    out, acc = np.empty((1, totals.size), parameters.target.dtype), totals.astype(dtype)[None]
    ends = bounds(parameters.target.dtype)
    multiplier = np.array([parameters.multiplier])
    elementwise.requantise_rows(acc, multiplier, int(parameters.target.zero_point), *ends, out)
    return out[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("block", few(range(0, PARAMETER_SETS, SETS_PER_TEST), 1))
def test_every_accumulator_around_every_tie_equals_onnxruntime(kind: str, dtype: str, block: int) -> None:
    """For sets of scales and zero points, all accumulators within eight of each tie give onnxruntime's code."""
    compared = 0
    for index in range(block, block + SETS_PER_TEST):
        draw, parameters = draw_parameters(np.dtype(dtype), index)
        totals = totals_around_ties(parameters)
        if kind == "QLinearMatMul":  # deeper products would take long; the other kinds cover the rest of int32
            totals = totals[np.abs(totals.astype(np.int64)) < 2**21]
            expected = multiplied(draw, parameters, totals)
        else:
            expected = biased(draw, parameters, totals, kind)
        for width in (np.int32, np.int64):
            got = requantised(parameters, totals, width)
            assert int((got != expected).sum()) == 0, (index, parameters)
        compared += totals.size
    print(f"{compared} accumulators of {SETS_PER_TEST} sets")


@pytest.mark.parametrize("dtype", CODES)
def test_the_sets_reach_every_code_and_both_ends_of_the_multipliers(dtype: str) -> None:
    """Most sets hit all 256 codes; multipliers span 1e-11 to 64; every kind of zero point occurs."""
    drawn = [draw_parameters(np.dtype(dtype), index)[1] for index in range(PARAMETER_SETS)]
    multipliers = np.array([parameters.multiplier for parameters in drawn])
    reached = [
        np.unique(requantised(parameters, totals_around_ties(parameters), np.int32)).size == 256 for parameters in drawn
    ]
    assert np.mean(reached) > 0.75
    assert multipliers.min() < 1.1e-11
    assert multipliers.max() > 60
    zeros = {int(parameters.target.zero_point) for parameters in drawn}
    assert {*bounds(np.dtype(dtype))} < zeros
