"""What a result says about its energy, so that every picojoule can be followed to a row with a source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ChargeLine:
    """One line of a bill: `count` events of one component at the unit energy of that name, for one action."""

    component: str
    action: str
    count: int
    unit: str

    def to_dict(self) -> dict[str, Any]:
        """Return the line as plain data."""
        return {"component": self.component, "action": self.action, "count": self.count, "unit": self.unit}


@dataclass(frozen=True)
class Baseline:
    """The same network on the same array in another number format.

    ratio: its energy over that of the run; components: pJ; charges, units: its bill, all layers together; bases: how
    its arithmetic is known, e.g. measured.
    """

    format: str
    energy_pj: float
    ratio: float
    components: Mapping[str, float]
    charges: tuple[ChargeLine, ...]
    units: tuple[Mapping[str, Any], ...]
    bases: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the baseline as plain data."""
        return {
            "format": self.format,
            "energy_pj": self.energy_pj,
            "ratio": self.ratio,
            "components": dict(self.components),
            "charges": [line.to_dict() for line in self.charges],
            "units": [dict(unit) for unit in self.units],
            "bases": list(self.bases),
        }


@dataclass(frozen=True)
class EnergyDetail:
    """Rows and laws behind the unit energies, what was assumed, and other formats.

    rows: of the table, those that some unit rests on; laws: those of the table; scaling: to another technology, None
    for the table's own; notes: what the numbers leave out or assume, one sentence each; baselines: see Baseline;
    assumptions: of the baselines.
    """

    rows: tuple[Mapping[str, Any], ...] = ()
    laws: tuple[Mapping[str, Any], ...] = ()
    scaling: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    baselines: tuple[Baseline, ...] = ()
    assumptions: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the detail as plain data."""
        return {
            "rows": [dict(row) for row in self.rows],
            "laws": [dict(law) for law in self.laws],
            "scaling": None if self.scaling is None else dict(self.scaling),
            "notes": list(self.notes),
            "baselines": [baseline.to_dict() for baseline in self.baselines],
            "baseline_assumptions": self.assumptions,
        }


@dataclass(frozen=True)
class GateCount:
    """Size of one processing element after synthesis, in generic gates.

    relative: over the one whose accumulator has 32 bits and wraps.
    """

    accumulator_bits: int
    overflow: str
    cells: int
    flip_flops: int
    relative: float


@dataclass(frozen=True)
class TableDescription:
    """What `accel-sim energy` shows.

    table, source, file: which table; machine: what it is for, in words; operations: unit energies of arithmetic that
    designs ask for; units: those of the machine's memories and array; area: see GateCount; area_source: its evidence.
    """

    table: str
    source: str
    file: str
    machine: str
    detail: EnergyDetail
    operations: tuple[Mapping[str, Any], ...]
    units: tuple[Mapping[str, Any], ...]
    area: tuple[GateCount, ...] = ()
    area_source: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the description as plain data."""
        behind = self.detail.to_dict()
        return {
            "table": self.table,
            "source": self.source,
            "file": self.file,
            "machine": self.machine,
            "operations": [dict(unit) for unit in self.operations],
            "units": [dict(unit) for unit in self.units],
            **{key: behind[key] for key in ("rows", "laws", "scaling", "notes")},
            "relative_area": {"source": self.area_source, "rows": [vars(row).copy() for row in self.area]},
        }
