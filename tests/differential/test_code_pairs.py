"""QLinearAdd and QLinearMul of all 65,536 pairs of codes, for tie-rich parameters, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from accelsim.graph.importers.elementwise import first_is_scalar
from accelsim.kernels.values import elementwise
from accelsim.reference.session import open_session
from tests.strategies import MICROSOFT, Builder, Draw, Quantisation, bounds
from tests.tiers import few

Array = NDArray[Any]

SEED = 60_002
PARAMETER_SETS = 56
SETS_PER_TEST = 14
CODES = ("uint8", "int8")
ALL_CODES = np.arange(256, dtype=np.uint8)


def draw_codes(kind: str, dtype: str, index: int) -> tuple[Draw, list[Quantisation]]:
    """Draw formats of two operands and a result: scales beside powers of two, results that spread over the codes."""
    draw = Draw((SEED, index, CODES.index(dtype), len(kind)), ties=True)
    code = np.dtype(dtype)
    first = draw.activation(code)
    second = Quantisation(code, draw.beside(float(first.scale) * 2.0 ** draw.integer(-4, 4)), draw.zero_point(code))
    unit = float(first.scale) if kind == "QLinearAdd" else float(first.scale) * float(second.scale)
    target = draw.result(code, unit, 60 if kind == "QLinearAdd" else 5000)
    if index % 14 == 13:  # results beyond int32
        target = Quantisation(code, np.float32(target.scale * np.float32(1e-12)), target.zero_point)
    return draw, [first, second, target]


def pairs(index: int, dtype: str) -> tuple[Array, Array]:
    """Return all pairs as two operands: flat, or as a column and a row in either order, to be broadcast."""
    codes = ALL_CODES.view(dtype)
    column, row = codes.reshape(256, 1), codes.reshape(1, 256)
    if index % 3 == 0:
        return np.repeat(codes, 256), np.tile(codes, 256)
    return (column, row) if index % 3 == 1 else (row, column)


def reference(draw: Draw, kind: str, codes: list[Quantisation], operands: tuple[Array, Array]) -> Array:
    """Run one node in onnxruntime."""
    build = Builder(draw)
    inputs = []
    for array, code in zip(operands, codes, strict=False):
        inputs += [build.input(array), *build.parameters(code)]
    result = build.node(kind, [*inputs, *build.parameters(codes[2])], MICROSOFT)
    build.output(result, codes[2].dtype, operands[0].ndim)
    session = open_session(build.proto().SerializeToString())
    return np.asarray(session.run(None, build.inputs)[0])


def machine(kind: str, codes: list[Quantisation], operands: tuple[Array, Array]) -> Array:
    """Run the kernel of the vector unit."""
    first, second, target = codes
    a, b = (np.ascontiguousarray(array) for array in np.broadcast_arrays(*operands))
    out, ends = np.empty(a.shape, target.dtype), bounds(target.dtype)
    sides = [
        (a.reshape(-1), int(first.zero_point), np.float32(first.scale / target.scale)),
        (b.reshape(-1), int(second.zero_point), np.float32(second.scale / target.scale)),
    ]
    if kind == "QLinearAdd":
        (x, zero_x, ratio_x), (y, zero_y, ratio_y) = (
            reversed(sides) if first_is_scalar(operands[0].shape, operands[1].shape) else sides
        )
        zero = int(target.zero_point)
        elementwise.add_codes(x, y, zero_x, zero_y, ratio_x, ratio_y, zero, *ends, out.reshape(-1))
        return out
    ratio = np.float32(np.float32(first.scale * second.scale) / target.scale)
    (x, zero_x, _), (y, zero_y, _) = sides
    elementwise.multiply_codes(x, y, zero_x, zero_y, ratio, int(target.zero_point), *ends, out.reshape(-1))
    return out


@pytest.mark.parametrize("kind", ["QLinearAdd", "QLinearMul"])
@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("block", few(range(0, PARAMETER_SETS, SETS_PER_TEST), 1))
def test_all_pairs_of_codes_equal_onnxruntime(kind: str, dtype: str, block: int) -> None:
    """Every one of 65,536 pairs gives onnxruntime's code, for each of the parameter sets."""
    spread = []
    for index in range(block, block + SETS_PER_TEST):
        draw, codes = draw_codes(kind, dtype, index)
        operands = pairs(index, dtype)
        expected = reference(draw, kind, codes, operands)
        got = machine(kind, codes, operands)
        assert got.size == expected.size == 65_536
        assert int((got != expected).sum()) == 0, (index, codes)
        spread.append(np.unique(expected).size)
    assert np.median(spread) > 60  # the results are not just the ends of the range
