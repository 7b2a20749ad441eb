"""DRAM accesses in the load/store format of Ramulator 2: one line per burst, `LD 0xADDR` or `ST 0xADDR`, by time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsim.addresses import Addresses, AddressMap
from accelsim.arch import Arch
from accelsim.event.run import LayerTrace
from accelsim.event.traffic import Moved
from accelsim.plan import StreamPlan
from accelsim.traces.timeline import Placed, Scene
from accelsim.work import ContractionWork, StreamWork
from accelsim.work_stream import moved_entries

Numbers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Accesses:
    """Bursts in the order of time: cycle of the run, address of the burst, whether it is written."""

    cycles: Numbers
    addresses: Numbers
    stores: NDArray[np.bool_]


def accesses(scene: Scene, arch: Arch, addresses: AddressMap, placed: Placed, trace: LayerTrace) -> Accesses:
    """Return the bursts of the visible part of a layer.

    A burst is dated with the cycle in which the channel begins to move it; of a load and a store in the same cycle the
    load comes first.

    Args:
        scene: the window.
        arch: the machine.
        addresses: where the tensors lie.
        placed: the layer.
        trace: what the event model recorded of it, with segments.
    """
    where = addresses.layers[placed.number]
    plan = placed.layer.plan
    if isinstance(plan, StreamPlan):  # what is kept on chip has no command
        kept = moved_entries(where.reads, plan.kept_reads), moved_entries(where.writes, plan.kept_writes)
        where = Addresses(*kept)
    cycles, bursts, stores = [], [], []
    for engine in ("load", "store"):
        parts = [part for part in trace.intervals if part.engine == engine]
        commands = [part.moved or Moved() for part in parts]
        for part, found in zip(parts, _bursts(engine, commands, placed, where, arch.dram_burst), strict=True):
            beats = np.arange(len(found)) * arch.dram_burst // arch.dram_bytes_per_cycle
            cycles.append(np.minimum(part.start + beats, part.end - 1) + placed.start)
            bursts.append(found)
            stores.append(np.full(len(found), engine == "store"))
    if not cycles:
        return Accesses(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.bool_))
    joined = Accesses(np.concatenate(cycles), np.concatenate(bursts), np.concatenate(stores))
    order = np.lexsort((joined.stores, joined.cycles))
    shown = order[(joined.cycles[order] >= scene.first) & (joined.cycles[order] < scene.last)]
    return Accesses(joined.cycles[shown], joined.addresses[shown], joined.stores[shown])


def lines(found: Accesses) -> str:
    """Return one line per burst."""
    pairs = zip(found.stores.tolist(), found.addresses.tolist(), strict=True)
    return "".join(f"{'ST' if store else 'LD'} 0x{address:x}\n" for store, address in pairs)


def _bursts(engine: str, commands: list[Moved], placed: Placed, where: Addresses, burst: int) -> Iterator[Numbers]:
    """Yield the addresses of the bursts of each command."""
    work = placed.layer.work
    if isinstance(work, ContractionWork):
        operands = dict(zip(("first", "second", "output"), (*where.reads, *where.writes), strict=True))
        for moved in commands:
            yield _contraction_bursts(moved, operands, burst)
        return
    plan = placed.layer.plan
    if not isinstance(plan, StreamPlan):
        raise TypeError(f"{type(plan).__name__} does not plan {type(work).__name__}")
    reads, writes = work.moved_reads(plan.kept_reads), work.moved_writes(plan.kept_writes)
    runs, bases = (reads, where.reads) if engine == "load" else (writes, where.writes)
    yield from _stream_bursts(commands, _sequence(work, runs, bases, burst), burst)


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


def _sequence(work: StreamWork, runs: tuple[tuple[int, int], ...], bases: tuple[int, ...], burst: int) -> Numbers:
    """Return the bursts of all entries of a layer without the array, entry by entry."""
    parts = [
        base + np.arange(count * -(-size // burst), dtype=np.int64) * burst
        for (count, size), base in zip(runs, bases, strict=True)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _stream_bursts(commands: list[Moved], sequence: Numbers, burst: int) -> Iterator[Numbers]:
    """Deal bursts out to the commands of a layer; shares need not be whole bursts, each takes those it completes."""
    moved = done = 0
    for command in commands:
        moved += command.burst_bytes
        yield sequence[done : moved // burst]
        done = moved // burst
