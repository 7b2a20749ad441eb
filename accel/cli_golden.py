"""The commands `record` and `verify`: a run kept as a golden folder, and a later run compared with it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from accelsim.cli_options import (
    AccBits,
    ArchFile,
    ArrayShape,
    Dataflow,
    Debug,
    ExternalData,
    InputFile,
    ModelPath,
    Overflow,
    Quiet,
    ReferenceMode,
    Seed,
    Settings,
    exit_by_verdict,
    load_inputs,
    machine_from,
    printing,
    say_external,
)
from accelsim.errors import ExitCode

Folder = Annotated[str, typer.Option("-o", "--output", metavar="DIR", help="The golden folder to write.")]
Golden = Annotated[str, typer.Argument(metavar="GOLDEN", help="A folder that accel-sim record wrote.")]
CopyModel = Annotated[bool, typer.Option("--copy-model", help="Store the model file in the folder, too.")]
OtherModel = Annotated[
    str | None, typer.Option("--model", metavar="PATH", help="Where the model is; else the copy or recorded path.")
]
Share = Annotated[float, typer.Option(metavar="SHARE", help="Change of the total let pass, 0.01 is one percent.")]
Ignore = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore", metavar="GROUP", help="model, inputs, values, verdict, cycles, energy, overflow, versions."
    ),
]
JsonDifference = Annotated[bool, typer.Option("--json", help="Print the comparison as JSON on stdout.")]
JsonManifest = Annotated[bool, typer.Option("--json", help="Print the manifest on stdout.")]


def record(
    model: ModelPath,
    output: Folder,
    array: ArrayShape = None,
    dataflow: Dataflow = None,
    acc_bits: AccBits = None,
    overflow: Overflow = None,
    arch: ArchFile = None,
    settings: Settings = None,
    input_file: InputFile = None,
    seed: Seed = 0,
    copy_model: CopyModel = False,
    json_output: JsonManifest = False,
    quiet: Quiet = False,
    external_data: ExternalData = True,
    reference: ReferenceMode = "ort",
    debug: Debug = False,
) -> None:
    """Run a model and keep digests of all values, outputs, cycles, energy and overflow in a golden folder."""
    from pathlib import Path

    from accelsim import golden
    from accelsim.golden_folder import MANIFEST, check_target
    from accelsim.progress import layer_progress

    machine = machine_from(array, dataflow, acc_bits, overflow, arch, settings)
    folder = check_target(output)
    loaded, arrays = load_inputs(model, input_file, external_data, reference, quiet=quiet)
    with layer_progress(loaded.name, quiet=quiet) as progress:
        result = golden.record(
            loaded, folder, machine, arrays, seed=seed, path=model, copy_model=copy_model, progress=progress
        )
    with printing():
        if json_output:
            sys.stdout.write((Path(folder) / MANIFEST).read_text("utf-8"))
        elif not quiet:
            from accelsim.reports.golden import record_lines
            from accelsim.reports.terminal import make_console

            console = make_console()
            for line in record_lines(result, output):
                console.print(line)
    exit_by_verdict(result)


def verify(
    golden: Golden,
    model: OtherModel = None,
    cycles_tolerance: Share = 0.0,
    energy_tolerance: Share = 0.0,
    ignore: Ignore = None,
    json_output: JsonDifference = False,
    quiet: Quiet = False,
    external_data: ExternalData = True,
    debug: Debug = False,
) -> None:
    """Run a recorded model again and say what changed; exit code 0 when nothing did, 3 when something did."""
    from accelsim import golden as records
    from accelsim.progress import layer_progress

    loaded = records.load_recorded(golden, model, external_data=external_data)
    say_external(loaded.checked.external, quiet=quiet)
    with layer_progress("verify", quiet=quiet) as progress:
        comparison = records.verify(
            golden,
            loaded,
            cycles_tolerance=cycles_tolerance,
            energy_tolerance=energy_tolerance,
            ignore=ignore or (),
            progress=progress,
        )
    with printing():
        if json_output:
            sys.stdout.write(comparison.to_json())
        elif not quiet:
            from accelsim.reports.golden import comparison_lines
            from accelsim.reports.terminal import make_console

            console = make_console()
            for line in comparison_lines(comparison):
                console.print(line)
    if not comparison.equal:
        raise typer.Exit(ExitCode.MISMATCH)
