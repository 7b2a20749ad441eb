"""The register-level execution of one matrix product: slow, small, and independent of the timing recurrence.

It says what the array does in every cycle and in every register, values included; docs/timing_contract.md, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelsim.errors import ResourceLimitError, UsageError
from accelsim.kernels.registers import array as kernels, specs
from accelsim.kernels.values.accumulate import accumulate_narrow
from accelsim.machine.arch import Arch

Integers = NDArray[np.int64]
Counts = tuple[tuple[str, int], ...]

# What lies in registers and memories before anything is written: a result that depends on it is wrong.
_GARBAGE = 85

# One PE takes a few nanoseconds per cycle.
MAX_PE_CYCLES = 1 << 32

# Operands and results together.
MAX_ELEMENTS = 1 << 24

_DATAFLOWS = {"ws": specs.WS, "os": specs.OS, "is": specs.IS}
_OPERAND_BITS = 16


@dataclass(frozen=True)
class SteppedGemm:
    """What the array did."""

    accumulators: Integers
    """int64[M, N], before requantisation."""
    cycles: int
    """From the first issue to the last commit."""
    classes: Counts
    """Cycles by class (contract, section 4.3), `wait_x` undivided; they sum to the cycles."""
    events: Counts
    """Counts of the contract, section 6, rows 1 to 6."""
    tiles: int
    """Number of tiles."""


class Stepper:
    """One matrix product on the array, to be advanced clock by clock.

    Args:
        activations: int[M, K].
        weights: int[N, K].
        bias: int[N].
        arch: the machine; its array and acc_rows are read.
        ready_w: per tile the cycle from which its weights are there (WS, IS); None: all resident.
        ready_x: per tile the cycle from which its other operand and its accumulator bank are there.
    """

    def __init__(
        self,
        activations: ArrayLike,
        weights: ArrayLike,
        bias: ArrayLike,
        arch: Arch,
        ready_w: Sequence[int] | None = None,
        ready_x: Sequence[int] | None = None,
    ) -> None:
        x, w, b = _checked(activations, weights, bias)
        if arch.dataflow not in _DATAFLOWS:
            raise UsageError(f"the stepper has no dataflow '{arch.dataflow}': choose ws, os or is")
        self.arch, self.cycle = arch, 0
        streamed, stationary = (w, x.T) if arch.dataflow == "is" else (x, w.T)
        self.tiles = _tile_table(streamed.shape[0], stationary.shape, arch, ready_w, ready_x)
        self.operands = specs.Operands(np.ascontiguousarray(streamed), np.ascontiguousarray(stationary), b, self.tiles)
        self.spec = specs.StepperSpec(
            rows=arch.rows,
            cols=arch.cols,
            dataflow=_DATAFLOWS[arch.dataflow],
            double_buffer=int(arch.weight_double_buffer),
            drain_overlap=int(arch.drain_overlap),
            flush=int(arch.flush_between_tiles),
            full_load=int(arch.weight_load == "full"),
            acc_bits=arch.acc_bits,
            saturate=int(arch.overflow == "saturate"),
            gather_words=arch.x_gather_words_per_cycle or 0,
        )
        longest = int(self.tiles[:, specs.Tile.ROWS].max())
        self.registers = _power_up(arch.rows, arch.cols, longest, (streamed.shape[0], stationary.shape[1]))

    def tick(self) -> None:
        """Advance by one clock."""
        kernels.tick(self.spec, self.operands, self.registers, self.cycle)
        self.cycle += 1

    def finished(self) -> bool:
        """Say whether all results are committed."""
        return bool(kernels.finished(self.operands, self.registers))

    def run(self) -> SteppedGemm:
        """Advance until all results are committed.

        Raises:
            ResourceLimitError: the product is too large for this execution.
        """
        limit = MAX_PE_CYCLES // (self.arch.rows * self.arch.cols)
        total = int(kernels.run(self.spec, self.operands, self.registers, self.cycle, limit))
        if total < 0:
            raise ResourceLimitError(
                f"the register-level stepper stops after {limit:,} cycles of a {self.arch.rows}x{self.arch.cols} "
                f"array: step a smaller product"
            )
        classes = self.registers.classes.tolist()
        if classes[specs.Cycle.UNEXPLAINED] or self.registers.events[specs.Event.STRAYS]:
            raise RuntimeError("the stepper's tokens and commands have lost each other")
        self.cycle = total
        result = self.registers.result.T if self.arch.dataflow == "is" else self.registers.result
        by_class = tuple((name, cycles) for name, cycles in zip(specs.CLASSES, classes, strict=True) if cycles)
        return SteppedGemm(np.ascontiguousarray(result), total, by_class, self._events(), len(self.tiles))

    def _events(self) -> Counts:
        """Return the counts under the names of the contract."""
        counts = self.registers.events
        streamed, stationary = int(counts[specs.Event.STREAMED_READS]), int(counts[specs.Event.STATIONARY_READS])
        reads = (stationary, streamed) if self.arch.dataflow == "is" else (streamed, stationary)
        table = (
            ("macs", int(counts[specs.Event.MACS])),
            ("activation_reads", reads[0]),
            ("weight_reads", reads[1]),
            ("bias_reads", int(counts[specs.Event.BIAS_READS])),
            ("acc_reads", int(counts[specs.Event.ACC_READS])),
            ("acc_writes", int(counts[specs.Event.ACC_WRITES])),
        )
        return tuple(row for row in table if row[1])


def step_gemm(
    activations: ArrayLike,
    weights: ArrayLike,
    bias: ArrayLike,
    arch: Arch,
    *,
    ready_w: Sequence[int] | None = None,
    ready_x: Sequence[int] | None = None,
) -> SteppedGemm:
    """Execute one matrix product register by register.

    Args:
        activations: int[M, K], of at most 16 bits.
        weights: int[N, K], of at most 16 bits.
        bias: int[N].
        arch: the machine.
        ready_w: see `Stepper`.
        ready_x: see `Stepper`.

    Raises:
        UsageError: shapes do not fit, or an operand is too wide.
        ResourceLimitError: the product is too large.
    """
    return Stepper(activations, weights, bias, arch, ready_w, ready_x).run()


def random_operands(m: int, k: int, n: int, seed: int) -> tuple[Integers, Integers, Integers]:
    """Draw 9-bit activations [M, K], 8-bit weights [N, K] and 20-bit biases [N].

    Args:
        m: rows of the result.
        k: depth.
        n: columns of the result.
        seed: seed of the generator.

    Raises:
        ResourceLimitError: the operands would not fit a reasonable memory.
    """
    if m * k + n * k + m * n > MAX_ELEMENTS:
        raise ResourceLimitError(
            f"the operands of {m} x {k} x {n} have more than 2^24 elements: step a smaller product"
        )
    draw = np.random.default_rng(seed)
    return (
        draw.integers(-256, 256, (m, k)),
        draw.integers(-128, 128, (n, k)),
        draw.integers(-(1 << 19), 1 << 19, n),
    )


def compare_with(
    operands: tuple[Integers, Integers, Integers],
    arch: Arch,
    cycles: int,
    classes: Counts,
    events: Counts,
) -> list[str]:
    """Execute a product and say in what it differs from what another execution found, and from the datapath.

    Args:
        operands: activations, weights, bias; see `step_gemm`.
        arch: the machine.
        cycles: total of the other execution.
        classes: its cycles by class, without waits.
        events: its counts.

    Raises:
        ResourceLimitError: the product is too large.
    """
    if cycles * arch.rows * arch.cols > MAX_PE_CYCLES:
        raise ResourceLimitError(
            f"{cycles:,} cycles of a {arch.rows}x{arch.cols} array are too many for the register-level stepper: "
            f"step a smaller product"
        )
    done = step_gemm(*operands, arch)
    found = {
        "accumulators": np.array_equal(done.accumulators, _accumulated(operands, arch)),
        "cycles": done.cycles == cycles,
        "classes": dict(done.classes) == dict(classes),
        "events": dict(done.events) == dict(events),
    }
    return [name for name, equal in found.items() if not equal]


def _accumulated(operands: tuple[Integers, Integers, Integers], arch: Arch) -> Integers:
    """Return the accumulators as the datapath computes them; operands are too small to overflow 64 bits."""
    activations, weights, bias = operands
    if arch.acc_bits > 63:
        return activations @ weights.T + bias
    acc = np.repeat(bias[:, None], len(activations), axis=1)
    parts = weights.astype(np.int16), np.ascontiguousarray(activations.T.astype(np.int16))
    accumulate_narrow(*parts, acc, arch.acc_bits, arch.overflow == "saturate")
    return acc.T


def _checked(activations: ArrayLike, weights: ArrayLike, bias: ArrayLike) -> tuple[Integers, Integers, Integers]:
    """Return the operands as int64, or say what is wrong with them."""
    x, w, b = (np.asarray(values) for values in (activations, weights, bias))
    if not all(np.issubdtype(values.dtype, np.integer) for values in (x, w, b)):
        raise UsageError("the operands of a product on the array are integers: give integer arrays")
    if x.ndim != 2 or w.ndim != 2 or b.shape != w.shape[:1] or x.shape[1] != w.shape[1] or 0 in (*x.shape, *w.shape):
        raise UsageError(f"operands {x.shape}, {w.shape} and {b.shape} do not fit: give [M, K], [N, K] and [N]")
    bound = 1 << (_OPERAND_BITS - 1)
    if any(int(values.min()) < -bound or int(values.max()) >= bound for values in (x, w)):
        raise UsageError(f"an operand is wider than {_OPERAND_BITS} bits: quantise it")
    return x.astype(np.int64), w.astype(np.int64), b.astype(np.int64)


def _tiles(streamed: int, shape: tuple[int, ...], arch: Arch) -> Iterator[tuple[int, ...]]:
    """Yield the tiles in the order of section 4.4: column block, block of the stream, k fold."""
    depth, width = shape
    block = 0
    for column in range(0, width, arch.cols):
        columns = min(arch.cols, width - column)
        if arch.dataflow == "os":
            for row in range(0, streamed, arch.rows):
                yield row, min(arch.rows, streamed - row), 0, depth, column, columns, 1, 1, 0
            continue
        for row in range(0, streamed, arch.acc_rows):
            rows = min(arch.acc_rows, streamed - row)
            for k in range(0, depth, arch.rows):
                fold, last = min(arch.rows, depth - k), k + arch.rows >= depth
                yield row, rows, k, fold, column, columns, int(k == 0), int(last), block % 2
            block += 1


def _tile_table(
    streamed: int,
    shape: tuple[int, ...],
    arch: Arch,
    ready_w: Sequence[int] | None,
    ready_x: Sequence[int] | None,
) -> Integers:
    """Return int64[tiles, fields]."""
    tiles = list(_tiles(streamed, shape, arch))
    table = np.zeros((len(tiles), len(specs.Tile)), np.int64)
    table[:, : specs.Tile.READY_W] = tiles
    for field, ready in ((specs.Tile.READY_W, ready_w), (specs.Tile.READY_X, ready_x)):
        if ready is not None and len(ready) != len(tiles):
            raise UsageError(f"{len(ready)} ready times for {len(tiles)} tiles: give one per tile")
        table[:, field] = 0 if ready is None else ready
    return table


def _power_up(rows: int, cols: int, longest: int, result: tuple[int, int]) -> specs.Registers:
    """Return registers and memories full of garbage, without any token."""

    def garbage(*shape: int) -> Integers:
        return np.full(shape, _GARBAGE, np.int64)

    def zeros(*shape: int) -> Integers:
        return np.zeros(shape, np.int64)

    return specs.Registers(
        token=zeros(rows + 1, cols),
        v=garbage(rows + 1, cols),
        w=garbage(rows + 1, cols),
        w_on=garbage(rows + 1, cols) & 1,
        a=garbage(rows, cols + 1),
        a_on=garbage(rows, cols + 1) & 1,
        held=garbage(2, rows, cols),
        held_on=garbage(2, rows, cols) & 1,
        acc=garbage(rows, cols),
        o=garbage(rows, cols),
        leaving=zeros(cols),
        leaving_v=garbage(cols),
        line=zeros(rows + cols + 1, len(specs.Command)),
        bank=garbage(2, longest, cols),
        pending=zeros(2, longest),
        control=zeros(len(specs.Control)),
        classes=zeros(len(specs.Cycle)),
        events=zeros(len(specs.Event)),
        result=garbage(*result),
    )
