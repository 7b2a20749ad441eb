"""Energy tables for tests: the packaged one as text, and tables of drawn rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from accelsim.energy.reader import parse_table
from accelsim.energy.table import EnergyTable

PACKAGED = (resources.files("accelsim") / "data" / "energy" / "horowitz45.toml").read_text("utf-8")

COMMON = {"unit": "pJ", "node_nm": 45, "voltage": 0.9, "source": "drawn", "basis": "measured"}


def toml(value: object) -> str:
    """Spell a plain value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return "[" + ", ".join(map(toml, value)) + "]" if isinstance(value, list) else repr(value)


def row(component: str, operation: str, value: float, **keys: Any) -> dict[str, Any]:
    """Return the keys of one row."""
    return {"component": component, "operation": operation, "value": value, **COMMON, **keys}


def text(rows: Sequence[Mapping[str, Any]], **top: Any) -> str:
    """Spell a table."""
    lines = [f"{key} = {toml(value)}" for key, value in top.items()]
    for entry in rows:
        lines += ["[[row]]", *(f"{key} = {toml(value)}" for key, value in entry.items())]
    return "\n".join(lines) + "\n"


def smallest() -> list[dict[str, Any]]:
    """Return the fewest rows that make a table."""
    return [
        row("integer", "add", 0.1, width=32),
        row("integer", "multiply", 0.2, width=8),
        row("float", "add", 0.9, format="fp32"),
        row("float", "multiply", 3.7, format="fp32"),
        row("memory", "access", 10.0, capacity_bytes=8192, width=64),
        row("memory", "access", 20.0, capacity_bytes=32768, width=32),
        row("dram", "access", 1000.0, point="mid", width=64),
    ]


def table_of(rows: Sequence[Mapping[str, Any]], **top: Any) -> EnergyTable:
    """Read a table of these rows."""
    return parse_table(text(rows, **top), "drawn.toml")
