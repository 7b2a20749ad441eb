"""Bills: counts of events at their unit energies, by component."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from accelsim.energy.table import UnitEnergy

COMPONENTS = (
    "mac", "activation_sram", "weight_sram", "accumulator_sram", "registers", "requantiser", "vector", "dram",
)  # fmt: skip


@dataclass(frozen=True)
class Charge:
    """One line of the bill: so many events of one kind at one unit energy, for one component."""

    component: str
    count: int
    unit: UnitEnergy

    @property
    def energy_pj(self) -> float:
        """Count times unit."""
        return self.count * self.unit.value_pj


@dataclass(frozen=True)
class LayerEnergy:
    """The bill of one layer."""

    charges: tuple[Charge, ...]

    def component(self, name: str) -> float:
        """Return the energy of one component, in pJ."""
        return math.fsum(charge.energy_pj for charge in self.charges if charge.component == name)

    @property
    def total_pj(self) -> float:
        """Sum over all charges."""
        return math.fsum(charge.energy_pj for charge in self.charges)


def components(bills: Sequence[LayerEnergy]) -> dict[str, float]:
    """Return the energy of each component over several bills, in pJ."""
    return {
        name: math.fsum(charge.energy_pj for bill in bills for charge in bill.charges if charge.component == name)
        for name in COMPONENTS
    }


def units_used(bills: Sequence[LayerEnergy]) -> list[UnitEnergy]:
    """Return every unit energy that appears in the bills, once, by name."""
    return sorted(
        {charge.unit for bill in bills for charge in bill.charges},
        key=lambda unit: (unit.name, unit.value_pj),
    )
