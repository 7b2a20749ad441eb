"""How cycles become time stamps: whole nanoseconds, or picoseconds where a cycle is shorter than one nanosecond."""

from __future__ import annotations

from fractions import Fraction


class Clock:
    """The machine's clock; `unit` is "ns" up to 1 GHz, else "ps", so that no two cycles share a time stamp."""

    def __init__(self, ghz: float) -> None:
        self.ghz = ghz
        self.unit = "ns" if ghz <= 1 else "ps"
        period = Fraction(1 if ghz <= 1 else 1000) / Fraction(str(ghz))
        self._units, self._cycles = period.numerator, period.denominator

    def stamp(self, cycle: int) -> int:
        """Return the time at which a cycle begins, in units, rounded down."""
        return cycle * self._units // self._cycles

    def __str__(self) -> str:
        period = f"1 cycle = {1 / self.ghz:.6g} ns at {self.ghz:g} GHz"
        return period if self.unit == "ns" else f"{period}; time is in picoseconds: what is shown as 1 ns is 1 ps"
