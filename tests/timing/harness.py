"""The array under test, with a name for every register: probe the cycle before a gate and the cycle at it.

`at(t)` shows the registers as cycle t begins. What a PE reads in cycle t is therefore visible at t, what it writes in
cycle t at t + 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsim.kernels.cycles import recurrence
from accelsim.kernels.registers import specs
from accelsim.machine.arch import Arch
from accelsim.timing.registers import Stepper

Integers = NDArray[np.int64]

# Bits of a token that an issue port shows, by the names of the contract, section 3.
BITS = {
    "mac": specs.MAC, "csel": specs.CSEL, "push": specs.PUSH, "psel": specs.PSEL, "first": specs.FIRST,
    "last": specs.LAST, "shift": specs.SHIFT, "wen": specs.WEN, "fin": specs.FIN,
}  # fmt: skip


@dataclass(frozen=True)
class Operands:
    """activations int64[M, K], weights int64[N, K], bias int64[N]."""

    activations: Integers
    weights: Integers
    bias: Integers

    @staticmethod
    def random(m: int, k: int, n: int, seed: int = 0) -> Operands:
        """Draw 9-bit activations, 8-bit weights and 32-bit biases."""
        draw = np.random.default_rng(seed)
        return Operands(
            draw.integers(-256, 256, (m, k)), draw.integers(-128, 128, (n, k)), draw.integers(-(2**31), 2**31, n)
        )

    def accumulators(self, bits: int = 32, saturate: bool = False) -> Integers:
        """Replay section 2 in big integers: narrow after the bias and after every product, in the order of k."""
        rows = [[self._sum(m, n, bits, saturate) for n in range(len(self.bias))] for m in range(len(self.activations))]
        return np.array(rows, dtype=np.int64)

    def _sum(self, m: int, n: int, bits: int, saturate: bool) -> int:
        value = narrow(int(self.bias[n]), bits, saturate)
        for weight, activation in zip(self.weights[n].tolist(), self.activations[m].tolist(), strict=True):
            value = narrow(value + weight * activation, bits, saturate)
        return value


def narrow(value: int, bits: int, saturate: bool) -> int:
    """N() of section 2."""
    lowest, span = -(1 << (bits - 1)), 1 << bits
    return max(lowest, min(-lowest - 1, value)) if saturate else (value - lowest) % span + lowest


class ArrayUnderTest:
    """The stepper with named addresses.

    Addresses: `PE(r,c).` followed by token_in, v_in, a_in, w_in (what it reads), v, a, w (what it has written for its
    neighbour), w0, w1, acc, o; `bank(b,row,c)`; `result(m,n)`; `port` (the command of the cycle before, see `issued`).
    """

    def __init__(
        self,
        arch: Arch,
        operands: Operands,
        ready_w: Sequence[int] | None = None,
        ready_x: Sequence[int] | None = None,
    ) -> None:
        parts = operands.activations, operands.weights, operands.bias
        self.stepper = Stepper(*parts, arch, ready_w, ready_x)
        self.history: list[int] = []

    def at(self, cycle: int) -> ArrayUnderTest:
        """Advance until this cycle begins; time never goes back."""
        assert cycle >= self.stepper.cycle, "probes go forward in time"
        while self.stepper.cycle < cycle:
            self.stepper.tick()
            self.history.append(int(self.stepper.registers.line[0, specs.Command.FLAGS]))
        return self

    def probe(self, address: str) -> int:
        """Read one register by name."""
        name, numbers = re.match(r"[A-Za-z]+", address)[0], [int(number) for number in re.findall(r"\d+", address)]
        registers = self.stepper.registers
        if name == "bank":
            return int(registers.bank[tuple(numbers)])
        if name == "result":
            return int(registers.result[tuple(numbers)])
        row, column, part = numbers[0], numbers[1], address.partition(".")[2]
        if part in ("w0", "w1"):
            return int(registers.held[int(part[1]), row, column])
        if part in ("acc", "o"):
            return int(getattr(registers, part)[row, column])
        wire, written = part.removesuffix("_in"), not part.endswith("_in")
        east = wire == "a"
        return int(getattr(registers, wire)[row + (written and not east), column + (written and east)])

    def token(self, row: int, column: int) -> set[str]:
        """Bits of the token that a PE executes in this cycle."""
        return named(self.probe(f"PE({row},{column}).token_in"))

    def issued(self, cycle: int) -> set[str]:
        """Bits of the token that was issued in a cycle."""
        if len(self.history) <= cycle:
            self.at(cycle + 1)
        return named(self.history[cycle])

    def issue_cycles(self, bit: str) -> list[int]:
        """Run to the end; cycles in which a bit was issued."""
        while not self.stepper.finished():
            self.at(self.stepper.cycle + 1)
        return [cycle for cycle in range(len(self.history)) if bit in self.issued(cycle)]


def named(flags: int) -> set[str]:
    """Return the names of the bits of a token."""
    return {name for name, bit in BITS.items() if flags & bit}


def assert_gate(array: ArrayUnderTest, address: str, cycle: int, value: int) -> None:
    """Demand that a register takes a value exactly as a cycle begins: not one cycle before."""
    assert array.at(cycle - 1).probe(address) != value, f"{address} is early: {value} before cycle {cycle}"
    assert array.at(cycle).probe(address) == value, f"{address} is not {value} at cycle {cycle}"


def run_alone(spec: recurrence.ArraySpec, loop: recurrence.LoopSpec, classes: Integers, events: Integers) -> int:
    """Run the recurrence of one layer that finds nothing and leaves nothing; fills classes and events.

    Args:
        spec: the machine.
        loop: the layer.
        classes: int64[14].
        events: int64[18].
    """
    offsets, left = np.zeros((1, 1, 1), np.int64), np.zeros(2, np.int64)
    return int(recurrence.contraction_timeline(spec, loop, recurrence.BoundarySpec(), offsets, classes, events, left))
