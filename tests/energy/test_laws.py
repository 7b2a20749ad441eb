"""Laws of any table: they meet every measured row exactly and rise with width and capacity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import strategies as st

from accelsim.energy.reader import load_table
from accelsim.energy.rows import SIGNIFICANDS
from accelsim.energy.table import EnergyTable
from tests.energy.tables import row, smallest, table_of
from tests.tiers import drawn

STEPS = st.floats(0.0, 3.0)


def rising(draw: st.DrawFn, places: Sequence[object], first: float) -> list[float]:
    """Draw energies that do not fall."""
    values = [first]
    for _ in places[1:]:
        values.append(values[-1] * (1 + draw(STEPS)))
    return values


@st.composite
def tables(draw: st.DrawFn) -> EnergyTable:
    """Draw a table with other widths, capacities, word widths and values than the packaged one."""
    rows: list[dict[str, Any]] = [entry for entry in smallest() if entry["component"] == "dram"]
    start = st.floats(1e-3, 10)
    widths = sorted(draw(st.sets(st.integers(1, 64), min_size=1, max_size=5)))
    for width, value in zip(widths, rising(draw, widths, draw(start)), strict=True):
        rows.append(row("integer", "add", value, width=width))
    widths = sorted(draw(st.sets(st.integers(1, 64), min_size=1, max_size=4)))
    for width, per_bit in zip(widths, rising(draw, widths, draw(start)), strict=True):
        rows.append(row("integer", "multiply", per_bit * width, width=width))
    capacities = sorted(draw(st.sets(st.integers(1, 1 << 20), min_size=2, max_size=5)))
    per_bit = draw(st.floats(1e-3, 1))
    for index, capacity in enumerate(capacities):
        per_bit *= (capacity / capacities[max(index - 1, 0)]) ** draw(st.floats(0, 1))
        width = draw(st.sampled_from((8, 32, 64, 100)))
        rows.append(row("memory", "access", per_bit * width, capacity_bytes=capacity, width=width))
    formats = sorted(draw(st.sets(st.sampled_from(list(SIGNIFICANDS)), min_size=1)), key=SIGNIFICANDS.__getitem__)
    for operation in ("add", "multiply"):
        for name, value in zip(
            formats, rising(draw, [SIGNIFICANDS[name] for name in formats], draw(start)), strict=True
        ):
            rows.append(row("float", operation, value, format=name))
    return table_of(draw(st.permutations(rows)))


@drawn(80, 300, tables())
def test_laws_meet_every_row(table: EnergyTable) -> None:
    """At the width, format or capacity of a row every law gives that row: its value exactly, measured, and no law."""
    for entry in table.rows:
        if entry.component == "integer" or entry.component == "float":
            unit = table.operation(entry.name)
        elif entry.component == "memory":
            unit = table.sram("memory", entry.capacity_bytes, entry.width)
        else:
            continue
        assert (unit.value_pj, unit.basis, unit.law, unit.rows) == (entry.value, "measured", "", (entry.name,))


@drawn(80, 300, tables(), st.integers(1, 100), st.integers(1, 100))
def test_laws_rise_with_the_width(table: EnergyTable, first: int, second: int) -> None:
    """No adder, multiplier, float or word costs less for being wider, and nothing is free."""
    slack = 1 - 1e-9
    assert 0 < table.adder(first).value_pj * slack <= table.adder(first + 1).value_pj
    here = table.multiplier(first, second).value_pj
    assert here > 0
    for wider in (table.multiplier(first + 1, second), table.multiplier(first, second + 1)):
        assert here * slack <= wider.value_pj
    assert here == pytest.approx(table.multiplier(second, first).value_pj, rel=1e-9)
    for operation in ("add", "multiply"):
        costs = [table.operation(f"{name}_{operation}").value_pj for name in ("bf16", "fp16", "fp32")]
        assert 0 < costs[0] * slack * slack <= costs[1] * slack <= costs[2]


@drawn(80, 300, tables(), st.integers(1, 1 << 26), st.integers(1, 1 << 22), st.integers(1, 256))
def test_laws_rise_with_the_capacity(table: EnergyTable, capacity: int, more: int, bits: int) -> None:
    """No access costs less in a larger memory, and words are priced in proportion to their bits."""
    here = table.sram("memory", capacity, bits).value_pj
    assert 0 < here * (1 - 1e-9) <= table.sram("memory", capacity + more, bits).value_pj
    assert table.sram("memory", capacity, 3 * bits).value_pj == pytest.approx(3 * here, rel=1e-9)


@drawn(80, 300, tables(), st.integers(1, 100))
def test_what_is_no_row_says_so(table: EnergyTable, bits: int) -> None:
    """A width without a row is interpolated between rows, extrapolated beyond them, and carries its law and rows."""
    widths = sorted(entry.width for entry in table.rows if (entry.component, entry.operation) == ("integer", "add"))
    unit = table.adder(bits)
    if bits not in widths:
        assert unit.basis == ("interpolated" if widths[0] < bits < widths[-1] else "extrapolated")
        assert unit.law
        assert unit.rows
        assert all(table.rows_named({name}) for name in unit.rows)


def test_the_law_of_multipliers_through_three_rows() -> None:
    """With a third row the energy per bit bends there: E(w1, w2) = (w2 h(w1) + w1 h(w2)) / 2, by hand."""
    rows = [entry for entry in smallest() if entry["operation"] != "multiply" or entry["component"] == "float"]
    rows += [row("integer", "multiply", value, width=width) for width, value in ((8, 0.2), (16, 0.8), (32, 4.8))]
    table = table_of(rows)
    h12, h24 = (0.2 / 8 + 0.8 / 16) / 2, (0.8 / 16 + 4.8 / 32) / 2
    assert table.multiplier(12, 24).value_pj == pytest.approx((24 * h12 + 12 * h24) / 2)
    assert table.multiplier(12, 24).rows == ("int8_multiply", "int16_multiply", "int32_multiply")
    assert table.multiplier(12, 12).value_pj == pytest.approx(12 * h12)


def test_the_fitted_parameters_are_those_of_the_text() -> None:
    """The laws that outputs print give the values that outputs print: adders, multipliers, memories, floats."""
    table = load_table()
    assert table.adder(20).law == "E = 0.003125 w, w = 20"
    assert table.adder(20).value_pj == pytest.approx(0.003125 * 20)
    assert table.multiplier(16, 16).law.startswith("E = 0.00299479167 w1 w2 + 0.00104166667 (w1 + w2) / 2")
    assert table.multiplier(16, 16).value_pj == pytest.approx(0.00299479167 * 256 + 0.00104166667 * 16, rel=1e-7)
    assert table.multiplier(16, 16).value_pj == pytest.approx(0.783, abs=5e-4)  # QKeras' quadratic at 16 bits
    assert table.sram("bank", 12288, 8).law.startswith("E = 1.25 (c / 8192)^0.5, c = 12288 B")
    assert table.sram("bank", 12288, 8).value_pj == pytest.approx(1.25 * math.sqrt(1.5))
    slope = (3.7 - 1.1) / (24**2 - 11**2)
    assert table.operation("bf16_multiply").value_pj == pytest.approx(1.1 - slope * (11**2 - 8**2))
    assert table.operation("bf16_multiply").basis == "extrapolated"
