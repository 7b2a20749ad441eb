"""The command `schemes`: one float model under several schemes, quality and cost side by side."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from accelsim.cli.groups import takes_groups
from accelsim.cli.options import (
    Debug,
    ExternalData,
    Json,
    MachineOfCosts,
    printing,
    say_external,
)
from accelsim.cli.quantize import (
    DrawOptions,
    FloatPath,
    SampleOptions,
    Silent,
    TestOptions,
    warn_of,
)

_DEFAULT = "int8-symmetric,int8-affine,int8-affine-weights,int8-per-channel,w4a8,w4a16,fp16,fp32"


@takes_groups
def schemes(
    model: FloatPath,
    *,
    names: Annotated[
        str, typer.Option("--schemes", metavar="A,B,...", help="Names, each with +key=value as for quantize.")
    ] = _DEFAULT,
    calibration: SampleOptions,
    testing: TestOptions,
    machine: MachineOfCosts,
    drawing: DrawOptions,
    json_output: Json = False,
    quiet: Silent = False,
    external_data: ExternalData = True,
    debug: Debug = False,
) -> None:
    """Quantise a float model in several ways, and show accuracy, bytes, cycles, energy and traffic of each."""
    from accelsim.errors import UsageError
    from accelsim.progress import layer_progress
    from accelsim.quantise.measure.schemes import compare_schemes, read_for
    from accelsim.quantise.scheme import parse_scheme

    chosen = [parse_scheme(name) for name in names.split(",") if name.strip()]
    if not chosen:
        raise UsageError("no scheme is given: name some with --schemes, for example int8-affine,w4a8")
    testing.check()
    arch = machine.build()
    loaded = read_for(chosen, model, external_data=external_data)
    say_external(loaded.external, quiet=quiet)
    samples = calibration.load(loaded, drawing)
    measured = testing.load(loaded, drawing)
    with layer_progress(loaded.name, quiet=quiet, describe=True) as progress:
        table = compare_schemes(loaded, chosen, samples, measured, arch, progress)
    warn_of(samples, measured)
    with printing():
        if json_output:
            sys.stdout.write(table.to_json())
        elif not quiet:
            from accelsim.quantise.terminal import print_schemes
            from accelsim.reports.terminal.run_table import make_console

            print_schemes(make_console(), table, samples.warnings)
