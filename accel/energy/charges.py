"""Bills: counts of events at their unit energies, by component."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from accelsim.energy.table import UnitEnergy

COMPONENTS = (
    "mac", "activation_sram", "weight_sram", "accumulator_sram", "registers", "requantiser", "vector", "host", "dram",
    "static",
)  # fmt: skip


@dataclass(frozen=True)
class Charge:
    """One line of the bill: so many events of one kind at one unit energy, for one component.

    action: what happens, in the words that Accelergy uses for its primitive components: read, write, add, multiply,
    compute, or leak.
    """

    component: str
    count: int
    unit: UnitEnergy
    action: str = "compute"

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


def words_moved(component: str, word: Callable[[str], UnitEnergy], reads: int, writes: int) -> list[Charge]:
    """Return so many reads and writes of one memory.

    Args:
        component: whose memory it is.
        word: energy of one word by action, "read" or "write".
        reads: words read.
        writes: words written.
    """
    return [Charge(component, count, word(action), action) for action, count in (("read", reads), ("write", writes))]


def components(bills: Sequence[LayerEnergy]) -> dict[str, float]:
    """Return the energy of each component over several bills, in pJ."""
    return {
        name: math.fsum(charge.energy_pj for bill in bills for charge in bill.charges if charge.component == name)
        for name in COMPONENTS
    }


def gathered(bills: Sequence[LayerEnergy]) -> tuple[Charge, ...]:
    """Return one charge per component, unit and action, with the counts of several bills together."""
    counts: dict[tuple[str, UnitEnergy, str], int] = {}
    for bill in bills:
        for charge in bill.charges:
            key = (charge.component, charge.unit, charge.action)
            counts[key] = counts.get(key, 0) + charge.count
    return tuple(Charge(component, count, unit, action) for (component, unit, action), count in counts.items())


def units_used(bills: Sequence[LayerEnergy]) -> list[UnitEnergy]:
    """Return every unit energy that appears in the bills, once, by name."""
    return sorted(
        {charge.unit for bill in bills for charge in bill.charges},
        key=lambda unit: (unit.name, unit.value_pj),
    )
