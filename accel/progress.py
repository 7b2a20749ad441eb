"""Progress of long work: on stderr, only when that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# What long work reports: what is done, how far, of how many.
Steps = Callable[[str, int, int], None]


@contextmanager
def layer_progress(title: str, *, quiet: bool = False, describe: bool = False) -> Iterator[Steps | None]:
    """Show a bar over the layers of a model while the block runs.

    Args:
        title: what is being worked on.
        quiet: show nothing.
        describe: the names reported are steps of the work, which are shown.

    Yields:
        A function of (layer name, index, count), or None when nothing is shown.
    """
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    bar = Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True)
    task = bar.add_task(title, total=None)
    drawn = False

    def report(layer: str, index: int, count: int) -> None:
        nonlocal drawn
        shown = f"{title}: {layer}" if describe else title
        bar.update(task, completed=index, total=count, description=shown)
        if not drawn:  # before, there was no count to draw
            bar.start()
            drawn = True

    try:
        yield report
    finally:
        if drawn:
            bar.stop()
