"""What a result says about its energy, so that every picojoule can be followed to a row with a source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from accelsim.results.limits import Amount, Amounts, Count, Row, Rows, Text, Texts
from accelsim.results.plain import plain


@dataclass(frozen=True)
class ChargeLine:
    """One line of a bill: some events of one component for one action."""

    component: Text
    action: Text
    count: Count
    unit: Text
    """Name of the unit energy of one event."""


Charges = Annotated[tuple[ChargeLine, ...], Field(max_length=1_000)]


@dataclass(frozen=True)
class Baseline:
    """The same network on the same array in another number format."""

    format: Text
    energy_pj: Amount
    ratio: Amount
    """Its energy over that of the run."""
    components: Amounts
    """Energy by component, in pJ."""
    charges: Charges
    """Its bill, all layers together."""
    units: Rows
    """The unit energies of the bill."""
    bases: Annotated[tuple[Text, ...], Field(max_length=100)]
    """How its arithmetic is known, e.g. measured."""


@dataclass(frozen=True)
class EnergyDetail:
    """Rows and laws behind the unit energies, what was assumed, and other formats."""

    rows: Rows = ()
    """Of the table, those that some unit rests on."""
    laws: Rows = ()
    """Those of the table."""
    scaling: Row | None = None
    """To another technology, None for the table's own."""
    notes: Texts = ()
    """What the numbers leave out or assume, one sentence each."""
    baselines: Annotated[tuple[Baseline, ...], Field(max_length=100)] = ()
    assumptions: Annotated[Text, Field(alias="baseline_assumptions")] = ""
    """Of the baselines."""


@dataclass(frozen=True)
class GateCount:
    """Size of one processing element after synthesis, in generic gates."""

    accumulator_bits: int
    overflow: str
    cells: int
    flip_flops: int
    relative: float
    """Over the one whose accumulator has 32 bits and wraps."""


@dataclass(frozen=True)
class TableDescription:
    """What `accel-sim energy` shows."""

    table: str
    source: str
    file: str
    machine: str
    """What the table is for, in words."""
    detail: EnergyDetail
    operations: tuple[Mapping[str, Any], ...]
    """Unit energies of arithmetic that designs ask for."""
    units: tuple[Mapping[str, Any], ...]
    """Those of the machine's memories and array."""
    area: tuple[GateCount, ...] = ()
    area_source: str = ""
    """Its evidence."""

    def to_dict(self) -> dict[str, Any]:
        """Return the description as plain data."""
        data = plain(self)
        detail, rows, source = (data.pop(key) for key in ("detail", "area", "area_source"))
        behind = {key: detail[key] for key in ("rows", "laws", "scaling", "notes")}
        return data | behind | {"relative_area": {"source": source, "rows": rows}}
