"""The table of unit energies: rows with sources, and the laws through them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, wraps
from typing import Concatenate, ParamSpec

from accelsim.energy.laws import Fitted, Point, bilinear, linear, power
from accelsim.energy.rows import PER_CYCLE, SIGNIFICANDS, Law, Row
from accelsim.energy.scaling import Scaling

DEFAULT_TABLE = "horowitz45"

Arguments = ParamSpec("Arguments")


def _remembered(
    method: Callable[Concatenate[EnergyTable, Arguments], UnitEnergy],
) -> Callable[Concatenate[EnergyTable, Arguments], UnitEnergy]:
    """Evaluate a law once per table and arguments: bills ask for the same few units thousands of times."""

    @wraps(method)
    def remembered(self: EnergyTable, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> UnitEnergy:
        key = (method.__name__, *args, *kwargs.values())
        if key not in self._known:
            self._known[key] = method(self, *args, **kwargs)
        return self._known[key]

    return remembered


@dataclass(frozen=True)
class UnitEnergy:
    """Energy of one event in pJ, and where it comes from."""

    name: str
    value_pj: float
    basis: str
    """Measured, interpolated, extrapolated, each with ", scaled" where it was moved to another technology, assumed
    (taken as something else), imported (from an energy reference table) or given (by the user)."""
    source: str
    law: str = ""
    """How the value follows from the rows, "" where it is a row."""
    rows: tuple[str, ...] = ()
    """Names of the table's rows that it rests on."""


@dataclass(frozen=True)
class Imported:
    """One energy that replaces the table's: of an action of a component, per word of so many bits (0: any)."""

    role: str
    action: str
    bits: int
    value_pj: float
    source: str


def place(row: Row) -> float:
    """Return where a law sees a row: at its significand, its capacity in bytes, or its width in bits."""
    if row.component == "float":
        return float(SIGNIFICANDS[row.variant])
    return float(row.capacity_bytes or row.width)


@dataclass(frozen=True)
class EnergyTable:
    """Unit energies of one technology; see data/energy/horowitz45.toml and docs/energy.md."""

    name: str
    source: str
    """Of the table as a whole."""
    rows: tuple[Row, ...]
    laws: tuple[Law, ...] = ()
    dram_point: str = "mid"
    """Which row of DRAM counts."""
    file: str = ""
    """Where it was read, "" for the packaged one."""
    scaling: Scaling | None = None
    """To another technology."""
    imported: tuple[Imported, ...] = field(default=())
    """Energies that come before the table's own."""
    unused: tuple[str, ...] = ()
    """Components of an energy reference table that this machine has no use for."""

    @property
    def described(self) -> str:
        """Return the source with what was done to it."""
        parts = [self.source]
        if self.scaling is not None:
            parts.append(f"scaled to {self.scaling.to_nm:g} nm, {self.scaling.to_v:g} V, except DRAM")
        if self.imported:
            parts.append("some energies imported")
        return "; ".join(parts)

    def points(self, component: str, operation: str) -> list[Point]:
        """Return the rows of one kind as points of a law, in rising order: of width, significand or capacity."""
        kind = [row for row in self.rows if (row.component, row.operation) == (component, operation)]
        made = [Point(place(row), row.value_pj, row.name, row.basis) for row in kind]
        return sorted(made, key=lambda point: point.x)

    @cached_property
    def _known(self) -> dict[tuple[object, ...], UnitEnergy]:
        return {}

    @cached_property
    def _adders(self) -> list[Point]:
        return self.points("integer", "add")

    @cached_property
    def _multipliers(self) -> list[Point]:
        return self.points("integer", "multiply")

    @cached_property
    def _memories(self) -> list[tuple[Point, int]]:
        widths = {row.name: row.width for row in self.rows if row.component == "memory"}
        return [(point, widths[point.name]) for point in self.points("memory", "access")]

    @cached_property
    def _by_name(self) -> dict[str, Row]:
        return {row.name: row for row in self.rows}

    @property
    def technology(self) -> Row:
        """Return a row whose node and voltage are those of everything but DRAM and static power."""
        return next(row for row in self.rows if row.component not in ("dram", "static"))

    def rows_named(self, names: set[str]) -> tuple[Row, ...]:
        """Return the rows with these names, in the order of the table."""
        return tuple(row for row in self.rows if row.name in names)

    def _unit(self, name: str, fitted: Fitted, law: str = "") -> UnitEnergy:
        """Name a value, with the sources of its rows, moved to the technology asked for."""
        sources = dict.fromkeys(row.source for row in self.rows if row.name in fitted.rows)
        unit = UnitEnergy(name, fitted.value_pj, fitted.basis, "; ".join(sources), law or fitted.law, fitted.rows)
        if self.scaling is None:
            return unit
        text = f"{unit.law}{'; ' if unit.law else ''}{unit.value_pj:.9g} pJ {self.scaling.text}"
        return replace(unit, value_pj=unit.value_pj * self.scaling.factor, basis=f"{unit.basis}, scaled", law=text)

    @_remembered
    def operation(self, name: str) -> UnitEnergy:
        """Return the energy of an arithmetic operation, e.g. int32_add, fp16_multiply or bf16_add."""
        kind, _, operation = name.partition("_")
        if kind not in SIGNIFICANDS:
            bits = int(kind.removeprefix("int"))
            return self.adder(bits) if operation == "add" else self.multiplier(bits, bits)
        points, significand = self.points("float", operation), SIGNIFICANDS[kind]
        row = next((row for row in self.rows if row.name == name), None)
        if row is not None:
            return self._unit(name, Fitted(row.value_pj, row.basis, row.law, (name,)))
        if operation == "add":
            return self._unit(name, linear(points, significand, "s"))
        squares = [replace(point, x=point.x**2) for point in points]
        return self._unit(name, linear(squares, significand**2, "s^2"))

    @_remembered
    def adder(self, bits: int) -> UnitEnergy:
        """Return the energy of an integer addition: linear between the table's widths, the outer slopes beyond them.

        Args:
            bits: width of the adder.
        """
        return self._unit(f"int{bits}_add", linear(self._adders, bits, "w"))

    @_remembered
    def multiplier(self, first_bits: int, second_bits: int) -> UnitEnergy:
        """Return the energy of an integer multiplication, bilinear in the two widths.

        Args:
            first_bits: width of one operand.
            second_bits: width of the other.
        """
        square = first_bits == second_bits and any(point.x == first_bits for point in self._multipliers)
        name = f"int{first_bits}_multiply" if square else f"int{first_bits}x{second_bits}_multiply"
        return self._unit(name, bilinear(self._multipliers, first_bits, second_bits))

    @_remembered
    def sram(self, name: str, capacity_bytes: float, bits: float) -> UnitEnergy:
        """Return the energy of one access of `bits` to a memory of a capacity.

        Args:
            name: what the memory is.
            capacity_bytes: size of the bank that is accessed.
            bits: width of the word.
        """
        words = [replace(point, y=point.y * (bits / width)) for point, width in self._memories]
        fitted = power(words, capacity_bytes)
        if fitted.law:
            return self._unit(name, fitted, f"{fitted.law}, words of {bits:g} bits in proportion")
        width = {point.x: width for point, width in self._memories}[capacity_bytes]
        if bits == width:
            return self._unit(name, fitted)
        between = replace(fitted, basis="interpolated")
        return self._unit(name, between, f"words of {bits:g} bits in proportion to {width}")

    def dram(self) -> UnitEnergy:
        """Return the energy of one byte to or from DRAM, which no scaling touches."""
        row = self._by_name[f"dram_{self.dram_point}"]
        law = f"8 of {row.width} bits of {row.name}" + (f", {row.law}" if row.law else "")
        return UnitEnergy("dram_byte", row.value_pj * 8 / row.width, row.basis, row.source, law, (row.name,))

    def static(self, clock_ghz: float) -> UnitEnergy | None:
        """Return the static energy of one cycle, None where the table has none; no scaling touches it.

        Args:
            clock_ghz: the machine's clock, which turns W into pJ per cycle.
        """
        row = self._by_name.get("static")
        if row is None:
            return None
        if row.unit == PER_CYCLE:
            return UnitEnergy("static_cycle", row.value_pj, row.basis, row.source, row.law, (row.name,))
        law = f"{row.value:g} {row.unit} at {clock_ghz:g} GHz"
        return UnitEnergy("static_cycle", row.value_pj * 1e3 / clock_ghz, row.basis, row.source, law, (row.name,))
