"""What outputs say about a table: unit energies and scaling as plain data, and what the numbers leave out."""

from __future__ import annotations

from typing import Any

from accelsim.energy.rows import PER_CYCLE
from accelsim.energy.scaling import NODES, SOURCE, VOLTAGES
from accelsim.energy.table import EnergyTable, UnitEnergy
from accelsim.machine.arch import Arch


def unit_dict(unit: UnitEnergy) -> dict[str, Any]:
    """Return a unit energy as plain data."""
    return vars(unit) | {"rows": list(unit.rows)}


def scaling_dict(table: EnergyTable) -> dict[str, Any] | None:
    """Return the scaling of a table as plain data, None for its own technology."""
    return None if table.scaling is None else vars(table.scaling) | {"source": SOURCE}


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
