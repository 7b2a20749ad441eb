"""Zero operands: counted as a naive loop counts them, saved from the bill exactly, refused without values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import accelsim
from accelsim import Arch, operators as ops
from accelsim.energy import EnergyTable, load_table, price_layer
from accelsim.energy.bills import billed_macs
from accelsim.energy.options import EnergyOptions
from accelsim.errors import AccelSimError, UsageError
from accelsim.graph.importers.contractions import make_weights
from accelsim.program.layers import Layer
from accelsim.timing.recurrence import time_layer
from accelsim.values.zeros import busy_macs
from tests.energy.harness import Array, planned
from tests.generator.graphs import draw_graph
from tests.oracles import gating
from tests.tiers import few

SEED = 91_001
UINT8 = np.dtype(np.uint8)
OPERATORS = (
    "Conv", "ConvTranspose", "MatMul", "Gemm", "MatMul of activations", "QLinearConv", "QLinearMatMul",
    "MatMulIntegerToFloat", "ConvInteger", "MatMulInteger", "a vector as operand",
)  # fmt: skip


def sparse(rng: np.random.Generator, shape: tuple[int, ...], zero_point: int) -> Array:
    """Draw codes of which many are 0 and many are the zero point."""
    codes = rng.integers(0, 256, shape).astype(np.uint8)
    kind = rng.integers(0, 3, shape)
    return np.where(kind == 0, np.uint8(0), np.where(kind == 1, np.uint8(zero_point), codes))


def sparse_weights(rng: np.random.Generator, columns: int, depth: int) -> ops.Weights:
    """Draw weights of which many are 0, as differences or as codes."""
    zero = rng.choice([0, 0, 7, 255], columns if rng.integers(2) else 1).astype(np.uint8)
    codes = rng.integers(0, 256, (columns, depth)).astype(np.uint8)
    codes = np.where(rng.integers(0, 2, codes.shape) == 0, np.broadcast_to(zero[:1], codes.shape), codes)
    codes = np.where(rng.integers(0, 4, codes.shape) == 0, np.uint8(128), codes).astype(np.uint8)
    return make_weights(codes, zero, None)


def draw_machine(rng: np.random.Generator) -> Arch:
    """Draw a machine with every treatment of zero points."""
    return Arch(
        array=(int(rng.integers(1, 9)), int(rng.integers(2, 9))),
        dataflow=str(rng.choice(["ws", "os", "is"])),
        zp_mode=str(rng.choice(["fold", "subtract"])),
        weight_zero_point=str(rng.choice(["wide-operand", "row-sum"])),
        acc_rows=int(rng.choice([4, 512])),
    )


def assert_counted(layer: Layer, inputs: tuple[Array, ...], arch: Arch) -> tuple[int, int]:
    """Compare with the naive loop, and with the count of all multiply-accumulates of the bill."""
    timing = time_layer(layer.work, layer.plan, arch)
    without, total = gating.busy(layer, inputs, arch)
    assert total == billed_macs(layer, timing)
    assert busy_macs(layer, inputs, arch) == without
    return without, total


@pytest.mark.parametrize("index", range(60))
def test_zeros_of_convolutions_are_counted_as_the_oracle_counts(index: int) -> None:
    """1-D, 2-D and 3-D, with groups, strides, dilations, pads and inserted zeros."""
    rng = np.random.default_rng([SEED, index])
    rank, groups = int(rng.choice([1, 2, 2, 2, 3])), int(rng.choice([1, 1, 2, 3]))
    channels, filters = groups * int(rng.integers(1, 4)), groups * int(rng.integers(1, 4))
    kernel = (1 if rank == 1 else int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    insertion = (1, 1) if index % 3 else (1 if rank == 1 else int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    strides = (1, 1) if index % 3 == 0 else (1 if rank == 1 else int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    dilations = (1 if rank == 1 else int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    pads = tuple(int(rng.integers(0, 3)) for _ in range(4))
    pads = (0, pads[1], 0, pads[3]) if rank == 1 else pads
    geometry = ops.ConvolutionGeometry(kernel, strides, dilations, pads, insertion)
    depth = ops.DepthWindow(2, 1, 1, (1, 0)) if rank == 3 else None
    zero = int(rng.choice([0, 0, 128, 255]))
    size = (int(rng.integers(5, 8)), int(rng.integers(5, 8)))[2 - min(rank, 2) :]
    source = sparse(rng, (int(rng.integers(1, 3)), channels, *((3,) if depth else ()), *size), zero)
    taps = kernel[0] * kernel[1] * (depth.kernel if depth else 1)
    weights = sparse_weights(rng, filters, channels // groups * taps)
    operator = ops.Convolution(geometry, groups, weights, ops.CodeFormat(UINT8, zero), ops.Raw(), depth)
    spread = [(extent - 1) * step + 1 for extent, step in zip((1, *size)[-2:], insertion, strict=True)]
    out = [
        (extent + pads[axis] + pads[axis + 2] - dilations[axis] * (kernel[axis] - 1) - 1) // strides[axis] + 1
        for axis, extent in enumerate(spread)
    ]
    out_shape = (source.shape[0], filters, *((3,) if depth else ()), *out[2 - min(rank, 2) :])
    arch = draw_machine(rng)
    layer = planned(operator, [source], out_shape, arch)
    without, total = assert_counted(layer, (source,), arch)
    assert 0 < without < total


@pytest.mark.parametrize("index", range(40))
def test_zeros_of_products_are_counted_as_the_oracle_counts(index: int) -> None:
    """Constant weights, and two activations with broadcasting; transposed first operands, vectors."""
    rng = np.random.default_rng([SEED + 1, index])
    zero, rows, depth, columns = int(rng.choice([0, 7])), *(int(rng.integers(2, 9)) for _ in range(3))
    arch, transposed = draw_machine(rng), bool(rng.integers(2))
    leading = [(), (2,), (2, 3)][int(rng.integers(3))]
    left = sparse(rng, (*leading, depth, rows) if transposed else (*leading, rows, depth), zero)
    code = ops.CodeFormat(UINT8, zero)
    if index % 2:
        operator = ops.MatrixMultiply(code, sparse_weights(rng, columns, depth), None, ops.Raw(), transposed)
        sources = [left]
    else:
        right = sparse(rng, (*leading[-1:], depth, columns), 9)
        operator = ops.MatrixMultiply(code, None, ops.CodeFormat(UINT8, 9), ops.Raw(), transposed)
        sources = [left, right]
    layer = planned(operator, sources, (*leading, rows, columns), arch)
    without, total = assert_counted(layer, tuple(sources), arch)
    assert 0 < without < total


@pytest.mark.parametrize("wanted", few(OPERATORS, 2))
def test_zeros_of_generated_graphs_are_counted_as_the_oracle_counts(wanted: str) -> None:
    """Every contraction that importers make of random graphs, on their own values; graphs may be refused."""
    counted = 0
    for index in range(8):
        drawn, seen = draw_graph(SEED, index, (wanted,)), []
        arch = drawn.setup.machine
        try:
            model = accelsim.load(drawn.case.model, reference=drawn.setup.reference)
            accelsim.run(model, arch, drawn.case.inputs, check=False, observe=seen.append)
        except AccelSimError:
            continue
        for step in seen:
            operator = step.layer.operator
            if not isinstance(operator, ops.Convolution | ops.MatrixMultiply):
                assert busy_macs(step.layer, step.inputs, arch) is None
            elif operator.runtime is None:
                counted += assert_counted(step.layer, step.inputs, arch)[1] > 0
    assert counted > 1


@pytest.fixture
def table() -> EnergyTable:
    """The packaged table."""
    return load_table()


def test_only_multiplier_and_adder_are_saved(table: EnergyTable) -> None:
    """The bill shrinks by the gated multiplications and additions, and by nothing else."""
    rng = np.random.default_rng(SEED)
    operator = ops.MatrixMultiply(ops.CodeFormat(UINT8, 0), sparse_weights(rng, 6, 20), None, ops.Raw())
    source, arch = sparse(rng, (9, 20), 0), Arch(array=(4, 4))
    layer = planned(operator, [source], (9, 6), arch)
    timing = time_layer(layer.work, layer.plan, arch)
    busy = busy_macs(layer, (source,), arch)
    full, gated = price_layer(layer, timing, arch, table), price_layer(layer, timing, arch, table, busy)
    bits = {charge.unit.name for charge in full.charges if charge.component == "mac" and charge.action == "multiply"}
    unit = 0.1 + next(charge.unit.value_pj for charge in full.charges if charge.unit.name in bits)
    assert busy is not None
    assert full.component("mac") - gated.component("mac") == pytest.approx((timing.event("macs") - busy) * unit)
    for name in ("activation_sram", "weight_sram", "accumulator_sram", "registers", "requantiser", "dram"):
        assert full.component(name) == gated.component(name)


def test_a_run_with_gating(digits: Path) -> None:
    """The output names the share per layer; cycles and values stay; the energy falls by the mac alone."""
    with np.load(digits.with_name("digits_sample.npz")) as archive:
        inputs = dict(archive)
    plain = accelsim.run(digits, None, inputs)
    gated = accelsim.run(digits, None, inputs, energy=EnergyOptions(zero_gating=True))
    assert gated.cycles == plain.cycles
    assert gated.check.verdict == "exact"
    counts = [(layer.gated_macs, layer.macs) for layer in gated.layers if layer.placement == "array"]
    assert all(count is not None and 0 < count < macs for count, macs in counts)
    assert all(layer.gated_macs is None for layer in plain.layers)
    saved = sum(count for count, _ in counts) * (load_table().multiplier(9, 8).value_pj + 0.1)
    assert plain.energy_pj - gated.energy_pj == pytest.approx(saved)
    assert any("zero operand" in note for note in gated.energy.detail.notes)


def test_gating_without_values_is_refused(digits: Path) -> None:
    """Zeros are counted from values: a run without them cannot know."""
    with pytest.raises(UsageError, match="zero gating counts the zeros of a run: it needs values"):
        accelsim.run(digits, values=False, energy=EnergyOptions(zero_gating=True))
