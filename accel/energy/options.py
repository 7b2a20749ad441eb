"""What a user may say about energy: another table, another technology, imported energies, leakage, gating."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from accelsim.energy.reader import load_table, read_table
from accelsim.energy.rows import PER_CYCLE, POWER_UNITS, Row
from accelsim.energy.scaling import scaling
from accelsim.energy.table import EnergyTable
from accelsim.errors import UsageError, printable

_STATIC = re.compile(r"\s*([0-9.eE+-]+)\s*(W|mW|uW|pJ/cycle)\s*")
_LARGEST_STATIC = 1e9


@dataclass(frozen=True)
class EnergyOptions:
    """How energy is priced; the defaults are the packaged table at its own technology, without leakage or gating."""

    table: str | None = None
    """Name of a TOML file with other rows."""
    node_nm: float | None = None
    vdd: float | None = None
    """node_nm and vdd: technology to scale to, None for the table's own."""
    static: str | None = None
    """Leakage such as "50mW" or "12pJ/cycle"."""
    zero_gating: bool = False
    """Multiplier and adder stand still where an operand is zero."""
    ert: str | None = None
    ert_map: tuple[str, ...] = ()
    """ert and ert_map: an energy reference table of Accelergy, and which of its components are which of ours."""

    def load(self) -> EnergyTable:
        """Return the table that the options ask for.

        Raises:
            UsageError: a file or a value makes no sense; says which and what to do.
        """
        table = load_table() if self.table is None else read_table(self.table)
        if self.node_nm is not None or self.vdd is not None:
            table = scaled(table, self.node_nm, self.vdd)
        if self.static is not None:
            table = _leaking(table, self.static)
        if self.ert is not None:
            from accelsim.energy.accelergy import import_ert

            return import_ert(table, self.ert, self.ert_map)
        if self.ert_map:
            raise UsageError("--ert-map names components of an energy reference table: give the table with --ert")
        return table


def scaled(table: EnergyTable, node_nm: float | None, vdd: float | None) -> EnergyTable:
    """Return a table moved to another technology; DRAM and static power stay as they are.

    Args:
        table: at its own technology.
        node_nm: node in nm; None keeps the table's.
        vdd: supply in V; None keeps the table's.
    """
    row = table.technology
    target = row.node_nm if node_nm is None else node_nm, row.voltage if vdd is None else vdd
    return replace(table, scaling=scaling(row.node_nm, row.voltage, *target))


def _leaking(table: EnergyTable, text: str) -> EnergyTable:
    """Return a table with the static power that the user gives, in place of its own."""
    match = _STATIC.fullmatch(text)
    try:
        value = float(match.group(1)) if match else math.nan
    except ValueError:
        value = math.nan
    if match is None or not 0 < value <= _LARGEST_STATIC:
        raise UsageError(
            f"static energy '{printable(text, 40)}' is not understood: give a positive power such as 50mW or 0.05W, or "
            f"12{PER_CYCLE}"
        )
    unit = match.group(2)
    shown = POWER_UNITS.get(unit, 1.0)
    own = next(row for row in table.rows if row.component not in ("dram", "static"))
    row = Row(
        "static",
        "leakage",
        0,
        0,
        "",
        value,
        unit,
        value * shown,
        own.node_nm,
        own.voltage,
        "given by the user",
        "given",
    )
    return replace(table, rows=(*(other for other in table.rows if other.component != "static"), row))
