"""Rows of DRAM that one channel has open: a command waits for each one that it must open (contract, section 5.5)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from accelsim.machine.arch import Arch
from accelsim.timing.event.traffic import Segments


class OpenRows:
    """The banks of one channel, none of which has a row open at the start of a layer."""

    def __init__(self, arch: Arch, bases: Mapping[str, int]) -> None:
        """Close all rows.

        Args:
            arch: the machine.
            bases: first byte in DRAM of what segments count from, by the name of their operand.
        """
        self._row_bytes, self._banks, self._bases = arch.dram_row_bytes, arch.dram_banks, bases
        self._open: dict[int, int] = {}

    def misses(self, segments: Iterable[Segments]) -> int:
        """Touch the rows of a command in order; returns how many had to be opened."""
        missed = 0
        for row in self._rows(segments):
            bank = row % self._banks
            if self._open.get(bank) != row:
                self._open[bank] = row
                missed += 1
        return missed

    def _rows(self, segments: Iterable[Segments]) -> Iterator[int]:
        """Yield the rows of segments, segment by segment."""
        size = self._row_bytes
        for part in segments:
            start = self._bases[part.operand] + part.start
            for _ in range(part.count):
                yield from range(start // size, (start + part.length - 1) // size + 1)
                start += part.stride
