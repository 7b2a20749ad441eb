"""Energy: counts of events times the table of unit energies, every unit with its source.

Names are imported when they are first used: the table alone needs no kernels.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accelsim.energy.bills import price_layer
    from accelsim.energy.charges import COMPONENTS, Charge, LayerEnergy, components, gathered, units_used
    from accelsim.energy.reader import load_table
    from accelsim.energy.table import EnergyTable, UnitEnergy
    from accelsim.energy.units import Units, requantisation_events

_HOMES = {
    "price_layer": "bills",
    "COMPONENTS": "charges",
    "Charge": "charges",
    "LayerEnergy": "charges",
    "components": "charges",
    "gathered": "charges",
    "units_used": "charges",
    "EnergyTable": "table",
    "UnitEnergy": "table",
    "load_table": "reader",
    "Units": "units",
    "requantisation_events": "units",
}

__all__ = [
    "COMPONENTS",
    "Charge",
    "EnergyTable",
    "LayerEnergy",
    "UnitEnergy",
    "Units",
    "components",
    "gathered",
    "load_table",
    "price_layer",
    "requantisation_events",
    "units_used",
]


def __getattr__(name: str) -> Any:
    """Import a public name from the module where it lives."""
    if name not in _HOMES:
        raise AttributeError(f"module 'accelsim.energy' has no attribute '{name}'")
    return getattr(import_module(f"accelsim.energy.{_HOMES[name]}"), name)
