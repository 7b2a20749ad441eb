"""Which slices of a layer belong together: a load and the first slice that uses it; a block up to its store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from accelsim.timing.event.recorder import Interval

Chain = tuple[int, ...]


def chains(intervals: Sequence[Interval], dataflow: str | None) -> Iterator[Chain]:
    """Yield chains of places in `intervals`, each in the order of time and at least two long.

    A load leads to the first slice that waits for it: weights to PUSH and activations to ARRAY on WS, the other way
    round on IS, both to ARRAY on OS, and anything to VECTOR in layers without the array. The last tile of a block leads
    to its requantisation and its store. Slices outside of the window are left out of their chain, and so
    is what a layer loads for the next one.

    Args:
        intervals: of one layer, by time.
        dataflow: of the layer; None without the array.
    """
    stationary = {"ws": "weights", "is": "activations"}.get(dataflow or "")
    users: dict[tuple[str, int, int], int] = {}
    ends: dict[int, dict[str, int]] = defaultdict(dict)
    for place, part in enumerate(intervals):
        if part.engine in ("push", "array", "vector"):
            users.setdefault((part.engine, part.block, part.chunk), place)
        if part.engine in ("array", "requant", "vector", "store"):
            ends[part.block][part.engine] = place  # of several tiles the last one
    for place, part in enumerate(intervals):
        if part.engine == "load" and part.what != "prefetch":
            engines = ("push", "array") if part.what == stationary else ("array", "vector")
            found = (users.get((engine, part.block, part.chunk)) for engine in engines)
            user = next((place for place in found if place is not None), None)
            if user is not None and intervals[user].start >= part.end:
                yield place, user
    for block in ends.values():
        chain = tuple(block[engine] for engine in ("array", "vector", "requant", "store") if engine in block)
        if len(chain) > 1:
            yield chain
