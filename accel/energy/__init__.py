"""Energy: counts of events times the table of unit energies, every unit with its source.

Names are imported when they are first used: the table alone needs no kernels.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accelsim.energy.bills import price_layer as price_layer
    from accelsim.energy.charges import COMPONENTS as COMPONENTS
    from accelsim.energy.charges import Charge as Charge
    from accelsim.energy.charges import LayerEnergy as LayerEnergy
    from accelsim.energy.charges import components as components
    from accelsim.energy.charges import gathered as gathered
    from accelsim.energy.charges import units_used as units_used
    from accelsim.energy.reader import load_table as load_table
    from accelsim.energy.table import EnergyTable as EnergyTable
    from accelsim.energy.table import UnitEnergy as UnitEnergy
    from accelsim.energy.units import Units as Units
    from accelsim.energy.units import requantisation_events as requantisation_events

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

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    """Import a public name from the module where it lives."""
    if name not in _HOMES:
        raise AttributeError(f"module 'accelsim.energy' has no attribute '{name}'")
    return getattr(import_module(f"accelsim.energy.{_HOMES[name]}"), name)
