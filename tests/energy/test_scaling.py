"""Other technologies: published coefficients, ratios that others publish, limits that are refused, DRAM as it is."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import strategies as st

import accelsim
from accelsim.energy.options import EnergyOptions, scaled
from accelsim.energy.reader import load_table
from accelsim.energy.scaling import COEFFICIENTS, NODES, VOLTAGES, relative_energy, scaling
from accelsim.errors import UsageError
from tests.tiers import drawn

NODE, VOLT = st.floats(7, 130), st.floats(*VOLTAGES)


def test_the_corrigendum_of_the_paper() -> None:
    """The authors' corrected example (65 nm at 1.3 V) is 3.755 V^2 - 4.398 V + 1.975 = 2.604."""
    a, b, c = COEFFICIENTS[65]
    assert a * 1.3**2 + b * 1.3 + c == pytest.approx(2.604, abs=1e-3)


@pytest.mark.parametrize(("node", "ratio"), [(65, 1.24), (45, 1.0), (32, 0.66), (20, 0.22), (16, 0.17), (7, 0.094)])
def test_ratios_at_a_common_voltage(node: int, ratio: float) -> None:
    """What Accelergy's library plug-in gives from 45 nm at its default of 0.8 V."""
    assert scaling(45, 0.8, node, 0.8).factor == pytest.approx(ratio, rel=0.04)


def test_nothing_moves_at_the_tables_own_technology() -> None:
    """45 nm at 0.9 V is where the table is."""
    assert scaling(45, 0.9, 45, 0.9).factor == 1.0
    assert scaled(load_table(), None, None).adder(32).value_pj == 0.1


@drawn(80, 300, VOLT, VOLT)
def test_smaller_nodes_and_lower_voltages_cost_less(first: float, second: float) -> None:
    """At any voltage of the range energies rise with the node; at any node they rise with the voltage."""
    costs = [relative_energy(node, first) for node in NODES]
    assert all(0 < low < high for low, high in pairwise(costs))
    low, high = sorted((first, second))
    assert all(relative_energy(node, low) <= relative_energy(node, high) for node in NODES)


@drawn(80, 300, NODE, VOLT)
def test_nodes_between_listed_ones_are_linear(node: float, voltage: float) -> None:
    """A node in between costs the mixture of its neighbours."""
    below, above = max(n for n in NODES if n <= node), min(n for n in NODES if n >= node)
    share = (node - below) / (above - below) if above > below else 0.0
    mixed = (1 - share) * relative_energy(below, voltage) + share * relative_energy(above, voltage)
    assert relative_energy(node, voltage) == pytest.approx(mixed, rel=1e-12)


@pytest.mark.parametrize("node", [0, 5, 6.99, 131, 180, float("nan"), float("inf"), -45])
def test_nodes_outside_of_the_law_are_refused(node: float) -> None:
    """The sentence names the range."""
    with pytest.raises(UsageError, match=r"outside 7\.\.130 nm"):
        EnergyOptions(node_nm=node).load()


@pytest.mark.parametrize("voltage", [0.0, 0.59, 1.11, -1.0, float("nan")])
def test_voltages_outside_of_the_law_are_refused(voltage: float) -> None:
    """The sentence names the range."""
    with pytest.raises(UsageError, match=r"outside 0\.6\.\.1\.1 V"):
        EnergyOptions(vdd=voltage).load()


def test_a_table_from_outside_of_the_law_cannot_be_scaled() -> None:
    """A table at 180 nm has no coefficients to leave from."""
    table = load_table()
    old = replace(table, rows=tuple(replace(entry, node_nm=180.0) for entry in table.rows))
    with pytest.raises(UsageError, match="180 nm is outside"):
        scaled(old, 7, None)


def test_a_run_at_another_node(digits: Path) -> None:
    """Everything but DRAM and static power moves by one factor, and the output says both."""
    here = accelsim.run(digits, values=False)
    options = EnergyOptions(node_nm=7, vdd=0.7, static="50mW")
    there = accelsim.run(digits, values=False, energy=options)
    factor = relative_energy(7, 0.7) / relative_energy(45, 0.9)
    for name, value in here.energy_components_pj.items():
        expected = value if name == "dram" else value * factor
        assert there.energy_components_pj[name] == pytest.approx(expected, rel=1e-12), name
    assert there.energy_components_pj["static"] == there.cycles * 50  # 50 mW at 1 GHz are 50 pJ per cycle
    assert any("DRAM is not scaled" in note for note in there.energy.detail.notes)
    assert "scaled to 7 nm, 0.7 V" in there.energy.source
    units = {unit["name"]: unit for unit in there.energy.units}
    assert (units["int32_add"]["basis"], units["int9x8_multiply"]["basis"]) == (
        "measured, scaled",
        "interpolated, scaled",
    )
    assert (units["dram_byte"]["basis"], units["dram_byte"]["value_pj"]) == ("interpolated", 243.75)
    assert "Stillmaker" in units["int32_add"]["law"]


@pytest.mark.parametrize(
    ("text", "clock", "per_cycle"),
    [("50mW", 1.0, 50), ("0.05 W", 2.0, 25), ("300uW", 0.5, 0.6), ("12pJ/cycle", 2.0, 12)],
)
def test_static_power_is_a_component_of_its_own(digits: Path, text: str, clock: float, per_cycle: float) -> None:
    """Leakage is a component of its own: power over the clock, or pJ per cycle as given."""
    result = accelsim.run(digits, accelsim.Arch(clock_ghz=clock), values=False, energy=EnergyOptions(static=text))
    assert result.energy_components_pj["static"] == pytest.approx(result.cycles * per_cycle, rel=1e-12)
    assert not any("no static energy" in note for note in result.energy.detail.notes)


def test_without_static_power_the_output_says_so(digits: Path) -> None:
    """There is no component, and a note."""
    result = accelsim.run(digits, values=False)
    assert "static" not in result.energy_components_pj
    assert any(note.startswith("no static energy") for note in result.energy.detail.notes)


@pytest.mark.parametrize("text", ["", "50", "mW", "-1mW", "0W", "nan W", "1e400W", "50 kW", "1..2W", "inf W", "12pJ"])
def test_static_power_that_makes_no_sense(text: str) -> None:
    """One sentence with examples."""
    with pytest.raises(UsageError, match=r"static energy .* is not understood"):
        EnergyOptions(static=text).load()
