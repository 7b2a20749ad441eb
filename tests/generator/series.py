"""Many graphs, in this process or in several; what fails comes back as an index, which is enough to draw it again."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.generator.graphs import draw_graph
from tests.generator.verify import Outcome, verify

CHUNK = 20


@dataclass(frozen=True)
class Item:
    """The outcome of one graph of a series."""

    index: int
    rows: tuple[str, ...]
    outcome: Outcome


@dataclass(frozen=True)
class Task:
    """A few graphs of a series."""

    seed: int
    first: int
    count: int
    wanted: tuple[str, ...]


def check_one(seed: int, index: int, wanted: tuple[str, ...] = ()) -> Item:
    """Draw and check one graph."""
    drawn = draw_graph(seed, index, wanted)
    return Item(index, drawn.operators, verify(drawn.case, drawn.setup))


def check_some(task: Task) -> list[Item]:
    """Check a few graphs, in a worker process."""
    return [check_one(task.seed, index, task.wanted) for index in range(task.first, task.first + task.count)]


def tasks(seed: int, count: int, wanted: tuple[str, ...], first: int = 0) -> Iterator[Task]:
    """Cut a series into pieces."""
    for start in range(first, first + count, CHUNK):
        yield Task(seed, start, min(CHUNK, first + count - start), wanted)


def _ignore_interrupts() -> None:
    """Leave Ctrl-C to the parent, which prints what there is and ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def run_series(
    seed: int,
    count: int,
    take: Callable[[Item], None],
    *,
    wanted: tuple[str, ...] = (),
    jobs: int = 1,
    first: int = 0,
) -> None:
    """Check a series of graphs and hand over every outcome; in several processes they come in any order.

    Args:
        seed: of the series.
        count: number of graphs.
        take: called with every outcome.
        wanted: rows of the table of operators; empty takes all.
        jobs: number of processes; 1 stays in this one.
        first: index of the first graph.
    """
    if jobs == 1:
        for task in tasks(seed, count, wanted, first):
            for item in check_some(task):
                take(item)
        return
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, _ignore_interrupts) as pool:  # leaving the block ends the workers
        for items in pool.imap_unordered(check_some, tasks(seed, count, wanted, first)):
            for item in items:
                take(item)
