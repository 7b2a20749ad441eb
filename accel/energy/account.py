"""Turns bills into what a result shows: lines with the names of their units, rows and laws behind them, formats."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from accelsim.energy.baselines import price_formats
from accelsim.energy.charges import Charge, LayerEnergy, components, gathered, units_used
from accelsim.energy.notes import notes, scaling_dict, unit_dict
from accelsim.energy.table import EnergyTable
from accelsim.machine.arch import Arch
from accelsim.program.layers import Layer
from accelsim.results.energy import Baseline, ChargeLine, EnergyDetail
from accelsim.timing.layer_timing import LayerTiming

ASSUMPTIONS = (
    "same mapping, cycles and counts; operands, multipliers and registers of the format's width, floats accumulated in "
    "float32; codes on chip and in DRAM grow with the width, and scratchpads hold as many of them; layers that only "
    "quantise are left out of float formats; arithmetic of the vector unit stays as it is (docs/energy.md)"
)


def lines(charges: Iterable[Charge]) -> tuple[ChargeLine, ...]:
    """Return charges as lines that name their units."""
    return tuple(ChargeLine(charge.component, charge.action, charge.count, charge.unit.name) for charge in charges)


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
