"""Turns bills into what a result shows: lines with the names of their units, units with rows and laws, notes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from accelsim.arch import Arch
from accelsim.energy.baselines import price_formats
from accelsim.energy.charges import Charge, LayerEnergy, components, gathered, units_used
from accelsim.energy.rows import PER_CYCLE
from accelsim.energy.scaling import NODES, SOURCE, VOLTAGES
from accelsim.energy.table import EnergyTable, UnitEnergy
from accelsim.energy_result import Baseline, ChargeLine, EnergyDetail
from accelsim.program import Layer
from accelsim.timing import LayerTiming

ASSUMPTIONS = (
    "same mapping, cycles and counts; operands, multipliers and registers of the format's width, floats accumulated in "
    "float32; codes on chip and in DRAM grow with the width, and scratchpads hold as many of them; layers that only "
    "quantise are left out of float formats; arithmetic of the vector unit stays as it is (docs/energy.md)"
)


def unit_dict(unit: UnitEnergy) -> dict[str, Any]:
    """Return a unit energy as plain data."""
    return vars(unit) | {"rows": list(unit.rows)}


def scaling_dict(table: EnergyTable) -> dict[str, Any] | None:
    """Return the scaling of a table as plain data, None for its own technology."""
    return None if table.scaling is None else vars(table.scaling) | {"source": SOURCE}


def lines(charges: Iterable[Charge]) -> tuple[ChargeLine, ...]:
    """Return charges as lines that name their units."""
    return tuple(ChargeLine(charge.component, charge.action, charge.count, charge.unit.name) for charge in charges)


def notes(table: EnergyTable, arch: Arch, *, zero_gating: bool = False) -> tuple[str, ...]:
    """Say what the numbers leave out or assume, one sentence each.

    Args:
        table: unit energies.
        arch: the machine.
        zero_gating: products with a zero operand cost no multiplication and no addition.
    """
    leaking = table.static(arch.clock_ghz)
    said = [
        "no static energy: nothing leaks (--static adds it)"
        if leaking is None
        else f"static energy: {leaking.value_pj:g} {PER_CYCLE}, {leaking.source}; it is not scaled",
        "scratchpads, accumulator banks and registers are priced by the table's memories; Horowitz' are caches, tags "
        "included",
        "the DMA engine and the controller have no row in the table: bytes moved are priced where they enter and leave",
    ]
    if table.scaling is not None:
        nodes = f"{NODES[0]}..{NODES[-1]} nm, {VOLTAGES[0]:g}..{VOLTAGES[1]:g} V"
        said.append(
            f"scaled {table.scaling.text}; the law is fitted to logic, valid for {nodes}, and applied to memories too; "
            "DRAM is not scaled"
        )
    if zero_gating:
        said.append("multiplier and adder stand still for products with a zero operand, counted from this run's values")
    if table.imported:
        said.append("energies of basis 'imported' come from an energy reference table; all others from the table")
    if table.unused:
        said.append(f"components of the energy reference table that were not used: {', '.join(table.unused)}")
    return tuple(said)


def detail(
    layers: Sequence[Layer],
    timings: Sequence[LayerTiming],
    bills: Sequence[LayerEnergy],
    arch: Arch,
    table: EnergyTable,
    *,
    zero_gating: bool = False,
) -> EnergyDetail:
    """Return what lies behind the bills of a program, and what it would cost in other formats.

    Args:
        layers: layers of the program.
        timings: their event counts.
        bills: their bills.
        arch: the machine.
        table: unit energies.
        zero_gating: the bills leave products with a zero operand out.
    """
    total = math.fsum(bill.total_pj for bill in bills)
    priced = price_formats(layers, timings, arch, table)
    baselines = tuple(_baseline(form.name, format_bills, total) for form, format_bills in priced)
    named = {name for unit in units_used(bills) for name in unit.rows}
    named |= {name for _, others in priced for unit in units_used(others) for name in unit.rows}
    return EnergyDetail(
        tuple(row.to_dict() for row in table.rows_named(named)),
        tuple(law.to_dict() for law in table.laws),
        scaling_dict(table),
        notes(table, arch, zero_gating=zero_gating),
        baselines,
        ASSUMPTIONS,
    )


def _baseline(name: str, bills: Sequence[LayerEnergy], total_pj: float) -> Baseline:
    """Sum up the bills of one format."""
    energy = math.fsum(bill.total_pj for bill in bills)
    arithmetic = {charge.unit.basis for bill in bills for charge in bill.charges if charge.component == "mac"}
    return Baseline(
        name,
        energy,
        energy / total_pj if total_pj else 1.0,
        {component: value for component, value in components(bills).items() if value},
        lines(gathered(bills)),
        tuple(unit_dict(unit) for unit in units_used(bills)),
        tuple(sorted(arithmetic)),
    )
