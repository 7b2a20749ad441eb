"""The space of plans of a layer: all dataflows, loop orders, block sizes, depths and residencies that are tried.

Small spaces hold every size; in larger ones sizes are balanced cuts of the streamed extent, of which the largest that
fit are taken, and the depth is halved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import product

from accelsim.errors import UsageError
from accelsim.machine.arch import Arch
from accelsim.mapping.shortage import Shortage
from accelsim.program.plan import NOTHING_KEPT, ContractionPlan, Kept
from accelsim.program.scratchpads import buffer_needs, fits, groups_packed
from accelsim.program.work import ContractionWork
from accelsim.timing.recurrence import DATAFLOWS

# Up to so many sizes of the streamed block, and so many folds of depth, all are tried.
_ALL_SIZES, _ALL_FOLDS = 8, 4
_BALANCED_CUTS = 4

# Of the sizes that fit, so many of the largest are candidates (all of a small extent).
_FITTING_SIZES = 8


def fitting_plans(name: str, work: ContractionWork, arch: Arch, kept: Kept = NOTHING_KEPT) -> Iterator[ContractionPlan]:
    """Yield every plan of a layer's space that the scratchpads hold.

    Args:
        name: the layer's name, for messages.
        work: the layer's work.
        arch: the machine.
        kept: what stays on chip.

    Raises:
        UsageError: there is none; names the buffer, the layer and the minimum.
    """
    shortest, found = Shortage(), Counter[tuple[object, ...]]()
    resident: dict[bool, ContractionPlan] = {}  # in large spaces loading an operand again is not tried
    for plan in plan_space(work, arch, kept):
        way = plan.dataflow, plan.outer, plan.preload, plan.resident, plan.chunk_k
        small = (work.n if plan.dataflow == "is" else work.m) <= _ALL_SIZES
        loaded_once = not small and not plan.resident and resident.get(plan.preload) == replace(plan, resident=True)
        if found[way] >= _FITTING_SIZES or loaded_once:
            continue
        needs = buffer_needs(work, plan, arch)
        if fits(needs, arch, kept.reserved):
            found[way] += 1
            if plan.resident:
                resident[plan.preload] = plan
            yield plan
        elif not found:
            shortest.note(needs, arch)
    if not found:
        raise UsageError(shortest.sentence(name, arch, kept.reserved))


def plan_space(work: ContractionWork, arch: Arch, kept: Kept = NOTHING_KEPT) -> Iterator[ContractionPlan]:
    """Yield every plan of a layer's space, whether the scratchpads hold it or not, large blocks first.

    Args:
        work: the layer's work.
        arch: the machine.
        kept: what stays on chip.
    """
    for dataflow in DATAFLOWS if arch.dataflow == "best" else (arch.dataflow,):
        pack = groups_packed(work, arch, dataflow)
        for block_m, block_n in _blocks(work, arch, dataflow, pack):
            for chunk in _chunks(work.k, arch.rows):
                if chunk < work.k and dataflow == "os" and block_m > arch.rows:
                    continue  # partial sums of a tile stay in the PEs, so its depth is not left in between
                whole = block_m >= work.m and block_n >= work.n and chunk >= work.k
                for outer in ("n",) if whole else ("n", "m"):
                    yield from _residencies(work, kept, (block_m, block_n, chunk, pack), dataflow, outer)


def _residencies(
    work: ContractionWork, kept: Kept, sizes: tuple[int, int, int, int], dataflow: str, outer: str
) -> Iterator[ContractionPlan]:
    """Yield the ways in which the operands of a blocking may stay in their scratchpads, resident ones first."""
    whole = sizes[0] >= work.m and sizes[2] >= work.k
    ahead = (True, False) if outer == "m" and not kept.first and not whole else (False,)
    for resident, preload in product((True, False), ahead):
        yield ContractionPlan(*sizes, resident, preload, dataflow, outer, kept.first, kept.output)


def _blocks(work: ContractionWork, arch: Arch, dataflow: str, pack: int) -> list[tuple[int, int]]:
    """Return the output blocks (m, n) to try, largest first; only the streamed extent is free, on OS in whole tiles."""
    if dataflow == "is":
        held = min(arch.cols, work.m)
        return [(held, size) for size in _sizes(work.n, arch.acc_rows - work.row_sums)]
    held = work.n if pack > 1 else min(arch.cols - work.row_sums, work.n)
    sizes = _sizes(work.m, arch.acc_rows)
    if dataflow == "os":
        tiles = [size if size <= arch.rows or size >= work.m else size - size % arch.rows for size in sizes]
        sizes = sorted({*tiles, min(arch.rows, work.m, arch.acc_rows)}, reverse=True)
    return [(size, held) for size in sizes]


@lru_cache(maxsize=4096)
def _sizes(extent: int, limit: int) -> list[int]:
    """Return the sizes to cut an extent into: all of a small one, balanced cuts of a large one, down to one."""
    largest = min(extent, limit)
    if largest <= _ALL_SIZES:
        return list(range(largest, 0, -1))
    least = -(-extent // largest)
    cuts = [largest, *(-(-extent // (least + more)) for more in range(_BALANCED_CUTS))]
    size = min(cuts)
    while size > 1:
        size = -(-size // 2)
        cuts.append(size)
    return sorted(set(cuts), reverse=True)


@lru_cache(maxsize=4096)
def _chunks(depth: int, rows: int) -> list[int]:
    """Return the depths to load at a time, in whole folds: all of a few, halves of many, down to one."""
    folds = -(-depth // rows)
    if folds <= _ALL_FOLDS:
        return [depth, *(fold * rows for fold in range(folds - 1, 0, -1))]
    chunks, cut = [depth], folds
    while cut > 1:
        cut = -(-cut // 2)
        chunks.append(cut * rows)
    return chunks
