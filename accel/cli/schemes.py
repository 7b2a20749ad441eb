"""The command `schemes`: one float model under several schemes, quality and cost side by side."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from accelsim.cli.options import (
    Debug,
    ExternalData,
    Json,
    MachineOfCosts,
    printing,
    say_external,
    takes_groups,
)
from accelsim.cli.quantize import (
    FloatPath,
    Labels,
    PixelScale,
    Samples,
    Seed,
    Silent,
    TestLabels,
    TestSamples,
    check_test_labels,
    load_samples,
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
    calib: Samples = None,
    labels: Labels = None,
    test: TestSamples = None,
    test_labels: TestLabels = None,
    machine: MachineOfCosts,
    seed: Seed = 0,
    pixel_scale: PixelScale = 255.0,
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
    check_test_labels(test, test_labels)
    arch = machine.build()
    loaded = read_for(chosen, model, external_data=external_data)
    say_external(loaded.external, quiet=quiet)
    samples = load_samples(calib, labels, loaded, seed, pixel_scale)
    measured = None if test is None else load_samples(test, test_labels, loaded, seed, pixel_scale)
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
