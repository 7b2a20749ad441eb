"""The command `models`: lists the networks that we can build ourselves, and writes one as an ONNX file."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accelsim.cli.options import Debug, Json, printing
from accelsim.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from accelsim.models.catalogue import Entry

Name = Annotated[str | None, typer.Argument(metavar="NAME", help="One of the list; NAME-float is its float form.")]
OutputFile = Annotated[str | None, typer.Option("-o", "--output", metavar="FILE.onnx", help="Write the model there.")]


def models(name: Name = None, json_output: Json = False, output: OutputFile = None, debug: Debug = False) -> None:
    """List models of our own, or write one as a file; everywhere else they are called models:NAME."""
    from accelsim.models.catalogue import ENTRIES
    from accelsim.models.store import find

    if output is not None:
        if name is None:
            raise UsageError("-o writes one model: name it, as in accel-sim models mobilenetv2 -o FILE.onnx")
        _write(name, output)
        return
    chosen = ENTRIES if name is None else (find(name)[0],)
    with printing():
        if json_output:
            from accelsim.files.json_writing import to_json

            sys.stdout.write(to_json({"models": [_described(entry) for entry in chosen]}))
        elif name is None:
            _print_table()
        else:
            _print_details(chosen[0])


def _write(name: str, output: str) -> None:
    """Build a model and write it; the target is looked at before anything is built."""
    from pathlib import Path

    from accelsim.files.writing import check_target, written_atomically
    from accelsim.models.store import find, model_bytes

    find(name)
    check_target(output)
    with written_atomically(Path(output)) as file:
        file.write(model_bytes(name))


def _described(entry: Entry) -> dict[str, Any]:
    """Return an entry as plain data."""
    from dataclasses import asdict

    from accelsim.models.catalogue import Figures

    texts = {"name": entry.name, "what": entry.what, "source": entry.source, "published": entry.published}
    return texts | asdict(Figures.of(entry.draw()))


def _shapes(tensors: Mapping[str, tuple[int, ...]]) -> str:
    """Return names with shapes as text."""
    return ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in tensors.items())


def _print_table() -> None:
    """Print one line per model."""
    from rich import box
    from rich.table import Table

    from accelsim.models.catalogue import ENTRIES, Figures
    from accelsim.reports.terminal.run_table import make_console

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("model", no_wrap=True)
    table.add_column("what", overflow="fold")
    for title in ("MACs", "parameters"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("inputs", overflow="fold")
    for entry in ENTRIES:
        figures = Figures.of(entry.draw())
        inputs = _shapes(figures.inputs)
        table.add_row(entry.name, entry.what, f"{figures.macs:,}", f"{figures.parameters:,}", inputs)
    make_console().print(table)
    typer.echo("Run one with accel-sim run models:NAME; write one with accel-sim models NAME -o FILE.onnx.")


def _print_details(entry: Entry) -> None:
    """Print all that is known of one model."""
    from accelsim.models.catalogue import Figures

    figures = Figures.of(entry.draw())
    counts = f"{figures.parameters:,}"
    if figures.parameters_unfolded != figures.parameters:
        counts += f" ({figures.parameters_unfolded:,} before batch normalisation was folded)"
    for label, text in (
        (entry.name, entry.what),
        ("MACs", f"{figures.macs:,}"),
        ("parameters", counts),
        ("inputs", _shapes(figures.inputs)),
        ("outputs", _shapes(figures.outputs)),
        ("published", entry.published),
        ("source", entry.source),
    ):
        typer.echo(f"{label:16}{text}")
