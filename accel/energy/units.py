"""Unit energies of one machine: the table at the capacities and widths of its memories and operands."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from accelsim.arch import Arch
from accelsim.energy.table import EnergyTable, UnitEnergy

_TABLE_BYTES = 256


@cache
def requantisation_events(mode: str) -> tuple[tuple[str, int], ...]:
    """Return the operations that requantising one element takes, from data/requantiser.toml.

    Args:
        mode: "f32" or "q31" to codes, "to_float" to floats.
    """
    text = (resources.files("accelsim") / "data" / "requantiser.toml").read_text("utf-8")
    return tuple(tomllib.loads(text)[mode].items())


@dataclass(frozen=True)
class Units:
    """Unit energies of one machine."""

    table: EnergyTable
    arch: Arch

    def activation(self, bits: int) -> UnitEnergy:
        """One word of the activation scratchpad, from one of its R banks (contract 5.4)."""
        return self.table.sram(f"activation_sram_{bits}_bit", self.arch.spm_act / self.arch.rows, bits)

    def weight(self, bits: int) -> UnitEnergy:
        """One word's share of the weight scratchpad, read in lines of C words from one bank."""
        return self.table.sram(f"weight_sram_{bits}_bit", float(self.arch.spm_weight), bits)

    def accumulator(self) -> UnitEnergy:
        """One accumulator of its column's bank."""
        bits = self.arch.acc_bits
        return self.table.sram(f"accumulator_sram_{bits}_bit", self.arch.acc_rows * bits / 8, bits)

    def register(self, bits: int) -> UnitEnergy:
        """One register write, as the smallest memory of the same law."""
        return self.table.sram(f"register_{bits}_bit", bits / 8, bits)

    def assumed(self, name: str, like: UnitEnergy) -> UnitEnergy:
        """What the table does not list, taken as something that it lists."""
        return UnitEnergy(name, like.value_pj, "assumed", f"taken as {like.name}, {like.source}")

    def unpacking(self, bits: int) -> UnitEnergy:
        """Selecting one packed code of a byte and extending its sign to the width of the array's operands."""
        return self.assumed(f"unpack_{bits}_bit", self.table.adder(self.arch.weight_bits))

    def arithmetic(self, name: str) -> UnitEnergy:
        """One operation of the requantiser or the vector unit."""
        if name == "table_read":
            return self.table.sram("table_read", _TABLE_BYTES, 8)
        if name == "exponential_read":
            return self.table.sram("exponential_read", 4 * _TABLE_BYTES, 32)
        if name == "int16_multiply":
            return self.table.multiplier(16, 16)
        if name == "int64_add":
            return self.table.adder(64)
        if name == "int32_shift":
            return self.assumed(name, self.table.adder(32))
        return self.table.operation(name)
