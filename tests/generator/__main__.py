"""Check any number of random graphs: `python -m tests.generator --count 10000 --seed 1 --jobs 2`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.generator.graphs import OPERATORS, draw_graph
from tests.generator.series import Item, run_series
from tests.generator.shrink import save, shrink
from tests.generator.totals import Totals

MOST_SHRUNK = 5
INTERRUPTED = 130


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.generator", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="number of graphs")
    parser.add_argument("--seed", type=int, default=1, help="seed of the series")
    parser.add_argument("--first", type=int, default=0, help="index of the first graph")
    parser.add_argument("--jobs", type=int, default=1, help="number of processes")
    parser.add_argument("--save", type=Path, default=Path("tests/saved_graphs"), help="folder for shrunk failures")
    parser.add_argument("--operators", default="", help="rows of the table to draw from, separated by commas")
    options = parser.parse_args(arguments)
    options.wanted = tuple(filter(None, options.operators.split(",")))
    unknown = [name for name in options.wanted if name not in OPERATORS]
    if unknown or min(options.count, options.jobs) < 1 or min(options.seed, options.first) < 0:
        known = f"operators: {', '.join(OPERATORS)}" if unknown else "numbers must be positive"
        parser.error(f"cannot use {unknown or 'these numbers'}; {known}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Check a series, print the summary, shrink and save what failed; gives the exit code."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    options = parse(arguments)
    totals, failed, interrupted = Totals(), [], False
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("graphs", total=options.count)

        def take(item: Item) -> None:
            totals.add(item.outcome, item.rows)
            if item.outcome.failed:
                failed.append(item)
                progress.console.print(
                    f"graph {item.index}: {item.outcome.verdict}: {item.outcome.detail}", markup=False
                )
            progress.update(bar, advance=1, description=f"graphs, {len(failed)} failed")

        try:
            run_series(options.seed, options.count, take, wanted=options.wanted, jobs=options.jobs, first=options.first)
        except KeyboardInterrupt:
            interrupted = True
    print(f"seed {options.seed}, graphs {options.first}..{options.first + options.count - 1}")
    for line in totals.lines():
        print(line)
    if interrupted:
        print(f"interrupted after {totals.graphs} graphs")
        return INTERRUPTED
    for item in sorted(failed, key=lambda item: item.index)[:MOST_SHRUNK]:
        drawn = draw_graph(options.seed, item.index, options.wanted)
        small = shrink(drawn.case, drawn.setup)
        path = save(small, drawn.setup, options.save, f"seed_{options.seed}_graph_{item.index}")
        print(f"graph {item.index} shrunk to {len(small.nodes)} nodes: {path}")
    return 0 if totals.passed else 1


if __name__ == "__main__":
    sys.exit(main())
