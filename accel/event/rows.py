"""The open rows of DRAM, bank by bank (contract, section 5.5)."""

from __future__ import annotations

from collections.abc import Mapping

from accelsim.arch import Arch
from accelsim.event.traffic import Moved


class OpenRows:
    """Which row of every bank is open on one channel; none at the start of a layer."""

    def __init__(self, arch: Arch, bases: Mapping[str, int]) -> None:
        self._arch, self._bases = arch, bases
        self._open: dict[int, int] = {}

    def missed(self, moved: Moved) -> int:
        """Open the rows that a command touches, in order; returns how many of them were not open."""
        size = self._arch.dram_row_bytes
        misses = 0
        for part in moved.segments if size else ():
            for number in range(part.count):
                start = self._bases.get(part.operand, 0) + part.start + number * part.stride
                misses += sum(self._opened(row) for row in range(start // size, (start + part.length - 1) // size + 1))
        return misses

    def _opened(self, row: int) -> bool:
        """Open a row; tells whether another one, or none, was open in its bank."""
        bank = row % self._arch.dram_banks
        if self._open.get(bank) == row:
            return False
        self._open[bank] = row
        return True
