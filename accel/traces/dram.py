"""DRAM accesses in the load/store format of Ramulator 2: one line per burst, `LD 0xADDR` or `ST 0xADDR`, by time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsim.machine.arch import Arch
from accelsim.program.addresses import Addresses, AddressMap
from accelsim.program.plan import StreamPlan
from accelsim.program.work import ContractionWork, StreamWork
from accelsim.timing.event.recorder import Interval
from accelsim.timing.event.run import LayerTrace
from accelsim.timing.event.traffic import Moved
from accelsim.timing.scene import Placed, Scene, channel_cycles

Numbers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Accesses:
    """Bursts in the order of time: cycle of the run, address of the burst, whether it is written."""

    cycles: Numbers
    addresses: Numbers
    stores: NDArray[np.bool_]


def accesses(scene: Scene, arch: Arch, addresses: AddressMap, placed: Placed, trace: LayerTrace) -> Accesses:
    """Return the bursts of the visible part of a layer.

    A burst is dated with the cycle in which the channel begins to move it, as if the rows that its command opens took
    their cycles evenly; of a load and a store in the same cycle the load comes first. What a command for the next layer
    moves behind the end of this one belongs to the next one.

    Args:
        scene: the window.
        arch: the machine.
        addresses: where the tensors lie.
        placed: the layer.
        trace: what the event model recorded of it, with segments.
    """
    operands = _operands(addresses, placed)
    cycles, bursts, stores = [], [], []
    for engine in ("load", "store"):
        parts = [part for part in trace.intervals if part.engine == engine]
        for part, found in zip(parts, _bursts(engine, parts, placed, operands, arch.dram_burst), strict=True):
            beats = np.arange(len(found)) * arch.dram_burst // arch.dram_bytes_per_cycle
            if part.row_misses:
                beats = np.arange(len(found)) * channel_cycles(part, arch) // max(len(found), 1)
            cycles.append(np.minimum(part.start + beats, part.end - 1) + placed.start)
            bursts.append(found)
            stores.append(np.full(len(found), engine == "store"))
    if not cycles:
        return Accesses(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.bool_))
    joined = Accesses(np.concatenate(cycles), np.concatenate(bursts), np.concatenate(stores))
    order = np.lexsort((joined.stores, joined.cycles))
    first, last = max(scene.first, placed.start), min(scene.last, placed.end)
    shown = order[(joined.cycles[order] >= first) & (joined.cycles[order] < last)]
    return Accesses(joined.cycles[shown], joined.addresses[shown], joined.stores[shown])


def lines(found: Accesses) -> str:
    """Return one line per burst."""
    pairs = zip(found.stores.tolist(), found.addresses.tolist(), strict=True)
    return "".join(f"{'ST' if store else 'LD'} 0x{address:x}\n" for store, address in pairs)


@dataclass(frozen=True)
class _Operands:
    """First bytes: of the operands of a contraction and of what is loaded for the next layer, by name; of entries."""

    named: dict[str, int]
    entries: Addresses


def _operands(addresses: AddressMap, placed: Placed) -> _Operands:
    """Find what a layer moves."""
    where, named = addresses.layers[placed.number], {}
    if isinstance(placed.layer.work, ContractionWork):
        named = dict(zip(("first", "second", "output"), (*where.reads, *where.writes), strict=True))
    if placed.around.prefetch is not None and placed.later is not None:
        named["prefetch"] = addresses.layers[placed.later].reads[1]
    return _Operands(named, where)


def _bursts(
    engine: str, parts: Sequence[Interval], placed: Placed, operands: _Operands, burst: int
) -> Iterator[Numbers]:
    """Yield the addresses of the bursts of each command."""
    work, plan = placed.layer.work, placed.layer.plan
    dealt: Iterator[Numbers] = iter(())
    if isinstance(work, StreamWork) and isinstance(plan, StreamPlan):
        where = operands.entries
        runs, bases, kept = (
            (work.reads, where.reads, plan.kept_reads)
            if engine == "load"
            else (work.writes, where.writes, plan.kept_writes)
        )
        own = [part.moved or Moved() for part in parts if part.what != "prefetch"]
        dealt = _stream_bursts(own, _sequence(runs, bases, kept, burst), burst)
    for part in parts:
        if isinstance(work, ContractionWork) or part.what == "prefetch":
            yield _contraction_bursts(part.moved or Moved(), operands.named, burst)
        else:
            yield next(dealt)


def _contraction_bursts(moved: Moved, operands: dict[str, int], burst: int) -> Numbers:
    """Return the bursts that the segments of a command touch, segment by segment."""
    found = []
    for part in moved.segments:
        starts = operands[part.operand] + part.start + np.arange(part.count, dtype=np.int64) * part.stride
        first, last = starts // burst, (starts + part.length - 1) // burst
        counts = last - first + 1
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        found.append((np.repeat(first, counts) + within) * burst)
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def _sequence(runs: tuple[tuple[int, int], ...], bases: tuple[int, ...], kept: tuple[bool, ...], burst: int) -> Numbers:
    """Return the bursts of all entries of a layer without the array that do not stay on chip, entry by entry."""
    parts = [
        base + np.arange(count * -(-size // burst), dtype=np.int64) * burst
        for (count, size), base, stays in zip(runs, bases, kept or (False,) * len(runs), strict=True)
        if not stays
    ]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _stream_bursts(commands: list[Moved], sequence: Numbers, burst: int) -> Iterator[Numbers]:
    """Deal bursts out to the commands of a layer; shares need not be whole bursts, each takes those it completes."""
    moved = done = 0
    for command in commands:
        moved += command.burst_bytes
        yield sequence[done : moved // burst]
        done = moved // burst
