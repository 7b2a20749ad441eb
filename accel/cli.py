"""The command line: parses, calls, prints; every heavy import happens inside the command that needs it."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from accelsim.errors import AccelSimError, ExitCode, printable, reason_of
from accelsim.version import __version__

if TYPE_CHECKING:
    from accelsim.arch import Arch
    from accelsim.dump import Dump
    from accelsim.inputs import Array
    from accelsim.model import Model
    from accelsim.result import Result

EXIT_CODES = (
    "Exit codes: 0 ok, 1 internal error, 2 usage, 3 mismatch with the reference, 4 unsupported model, 5 invalid model, "
    "6 resource limit, 130 interrupted."
)

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

ModelPath = Annotated[str, typer.Argument(metavar="MODEL.onnx", help="Quantised ONNX model (Q/DQ or QOperator).")]
ArrayShape = Annotated[str | None, typer.Option("--array", metavar="RxC", help="Array shape: 16x16, 16X16 or 16.")]
Dataflow = Annotated[str | None, typer.Option("--dataflow", metavar="ws|os|is", help="Stationary operand.")]
AccBits = Annotated[int | None, typer.Option("--acc-bits", metavar="N", help="Accumulator width, 8 to 64.")]
Overflow = Annotated[str | None, typer.Option("--overflow", metavar="wrap|saturate", help="Accumulator overflow.")]
ArchFile = Annotated[str | None, typer.Option("--arch", metavar="FILE|PRESET", help="Machine: TOML file or preset.")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="One parameter.")]
InputFile = Annotated[str | None, typer.Option("--input", metavar="FILE.npz", help="Inputs by name; else random.")]
ShapesFile = Annotated[
    str | None,
    typer.Option("--input", metavar="FILE.npz", help="Inputs whose shapes to take; else dynamic sizes are 1."),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Seed of random inputs.", min=0)]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Output = Annotated[str | None, typer.Option("-o", "--output", metavar="DIR", help="Write result.json and outputs.npz.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing but the JSON asked for.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Also accumulators per layer and energy by component.")]
ExternalData = Annotated[bool, typer.Option("--external-data", help="Read weights from files beside the model.")]
ReferenceMode = Annotated[
    str,
    typer.Option("--reference", metavar="ort|ort-default", help="onnxruntime with int8 kept int8, or as it comes."),
]
DumpFolder = Annotated[str | None, typer.Option("--dump", metavar="DIR", help="Write both sides of every tensor.")]
DumpTensor = Annotated[
    str | None, typer.Option("--dump-tensor", metavar="TEXT", help="Only tensors whose name contains this text.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


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


def _machine(
    array: str | None,
    dataflow: str | None,
    acc_bits: int | None,
    overflow: str | None,
    arch: str | None,
    settings: list[str] | None,
) -> Arch:
    """Build the machine from the options."""
    from accelsim.arch import load_arch, parse_array

    return load_arch(
        arch,
        tuple(settings or ()),
        array=parse_array(array) if array is not None else None,
        dataflow=dataflow,
        acc_bits=acc_bits,
        overflow=overflow,
    )


def _load(
    model: str, input_file: str | None, external_data: bool, reference: str = "ort"
) -> tuple[Model, dict[str, Array] | None]:
    """Load a model, and its inputs when a file with them is given."""
    from accelsim.inputs import check_inputs, read_npz
    from accelsim.model import load

    arrays = read_npz(input_file) if input_file is not None else None
    loaded = load(model, external_data=external_data, reference=reference)
    if arrays is not None:
        arrays = check_inputs(arrays, loaded.inputs(), printable(str(input_file)))
    return loaded, arrays


def _dump(folder: str | None, tensor: str | None) -> Dump | None:
    """Check the folder of a dump before any work is done."""
    from pathlib import Path

    from accelsim.dump import Dump
    from accelsim.errors import UsageError

    if folder is None:
        if tensor is not None:
            raise UsageError("--dump-tensor chooses from a dump: name its folder with --dump")
        return None
    return Dump(Path(folder), tensor)


def _simulate(
    loaded: Model,
    arrays: dict[str, Array] | None,
    machine: Arch,
    seed: int,
    *,
    check: bool,
    quiet: bool,
    dump: Dump | None,
) -> Result:
    """Run a model, with progress on stderr when that is a terminal."""
    from accelsim.progress import layer_progress
    from accelsim.simulate import run as simulate

    with layer_progress(loaded.name, quiet=quiet) as progress:
        return simulate(loaded, machine, arrays, seed=seed, check=check, progress=progress, dump=dump)


@app.command(epilog=EXIT_CODES)
def run(
    model: ModelPath,
    array: ArrayShape = None,
    dataflow: Dataflow = None,
    acc_bits: AccBits = None,
    overflow: Overflow = None,
    arch: ArchFile = None,
    settings: Settings = None,
    input_file: InputFile = None,
    seed: Seed = 0,
    no_check: Annotated[bool, typer.Option("--no-check", help="Do not compare with onnxruntime.")] = False,
    json_output: Json = False,
    output: Output = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    external_data: ExternalData = False,
    reference: ReferenceMode = "ort",
    dump: DumpFolder = None,
    dump_tensor: DumpTensor = None,
    debug: Debug = False,
) -> None:
    """Run a model: outputs, cycles, energy, and the verdict against onnxruntime."""
    from accelsim.io import check_folder, write_result

    machine = _machine(array, dataflow, acc_bits, overflow, arch, settings)
    folder = None if output is None else check_folder(output)
    dumping = _dump(dump, dump_tensor)
    loaded, arrays = _load(model, input_file, external_data, reference)
    result = _simulate(loaded, arrays, machine, seed, check=not no_check, quiet=quiet, dump=dumping)
    if folder is not None:
        write_result(result, folder)
    with _printing():
        if json_output:
            sys.stdout.write(result.to_json())
        elif not quiet:
            from accelsim.reports.terminal import make_console, print_run, print_verbose

            console = make_console()
            print_run(result, console)
            if verbose:
                print_verbose(result, console)
    _exit_by_verdict(result)


@app.command(epilog=EXIT_CODES)
def check(
    model: ModelPath,
    acc_bits: AccBits = None,
    overflow: Overflow = None,
    arch: ArchFile = None,
    settings: Settings = None,
    array: ArrayShape = None,
    dataflow: Dataflow = None,
    input_file: InputFile = None,
    seed: Seed = 0,
    json_output: Json = False,
    quiet: Quiet = False,
    external_data: ExternalData = False,
    reference: ReferenceMode = "ort",
    dump: DumpFolder = None,
    dump_tensor: DumpTensor = None,
    debug: Debug = False,
) -> None:
    """Compare every tensor of a model with onnxruntime, bit for bit; nothing else."""
    machine = _machine(array, dataflow, acc_bits, overflow, arch, settings)
    dumping = _dump(dump, dump_tensor)
    loaded, arrays = _load(model, input_file, external_data, reference)
    result = _simulate(loaded, arrays, machine, seed, check=True, quiet=quiet, dump=dumping)
    with _printing():
        if json_output:
            sys.stdout.write(result.check.to_json())
        elif not quiet:
            from accelsim.reports.terminal import check_lines, make_console

            console = make_console()
            for line in check_lines(result.check):
                console.print(line)
    _exit_by_verdict(result)


@app.command(epilog=EXIT_CODES)
def explain(
    model: ModelPath,
    array: ArrayShape = None,
    dataflow: Dataflow = None,
    acc_bits: AccBits = None,
    overflow: Overflow = None,
    arch: ArchFile = None,
    settings: Settings = None,
    input_file: ShapesFile = None,
    layer: Annotated[str | None, typer.Option("--layer", help="Only layers whose name contains this text.")] = None,
    external_data: ExternalData = False,
    debug: Debug = False,
) -> None:
    """Show how each layer is lowered, tiled and timed, with the formula of its cycles filled in."""
    from accelsim.explain import explain_model

    machine = _machine(array, dataflow, acc_bits, overflow, arch, settings)
    loaded, arrays = _load(model, input_file, external_data)
    shapes = None if arrays is None else {name: values.shape for name, values in arrays.items()}
    for block in explain_model(loaded, machine, layer, shapes):
        typer.echo(block)


@app.command(epilog=EXIT_CODES)
def ops(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the page docs/supported-ops.md.")] = False,
    debug: Debug = False,
) -> None:
    """List the supported operators and their constraints."""
    from accelsim.graph.operators_page import operators_markdown, operators_text

    typer.echo(operators_markdown() if markdown else operators_text())


def _exit_by_verdict(result: Result) -> None:
    """Leave with exit code 3 when the verdict is a mismatch."""
    if result.check.verdict == "mismatch":
        raise typer.Exit(ExitCode.MISMATCH)


@contextmanager
def _printing() -> Iterator[None]:
    """Stop printing silently when the reader has gone (`| head`), so that the verdict still decides the exit code."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _silence_stdout()
    except SystemExit as leaving:  # what rich makes of a closed pipe
        if not isinstance(leaving.__context__, BrokenPipeError):
            raise
        _silence_stdout()


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line: one sentence per error, documented exit codes, never a traceback without --debug.

    Args:
        arguments: what follows the name of the command; None takes those of the process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    _prepare_streams()
    code: Any = ExitCode.OK
    try:
        with warnings.catch_warnings(), _printing():
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
        _silence_stdout()
        return _complain(f"cannot write: {error.strerror}: free some space, or write elsewhere", ExitCode.RESOURCE)
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stderr.write(f"{error}\n")
        return ExitCode.USAGE
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


def _silence_stdout() -> None:
    """Point a stdout that cannot be written at nothing, so that the interpreter does not complain on leaving."""
    sink = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError, ValueError):  # a stdout that is no file, as inside of tests
        os.dup2(sink, sys.stdout.fileno())
    os.close(sink)


if __name__ == "__main__":
    main()
