"""Zero points of weights: wide operands and row sums against a replay in Python integers; bounds, plans and bills."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from accelsim import Arch, operators as ops
from accelsim.energy import load_table, price_layer
from accelsim.errors import UsageError
from accelsim.graph.importers.contractions import make_weights
from accelsim.mapping.search import choose_plan
from accelsim.operators.tensors import TensorType
from accelsim.operators.zero_points import is_asymmetric
from accelsim.program.layers import Layer
from accelsim.program.machine_work import machine_work
from accelsim.program.plan import ContractionPlan
from accelsim.program.work import ContractionWork, describe_work
from accelsim.timing.recurrence import time_layer
from accelsim.values.accumulators import AccumulatorFormat
from accelsim.values.contraction import convolve, multiply
from accelsim.values.ranges import static_range
from tests.oracles import naive
from tests.strategies import Draw, bounds
from tests.tiers import deep

Array = NDArray[Any]
MODES = list(product(("fold", "subtract"), ("wide-operand", "row-sum")))
UINT8 = np.dtype(np.uint8)


def draw_weights(rng: np.random.Generator, columns: int, depth: int, *, several: bool) -> tuple[Array, Array, Array]:
    """Draw codes of any dtype with far zero points, and a bias."""
    dtype = np.dtype(rng.choice(["uint8", "int8"]))
    low, high = bounds(dtype)
    codes = rng.integers(low, high + 1, (columns, depth)).astype(dtype)
    zeros = rng.choice([low, high, (low + high) // 2 + 1, low + 9], columns if several else 1).astype(dtype)
    return codes, zeros, rng.integers(-5000, 5001, columns).astype(np.int32)


# ---- values


def test_codes_can_be_had_back_as_signed_codes() -> None:
    """Differences plus zero points are the codes, unsigned ones lowered by half their range; extremes are wide."""
    codes = np.array([[0, 255, 128, 7]], np.uint8)
    weights = make_weights(codes, np.array([3], np.uint8), None)
    assert (weights.values + weights.zero_points).tolist() == [[-128, 127, 0, -121]]
    assert weights.wide
    assert is_asymmetric(weights)
    signed = make_weights(np.array([[-128, 127]], np.int8), np.array([5], np.int8), None)
    assert (signed.values + signed.zero_points).tolist() == [[-128, 127]]
    assert is_asymmetric(signed)


@pytest.mark.parametrize(
    ("codes", "zero_point"),
    [
        pytest.param(np.array([[-128, 127]], np.int8), None, marks=deep),
        (np.array([[0, 255]], np.uint8), 128),
        (np.array([[-100, 90]], np.int8), 20),
    ],
)
def test_differences_that_fit_a_code_are_free(codes: Array, zero_point: int | None) -> None:
    """Zero point 0, uint8 around 128, and zero points whose differences stay in 8 bits cost nothing in either mode."""
    weights = make_weights(codes, None if zero_point is None else np.array([zero_point], codes.dtype), None)
    assert not is_asymmetric(weights)
    code = ops.CodeFormat(UINT8, 0)
    layers = [product_layer(weights, 5, Arch(weight_zero_point=mode), code) for mode in ("wide-operand", "row-sum")]
    assert layers[0].work == layers[1].work
    assert layers[0].plan == layers[1].plan


def replay(x: Array, raw: Array, zeros: Array, bias: Array, format_: AccumulatorFormat) -> tuple[list[list[int]], dict]:
    """Accumulate A and S product by product, then narrow A - z_w S once (contract, section 2).

    Args:
        x: operands [M, K], zero point subtracted or not.
        raw: signed codes [N, K].
        zeros: zero points of signed codes, one per row.
        bias: what each accumulator starts from.
        format_: width and behaviour.
    """
    record: dict[str, int] = {"lowest": 0, "highest": 0, "overflows": 0}
    seen: list[int] = []

    def narrow(value: int) -> int:
        seen.append(value)
        result = naive.narrow(value, format_.bits, format_.overflow)
        record["overflows"] += result != value
        return result

    results = []
    for row in x.tolist():
        total = narrow(0)
        for value in row:
            total = narrow(total + value)
        line = []
        for codes, zero, start in zip(raw.tolist(), zeros.tolist(), bias.tolist(), strict=True):
            acc = narrow(start)
            for value, code in zip(row, codes, strict=True):
                acc = narrow(acc + value * code)
            line.append(narrow(acc - zero * total))
        results.append(line)
    record["lowest"], record["highest"] = min(seen), max(seen)
    return results, record


@pytest.mark.parametrize("index", range(60))
def test_products_with_row_sums_equal_the_replay(index: int) -> None:
    """Products in accumulators of 8 to 64 bits, wrap and saturate, fold and subtract: values and overflow events."""
    rng = np.random.default_rng([80_001, index])
    rows, depth, columns = int(rng.choice([3, 20])), int(rng.integers(1, 20)), int(rng.integers(1, 6))
    codes, zeros, bias = draw_weights(rng, columns, depth, several=index % 2 == 0)
    weights = make_weights(codes, zeros, bias)
    bits = int(rng.choice([*range(8, 24), 32, 33, 48, 63, 64]))
    format_ = AccumulatorFormat(bits, str(rng.choice(["wrap", "saturate"])), MODES[index % 4][0], "row-sum")
    code = ops.CodeFormat(UINT8, int(rng.integers(0, 256)))
    x = rng.integers(0, 256, (rows, depth)).astype(np.uint8)
    operator = ops.MatrixMultiply(code, weights, None, ops.Raw())
    outputs, use = multiply(x, None, operator, (rows, columns), format_)
    if not is_asymmetric(weights):
        plain = replace(format_, weight_zero_point="wide-operand")
        wide, same = multiply(x, None, operator, (rows, columns), plain)
        assert (outputs.tolist(), use) == (wide.tolist(), same)
        return
    folded = format_.zp_mode == "fold"
    starts = bias.astype(int) - (code.zero_point * weights.values.sum(axis=1, dtype=int) if folded else 0)
    raw = weights.values.astype(int) + weights.zero_points[:, None]
    each = np.broadcast_to(weights.zero_points, (columns,))
    expected, record = replay(x.astype(int) - (0 if folded else code.zero_point), raw, each, starts, format_)
    assert outputs.tolist() == [[naive.narrow(value, 32, "wrap") for value in line] for line in expected]
    assert use.overflows == record["overflows"]
    if use.overflows == 0:
        assert (use.lowest, use.highest) == (record["lowest"], record["highest"])


@pytest.mark.parametrize("index", range(24))
def test_all_four_treatments_agree_where_nothing_overflows(index: int) -> None:
    """Convolutions with groups and pads and |w - z_w| up to 255: equal sums, also in 32 bits that wrap."""
    rng = np.random.default_rng([80_002, index])
    groups = int(rng.choice([1, 1, 2, 3]))
    channels, filters = groups * int(rng.integers(1, 3)), groups * int(rng.integers(1, 4))
    codes, zeros, bias = draw_weights(rng, filters, channels // groups * 6, several=index % 2 == 0)
    geometry = ops.ConvolutionGeometry((2, 3), (1, 2), (1, 1), (1, 0, 1, 2))
    code = ops.CodeFormat(UINT8, int(rng.integers(0, 256)))
    operator = ops.Convolution(geometry, groups, make_weights(codes, zeros, bias), code, ops.Raw())
    image = rng.integers(0, 256, (2, channels, 5, 6)).astype(np.uint8)
    shifted = np.pad(image.astype(int) - code.zero_point, ((0, 0), (0, 0), (1, 1), (0, 2)))
    expected = np.zeros((2, filters, 6, 3), int)
    differences = (codes.astype(int) - zeros.astype(int)[:, None]).reshape(filters, channels // groups, 2, 3)
    for b, n, i, j in np.ndindex(*expected.shape):
        first = n // (filters // groups) * (channels // groups)
        patch = shifted[b, first : first + channels // groups, i : i + 2, 2 * j : 2 * j + 3]
        expected[b, n, i, j] = int(bias[n]) + int((patch * differences[n]).sum())
    for bits, overflow in ((32, "wrap"), (40, "saturate")):
        for modes in MODES:
            outputs, use = convolve(image, operator, expected.shape, AccumulatorFormat(bits, overflow, *modes))
            assert outputs.tolist() == expected.tolist(), modes
            assert use.overflows == 0


def test_wrapping_is_the_same_in_any_treatment_and_saturating_is_not() -> None:
    """Narrow wrapping accumulators end equal; saturating ones lose another part of the sum."""
    weights = make_weights(np.full((1, 16), 200, np.uint8), np.array([0], np.uint8), None)
    operator = ops.MatrixMultiply(ops.CodeFormat(UINT8, 0), weights, None, ops.Raw())
    x = np.full((1, 16), 255, np.uint8)
    ends: dict[str, set[int]] = {"wrap": set(), "saturate": set()}
    for overflow, modes in product(ends, MODES):
        outputs, use = multiply(x, None, operator, (1, 1), AccumulatorFormat(16, overflow, *modes))
        ends[overflow].add(int(outputs[0, 0]))
        assert use.overflows > 0
    assert ends["wrap"] == {naive.narrow(16 * 255 * 200, 16, "wrap")}
    assert len(ends["saturate"]) == 1  # one sign: both end at the top
    mixed = make_weights(np.array([[255] * 8 + [0] * 8], np.uint8), np.array([20], np.uint8), None)
    operator = ops.MatrixMultiply(ops.CodeFormat(UINT8, 0), mixed, None, ops.Raw())
    results = {
        m: int(multiply(x, None, operator, (1, 1), AccumulatorFormat(16, "saturate", "fold", m))[0][0, 0])
        for m in ("wide-operand", "row-sum")
    }
    assert results["wide-operand"] != results["row-sum"]


@pytest.mark.parametrize("index", range(16))
def test_the_static_range_is_reached_and_never_left(index: int) -> None:
    """Activations chosen against each row of weights reach the bound of the constants; random ones stay inside."""
    rng = np.random.default_rng([80_003, index])
    depth, columns = int(rng.integers(1, 30)), int(rng.integers(1, 5))
    codes, zeros, bias = draw_weights(rng, columns, depth, several=True)
    weights = make_weights(codes, zeros, bias)
    dtype = np.dtype(("uint8", "int8")[index % 2])
    low, high = bounds(dtype)
    code = ops.CodeFormat(dtype, int(rng.integers(low, high + 1)))
    operator = ops.MatrixMultiply(code, weights, None, ops.Raw())
    raw = weights.values.astype(int) + weights.zero_points[:, None]
    signs = np.concatenate([weights.values, raw, np.ones((1, depth), int)])
    worst = np.concatenate([np.where(signs > 0, high, low), np.where(signs > 0, low, high)]).astype(dtype)
    noise = rng.integers(low, high + 1, (50, depth)).astype(dtype)
    for modes in MODES:
        bound = static_range(weights, code, *modes)
        _, use = multiply(
            np.concatenate([worst, noise]),
            None,
            operator,
            (len(worst) + 50, columns),
            AccumulatorFormat(64, "wrap", *modes),
        )
        assert min(use.lowest, 0) == bound.lowest
        assert max(use.highest, 0) == bound.highest
        assert bound.bits >= use.min_safe_bits


# ---- cycles and energy


def product_layer(weights: ops.Weights, rows: int, arch: Arch, code: ops.CodeFormat) -> Layer:
    """Lower one product with constant weights."""
    columns, depth = weights.values.shape
    operator = ops.MatrixMultiply(code, weights, None, ops.Requantise(np.ones(1, np.float32), code))
    source, target = TensorType.of("uint8", (rows, depth)), TensorType.of("uint8", (rows, columns))
    work = machine_work(describe_work(operator, (source,), (target,)), operator, arch)
    plan = choose_plan("dense", work, arch).plan
    return Layer("dense", "Gemm", operator, ("x",), ("y",), (source,), (target,), work, plan)


def asymmetric(columns: int, depth: int, *, several: bool = False) -> ops.Weights:
    """Return weights of which some differences need nine bits."""
    zeros = np.arange(columns if several else 1).astype(np.uint8)
    return make_weights(np.full((columns, depth), 250, np.uint8), zeros, None)


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
@pytest.mark.parametrize("columns", [1, 15, 16, 17, 64])
def test_every_block_of_outputs_carries_a_row_sum(dataflow: str, columns: int) -> None:
    """WS and OS lose a column of the array per block, IS one streamed step; stores and weights stay the same."""
    code, weights = ops.CodeFormat(UINT8, 3), asymmetric(columns, 40)
    layers = {
        mode: product_layer(weights, 33, Arch(dataflow=dataflow, weight_zero_point=mode), code)
        for mode in ("wide-operand", "row-sum")
    }
    wide, sums = layers["wide-operand"], layers["row-sum"]
    assert isinstance(sums.work, ContractionWork)
    assert isinstance(sums.plan, ContractionPlan)
    assert sums.work.row_sums == 1
    limit = Arch().acc_rows if dataflow == "is" else 16
    assert sums.plan.block_n + 1 <= limit
    blocks = -(-columns // sums.plan.block_n)
    timings = [time_layer(layer.work, layer.plan, Arch(dataflow=dataflow)) for layer in (wide, sums)]
    assert timings[1].event("macs") == 33 * 40 * (columns + blocks)
    assert timings[1].event("requant_elements") == 33 * columns
    assert timings[1].event("useful_write_bytes") == timings[0].event("useful_write_bytes")
    assert timings[1].cycles >= timings[0].cycles
    if dataflow != "is" and columns % 16 == 0:
        assert timings[1].event("tiles") > timings[0].event("tiles")


@pytest.mark.parametrize(("several", "dataflow"), list(product((False, True), ("ws", "os", "is"))))
def test_the_bill_of_asymmetric_weights(several: bool, dataflow: str) -> None:
    """Wide operands: 9x9 products and a subtraction per weight read; row sums: more products, and the correction."""
    table, code, weights = load_table(), ops.CodeFormat(UINT8, 3), asymmetric(20, 24, several=several)
    bills, timings = {}, {}
    for mode in ("wide-operand", "row-sum"):
        arch = Arch(dataflow=dataflow, weight_zero_point=mode)
        layer = product_layer(weights, 10, arch, code)
        timings[mode] = time_layer(layer.work, layer.plan, arch)
        bills[mode] = price_layer(layer, timings[mode], arch, table)
        assert isinstance(layer.work, ContractionWork)
        assert layer.work.parameter_bytes == (9 if several else 8)
    assert isinstance(layer.plan, ContractionPlan)
    reads, macs = timings["wide-operand"].event("weight_reads"), 10 * 24 * 20
    add = table.adder(32).value_pj
    wide = macs * (table.multiplier(9, 9).value_pj + add) + reads * table.adder(9).value_pj
    assert bills["wide-operand"].component("mac") == pytest.approx(wide)
    blocks = -(-20 // layer.plan.block_n)
    more = 10 * 24 * (20 + blocks)
    assert bills["row-sum"].component("mac") == pytest.approx(more * (table.multiplier(9, 8).value_pj + add))
    products = 10 * 20 if several else 10 * blocks
    correction = products * table.multiplier(8, 32).value_pj + 10 * 20 * add
    difference = bills["row-sum"].component("requantiser") - bills["wide-operand"].component("requantiser")
    assert difference == pytest.approx(correction)


def test_a_machine_without_room_for_the_sum_is_refused() -> None:
    """One column (WS, OS) or one accumulator row (IS) cannot hold a result and its row sum."""
    for parameters in ({"cols": 1}, {"cols": 1, "dataflow": "os"}, {"acc_rows": 1, "dataflow": "is"}):
        with pytest.raises(UsageError, match="row-sum needs"):
            Arch(weight_zero_point="row-sum", **parameters)
    assert Arch(weight_zero_point="row-sum", cols=1, dataflow="is").cols == 1


def test_packed_codes_are_unpacked_at_a_price() -> None:
    """Codes of 4 and 2 bits are widened to the array's 8-bit operands: one unit per weight read, and 8-bit products."""
    table, arch, code = load_table(), Arch(), ops.CodeFormat(UINT8, 3)
    values = np.ones((20, 24), np.int16)
    bills = {}
    for bits in (8, 4, 2):
        layer = product_layer(ops.Weights(values, np.zeros(20, np.int32), bits), 10, arch, code)
        timing = time_layer(layer.work, layer.plan, arch)
        bills[bits] = price_layer(layer, timing, arch, table)
        unpacked = [charge for charge in bills[bits].charges if charge.unit.name.startswith("unpack")]
        assert [charge.count for charge in unpacked] == ([] if bits == 8 else [timing.event("weight_reads")])
        assert all(charge.unit.basis == "assumed" and charge.unit.value_pj == 0.03 for charge in unpacked)
        assert bills[bits].component("mac") == bills[8].component("mac")
    four = Draw((80_004,), ties=False)
    codes = four.codes((4, 8), np.dtype(np.int8)) // 16
    wide = ops.Weights((codes.astype(np.int16) + 8), np.zeros(4, np.int32), 4, np.full(1, -8, np.int32))
    layer = product_layer(wide, 3, Arch(weight_zero_point="row-sum"), code)
    assert isinstance(layer.work, ContractionWork)
    assert layer.work.row_sums == 0  # five bits fit the operands of the array
