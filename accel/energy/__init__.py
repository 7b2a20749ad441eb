"""Energy: counts of events times the table of unit energies, every unit with its source.

Names are imported when they are first used: the table alone needs no kernels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from accelsim.lazy import importer

if TYPE_CHECKING:
    from accelsim.energy.bills import price_layer as price_layer
    from accelsim.energy.charges import (
        COMPONENTS as COMPONENTS,
        Charge as Charge,
        LayerEnergy as LayerEnergy,
        components as components,
        gathered as gathered,
        units_used as units_used,
    )
    from accelsim.energy.reader import load_table as load_table
    from accelsim.energy.table import EnergyTable as EnergyTable, UnitEnergy as UnitEnergy
    from accelsim.energy.units import Units as Units, requantisation_events as requantisation_events

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

__getattr__ = importer("accelsim.energy", _HOMES)
