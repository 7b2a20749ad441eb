"""What the commands share: options, alone and in groups, what is made of them, and how results leave."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from accelsim.cli.groups import Without
from accelsim.errors import ExitCode, printable

if TYPE_CHECKING:
    from accelsim.check.dump import Dump
    from accelsim.energy.options import EnergyOptions
    from accelsim.graph.load.external_data import ExternalFile
    from accelsim.machine.arch import Arch
    from accelsim.results.result import Result
    from accelsim.simulation.inputs import Array
    from accelsim.simulation.model import Model
    from accelsim.simulation.timeline import TimelineRequest

EXIT_CODES = (
    "Exit codes: 0 ok, 1 internal error, 2 usage, 3 mismatch with the reference (with --strict: any "
    "difference of the outputs), 4 unsupported model, 5 invalid model, 6 resource limit, 130 interrupted."
)

ModelPath = Annotated[
    str, typer.Argument(metavar="MODEL.onnx", help="Quantised ONNX model (Q/DQ or QOperator), or models:NAME.")
]
ArrayShape = Annotated[str | None, typer.Option("--array", metavar="RxC", help="Array shape: 16x16, 16X16 or 16.")]
Dataflow = Annotated[
    str | None, typer.Option("--dataflow", metavar="ws|os|is|best", help="Stationary operand; best: per layer.")
]
AccBits = Annotated[int | None, typer.Option("--acc-bits", metavar="N", help="Accumulator width, 8 to 64.")]
Overflow = Annotated[str | None, typer.Option("--overflow", metavar="wrap|saturate", help="Accumulator overflow.")]
ArchFile = Annotated[str | None, typer.Option("--arch", metavar="FILE|PRESET", help="Machine: TOML file or preset.")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="One parameter.")]
InputFile = Annotated[str | None, typer.Option("--input", metavar="FILE.npz", help="Inputs by name; else random.")]
ShapesFile = Annotated[
    str | None,
    typer.Option("--input", metavar="FILE.npz", help="Inputs whose shapes to take; else dynamic sizes are bound or 1."),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Seed of random inputs.", min=0)]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Output = Annotated[str | None, typer.Option("-o", "--output", metavar="DIR", help="Write result.json and outputs.npz.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing but the JSON asked for.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Also accumulators per layer and energy by component.")]
ExternalData = Annotated[
    bool,
    typer.Option(
        "--external-data/--no-external-data",
        help="Refuse weights in files beside the model; --external-data has no effect, they are read anyway.",
        show_default=False,
    ),
]
ReferenceMode = Annotated[
    str,
    typer.Option("--reference", metavar="ort|ort-default", help="onnxruntime with int8 kept int8, or as it comes."),
]
Engine = Annotated[
    str,
    typer.Option(
        "--engine", metavar="recurrence|event", help="What computes the cycles; both give the same, event is slow."
    ),
]
DumpFolder = Annotated[str | None, typer.Option("--dump", metavar="DIR", help="Write both sides of every tensor.")]
DumpTensor = Annotated[
    str | None, typer.Option("--dump-tensor", metavar="TEXT", help="Only tensors whose name contains this text.")
]
TimelineLayer = Annotated[
    str | None,
    typer.Option(
        "--timeline", metavar="LAYER", help="Keep the timeline of this layer in the result; with -o, of the slowest."
    ),
]
Bind = Annotated[
    list[str] | None,
    typer.Option("--bind", metavar="NAME=SIZE,...", help="Fix dynamic dimensions, as where the model is deployed."),
]
Strict = Annotated[bool, typer.Option("--strict", help="Exit code 3 unless the verdict is exact: near is not enough.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@dataclass(frozen=True)
class MachineOptions:
    """The machine: a description, and what is changed of it."""

    array: ArrayShape = None
    dataflow: Dataflow = None
    acc_bits: AccBits = None
    overflow: Overflow = None
    arch: ArchFile = None
    settings: Settings = None

    def build(self) -> Arch:
        """Build the machine."""
        from accelsim.machine.arch import parse_array
        from accelsim.machine.description import load_arch

        return load_arch(
            self.arch,
            tuple(self.settings or ()),
            array=parse_array(self.array) if self.array is not None else None,
            dataflow=self.dataflow,
            acc_bits=self.acc_bits,
            overflow=self.overflow,
        )


@dataclass(frozen=True)
class InputOptions:
    """What a model is run on."""

    input_file: InputFile = None
    seed: Seed = 0


@dataclass(frozen=True)
class ReadingOptions:
    """How a model is read, and which reference it is meant for."""

    external_data: ExternalData = True
    reference: ReferenceMode = "ort"

    def load(
        self, model: str, input_file: str | None, bind: list[str] | None, *, quiet: bool = False
    ) -> tuple[Model, dict[str, Array] | None]:
        """Load a model, saying which other files that reads, dimensions bound, and its inputs when a file is given.

        Args:
            model: name of its file, or models:NAME.
            input_file: inputs by name; None for none.
            bind: sizes of dimensions, as given.
            quiet: say nothing.
        """
        from accelsim.graph.load.bindings import parse_bindings
        from accelsim.simulation.inputs import check_inputs, read_npz
        from accelsim.simulation.model import load

        sizes = parse_bindings(bind)
        arrays = read_npz(input_file) if input_file is not None else None
        loaded = load(model, external_data=self.external_data, reference=self.reference, bind=sizes)
        say_external(loaded.checked.external, quiet=quiet)
        if arrays is not None:
            loaded = loaded.taking(arrays)
            arrays = check_inputs(arrays, loaded.inputs(), printable(str(input_file)))
        return loaded, arrays


@dataclass(frozen=True)
class DumpOptions:
    """Where both sides of every tensor are written."""

    dump: DumpFolder = None
    dump_tensor: DumpTensor = None

    def checked(self) -> Dump | None:
        """Check the folder of a dump before any work is done.

        Raises:
            UsageError: tensors are chosen from a dump that has no folder.
        """
        from pathlib import Path

        from accelsim.check.dump import Dump
        from accelsim.errors import UsageError

        if self.dump is None:
            if self.dump_tensor is not None:
                raise UsageError("--dump-tensor chooses from a dump: name its folder with --dump")
            return None
        return Dump(Path(self.dump), self.dump_tensor)


# Where it does not matter how accumulators overflow, and where their width does not matter, either.
MachineOfCosts = Annotated[MachineOptions, Without("overflow")]
MachineOfTimes = Annotated[MachineOptions, Without("acc_bits", "overflow")]


def say_external(files: Sequence[ExternalFile], *, quiet: bool) -> None:
    """Say on stderr which files beside a model its weights were read from."""
    from accelsim.graph.load.external_data import external_lines

    for line in [] if quiet else external_lines(files):
        typer.echo(line, err=True)


def simulate_model(
    loaded: Model,
    arrays: dict[str, Array] | None,
    machine: Arch,
    seed: int,
    *,
    check: bool,
    quiet: bool,
    dump: Dump | None,
    engine: str = "recurrence",
    energy: EnergyOptions | None = None,
    timeline: TimelineRequest | None = None,
) -> Result:
    """Run a model, with progress on stderr when that is a terminal."""
    from accelsim.progress import layer_progress
    from accelsim.simulation.run import run as simulate

    with layer_progress(loaded.name, quiet=quiet) as progress:
        return simulate(
            loaded,
            machine,
            arrays,
            seed=seed,
            check=check,
            progress=progress,
            dump=dump,
            engine=engine,
            energy=energy,
            timeline=timeline,
        )


def check_strict(*, strict: bool, check: bool) -> None:
    """Refuse to judge a comparison that is left out.

    Raises:
        UsageError: --strict beside --no-check.
    """
    from accelsim.errors import UsageError

    if strict and not check:
        raise UsageError("--strict judges the comparison that --no-check leaves out: leave one of them out")


def exit_by_verdict(result: Result, *, strict: bool = False) -> None:
    """Leave with exit code 3 when the verdict is a mismatch; with strict, also when it is anything but exact."""
    if not result.check.passed(strict=strict):
        raise typer.Exit(ExitCode.MISMATCH)


@contextmanager
def printing() -> Iterator[None]:
    """Stop printing silently when the reader has gone (`| head`), so that the verdict still decides the exit code."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        silence_stdout()
    except SystemExit as leaving:  # what rich makes of a closed pipe
        if not isinstance(leaving.__context__, BrokenPipeError):
            raise
        silence_stdout()


def silence_stdout() -> None:
    """Point a stdout that cannot be written at nothing, so that the interpreter does not complain on leaving."""
    sink = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError, ValueError):  # a stdout that is no file, as inside of tests
        os.dup2(sink, sys.stdout.fileno())
    os.close(sink)
