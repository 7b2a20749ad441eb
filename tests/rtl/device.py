"""A machine under test with named addresses: run one GEMM, then probe any place in any cycle.

The canonical check is a pair: silent in the cycle before, active in the cycle at. Together they say that a gate of the
contract is tight.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from tests.rtl.cases import CLASSES, Answer, Case, simulate
from tests.rtl.tools import Build

TOKEN = ("mac", "csel", "push", "psel", "first", "last", "shift")
FLAGS = ("tile.starts", "push.starts", "block.complete")
_LINES = {"commit": (1, 0), "bank_read": (1, 16), "requantiser_read": (1, 32), "output": (1, 48), "bias": (3, 0)}


class DeviceUnderTest:
    """The trace of one GEMM on one machine.

    Addresses: `token.mac` and the other bits of the step token at the issue port, `class.stream` and the others,
    `tile.starts`, `push.starts`, `block.complete`, `pe[r,c]` (multiplies), and for each column `bias[c]`,
    `bank_read[c]` (address at the accumulator bank), `commit[c]`, `requantiser_read[c]`, `output[c]`.
    """

    def __init__(self, program: Path, build: Build, case: Case) -> None:
        self.build = build
        self.case = case
        self.answer: Answer = simulate(program, build, [replace(case, trace=True)])[0]

    def active(self, address: str, cycle: int) -> bool:
        """Tell whether the place is active in a cycle."""
        word, bit = self._locate(address)
        if not 0 <= cycle < len(self.answer.trace):
            return False
        return bool(int(self.answer.trace[cycle, word]) >> bit & 1)

    def cycles(self, address: str) -> list[int]:
        """Return the cycles in which the place is active."""
        return [cycle for cycle in range(len(self.answer.trace)) if self.active(address, cycle)]

    def opens(self, address: str, at: int) -> bool:
        """Tell whether the place is silent in the cycle before and active in the cycle at."""
        return not self.active(address, at - 1) and self.active(address, at)

    def closes(self, address: str, at: int) -> bool:
        """Tell whether the place is active in the cycle before and silent in the cycle at."""
        return self.active(address, at - 1) and not self.active(address, at)

    def _locate(self, address: str) -> tuple[int, int]:
        """Return word and bit of the trace."""
        kind, _, name = address.partition(".")
        if kind == "token":
            return 0, TOKEN.index(name)
        if kind == "class":
            return 0, 8 + CLASSES.index(name)
        if address in FLAGS:
            return 0, 16 + FLAGS.index(address)
        place, numbers = re.fullmatch(r"(\w+)\[([\d,]+)\]", address).groups()  # type: ignore[union-attr]
        indices = [int(number) for number in numbers.split(",")]
        if place == "pe":
            return 2, indices[0] * self.build.columns + indices[1]
        word, offset = _LINES[place]
        return word, offset + indices[0]
