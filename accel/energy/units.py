"""Unit energies of one machine: the table at the capacities and widths of its memories and operands."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from accelsim.energy.table import EnergyTable, UnitEnergy
from accelsim.machine.arch import Arch

_TABLE_BYTES = 256


@cache
def requantisation_events(mode: str) -> tuple[tuple[str, int], ...]:
    """Return the operations that requantising one element takes, from data/requantiser.toml.

    Args:
        mode: "f32" or "q31" to codes, "to_float" to floats; "clip", "half" or "quantise" behind the latter.
    """
    text = (resources.files("accelsim") / "data" / "requantiser.toml").read_text("utf-8")
    return tuple(tomllib.loads(text)[mode].items())


@dataclass(frozen=True)
class Units:
    """Unit energies of one machine.

    Energies imported from an energy reference table come before the table's own, role by role (docs/energy.md).
    """

    table: EnergyTable
    arch: Arch

    def _imported(self, role: str, action: str, bits: int, name: str) -> UnitEnergy | None:
        """Return the imported energy of an action, in proportion to the bits of its word."""
        for row in self.table.imported:
            if (row.role, row.action) == (role, action):
                factor = bits / row.bits if row.bits else 1.0
                law = f"{bits} of {row.bits} bits" if factor != 1 else ""
                suffix = f"_{action}" if action in ("read", "write") else ""
                return UnitEnergy(f"{name}{suffix}", row.value_pj * factor, "imported", row.source, law)
        return None

    def _memory(self, role: str, action: str, capacity_bytes: float, bits: int) -> UnitEnergy:
        """Return the energy of one word of one of the machine's memories."""
        name = f"{role}_{bits}_bit"
        return self._imported(role, action, bits, name) or self.table.sram(name, capacity_bytes, bits)

    def activation(self, bits: int, action: str = "read") -> UnitEnergy:
        """One word of the activation scratchpad, from one of its R banks (contract 5.4)."""
        return self._memory("activation_sram", action, self.arch.spm_act / self.arch.rows, bits)

    def weight(self, bits: int, action: str = "read") -> UnitEnergy:
        """One word's share of the weight scratchpad, read in lines of C words from one bank."""
        return self._memory("weight_sram", action, float(self.arch.spm_weight), bits)

    def accumulator(self, action: str = "read") -> UnitEnergy:
        """One accumulator of its column's bank."""
        bits = self.arch.acc_bits
        return self._memory("accumulator_sram", action, self.arch.acc_rows * bits / 8, bits)

    def register(self, bits: int) -> UnitEnergy:
        """One register write, as the smallest memory of the same law."""
        name = f"register_{bits}_bit"
        return self._imported("registers", "write", bits, name) or self.table.sram(name, bits / 8, bits)

    def dram(self, action: str = "read") -> UnitEnergy:
        """One byte to or from DRAM."""
        return self._imported("dram", action, 8, "dram_byte") or self.table.dram()

    def array_multiplier(self, first_bits: int, second_bits: int) -> UnitEnergy:
        """One multiplication in the array."""
        name = f"array_int{first_bits}x{second_bits}_multiply"
        return self._imported("multiplier", "multiply", 0, name) or self.table.multiplier(first_bits, second_bits)

    def array_adder(self) -> UnitEnergy:
        """One addition into the array's accumulators, at their width."""
        bits = self.arch.acc_bits
        return self._imported("adder", "add", 0, f"array_int{bits}_add") or self.table.adder(bits)

    def assumed(self, name: str, like: UnitEnergy) -> UnitEnergy:
        """What the table does not list, taken as something that it lists."""
        return UnitEnergy(
            name, like.value_pj, "assumed", f"taken as {like.name}, {like.source}", f"{like.name} {like.law}".strip(),
            like.rows,
        )  # fmt: skip

    def unpacking(self, bits: int) -> UnitEnergy:
        """Selecting one packed code of a byte and extending its sign to the width of the array's operands."""
        return self.assumed(f"unpack_{bits}_bit", self.table.adder(self.arch.weight_bits))

    def elementwise(self) -> UnitEnergy:
        """What a host operator of unknown arithmetic does at least to every element that it produces."""
        return self.assumed("host_element", self.table.operation("fp32_add"))

    def arithmetic(self, name: str) -> UnitEnergy:
        """One operation of the requantiser or the vector unit."""
        if name == "table_read":
            return self.table.sram("table_read", _TABLE_BYTES, 8)
        if name == "exponential_read":
            return self.table.sram("exponential_read", 4 * _TABLE_BYTES, 32)
        if name == "int16_multiply":
            return self.table.multiplier(16, 16)
        if name == "int32_shift":
            return self.assumed(name, self.table.adder(32))
        return self.table.operation(name)

    def static(self) -> UnitEnergy | None:
        """What one cycle leaks, None where the table has no static power."""
        return self.table.static(self.arch.clock_ghz)
