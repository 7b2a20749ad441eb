"""The commands `report` and `compare`: what a result says, as a page, as figures, or beside another one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from accelsim.cli.options import Debug, printing

if TYPE_CHECKING:
    from pathlib import Path

    from accelsim.results.result import Result

Results = Annotated[
    list[str], typer.Argument(metavar="RESULT...", help="A result.json, or the folder that accel-sim run -o DIR wrote.")
]
Page = Annotated[str | None, typer.Option("-o", "--output", metavar="FILE.html", help="The page to write.")]
Figures = Annotated[
    str | None, typer.Option("--figures", metavar="DIR", help="Write the charts as SVG, PDF and PNG, too.")
]
One = Annotated[str, typer.Argument(metavar="A", help="A result.json or its folder: before.")]
Other = Annotated[str, typer.Argument(metavar="B", help="A result.json or its folder: after.")]
Drawing = Annotated[
    str | None,
    typer.Option("-o", "--output", metavar="FILE", help="Draw what changed: .svg, .pdf, .png, or a page as .html."),
]
AllLayers = Annotated[bool, typer.Option("--all", help="Print all layers that differ, not only the first ones.")]
Quantisations = Annotated[
    list[str] | None,
    typer.Option(
        "--quantisation",
        metavar="FILE.json",
        help="What accel-sim quantize --report FILE.json wrote of a model that was run.",
    ),
]
Silent = Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing.")]


def report(
    results: Results,
    output: Page = None,
    figures: Figures = None,
    quantisation: Quantisations = None,
    quiet: Silent = False,
    debug: Debug = False,
) -> None:
    """Write a report of one result, or of several beside each other: one page without network, or figures."""
    from accelsim.errors import UsageError
    from accelsim.files.writing import check_folder, make_folder, write_together

    if output is None and figures is None:
        raise UsageError("a report goes into a file or a folder: name them with -o FILE.html or --figures DIR")
    page = None if output is None else _target(output, (".html", ".htm"))
    folder = None if figures is None else check_folder(figures)
    read = _read(results)
    from accelsim.reports.page.page import report_figures, report_html
    from accelsim.results.quantisation_reader import read_quantisation

    quantised = [read_quantisation(name) for name in quantisation or ()]
    written: list[tuple[Path, int]] = []
    if page is not None:
        written.append((page, _write(page, report_html(read, quantised).encode())))
    if folder is not None:
        files = report_figures(read, quantised)
        make_folder(folder)
        write_together(folder, files)
        written += [(folder / name, len(data)) for name, data in files.items()]
    _say(written, quiet=quiet)


def compare(
    before: One,
    after: Other,
    output: Drawing = None,
    all_layers: AllLayers = False,
    quiet: Silent = False,
    debug: Debug = False,
) -> None:
    """Say what changed from one result to another: totals, layers by name, the machine, versions."""
    from accelsim.reports.changes import changes_between
    from accelsim.reports.charts.style import FIGURE_KINDS

    target = None if output is None else _target(output, (".html", *(f".{kind}" for kind in FIGURE_KINDS)))
    old, new = _read([before, after])
    changes = changes_between(old, new)
    written = []
    if target is not None:
        from accelsim.reports.page.page import changes_figure, report_html

        kind = target.suffix.lower()[1:]
        data = report_html([old, new]).encode() if kind == "html" else changes_figure(changes, kind)
        written.append((target, _write(target, data)))
    if quiet:
        return
    with printing():
        from accelsim.reports.terminal.compare import print_changes
        from accelsim.reports.terminal.run_table import make_console

        print_changes(changes, make_console(), all_layers=all_layers)
    _say(written, quiet=quiet)


def _target(name: str, suffixes: tuple[str, ...]) -> Path:
    """Refuse a file that cannot be written before any work is done.

    Raises:
        UsageError: names the file and the reason.
    """
    from pathlib import Path

    from accelsim.errors import UsageError, printable
    from accelsim.files.writing import check_target

    path = Path(name)
    check_target(name)
    if path.suffix.lower() not in suffixes:
        raise UsageError(
            f"cannot tell from {printable(name)} what to write: its name must end in {', '.join(suffixes)}"
        )
    return path


def _read(names: list[str]) -> list[Result]:
    """Read results."""
    from accelsim.results.reader import read_result

    return [read_result(name) for name in names]


def _write(path: Path, data: bytes) -> int:
    """Write a file whole and return its size."""
    from accelsim.files.writing import write_atomically

    write_atomically(path, data)
    return len(data)


def _say(written: list[tuple[Path, int]], *, quiet: bool) -> None:
    """Say what was written."""
    from accelsim.errors import printable

    if quiet:
        return
    with printing():
        for path, size in written:
            sys.stdout.write(f"wrote {printable(str(path), 200)}: {size:,} bytes\n")
