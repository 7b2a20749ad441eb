"""The command `trace`: what the engines did when, for Perfetto, waveform viewers, DRAM simulators, or as a picture."""

from __future__ import annotations

from typing import Annotated

import typer

ModelPath = Annotated[str, typer.Argument(metavar="MODEL.onnx", help="Quantised ONNX model (Q/DQ or QOperator).")]
ArrayShape = Annotated[str | None, typer.Option("--array", metavar="RxC", help="Array shape: 16x16, 16X16 or 16.")]
Dataflow = Annotated[str | None, typer.Option("--dataflow", metavar="ws|os|is", help="Stationary operand.")]
ArchFile = Annotated[str | None, typer.Option("--arch", metavar="FILE|PRESET", help="Machine: TOML file or preset.")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="One parameter.")]
ShapesFile = Annotated[
    str | None,
    typer.Option("--input", metavar="FILE.npz", help="Inputs whose shapes to take; else dynamic sizes are 1."),
]
TraceFile = Annotated[str, typer.Option("-o", "--output", metavar="FILE", help="The trace; it is whole or not there.")]
TraceFormat = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="perfetto|vcd|svg|png|dram",
        help="What to write; else by the file's name (.pftrace, .vcd, .svg, .png, .dram), or else perfetto.",
    ),
]
OnlyLayer = Annotated[str | None, typer.Option("--layer", metavar="TEXT", help="Only layers whose name contains this.")]
First = Annotated[int | None, typer.Option("--from", metavar="CYCLE", help="First cycle to show.")]
Last = Annotated[int | None, typer.Option("--until", metavar="CYCLE", help="Cycle after the last one to show.")]
Engine = Annotated[
    str,
    typer.Option(
        "--engine", metavar="recurrence|event", help="What computes the cycles; both give the same, event is slow."
    ),
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing.")]
ExternalData = Annotated[bool, typer.Option("--external-data", help="Read weights from files beside the model.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def trace(
    model: ModelPath,
    output: TraceFile,
    array: ArrayShape = None,
    dataflow: Dataflow = None,
    arch: ArchFile = None,
    settings: Settings = None,
    input_file: ShapesFile = None,
    kind: TraceFormat = None,
    layer: OnlyLayer = None,
    first: First = None,
    last: Last = None,
    quiet: Quiet = False,
    external_data: ExternalData = False,
    debug: Debug = False,
) -> None:
    """Write what the engines did when: a Perfetto or VCD trace, a picture, or the DRAM accesses."""
    from pathlib import Path

    from accelsim.arch import load_arch, parse_array
    from accelsim.errors import printable
    from accelsim.inputs import check_inputs, read_npz
    from accelsim.model import load
    from accelsim.progress import layer_progress
    from accelsim.traces.timeline import View
    from accelsim.tracing import choose_format, write_trace

    shape = parse_array(array) if array is not None else None
    machine = load_arch(arch, tuple(settings or ()), array=shape, dataflow=dataflow)
    path = Path(output)
    chosen = choose_format(kind, path)
    arrays = read_npz(input_file) if input_file is not None else None
    loaded = load(model, external_data=external_data)
    shapes = None
    if arrays is not None:
        checked = check_inputs(arrays, loaded.inputs(), printable(str(input_file)))
        shapes = {name: values.shape for name, values in checked.items()}
    with layer_progress(loaded.name, quiet=quiet) as progress:
        summary = write_trace(
            loaded, machine, path, chosen, view=View(layer, first, last), shapes=shapes, progress=progress
        )
    if quiet:
        return
    for region in summary.regions:
        typer.echo(f"0x{region.base:08x} {region.size:>12,} B  {printable(region.name, 70)}")
    typer.echo(
        f"wrote {printable(str(path))}: {summary.events:,} {summary.unit} of {summary.layers} layers, cycles "
        f"{summary.first:,} to {summary.last:,} of {summary.total:,}, {path.stat().st_size:,} bytes"
    )
