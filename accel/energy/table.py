"""The table of unit energies: measured rows, and laws between and beyond them."""

from __future__ import annotations

import math
import tomllib
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import pairwise


@dataclass(frozen=True)
class UnitEnergy:
    """Energy of one event in pJ, and its source; basis: measured, midpoint, interpolated, extrapolated or assumed."""

    name: str
    value_pj: float
    basis: str
    source: str


def _basis(inside: bool) -> str:
    """Name how a value that is not in the table was found: between two of its points, or beyond them."""
    return "interpolated" if inside else "extrapolated"


@dataclass(frozen=True)
class EnergyTable:
    """Unit energies of one technology; see data/energy/horowitz45.toml."""

    name: str
    source: str
    arithmetic_pj: Mapping[str, float]
    sram_points: tuple[tuple[int, float], ...]
    dram_64_bit_pj: float

    def operation(self, name: str) -> UnitEnergy:
        """Return the energy of an arithmetic operation that the table lists."""
        return UnitEnergy(name, self.arithmetic_pj[name], "measured", self.source)

    def adder(self, bits: int) -> UnitEnergy:
        """Return the energy of an integer addition: linear between the table's widths, last slope beyond them.

        Args:
            bits: width of the adder.
        """
        points = [(8, "int8_add"), (16, "int16_add"), (32, "int32_add")]
        for width, name in points:
            if width == bits:
                return self.operation(name)
        pairs = list(pairwise(points))
        (x0, name0), (x1, name1) = next((pair for pair in pairs if bits < pair[1][0]), pairs[-1])
        y0, y1 = self.arithmetic_pj[name0], self.arithmetic_pj[name1]
        value = y0 + (y1 - y0) * (bits - x0) / (x1 - x0)
        return UnitEnergy(f"int{bits}_add", value, _basis(8 <= bits <= 32), f"linear in bits through {self.source}")

    def multiplier(self, first_bits: int, second_bits: int) -> UnitEnergy:
        """Return the energy of an integer multiplication, bilinear in the two widths.

        E = a * w1 * w2 + b * (w1 + w2) / 2 through int8 (0.2 pJ) and int32 (3.1 pJ), the two-width form of the
        quadratic of QKeras (qtools, config_public.py).

        Args:
            first_bits: width of one operand.
            second_bits: width of the other.
        """
        if first_bits == second_bits in (8, 32):
            return self.operation(f"int{first_bits}_multiply")
        low, high = self.arithmetic_pj["int8_multiply"], self.arithmetic_pj["int32_multiply"]
        quadratic = (high - 4 * low) / (1024 - 4 * 64)
        linear = (low - 64 * quadratic) / 8
        value = quadratic * first_bits * second_bits + linear * (first_bits + second_bits) / 2
        name = f"int{first_bits}x{second_bits}_multiply"
        basis = _basis(min(first_bits, second_bits) >= 8 and max(first_bits, second_bits) <= 32)
        return UnitEnergy(name, value, basis, f"bilinear in bits through {self.source}")

    def sram(self, name: str, capacity_bytes: float, bits: float) -> UnitEnergy:
        """Return the energy of one access of `bits` to a memory of a capacity.

        Args:
            name: what the memory is.
            capacity_bytes: size of the bank that is accessed.
            bits: width of the word.
        """
        points = self.sram_points
        sizes = [size for size, _ in points]
        if capacity_bytes in sizes:
            value = dict(points)[int(capacity_bytes)] * (bits / 64)
            return UnitEnergy(
                name, value, "measured" if bits == 64 else "interpolated", f"linear in width, {self.source}"
            )
        index = min(max(bisect_left(sizes, capacity_bytes), 1), len(points) - 1)
        (x0, y0), (x1, y1) = points[index - 1], points[index]
        exponent = math.log(y1 / y0) / math.log(x1 / x0)
        value = y0 * (capacity_bytes / x0) ** exponent * bits / 64
        basis = _basis(sizes[0] <= capacity_bytes <= sizes[-1])
        law = f"power law in capacity ({capacity_bytes:,.0f} B), linear in width, through {self.source}"
        return UnitEnergy(name, value, basis, law)

    def dram(self) -> UnitEnergy:
        """Return the energy of one byte to or from DRAM."""
        return UnitEnergy(
            "dram_byte",
            self.dram_64_bit_pj / 8,
            "measured",
            f"middle of 1300..2600 pJ per 64 bits, {self.source}",
        )


@cache
def load_table(name: str = "horowitz45") -> EnergyTable:
    """Read a packaged energy table."""
    data = tomllib.loads((resources.files("accelsim") / "data" / "energy" / f"{name}.toml").read_text("utf-8"))
    points = tuple(sorted((int(size), float(value)) for size, value in data["sram_64_bit_access_pj"].items()))
    return EnergyTable(
        data["name"],
        data["source"],
        data["arithmetic_pj"],
        points,
        float(data["dram_64_bit_access_pj"]["mid"]),
    )
