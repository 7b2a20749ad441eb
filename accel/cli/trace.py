"""The command `trace`: what the engines did when, for Perfetto, waveform viewers, DRAM simulators, or as a picture."""

from __future__ import annotations

from typing import Annotated

import typer

from accelsim.cli import energy as cli_energy
from accelsim.cli.groups import Without, takes_groups
from accelsim.cli.options import (
    Bind,
    Debug,
    MachineOfTimes,
    ModelPath,
    ReadingOptions,
    ShapesFile,
)

TraceFile = Annotated[str, typer.Option("-o", "--output", metavar="FILE", help="The trace; it is whole or not there.")]
TraceFormat = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="perfetto|vcd|svg|png|dram",
        help="What to write; else by the file's name (.pftrace, .vcd, .svg, .png, .dram); without an ending perfetto.",
    ),
]
OnlyLayer = Annotated[str | None, typer.Option("--layer", metavar="TEXT", help="Only layers whose name contains this.")]
First = Annotated[int | None, typer.Option("--from", metavar="CYCLE", help="First cycle to show.")]
Last = Annotated[int | None, typer.Option("--until", metavar="CYCLE", help="Cycle after the last one to show.")]
Silent = Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing.")]


@takes_groups
def trace(
    model: ModelPath,
    output: TraceFile,
    *,
    machine: MachineOfTimes,
    input_file: ShapesFile = None,
    kind: TraceFormat = None,
    layer: OnlyLayer = None,
    first: First = None,
    last: Last = None,
    quiet: Silent = False,
    reading: Annotated[ReadingOptions, Without("reference")],
    bind: Bind = None,
    prices: cli_energy.PriceOptions,
    debug: Debug = False,
) -> None:
    """Write what the engines did when: a Perfetto or VCD trace, a picture, or the DRAM accesses."""
    from pathlib import Path

    from accelsim.errors import printable
    from accelsim.progress import layer_progress
    from accelsim.reports.dimensions import NONE_GIVEN, chosen_dimensions
    from accelsim.timing.scene import View
    from accelsim.traces.write import choose_format, write_trace

    arch = machine.build()
    path = Path(output)
    chosen = choose_format(kind, path)
    loaded, arrays = reading.load(model, input_file, bind, quiet=quiet)
    shapes = None if arrays is None else {name: values.shape for name, values in arrays.items()}
    feeds = None if arrays is None else (lambda: arrays)
    view = View(layer, first, last)
    energy = prices.energy()
    with layer_progress(loaded.name, quiet=quiet) as progress:
        summary = write_trace(
            loaded, arch, path, chosen, view=view, shapes=shapes, feeds=feeds, progress=progress, energy=energy
        )
    if quiet:
        return
    for region in summary.regions:
        typer.echo(f"0x{region.base:08x} {region.size:>12,} B  {printable(region.name, 70)}")
    for words in chosen_dimensions(loaded.bind(shapes, feeds).dimensions):
        typer.echo(f"input {words}: {NONE_GIVEN}")
    layers = "1 layer" if summary.layers == 1 else f"{summary.layers:,} layers"
    typer.echo(
        f"wrote {printable(str(path))}: {summary.events:,} {summary.unit} of {layers}, cycles "
        f"{summary.first:,} to {summary.last:,} of {summary.total:,}, {path.stat().st_size:,} bytes"
    )
