"""What a layer loads for a later one, and what it finds loaded (contract, section 5.6)."""

from __future__ import annotations

from accelsim.boundary import Boundary, Prefetch
from accelsim.event.traffic import Moved, Segments, Tensors

_OPERAND = "prefetch"


def prefetched(fetch: Prefetch, burst: int) -> Moved:
    """Return what loading the second operand of the first chunk of a later layer moves.

    Args:
        fetch: the later layer.
        burst: bytes of a burst.
    """
    work, plan = fetch.work, fetch.plan
    packed = min(plan.pack, work.groups)
    columns, depth = (0, min(plan.block_n, work.n)), (0, min(plan.chunk_k, work.k))
    moved = Tensors(work, burst).second(0, packed, columns, depth)
    place = Segments(_OPERAND, fetch.address, moved.useful_bytes, 1, 0)
    return Moved(moved.burst_bytes, moved.useful_bytes, (place,))


def left_behind(end: int, free: int | None, complete: int | None) -> Boundary:
    """Return what the next layer finds.

    Args:
        end: cycle in which this layer ends.
        free: cycle from which LOAD and its channel are free of the prefetch, None where there is none.
        complete: cycle from which the prefetched weights are there.
    """
    if free is None or complete is None:
        return Boundary()
    return Boundary(max(free - end, 0), max(complete - end, 0))
