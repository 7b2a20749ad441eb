"""Operators that rearrange, reduce and interpolate, against their naive twins; what they cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import accelsim
from accelsim import operators
from accelsim.graph.importers.resize import AxisResize, linear_blend, source_coordinates
from accelsim.graph.shapes import infer
from accelsim.machine.vector_costs import vector_costs
from accelsim.operators import vector as vector_operators
from accelsim.operators.tensors import TensorType
from accelsim.program.stream_work import StreamWork, describe_stream
from accelsim.values.accumulators import AccumulatorFormat
from accelsim.values.execute import execute
from tests.oracles import naive, vector
from tests.strategies import Draw, Quantisation

Array = NDArray[Any]
SEED = 62_001
COUNT = 40


def compute(op: Any, *inputs: Array) -> Array:
    """Execute an operator; type and shape are those that inference promises."""
    (promised,) = infer(op, tuple(TensorType.of(array.dtype, array.shape) for array in inputs)) or ()
    (result,), use = execute(op, inputs, [promised], AccumulatorFormat())
    assert use is None
    assert TensorType.of(result.dtype, result.shape) == promised
    return result


def codes_of(draw: Draw, shape: tuple[int, ...], code: Quantisation) -> Array:
    """Draw codes."""
    return draw.codes(shape, code.dtype)


def formats(code: Quantisation) -> tuple[operators.CodeFormat, naive.Code]:
    """Return a code's format for the operator and for its twin."""
    return operators.CodeFormat(code.dtype, int(code.zero_point)), naive.Code(code.dtype.name, int(code.zero_point))


def draws() -> list[Draw]:
    """Return seeded draws, every second one rich in ties."""
    return [Draw((SEED, index), ties=index % 2 == 1) for index in range(COUNT)]


def test_rearrangements_copy_what_the_positions_say() -> None:
    """Any positions per axis, some of them outside."""
    for draw in draws():
        data = codes_of(draw, draw.shape(draw.integer(1, 4), 5), draw.activation())
        positions = tuple(
            draw.rng.integers(-1 if draw.chance(20) else 0, size, draw.integer(1, 6)).astype(np.int32)
            for size in data.shape
        )
        result = compute(vector_operators.Rearrange(data.shape, positions, 7), data)
        assert np.array_equal(result, vector.rearranged(data, [list(part) for part in positions], 7))


def test_shuffles_are_depth_to_space_and_back() -> None:
    """The permutations of both orders, and of the way back."""
    for draw in draws():
        block, depth, (rows, columns) = draw.integer(1, 3), draw.integer(1, 3), draw.integers(1, 3, 2)
        data = codes_of(draw, (2, depth * block**2, rows, columns), draw.activation())
        shape = (2, depth, rows * block, columns * block)
        crd = vector_operators.Shuffle((2, depth, block, block, rows, columns), (0, 1, 4, 2, 5, 3), shape)
        dcr = vector_operators.Shuffle((2, block, block, depth, rows, columns), (0, 3, 4, 1, 5, 2), shape)
        assert np.array_equal(compute(crd, data), vector.depth_to_space(data, block, "CRD"))
        spread = compute(dcr, data)
        assert np.array_equal(spread, vector.depth_to_space(data, block, "DCR"))
        back = vector_operators.Shuffle((2, depth, rows, block, columns, block), (0, 3, 5, 1, 2, 4), data.shape)
        assert np.array_equal(compute(back, spread), vector.space_to_depth(spread, block))
        assert np.array_equal(compute(back, spread), data)


def test_computed_indices_select_the_same_elements() -> None:
    """GatherElements and GatherND by loops."""
    for draw in draws():
        data = codes_of(draw, draw.shape(3, 5), draw.activation())
        axis = draw.integer(0, 2)
        target = [draw.integer(1, size) for size in data.shape]
        picked = draw.rng.integers(-data.shape[axis], data.shape[axis], target)
        result = compute(vector_operators.IndexedRead("GatherElements", axis), data, picked)
        assert np.array_equal(result, vector.gathered_elements(data, picked, axis))
        batch, depth = draw.integer(0, 1), draw.integer(1, 2)
        outer = (*data.shape[:batch], 3)
        parts = [draw.rng.integers(-data.shape[batch + i], data.shape[batch + i], outer) for i in range(depth)]
        tuples = np.stack(parts, axis=-1)
        result = compute(vector_operators.IndexedRead("GatherND", batch), data, tuples)
        assert np.array_equal(result, vector.gathered_nd(data, tuples, batch))


def test_extremes_and_their_indices() -> None:
    """Largest and smallest codes over axes, and where they are, the first and the last."""
    for draw in draws():
        data = draw.rng.integers(0, 4, draw.shape(3, 5)).astype(draw.dtype())
        axes = tuple(sorted({draw.integer(0, 2), draw.integer(0, 2)}))
        last, axis = draw.chance(), draw.integer(0, 2)
        for function, sign in (("max", 1), ("min", -1)):
            result = compute(vector_operators.ReduceExtreme(function, axes, keep=True), data)
            assert np.array_equal(result, vector.extreme(data, axes, sign))
            where = compute(vector_operators.ArgExtreme(function, axis, keep=True, last=last), data)
            assert np.array_equal(where, vector.extreme_index(data, axis, sign, last=last))
            dropped = compute(vector_operators.ArgExtreme(function, axis, keep=False, last=last), data)
            assert np.array_equal(dropped, where.squeeze(axis))


def test_sums_are_rounded_in_the_stated_order() -> None:
    """Rows of every length and start: two groups of four lanes, loose ends last; columns one after the other."""
    for draw in draws():
        source, output = draw.activation(), draw.activation(around=0.1)
        (code, _), (target, twin) = formats(source), formats(output)
        kept, length = draw.integer(1, 3), draw.integer(1, 45)
        data, mean = codes_of(draw, (kept, length), source), draw.chance()
        function = "mean" if mean else "sum"
        scales = source.scale, output.scale
        op = vector_operators.FloatReduce(function, (kept, length, 1), (kept,), code, *scales, target)
        ends = (source.scale, int(source.zero_point)), (output.scale, twin)
        assert compute(op, data).tolist() == vector.reduced(data, *ends, mean=mean)
        columns = np.ascontiguousarray(data.T)
        op = vector_operators.FloatReduce(function, (1, length, kept), (kept,), code, *scales, target)
        if kept > 1:
            for found, row in zip(compute(op, columns).tolist(), data, strict=True):
                total = vector.sum_in_order([naive.dequantise(int(c), *ends[0]) for c in row])
                assert found == naive.quantise(naive.divided(total, length) if mean else total, *ends[1])


def test_affine_maps_round_twice() -> None:
    """A factor and an offset per channel."""
    for draw in draws():
        source, output = draw.activation(), draw.activation()
        (code, _), (target, twin) = formats(source), formats(output)
        data = codes_of(draw, draw.shape(3, 5), source)
        factor, offset = (draw.rng.normal(size=data.shape[1]).astype(np.float32) for _ in range(2))
        op = vector_operators.ChannelAffine(factor, offset, code, source.scale, output.scale, target)
        result = compute(op, data)
        for index in np.ndindex(*data.shape):
            parts = factor[index[1]], offset[index[1]], (source.scale, int(source.zero_point)), (output.scale, twin)
            assert int(result[index]) == vector.affine(int(data[index]), *parts)


@pytest.mark.parametrize("coordinates", ["half_pixel", "asymmetric", "align_corners"])
def test_interpolation_adds_four_weighted_pixels(coordinates: str) -> None:
    """Any sizes, up and down."""
    for draw in draws()[:12]:
        source, output = draw.activation(), draw.activation()
        (code, _), (target, twin) = formats(source), formats(output)
        data = codes_of(draw, draw.shape(2, 6), source)
        sizes = [size + draw.integer(1, 5) if draw.chance() else 1 for size in data.shape]
        axes = [
            AxisResize(old, new, np.float32(np.float32(new) / np.float32(old)), np.float32(0), np.float32(1))
            for old, new in zip(data.shape, sizes, strict=True)
        ]
        blends = [linear_blend(axis, coordinates) for axis in axes]
        op = vector_operators.ResizeLinear(*blends, False, code, source.scale, output.scale, target)
        plain = [
            np.arange(axis.resized, dtype=np.float32) if axis.scale == 1 else source_coordinates(axis, coordinates)
            for axis in axes
        ]
        ends = (source.scale, int(source.zero_point)), (output.scale, twin)
        assert np.array_equal(compute(op, data), vector.interpolated(data, (plain[0], plain[1]), *ends))


# ---- costs


def work_of(op: Any, *inputs: Array) -> StreamWork:
    """Return what an operator asks of the machine."""
    types = tuple(TensorType.of(array.dtype, array.shape) for array in inputs)
    return describe_stream(op, types, infer(op, types) or ())


def test_long_runs_are_copied_and_short_ones_pass_through_the_lanes() -> None:
    """Rows of an image repeated: a segment per run of rows; pixels repeated: an element per lane and cycle."""
    image = np.zeros((1, 8, 128), np.uint8)
    whole = np.arange(128, dtype=np.int32)
    rows = np.repeat(np.arange(8, dtype=np.int32), 2)
    first = np.zeros(1, np.int32)
    work = work_of(vector_operators.Rearrange(image.shape, (first, rows, whole)), image)
    assert (work.placement, work.writes) == ("dma", ((1, 16 * 128),))
    assert sum(count for count, _ in work.reads) == 9  # 0 | 0 1 | 1 2 | ... | 7
    assert sum(count * size for count, size in work.reads) == 16 * 128
    columns = np.repeat(whole, 2)
    work = work_of(vector_operators.Rearrange(image.shape, (first, rows, columns)), image)
    assert (work.placement, work.lane_operations) == ("vector", 16 * 256)
    assert (work.reads, work.writes) == (((1, 8 * 128),), ((1, 16 * 256),))


def test_computed_indices_cost_a_segment_each() -> None:
    """An embedding reads one row per token, and the tokens."""
    table, tokens = np.zeros((1000, 96), np.int8), np.zeros((2, 5), np.int64)
    work = work_of(vector_operators.IndexedRead("Gather", 0), table, tokens)
    assert work.reads == ((10, 96), (1, 80))
    assert work.writes == ((1, 960),)


def test_every_price_is_made_of_known_operations() -> None:
    """Each event of the table has an energy, each row a unit that is counted, and at least one lane operation."""
    from accelsim.energy import Units, load_table
    from accelsim.operators import fixed_point

    units = Units(load_table(), accelsim.Arch())
    machine, floats = vector_costs()
    for name, cost in (*machine.items(), *floats.items()):
        assert cost.per in ("output", "input", "window", "operand"), name
        assert cost.lane_operations > 0, name
        for event, count in (*cost.events, *cost.finish):
            assert count > 0, name
            assert event in ("compare", "requantisation") or units.arithmetic(event).value_pj > 0, (name, event)
    modules = (operators, vector_operators, fixed_point)
    assert all(any(hasattr(module, name) for module in modules) for name in machine)
