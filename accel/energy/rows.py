"""Rows and laws of an energy table, as its TOML states them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Bits of the significand, the hidden one included, and of the whole number.
SIGNIFICANDS = {"bf16": 8, "fp16": 11, "fp32": 24}
FORMAT_BITS = {"bf16": 16, "fp16": 16, "fp32": 32}

# What a row may be about: its operations, and the keys that tell one row from another.
KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "integer": (("add", "multiply"), ("width",)),
    "float": (("add", "multiply"), ("format",)),
    "memory": (("access",), ("capacity_bytes", "width")),
    "dram": (("access",), ("point", "width")),
    "static": (("leakage",), ()),
}
POINTS = ("low", "mid", "high")

# Factors to pJ, or to W for static power; a static energy may also be given per cycle.
ENERGY_UNITS = {"fJ": 1e-3, "pJ": 1.0, "nJ": 1e3}
POWER_UNITS = {"W": 1.0, "mW": 1e-3, "uW": 1e-6}
PER_CYCLE = "pJ/cycle"

# Which law there is for what, and how it is called in tables.
LAWS = {
    ("integer", "add"): "linear",
    ("integer", "multiply"): "bilinear",
    ("float", "add"): "linear-in-significand",
    ("float", "multiply"): "quadratic-in-significand",
    ("memory", "access"): "power-in-capacity",
    ("register", "write"): "smallest-memory",
}


@dataclass(frozen=True)
class Row:
    """One number of a table: what it prices, its value as given and in pJ, where it was measured and who says so."""

    component: str
    operation: str
    width: int
    """Bits of the operands or of the word, 0 for floats and static power."""
    capacity_bytes: int
    """Of a memory."""
    variant: str
    """Format of a float or point of a DRAM's range."""
    value: float
    unit: str
    value_pj: float
    """In pJ (static power: in W, or pJ per cycle by its unit)."""
    node_nm: float
    voltage: float
    source: str
    basis: str
    law: str = ""
    span: tuple[float, float] | None = None
    """law and span: of a value that was not measured."""
    number: int = 0
    """Of the row in its file, from 1."""

    @property
    def name(self) -> str:
        """What outputs call the row, e.g. int8_add, fp16_multiply, memory_8192_byte, dram_mid."""
        if self.component == "integer":
            return f"int{self.width}_{self.operation}"
        if self.component == "float":
            return f"{self.variant}_{self.operation}"
        if self.component == "memory":
            return f"memory_{self.capacity_bytes}_byte"
        return f"dram_{self.variant}" if self.component == "dram" else self.component

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain data: the keys of the file, and its name."""
        data: dict[str, Any] = {"name": self.name, "component": self.component, "operation": self.operation}
        if self.component == "float":
            data["format"] = self.variant
        elif self.component == "dram":
            data["point"] = self.variant
        if self.capacity_bytes:
            data["capacity_bytes"] = self.capacity_bytes
        if self.width:
            data["width"] = self.width
        keys = ("value", "unit", "node_nm", "voltage", "source", "basis")
        data |= {key: getattr(self, key) for key in keys}
        if self.law:
            data["law"] = self.law
        if self.span is not None:
            data["range"] = list(self.span)
        return data


@dataclass(frozen=True)
class Law:
    """What a table says about values between and beyond its rows.

    span: from the smallest to the largest row, in bits or bytes; None where the law has no range of its own.
    """

    component: str
    operation: str
    law: str
    span: tuple[float, float] | None
    source: str

    def to_dict(self) -> dict[str, Any]:
        """Return the law as plain data."""
        data = {key: getattr(self, key) for key in ("component", "operation", "law", "source")}
        return data | {"range": None if self.span is None else list(self.span)}
