"""One matrix product on the array alone: cycles by the timing contract, or as SCALE-Sim counts them."""

from __future__ import annotations

from dataclasses import dataclass
from operator import index
from typing import Any

import numpy as np

from accelsim.errors import UsageError, nearest, printable
from accelsim.kernels.cycles import recurrence
from accelsim.kernels.cycles.gemm import gemm_timeline
from accelsim.machine.arch import Arch
from accelsim.program.plan import ContractionPlan
from accelsim.program.work import ContractionWork
from accelsim.timing.recurrence import array_spec, loop_spec

TIMINGS = ("native", "scalesim", "scalesim-paper")

# Counts stay exact in 64 bits, and the recurrence, which visits every tile, ends within seconds.
MAX_EXTENT = 1 << 31
MAX_MACS = 1 << 50
MAX_TILES = 1 << 27

_EVENTS = ("macs", "activation_reads", "weight_reads", "bias_reads", "acc_reads", "acc_writes")


@dataclass(frozen=True)
class GemmTiming:
    """Cycles of C[M, N] = bias[N] + A[M, K] B[K, N] on the array alone, all operands in their scratchpads."""

    m: int
    k: int
    n: int
    timing: str
    """The accounting: "native" is the timing contract; "scalesim" what SCALE-Sim 3.0.0 reports as Total Cycles, the
    number of its last cycle counted from 0, so that cycle 0 is in no class; "scalesim-paper" the formula of its
    paper."""
    cycles: int
    """From the first issue to the last commit."""
    classes: tuple[tuple[str, int], ...]
    """Cycles by class (contract, section 4.3); they sum to the cycles."""
    tiles: int
    """Tiles of the contract, folds in the words of SCALE-Sim."""
    events: tuple[tuple[str, int], ...]
    """Counts of the contract, section 6, rows 1 to 6; SCALE-Sim's timings have the multiply-accumulates only."""
    utilisation: float
    """M K N / (rows columns cycles)."""

    def cycle_class(self, name: str) -> int:
        """Return the cycles of one class, 0 when it does not occur."""
        return dict(self.classes).get(name, 0)

    def event(self, name: str) -> int:
        """Return one count, 0 when it does not occur."""
        return dict(self.events).get(name, 0)


def gemm_timing(m: int, k: int, n: int, arch: Arch, *, timing: str = "native") -> GemmTiming:
    """Return the cycles of one matrix product on the array alone, everything resident.

    Args:
        m: rows of the result, in a convolution its output pixels.
        k: depth of the sums.
        n: columns of the result, in a convolution its output channels.
        arch: the machine; `native` reads the array and acc_rows, SCALE-Sim's timings rows, columns and dataflow.
        timing: "native", "scalesim" or "scalesim-paper".

    Raises:
        UsageError: an extent is not a positive integer or too large, the timing is unknown, or the dataflow is "best".
    """
    m, k, n = (_extent(name, value) for name, value in (("M", m), ("K", k), ("N", n)))
    if arch.dataflow == "best":
        raise UsageError("a single product has no best dataflow without its memories: choose ws, os or is")
    word = timing.lower() if isinstance(timing, str) else repr(timing)
    if word not in TIMINGS:
        raise UsageError(f"unknown timing '{printable(word)}' ({nearest(word, TIMINGS)})")
    if m * k * n > MAX_MACS:
        raise UsageError(f"{m} x {k} x {n} is more than 2^50 multiply-accumulates: time a part of the product")
    return _native(m, k, n, arch) if word == "native" else _scalesim(m, k, n, arch, word)


def tile_counts(m: int, k: int, n: int, arch: Arch, *, blocked: bool = True) -> tuple[int, int, int]:
    """Return how many pieces the rows, the columns and the stream of the array are cut into.

    Args:
        m: rows of the result.
        k: depth.
        n: columns of the result.
        arch: the machine.
        blocked: WS and IS cut their stream into acc_rows (contract, section 4.4); SCALE-Sim does not.
    """
    on_rows, on_columns, streamed = mapped_extents(m, k, n, arch)
    longest = streamed if arch.dataflow == "os" or not blocked else arch.acc_rows
    return -(-on_rows // arch.rows), -(-on_columns // arch.cols), -(-streamed // longest)


def mapped_extents(m: int, k: int, n: int, arch: Arch) -> tuple[int, int, int]:
    """Return which extents lie along the rows, along the columns, and in time (contract, section 3)."""
    return {"ws": (k, n, m), "os": (m, n, k), "is": (k, m, n)}[arch.dataflow]


def scalesim_fold(streamed: int, arch: Arch, timing: str) -> tuple[tuple[str, int], ...]:
    """Return the classes of one fold of SCALE-Sim: folds never overlap, and every one takes the whole array.

    R + C + T - 2 cycles of streaming and skew; R more to load the stationary operand, or, in the paper alone, to shift
    out the sums of OS (Samajdar et al., ISPASS 2020; the code leaves them out, scale-sim-v3 issue 4).

    Args:
        streamed: T, the extent in time.
        arch: the machine.
        timing: "scalesim" or "scalesim-paper".
    """
    skew = ("tail", arch.rows + arch.cols - 2)
    if arch.dataflow != "os":
        return ("push", arch.rows), ("stream", streamed), skew
    return (("stream", streamed), ("shift", arch.rows if timing == "scalesim-paper" else 0), skew)


def _extent(name: str, value: Any) -> int:
    """Check one extent."""
    try:
        extent = index(value)
    except TypeError:
        raise UsageError(f"{name} is {printable(repr(value))}: give a whole number from 1") from None
    if isinstance(value, bool) or not 1 <= extent <= MAX_EXTENT:
        raise UsageError(f"{name} is {_shortened(extent)}: give a whole number from 1 to 2^31")
    return extent


def _shortened(number: int) -> str:
    """Return a number as text; one with more digits than Python converts, by its sign and size."""
    return str(number) if number.bit_length() <= 64 else f"{'-' if number < 0 else ''}2^{number.bit_length() - 1}..."


def _native(m: int, k: int, n: int, arch: Arch) -> GemmTiming:
    """Evaluate the recurrence of the contract."""
    along_rows, along_columns, blocks = tile_counts(m, k, n, arch)
    tiles = along_rows * along_columns * blocks
    if tiles > MAX_TILES:
        raise UsageError(
            f"{m} x {k} x {n} makes {tiles:,} tiles on a {arch.rows}x{arch.cols} array, more than {MAX_TILES:,}: "
            f"time a part of the product, or a larger array"
        )
    work, plan = ContractionWork(m, k, n, 1, None, False, 1, 8), ContractionPlan(m, n, k, 1, True)
    classes = np.zeros(len(recurrence.CLASSES), np.int64)
    events = np.zeros(len(recurrence.EVENTS), np.int64)
    cycles = int(gemm_timeline(array_spec(arch), loop_spec(work, plan), arch.acc_rows, classes, events))
    counts = dict(zip(recurrence.EVENTS, events.tolist(), strict=True))
    by_class = tuple((name, int(value)) for name, value in zip(recurrence.CLASSES, classes, strict=True) if value)
    chosen = tuple((name, counts[name]) for name in _EVENTS if counts[name])
    return GemmTiming(m, k, n, "native", cycles, by_class, tiles, chosen, arch.utilisation(m * k * n, cycles))


def _scalesim(m: int, k: int, n: int, arch: Arch, timing: str) -> GemmTiming:
    """Evaluate the closed forms of SCALE-Sim (docs/scalesim.md)."""
    along_rows, along_columns, _ = tile_counts(m, k, n, arch, blocked=False)
    folds = along_rows * along_columns
    *_, streamed = mapped_extents(m, k, n, arch)
    classes: dict[str, int] = {}
    for name, cycles in scalesim_fold(streamed, arch, timing):
        if name == "tail":  # between folds nothing else happens: what is the tail of the last one is a flush elsewhere
            classes["flush"] = (folds - 1) * cycles
            classes[name] = cycles
        else:
            classes[name] = folds * cycles
    if timing == "scalesim":
        classes["stream" if arch.dataflow == "os" else "push"] -= 1  # cycle 0, which a report from 0 does not count
    total = sum(classes.values())
    macs = m * k * n
    by_class = tuple((name, value) for name, value in classes.items() if value)
    return GemmTiming(m, k, n, timing, total, by_class, folds, (("macs", macs),), arch.utilisation(macs, total))
