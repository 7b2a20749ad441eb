"""Reads energy tables: TOML rows, checked one by one, so that an error names the file, the row and the key."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from itertools import pairwise
from typing import Any, NoReturn

from accelsim.energy.rows import (
    ENERGY_UNITS,
    FORMAT_BITS,
    KINDS,
    LAWS,
    PER_CYCLE,
    POINTS,
    POWER_UNITS,
    SIGNIFICANDS,
    Law,
    Row,
)
from accelsim.energy.table import DEFAULT_TABLE, EnergyTable, place
from accelsim.errors import UsageError, nearest, printable
from accelsim.files.reading import read_input

_LARGEST_FILE = 1 << 20
_MOST_ROWS = 10_000
_STEEPEST = 2
_ROUNDING = 1e-9  # equal energies per bit need not divide to equal floats
_LARGEST_TEXT = 300
_TOP = ("name", "source", "dram_point", "row", "law")
_COMMON = ("component", "operation", "value", "unit", "node_nm", "voltage", "source", "basis")
_INTERPOLATED = ("law", "range")
_LAW_KEYS = ("component", "operation", "law", "range", "source")
_BASES = ("measured", "interpolated")

# What every machine needs: (component, operation, fewest rows, what for).
_NEEDED = (
    ("integer", "add", 1, "accumulators and comparisons"),
    ("integer", "multiply", 1, "the array"),
    ("float", "add", 1, "the requantiser and float operators"),
    ("float", "multiply", 1, "the requantiser and float operators"),
    ("memory", "access", 2, "the law of capacities"),
)


def read_table(file: str) -> EnergyTable:
    """Read a user's energy table.

    Args:
        file: name of a TOML file.

    Raises:
        UsageError: names the file, the row and what to do about it.
    """
    shown = printable(file)
    try:
        data = read_input(file, _LARGEST_FILE)
        if len(data) > _LARGEST_FILE:
            raise UsageError(
                f"energy table {shown}: larger than {_LARGEST_FILE >> 20} MiB: this is not an energy table"
            )
        text = data.decode("utf-8")
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a null character in the name
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"energy table {shown}: cannot be read: {reason}: give a TOML file") from None
    return replace(parse_table(text, shown), file=shown)


def parse_table(text: str, file: str) -> EnergyTable:
    """Read an energy table from its text.

    Args:
        text: TOML.
        file: where it comes from, for errors.
    """
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"energy table {file}: not valid TOML: {printable(str(error))}") from None
    for key in data:
        if key not in _TOP:
            _refuse(file, f"unknown key '{printable(key)}' ({nearest(key, _TOP)})")
    entries = data.get("row", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries) or not entries:
        _refuse(file, "no rows: write [[row]] with " + ", ".join(_COMMON))
    if len(entries) > _MOST_ROWS:
        _refuse(file, f"{len(entries)} rows, at most {_MOST_ROWS} are read")
    rows = tuple(_Entry(file, number, entry).row() for number, entry in enumerate(entries, 1))
    name = _text(data, "name", file) if "name" in data else file
    source = _text(data, "source", file) if "source" in data else name
    point = data.get("dram_point", "mid")
    _check_rows(rows, file, point)
    laws = data.get("law", [])
    if not isinstance(laws, list) or not all(isinstance(entry, dict) for entry in laws):
        _refuse(file, "laws are written as [[law]] with " + ", ".join(_LAW_KEYS))
    table = EnergyTable(name, source, rows, (), point)
    return replace(table, laws=_laws(table, laws, file))


def _refuse(file: str, reason: str) -> NoReturn:
    raise UsageError(f"energy table {file}: {reason}")


def _text(data: Mapping[str, Any], key: str, file: str) -> str:
    """Return a text of the table itself."""
    value = data[key]
    if not isinstance(value, str) or not value.strip():
        _refuse(file, f"{key} must be a text, got {printable(repr(value))}")
    return printable(value, _LARGEST_TEXT)


class _Entry:
    """One [[row]] or [[law]] of a file while it is read."""

    def __init__(self, file: str, number: int, data: Mapping[str, Any], kind: str = "row") -> None:
        self.place, self.number, self.data = f"energy table {file}, {kind} {number}", number, data
        label = " ".join(
            str(data[key])
            for key in ("component", "operation", "format", "point", "capacity_bytes", "width")
            if isinstance(data.get(key), str | int)
        )
        self.place += f" ({printable(label, 60)})" if label else ""

    def refuse(self, reason: str) -> NoReturn:
        raise UsageError(f"{self.place}: {reason}")

    def require(self, allowed: Iterable[str], needed: Iterable[str]) -> None:
        """Refuse unknown and missing keys."""
        known = tuple(allowed)
        for key in self.data:
            if key not in known:
                self.refuse(f"unknown key '{printable(key)}' ({nearest(key, known)})")
        missing = [key for key in needed if key not in self.data]
        if missing:
            self.refuse(f"{', '.join(missing)} missing: every {'row' if 'value' in known else 'law'} states it")

    def text(self, key: str) -> str:
        value = self.data[key]
        if not isinstance(value, str) or not value.strip():
            self.refuse(f"{key} must be a text, got {printable(repr(value))}")
        return printable(value, _LARGEST_TEXT)

    def choice(self, key: str, choices: Sequence[str]) -> str:
        value = self.data.get(key)
        if not isinstance(value, str) or value not in choices:
            self.refuse(f"{key} must be one of {', '.join(choices)}, got {printable(repr(value))}")
        return value

    def number_of(self, key: str, lowest: float, highest: float) -> float:
        value = self.data[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value <= highest:  # NaN too
            self.refuse(f"{key} must be a number from {lowest:g} to {highest:g}, got {printable(repr(value))}")
        return float(value)

    def whole(self, key: str, highest: int) -> int:
        value = self.data[key]
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= highest:
            self.refuse(f"{key} must be a whole number from 1 to {highest:,}, got {printable(repr(value))}")
        return value

    def span(self) -> tuple[float, float]:
        value = self.data["range"]
        numbers = (
            [item for item in value if isinstance(item, int | float) and not isinstance(item, bool)]
            if isinstance(value, list)
            else []
        )
        if len(numbers) != 2 or len(value) != 2 or not all(map(math.isfinite, numbers)) or numbers[0] > numbers[1]:
            self.refuse(f"range must be [lowest, highest], got {printable(repr(value))}")
        return float(numbers[0]), float(numbers[1])

    def row(self) -> Row:
        """Check a row key by key."""
        component = self.choice("component", tuple(KINDS))
        operations, own = KINDS[component]
        basis = self.data.get("basis")
        extra = _INTERPOLATED if basis == "interpolated" else ()
        self.require((*_COMMON, *own, *extra), (*_COMMON, *own, *(("law",) if extra else ())))
        units = (*POWER_UNITS, PER_CYCLE) if component == "static" else tuple(ENERGY_UNITS)
        operation, unit = self.choice("operation", operations), self.choice("unit", units)
        value = self.number_of("value", 1e-9, 1e9)
        variant = ""
        if component == "float":
            variant = self.choice("format", tuple(SIGNIFICANDS))
        elif component == "dram":
            variant = self.choice("point", POINTS)
        width = self.whole("width", 4096) if "width" in own else FORMAT_BITS.get(variant, 0)
        return Row(
            component,
            operation,
            width,
            self.whole("capacity_bytes", 1 << 40) if "capacity_bytes" in own else 0,
            variant,
            value,
            unit,
            value * {**ENERGY_UNITS, **POWER_UNITS, PER_CYCLE: 1.0}[unit],
            self.number_of("node_nm", 1, 1000),
            self.number_of("voltage", 0.1, 5),
            self.text("source"),
            self.choice("basis", _BASES),
            self.text("law") if "law" in self.data else "",
            self.span() if "range" in self.data else None,
            self.number,
        )

    def law(self) -> Law:
        """Check a law key by key."""
        key = (self.choice("component", sorted({part for part, _ in LAWS})), self.data.get("operation"))
        if key not in LAWS:
            known = ", ".join(operation for part, operation in LAWS if part == key[0])
            self.refuse(f"operation must be one of {known}, got {printable(repr(key[1]))}")
        form = LAWS[key]
        self.require(_LAW_KEYS, ("component", "operation", "law", "source"))
        if self.data["law"] != form:
            self.refuse(
                f"law must be '{form}', the one that is known for this, got {printable(repr(self.data['law']))}"
            )
        return Law(*key, form, self.span() if "range" in self.data else None, self.text("source"))


def _label(row: Row) -> str:
    return f"row {row.number} ({row.name.replace('_', ' ')})"


def _check_rows(rows: Sequence[Row], file: str, point: object) -> None:
    """Refuse duplicates, gaps, mixtures of technologies, and energies that fall where they have to rise."""
    seen: dict[str, Row] = {}
    for row in rows:
        first = seen.setdefault(row.name, row)
        if first is not row:
            _refuse(file, f"row {row.number} repeats {_label(first)}: keep one of them")
    for component, operation, fewest, purpose in _NEEDED:
        found = sum((row.component, row.operation) == (component, operation) for row in rows)
        if found < fewest:
            _refuse(
                file,
                f"{'no' if not found else 'only one'} row for {component} {operation}, needed for {purpose}: "
                f"add {'one' if not found else 'another'}",
            )
    if point not in POINTS or f"dram_{point}" not in seen:
        given = [row.variant for row in rows if row.component == "dram"]
        _refuse(
            file,
            f"dram_point is {printable(repr(point))}, and the rows of dram are "
            f"{', '.join(given) or 'none'}: add that row, or choose another point",
        )
    chip = [row for row in rows if row.component not in ("dram", "static")]
    technology = {(row.node_nm, row.voltage): row for row in reversed(chip)}
    if len(technology) > 1:
        first, second, *_ = sorted(technology.values(), key=lambda row: row.number)
        _refuse(
            file,
            f"{_label(second)} is of {second.node_nm:g} nm at {second.voltage:g} V, {_label(first)} of "
            f"{first.node_nm:g} nm at {first.voltage:g} V: laws need one technology (DRAM may have another)",
        )
    for kind in {(row.component, row.operation) for row in rows} - {("dram", "access"), ("static", "leakage")}:
        _check_rising([row for row in rows if (row.component, row.operation) == kind], file)


def _check_rising(rows: Sequence[Row], file: str) -> None:
    """Refuse energies that fall with width or capacity; those of multipliers may not even fall per bit.

    Memories are compared per bit of their words, floats by their significands.
    """

    def cost(row: Row) -> float:
        per_bit = row.component == "memory" or (row.component, row.operation) == ("integer", "multiply")
        return row.value_pj / row.width if per_bit else row.value_pj

    ordered = sorted(rows, key=place)
    for low, high in pairwise(ordered):
        if place(low) == place(high):
            _refuse(file, f"{_label(high)} has the capacity of {_label(low)}: give one word width per capacity")
        if cost(high) < cost(low) * (1 - _ROUNDING):
            per = " per bit" if cost(high) != high.value_pj else ""
            _refuse(
                file,
                f"{_label(high)} costs {cost(high):g} pJ{per}, less than {_label(low)} with {cost(low):g} pJ{per}: "
                "correct one of them, energies have to rise with width and capacity",
            )
        if high.component == "memory" and cost(high) / cost(low) > (place(high) / place(low)) ** _STEEPEST:
            _refuse(
                file,
                f"{_label(high)} costs {cost(high):g} pJ per bit, {_label(low)} {cost(low):g} pJ per bit: energy rises "
                "faster than the square of the capacity: correct one of them",
            )


def _laws(table: EnergyTable, entries: Sequence[Mapping[str, Any]], file: str) -> tuple[Law, ...]:
    """Return the laws of a table: those it states, checked against its rows, and those that hold without saying."""
    stated: dict[tuple[str, str], Law] = {}
    for number, data in enumerate(entries, 1):
        entry = _Entry(file, number, data, "law")
        law = entry.law()
        key = (law.component, law.operation)
        if key in stated:
            entry.refuse("stated twice: keep one of them")
        span = _span(table, key)
        if law.span is not None and law.span != span:
            rows = "it has no rows" if span is None else f"its rows reach from {span[0]:g} to {span[1]:g}"
            entry.refuse(f"range is [{law.span[0]:g}, {law.span[1]:g}], but {rows}: correct the range")
        stated[key] = replace(law, span=span)
    laws = []
    for (component, operation), form in LAWS.items():
        default = Law(component, operation, form, _span(table, (component, operation)), "accel-sim, docs/energy.md")
        laws.append(stated.get((component, operation), default))
    return tuple(laws)


def _span(table: EnergyTable, key: tuple[str, str]) -> tuple[float, float] | None:
    """Return the extent of the rows that a law passes through."""
    points = table.points(*key)
    return (points[0].x, points[-1].x) if points else None


@cache
def load_table(name: str = DEFAULT_TABLE) -> EnergyTable:
    """Read a packaged energy table."""
    text = (resources.files("accelsim") / "data" / "energy" / f"{name}.toml").read_text("utf-8")
    return parse_table(text, f"{name}.toml")
