"""Unit energies and bills: the table's points exactly, laws between them, nothing lost on the way to the total."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

import accelsim
from accelsim import Arch, operators as ops
from accelsim.energy import (
    COMPONENTS,
    Charge,
    EnergyTable,
    LayerEnergy,
    UnitEnergy,
    components,
    load_table,
    price_layer,
    units_used,
)
from accelsim.mapping.search import choose_plan
from accelsim.operators.tensors import TensorType
from accelsim.program.layers import Layer, Program
from accelsim.program.work import describe_work
from accelsim.timing.recurrence import time_layer, time_program
from tests.planning import planned
from tests.tiers import drawn

# M. Horowitz, ISSCC 2014, figure 1.1.9, in pJ.
HOROWITZ = {
    "int8_add": 0.03,
    "int16_add": 0.05,
    "int32_add": 0.1,
    "int8_multiply": 0.2,
    "int32_multiply": 3.1,
    "fp16_add": 0.4,
    "fp16_multiply": 1.1,
    "fp32_add": 0.9,
    "fp32_multiply": 3.7,
}
CACHES = {8 * 1024: 10.0, 32 * 1024: 20.0, 1024 * 1024: 100.0}
DRAM = {"low": 1300.0, "mid": 1950.0, "high": 2600.0}


@pytest.fixture
def table() -> EnergyTable:
    """The packaged table."""
    return load_table()


# ------------------------------------------------------------------------------------------------------ unit energies


@pytest.mark.parametrize(("name", "value"), HOROWITZ.items())
def test_operations_are_horowitz(table: EnergyTable, name: str, value: float) -> None:
    """Every arithmetic row is the published number, marked as measured, with its source."""
    unit = table.operation(name)
    assert (unit.name, unit.value_pj, unit.basis) == (name, value, "measured")
    assert "Horowitz" in unit.source
    assert "45 nm" in unit.source


def test_the_table_lists_nothing_else(table: EnergyTable) -> None:
    """No arithmetic row and no memory size without a published number behind it."""
    arithmetic = {row.name: row.value for row in table.rows if row.component in ("integer", "float")}
    assert arithmetic == HOROWITZ
    assert {row.capacity_bytes: row.value for row in table.rows if row.component == "memory"} == CACHES
    assert {row.variant: row.value for row in table.rows if row.component == "dram"} == DRAM
    assert all((row.node_nm, row.voltage, row.unit) == (45, 0.9, "pJ") for row in table.rows)
    assert all("Horowitz, ISSCC 2014" in row.source and "fig. 1.1.9" in row.source for row in table.rows)
    assert {row.name for row in table.rows if row.basis != "measured"} == {"dram_mid"}


@pytest.mark.parametrize(("bits", "value"), [(8, 0.03), (16, 0.05), (32, 0.1)])
def test_adders_of_the_table_are_exact(table: EnergyTable, bits: int, value: float) -> None:
    """Adders of 8, 16 and 32 bits are the table's rows."""
    assert (table.adder(bits).value_pj, table.adder(bits).basis) == (value, "measured")


@pytest.mark.parametrize(("bits", "value"), [(8, 0.2), (32, 3.1)])
def test_multipliers_of_the_table_are_exact(table: EnergyTable, bits: int, value: float) -> None:
    """Multipliers of 8 and 32 bits are the table's rows."""
    assert (table.multiplier(bits, bits).value_pj, table.multiplier(bits, bits).basis) == (value, "measured")


@pytest.mark.parametrize(("capacity", "value"), CACHES.items())
def test_memories_of_the_table_are_exact(table: EnergyTable, capacity: int, value: float) -> None:
    """64-bit accesses to 8 KiB, 32 KiB and 1 MiB are the table's rows."""
    unit = table.sram("cache", capacity, 64)
    assert (unit.value_pj, unit.basis) == (value, "measured")


def test_a_mac_is_a_multiplication_and_an_addition(table: EnergyTable) -> None:
    """An 8x8 multiplication into a 32-bit accumulator costs 0.3 pJ."""
    assert table.multiplier(8, 8).value_pj + table.adder(32).value_pj == pytest.approx(0.3, rel=1e-15)


@drawn(80, 500, st.integers(1, 64), st.integers(1, 64))
def test_multipliers_follow_the_quadratic_of_qkeras(first: int, second: int) -> None:
    """Square multipliers are QKeras' quadratic; the law is symmetric and bilinear in the two widths."""
    table = load_table()
    value = table.multiplier(first, second).value_pj
    assert value == pytest.approx(table.multiplier(second, first).value_pj, rel=1e-15)
    assert value == pytest.approx(0.002994791667 * first * second + 0.001041666667 * (first + second) / 2, rel=1e-8)


@drawn(80, 500, st.integers(1, 128), st.integers(1, 64), st.integers(1, 64))
def test_wider_arithmetic_costs_more(bits: int, first: int, second: int) -> None:
    """Adders and multipliers cost something, and more with every bit of any operand."""
    table = load_table()
    assert 0 < table.adder(bits).value_pj < table.adder(bits + 1).value_pj
    assert 0 < table.multiplier(first, second).value_pj < table.multiplier(first + 1, second).value_pj
    assert table.multiplier(first, second).value_pj < table.multiplier(first, second + 1).value_pj


@drawn(80, 500, st.integers(1, 1 << 24), st.integers(1, 1 << 22), st.integers(1, 512))
def test_larger_and_wider_memories_cost_more(capacity: int, more: int, bits: int) -> None:
    """An access costs more in a larger memory, and in proportion to the width of the word."""
    table = load_table()
    value = table.sram("memory", capacity, bits).value_pj
    assert 0 < value < table.sram("memory", capacity + more, bits).value_pj
    assert table.sram("memory", capacity, 2 * bits).value_pj == 2 * value


@drawn(80, 500, st.integers(1, 1 << 24), st.integers(1, 128), st.integers(1, 128))
def test_the_basis_tells_where_the_table_ends(capacity: int, first: int, second: int) -> None:
    """Only what lies between two published points is interpolated; beyond them it is extrapolated, and so marked."""
    table = load_table()
    between = "interpolated" if 8192 <= capacity <= 1 << 20 else "extrapolated"
    if capacity not in CACHES:
        assert table.sram("memory", capacity, 64).basis == between
    if first not in (8, 16, 32):
        assert table.adder(first).basis == ("interpolated" if 8 <= first <= 32 else "extrapolated")
    if (first, second) not in ((8, 8), (32, 32)):
        inside = min(first, second) >= 8 and max(first, second) <= 32
        assert table.multiplier(first, second).basis == ("interpolated" if inside else "extrapolated")


def test_dram_is_the_middle_of_the_published_range(table: EnergyTable) -> None:
    """A byte costs an eighth of 1950 pJ, the middle of 1300..2600 pJ per 64 bits, and its source says so."""
    assert table.dram().value_pj == (1300 + 2600) / 2 / 8
    assert "1300..2600" in table.dram().source


# --------------------------------------------------------------------------------------------------------------- bills


@st.composite
def bills(draw: st.DrawFn) -> LayerEnergy:
    """Draw a bill."""
    amounts = st.floats(1e-3, 1e3)
    charge = st.builds(
        Charge,
        st.sampled_from(COMPONENTS),
        st.integers(0, 10**9),
        st.builds(UnitEnergy, st.text(max_size=3), amounts, st.just("measured"), st.just("drawn")),
    )
    return LayerEnergy(tuple(draw(st.lists(charge, max_size=12))))


@drawn(80, 500, st.lists(bills(), max_size=4))
def test_components_add_up_to_the_total(several: list[LayerEnergy]) -> None:
    """Energy is conserved: charges, components and layers all add up to the same total."""
    total = math.fsum(bill.total_pj for bill in several)
    assert math.fsum(components(several).values()) == pytest.approx(total, rel=1e-12)
    for bill in several:
        assert math.fsum(map(bill.component, COMPONENTS)) == pytest.approx(bill.total_pj, rel=1e-12)
        assert bill.total_pj == pytest.approx(sum(c.count * c.unit.value_pj for c in bill.charges), rel=1e-9)


def dense_layer(weights: np.ndarray, rows: int, arch: Arch) -> Layer:
    """Lower one int8 product of `rows` rows with constant weights[N, K]."""
    columns, depth = weights.shape
    code = ops.CodeFormat(np.dtype("uint8"), 0)
    constant = ops.Weights(weights.astype(np.int16), np.zeros(columns, np.int32))
    operator = ops.MatrixMultiply(code, constant, None, ops.Requantise(np.ones(1, np.float32), code))
    source, target = TensorType.of("uint8", (rows, depth)), TensorType.of("uint8", (rows, columns))
    work = describe_work(operator, (source,), (target,))
    return Layer(
        "dense", "Gemm", operator, ("x",), ("y",), (source,), (target,), work, choose_plan("dense", work, arch).plan
    )


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
@pytest.mark.parametrize("acc_bits", [16, 32, 40])
def test_the_bill_of_a_product(table: EnergyTable, dataflow: str, acc_bits: int) -> None:
    """Every component of a dense product, recomputed from section 6 of the contract and the laws of the table."""
    (m, k, n), arch = (20, 24, 12), Arch(array=(8, 4), dataflow=dataflow, acc_bits=acc_bits)
    layer = dense_layer(np.full((n, k), 3), m, arch)
    timing = time_layer(layer.work, layer.plan, arch)
    bill = price_layer(layer, timing, arch, table)
    x_reads, w_reads = {"ws": (m * k * 3, k * n), "os": (m * k * 3, k * n * 3), "is": (k * m, n * k * 5)}[dataflow]
    biases, accesses = (n * 3, m * n) if dataflow == "os" else (m * n, m * n * (2 + 3))
    loaded = m * k, k * n + 8 * n
    x_byte, w_byte = table.sram("", arch.spm_act / 8, 8).value_pj, table.sram("", arch.spm_weight, 8).value_pj
    expected = {
        "mac": m * k * n * (table.multiplier(9, 8).value_pj + table.adder(acc_bits).value_pj),
        "activation_sram": (x_reads + loaded[0] + 2 * m * n) * x_byte,
        "weight_sram": (w_reads + loaded[1] + 4 * biases) * w_byte,
        "accumulator_sram": (accesses + m * n) * table.sram("", 512 * acc_bits / 8, acc_bits).value_pj,
        "requantiser": m * n * (3.7 + 2 * 0.9 + 0.1),
        "dram": timing.dram_bytes * 1950 / 8,
    }
    for name, value in expected.items():
        assert bill.component(name) == pytest.approx(value, rel=1e-12), name
    assert math.fsum([*expected.values(), bill.component("registers")]) == pytest.approx(bill.total_pj, rel=1e-12)


def test_widened_weights_cost_a_wider_multiplication(table: EnergyTable) -> None:
    """Weights that need 9 bits after their zero point was subtracted are multiplied at 9x9 bits."""
    arch = Arch()
    for value, bits in ((127, 8), (-128, 8), (128, 9), (-129, 9), (255, 9)):
        layer = dense_layer(np.full((4, 8), value), 2, arch)
        bill = price_layer(layer, time_layer(layer.work, layer.plan, arch), arch, table)
        unit = table.multiplier(9, bits).value_pj + table.adder(32).value_pj
        assert bill.component("mac") == pytest.approx(2 * 8 * 4 * unit, rel=1e-12)


# ------------------------------------------------------------------------------------------------------ whole networks


@pytest.fixture
def program(digits: Path) -> Program:
    """Our own network on the default machine."""
    return planned(accelsim.load(digits).bind(None).graph, Arch())


def test_every_charge_is_in_a_component(program: Program, table: EnergyTable) -> None:
    """No charge falls outside the components, so the sum over them is the sum over all charges."""
    arch = Arch()
    drawn = [price_layer(*pair, arch, table) for pair in zip(program.layers, time_program(program, arch), strict=True)]
    assert {charge.component for bill in drawn for charge in bill.charges} <= set(COMPONENTS)
    assert math.fsum(components(drawn).values()) == pytest.approx(math.fsum(b.total_pj for b in drawn), rel=1e-12)


def test_unit_names_are_unique_and_sourced(program: Program, table: EnergyTable) -> None:
    """Each unit energy of a run has one name, one value, a known basis and a source."""
    arch = Arch()
    drawn = [price_layer(*pair, arch, table) for pair in zip(program.layers, time_program(program, arch), strict=True)]
    units = units_used(drawn)
    assert len({unit.name for unit in units}) == len(units)
    assert {unit.basis for unit in units} <= {"measured", "interpolated", "extrapolated"}
    assert all("Horowitz" in unit.source for unit in units)


def test_every_event_has_a_price(program: Program, table: EnergyTable) -> None:
    """Doubling any count of any layer, except those that only describe, raises its bill (nothing is free)."""
    arch = Arch()
    described = {"tiles", "useful_read_bytes", "useful_write_bytes"}
    for layer, timing in zip(program.layers, time_program(program, arch), strict=True):
        total = price_layer(layer, timing, arch, table).total_pj
        for index, (name, count) in enumerate(timing.events):
            if name in described or not count:
                continue
            events = (*timing.events[:index], (name, 2 * count), *timing.events[index + 1 :])
            assert price_layer(layer, replace(timing, events=events), arch, table).total_pj > total, (layer.name, name)


def test_row_misses_take_time_not_energy(digits: Path) -> None:
    """The row model changes cycles; its misses are inside of the range of DRAM energies, and no operation."""
    plain, rows = (accelsim.run(digits, Arch(dram_row_bytes=size), values=False) for size in (0, 2048))
    assert rows.cycles > plain.cycles
    assert rows.energy_pj == plain.energy_pj
