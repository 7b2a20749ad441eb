"""How cycles become time stamps: whole nanoseconds, or picoseconds where a cycle is shorter than one nanosecond."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """The machine's clock; `unit` is "ns" up to 1 GHz, else "ps", so that no two cycles share a time stamp."""

    ghz: float

    @property
    def unit(self) -> str:
        """Unit of the time stamps."""
        return "ns" if self.ghz <= 1 else "ps"

    def stamp(self, cycle: int) -> int:
        """Return the time at which a cycle begins, in units, rounded down."""
        if self.ghz == 1:
            return cycle
        return int(cycle * (1 if self.unit == "ns" else 1000) / self.ghz)

    def __str__(self) -> str:
        period = f"1 cycle = {1 / self.ghz:.6g} ns at {self.ghz:g} GHz"
        return period if self.unit == "ns" else f"{period}; time is in picoseconds: what is shown as 1 ns is 1 ps"
