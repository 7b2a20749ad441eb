"""The command line: parses, calls, prints; every heavy import happens inside the command that needs it."""

from __future__ import annotations

import errno
import os
import re
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer

from accelsim.cli import (
    energy as cli_energy,
    gemm as cli_gemm,
    golden as cli_golden,
    models as cli_models,
    quantize as cli_quantize,
    report as cli_report,
    schemes as cli_schemes,
    trace as cli_trace,
)
from accelsim.cli.groups import in_order, takes_groups
from accelsim.cli.options import (
    EXIT_CODES,
    Bind,
    Debug,
    DumpOptions,
    Engine,
    InputOptions,
    Json,
    MachineOptions,
    ModelPath,
    Output,
    Quiet,
    ReadingOptions,
    ShapesFile,
    Strict,
    TimelineLayer,
    Verbose,
    check_strict,
    exit_by_verdict,
    printing,
    silence_stdout,
    simulate_model,
)
from accelsim.errors import AccelSimError, ExitCode, printable, reason_of
from accelsim.version import __version__

# Errors of the operating system that mean: nothing is left to write with.
_EXHAUSTED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.EROFS, errno.EIO, errno.EBADF)

app = typer.Typer(
    name="accel-sim",
    help="Simulate a fixed-point neural-network accelerator on an ONNX model with Q/DQ nodes: exact integers, cycles, "
    "energy.",
    epilog=EXIT_CODES,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)


def _version(show: bool) -> None:
    """Print the versions that decide a result, without importing the packages."""
    if show:
        from importlib import metadata

        typer.echo(f"accel-sim {__version__}")
        for name in ("numpy", "numba", "onnx", "onnxruntime"):
            typer.echo(f"{name} {metadata.version(name)}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show versions.")
    ] = False,
) -> None:
    """Simulate a fixed-point neural-network accelerator on an ONNX model with Q/DQ nodes."""


@app.command(epilog=EXIT_CODES)
@takes_groups
def run(
    model: ModelPath,
    *,
    machine: MachineOptions,
    inputs: InputOptions,
    no_check: Annotated[bool, typer.Option("--no-check", help="Do not compare with onnxruntime.")] = False,
    json_output: Json = False,
    output: Output = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    reading: ReadingOptions,
    engine: Engine = "recurrence",
    dump: DumpOptions,
    timing: cli_gemm.ModelTiming = "native",
    prices: cli_energy.PriceOptions,
    zero_gating: cli_energy.ZeroGating = False,
    action_counts: cli_energy.ActionCounts = None,
    timeline: TimelineLayer = None,
    bind: Bind = None,
    strict: Strict = False,
    debug: Debug = False,
) -> None:
    """Run a model: outputs, cycles, energy, and the verdict against onnxruntime."""
    from accelsim.files.writing import check_folder
    from accelsim.results.writer import write_result
    from accelsim.simulation.timeline import TimelineRequest
    from accelsim.timing.engines import check_engine

    check_strict(strict=strict, check=not no_check)
    arch = machine.build()
    energy = prices.energy(zero_gating=zero_gating)
    energy.load()  # what is wrong with it is said before any work is done
    folder = None if output is None else check_folder(output)
    cli_energy.check_action_counts(action_counts)
    dumping = dump.checked()
    engine = check_engine(engine)
    loaded, arrays = reading.load(model, inputs.input_file, bind, quiet=quiet)
    wanted = TimelineRequest(timeline) if timeline is not None or folder is not None else None
    result = simulate_model(
        loaded,
        arrays,
        arch,
        inputs.seed,
        check=not no_check,
        quiet=quiet,
        dump=dumping,
        engine=engine,
        energy=energy,
        timeline=wanted,
    )
    if action_counts is not None:
        cli_energy.write_action_counts(result, action_counts)
    if folder is not None:
        write_result(result, folder)
    with printing():
        if json_output:
            sys.stdout.write(result.to_json())
        elif not quiet:
            from accelsim.reports.terminal.run_table import make_console
            from accelsim.reports.terminal.summary import print_run

            print_run(result, make_console(), verbose=verbose)
    exit_by_verdict(result, strict=strict)


@app.command(epilog=EXIT_CODES)
@in_order("acc_bits", "overflow", "arch", "settings", "array", "dataflow")
@takes_groups
def check(
    model: ModelPath,
    *,
    machine: MachineOptions,
    inputs: InputOptions,
    json_output: Json = False,
    quiet: Quiet = False,
    reading: ReadingOptions,
    dump: DumpOptions,
    bind: Bind = None,
    strict: Strict = False,
    debug: Debug = False,
) -> None:
    """Compare every tensor of a model with onnxruntime, bit for bit; nothing else."""
    arch = machine.build()
    dumping = dump.checked()
    loaded, arrays = reading.load(model, inputs.input_file, bind, quiet=quiet)
    result = simulate_model(loaded, arrays, arch, inputs.seed, check=True, quiet=quiet, dump=dumping)
    with printing():
        if json_output:
            sys.stdout.write(result.check.to_json())
        elif not quiet:
            from accelsim.reports.terminal.run_table import make_console
            from accelsim.reports.terminal.verdict import check_lines

            console = make_console()
            for line in check_lines(result.check):
                console.print(line)
    exit_by_verdict(result, strict=strict)


@app.command(epilog=EXIT_CODES)
@takes_groups
def explain(
    model: ModelPath,
    *,
    machine: MachineOptions,
    input_file: ShapesFile = None,
    layer: Annotated[str | None, typer.Option("--layer", help="Only layers whose name contains this text.")] = None,
    reading: ReadingOptions,
    timing: cli_gemm.ModelTiming = "native",
    bind: Bind = None,
    prices: cli_energy.PriceOptions,
    debug: Debug = False,
) -> None:
    """Show how each layer is lowered, tiled and timed, with the formula of its cycles filled in."""
    from accelsim.explain.layers import explain_model

    arch, energy = machine.build(), prices.energy()
    loaded, arrays = reading.load(model, input_file, bind)
    shapes = None if arrays is None else {name: values.shape for name, values in arrays.items()}
    feeds = None if arrays is None else (lambda: arrays)
    for block in explain_model(loaded, arch, layer, shapes, feeds, energy):
        typer.echo(block)


@app.command(epilog=EXIT_CODES)
def ops(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the page docs/supported-ops.md.")] = False,
    debug: Debug = False,
) -> None:
    """List the supported operators and their constraints."""
    from accelsim.graph.importers.operators_page import operators_markdown, operators_text

    typer.echo(operators_markdown() if markdown else operators_text())


app.command(epilog=EXIT_CODES)(cli_energy.energy)
app.command(epilog=EXIT_CODES)(cli_gemm.gemm)
app.command(epilog=EXIT_CODES)(cli_golden.record)
app.command(epilog=EXIT_CODES)(cli_golden.verify)
app.command(epilog=EXIT_CODES)(cli_report.report)
app.command(epilog=EXIT_CODES)(cli_report.compare)
app.command(epilog=EXIT_CODES)(cli_trace.trace)
app.command(epilog=EXIT_CODES)(cli_quantize.quantize)
app.command(epilog=EXIT_CODES)(cli_schemes.schemes)
app.command(epilog=EXIT_CODES)(cli_models.models)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line: one sentence per error, documented exit codes, never a traceback without --debug.

    Args:
        arguments: what follows the name of the command; None takes those of the process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    os.environ["MPLBACKEND"] = "agg"  # pictures are drawn without a display, whatever the caller's backend is
    _prepare_streams()
    code: Any = ExitCode.OK
    try:
        with warnings.catch_warnings(), printing():
            if "--debug" not in given:
                warnings.simplefilter("ignore")  # libraries' remarks are not for users
            code = app(args=given, prog_name="accel-sim", standalone_mode=False)
        code = ExitCode(code) if isinstance(code, int) else ExitCode.OK
        if code is ExitCode.INTERRUPTED:
            _complain("interrupted")
    except (Exception, KeyboardInterrupt) as error:
        if "--debug" in given:
            import traceback

            traceback.print_exc()
        code = _explain(error)
    sys.exit(int(code))


def _explain(error: BaseException) -> ExitCode:
    """Print what went wrong and return the exit code that says the same."""
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return _complain("interrupted", ExitCode.INTERRUPTED)
    if isinstance(error, AccelSimError):
        return _complain(str(error), ExitCode(error.exit_code))
    if isinstance(error, MemoryError):
        return _complain("out of memory: use a smaller model, batch or input", ExitCode.RESOURCE)
    if isinstance(error, OSError) and error.errno in _EXHAUSTED:
        silence_stdout()
        return _complain(f"cannot write: {error.strerror}: free some space, or write elsewhere", ExitCode.RESOURCE)
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stderr.write(f"{error}\n")
        return ExitCode.USAGE
    option = getattr(error, "option_name", "")
    if re.fullmatch(r"-[0-9]", option):  # a negative number, whose first digit was taken for an option
        return _complain(f"{option}… is no option, and no argument is negative (see accel-sim --help)", ExitCode.USAGE)
    show = getattr(error, "format_message", None)
    if show is not None:  # an error of the command line, as typer words it
        return _complain(f"{show().rstrip('.')} (see accel-sim --help)", ExitCode.USAGE)
    if type(error).__module__.startswith("onnxruntime."):
        return _complain(f"onnxruntime cannot run the model: {reason_of(error)}: repair or export it", ExitCode.INVALID)
    text = f"internal error: {type(error).__name__}: {error}: please report it, with --debug for the traceback"
    return _complain(" ".join(text.split()), ExitCode.INTERNAL)


def _complain(message: str, code: ExitCode = ExitCode.INTERNAL) -> ExitCode:
    """Print one message on stderr, safe for a terminal."""
    lines = [printable(line, 2000) for line in message.splitlines()]
    sys.stderr.write("accel-sim: " + "\n".join(lines) + "\n")
    return code


def _prepare_streams() -> None:
    """Replace streams that the caller closed, and let those that are not UTF-8 show ? for what they cannot print."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        elif hasattr(stream, "reconfigure") and str(stream.encoding).lower() not in ("utf-8", "utf8"):
            stream.reconfigure(errors="replace")


if __name__ == "__main__":
    main()
