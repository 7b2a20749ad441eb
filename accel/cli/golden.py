"""The commands `record` and `verify`: a run kept as a golden folder, and a later run compared with it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from accelsim.cli.groups import takes_groups
from accelsim.cli.options import (
    Bind,
    Debug,
    ExternalData,
    InputOptions,
    MachineOptions,
    Quiet,
    ReadingOptions,
    exit_by_verdict,
    printing,
    say_external,
)
from accelsim.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from accelsim.results.result import Result

Folder = Annotated[str | None, typer.Option("-o", "--output", metavar="DIR", help="The golden folder to write.")]
Again = Annotated[
    str | None,
    typer.Option("--again", metavar="GOLDEN", help="Record this folder anew: its model, machine, options and inputs."),
]
RecordedModel = Annotated[
    str | None,
    typer.Argument(metavar="MODEL.onnx", help="Quantised ONNX model, or models:NAME; with --again, where it is now."),
]
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


# What may stand beside --again: all else comes from the folder.
_BESIDE_AGAIN = frozenset({"model", "again", "json_output", "quiet", "external_data", "debug"})


@takes_groups
def record(
    context: typer.Context,
    *,
    model: RecordedModel = None,
    output: Folder = None,
    again: Again = None,
    machine: MachineOptions,
    inputs: InputOptions,
    copy_model: CopyModel = False,
    json_output: JsonManifest = False,
    quiet: Quiet = False,
    reading: ReadingOptions,
    bind: Bind = None,
    debug: Debug = False,
) -> None:
    """Run a model and keep digests of all values, outputs, cycles, energy and overflow in a golden folder."""
    from accelsim.progress import layer_progress
    from accelsim.regression import record as golden
    from accelsim.regression.folder import check_target

    if again is not None:
        _check_again(context)
        check_target(again)
        with layer_progress("record", quiet=quiet) as progress:
            result = golden.record_again(again, model, external_data=reading.external_data, progress=progress)
        _print_record(result, again, json_output=json_output, quiet=quiet)
        exit_by_verdict(result)
        return
    if model is None or output is None:
        raise UsageError(
            "a record needs a model and a folder: give MODEL and --output FOLDER (-o), or --again FOLDER for a record "
            "that is there already"
        )
    arch = machine.build()
    folder = check_target(output)
    loaded, arrays = reading.load(model, inputs.input_file, bind, quiet=quiet)
    with layer_progress(loaded.name, quiet=quiet) as progress:
        result = golden.record(
            loaded, folder, arch, arrays, seed=inputs.seed, path=model, copy_model=copy_model, progress=progress
        )
    _print_record(result, output, json_output=json_output, quiet=quiet)
    exit_by_verdict(result)


def _check_again(context: typer.Context) -> None:
    """Refuse options of which a golden folder has its own, also where they say what is said without them."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is None or source.name == "DEFAULT" or parameter.name in _BESIDE_AGAIN:
            continue
        raise UsageError(
            f"--again takes machine, options and inputs from the folder, so {parameter.opts[0]} has no place beside "
            f"it: leave it out, or record anew with MODEL -o FOLDER"
        )


def _print_record(result: Result, folder: str, *, json_output: bool, quiet: bool) -> None:
    """Print the manifest, or what was recorded."""
    from pathlib import Path

    from accelsim.regression.folder import MANIFEST

    with printing():
        if json_output:
            sys.stdout.write((Path(folder) / MANIFEST).read_text("utf-8"))
        elif not quiet:
            from accelsim.reports.terminal.golden import record_lines
            from accelsim.reports.terminal.run_table import make_console

            console = make_console()
            for line in record_lines(result, folder):
                console.print(line)


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
    from accelsim.progress import layer_progress
    from accelsim.regression import record as records

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
            from accelsim.reports.terminal.golden import comparison_lines
            from accelsim.reports.terminal.run_table import make_console

            console = make_console()
            for line in comparison_lines(comparison):
                console.print(line)
    if not comparison.equal:
        raise typer.Exit(ExitCode.MISMATCH)
