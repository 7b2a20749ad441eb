"""The command `quantize`: a float model in, a Q/DQ model out, and what that did to it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from accelsim.cli.groups import takes_groups
from accelsim.cli.options import Debug, ExternalData, Json, printing, say_external

if TYPE_CHECKING:
    from accelsim.quantise.calibrate.calibration import Calibration
    from accelsim.quantise.network.source import FloatModel
    from accelsim.quantise.pipeline import Quantised
    from accelsim.quantise.scheme import Scheme
    from accelsim.results.quantisation import QuantisationReport

FloatPath = Annotated[str, typer.Argument(metavar="FLOAT.onnx", help="Float ONNX model, or models:NAME-float.")]
Samples = Annotated[
    str | None,
    typer.Option("--calib", metavar="DATA", help=".npz by input name, or a folder of .npy or .png; else synthetic."),
]
Labels = Annotated[
    str | None, typer.Option("--labels", metavar="FILE", help="Class of each sample of --calib: .npy or .npz.")
]
TestSamples = Annotated[
    str | None, typer.Option("--test", metavar="DATA", help="Other samples to measure on, as for --calib.")
]
TestLabels = Annotated[
    str | None, typer.Option("--test-labels", metavar="FILE", help="Class of each sample of --test: .npy or .npz.")
]
PixelScale = Annotated[float, typer.Option("--pixel-scale", metavar="X", help="What pixels of images are divided by.")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Seed of synthetic samples.", min=0)]
Silent = Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing but the JSON asked for.")]


@dataclass(frozen=True)
class DrawOptions:
    """How samples are drawn and read."""

    seed: Seed = 0
    pixel_scale: PixelScale = 255.0


@dataclass(frozen=True)
class SampleOptions:
    """The samples to calibrate on."""

    calib: Samples = None
    labels: Labels = None

    def load(self, model: FloatModel, drawing: DrawOptions) -> Calibration:
        """Load them, and from another file their labels.

        Args:
            model: takes the samples.
            drawing: how they are drawn and read.
        """
        return _load_samples(self.calib, self.labels, model, drawing)


@dataclass(frozen=True)
class TestOptions:
    """Other samples to measure on."""

    test: TestSamples = None
    test_labels: TestLabels = None

    def check(self) -> None:
        """Refuse labels of samples that are not given.

        Raises:
            UsageError: --test-labels without --test.
        """
        from accelsim.errors import UsageError

        if self.test_labels is not None and self.test is None:
            raise UsageError("--test-labels holds the classes of --test, which is not given: give it, or use --labels")

    def load(self, model: FloatModel, drawing: DrawOptions) -> Calibration | None:
        """Load them with their labels; None when none are given.

        Args:
            model: takes the samples.
            drawing: how they are drawn and read.
        """
        return None if self.test is None else _load_samples(self.test, self.test_labels, model, drawing)


def _load_samples(source: str | None, labels: str | None, model: FloatModel, drawing: DrawOptions) -> Calibration:
    """Load samples and, from another file, their labels."""
    from dataclasses import replace

    from accelsim.quantise.calibrate.calibration import class_count, load_calibration, read_labels

    samples = load_calibration(source, model, seed=drawing.seed, pixel_scale=drawing.pixel_scale)
    if labels is None:
        return samples
    return replace(samples, labels=read_labels(labels, samples.samples, class_count(model)))


@takes_groups
def quantize(
    model: FloatPath,
    output: Annotated[str, typer.Option("-o", "--output", metavar="FILE.onnx", help="The Q/DQ model.")],
    *,
    calibration: SampleOptions,
    scheme: Annotated[
        str,
        typer.Option("--scheme", metavar="NAME", help="Scheme: a name, or NAME+key=value+... (docs/quantisation.md)."),
    ] = "int8-per-channel",
    option: Annotated[
        list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="Change one field of the scheme.")
    ] = None,
    keep_float: Annotated[
        list[str] | None, typer.Option("--keep-float", metavar="NAME", help="Layer or kind of operator left in float.")
    ] = None,
    report: Annotated[
        str | None, typer.Option("--report", metavar="FILE", help="Errors taken apart, as .html or .json.")
    ] = None,
    testing: TestOptions,
    drawing: DrawOptions,
    json_output: Json = False,
    quiet: Silent = False,
    external_data: ExternalData = True,
    debug: Debug = False,
) -> None:
    """Quantise a float model after training, and say what was lost where."""
    from pathlib import Path

    from accelsim.progress import layer_progress
    from accelsim.quantise.measure.report import report_on
    from accelsim.quantise.network.source import read_float_model
    from accelsim.quantise.pipeline import quantize as quantise
    from accelsim.quantise.scheme import parse_scheme

    chosen = parse_scheme(scheme, [*(option or ()), *(f"keep_float={name}" for name in keep_float or ())])
    samples_read = {"--calib": calibration.calib, "--labels": calibration.labels}
    tests_read = {"--test": testing.test, "--test-labels": testing.test_labels}
    _check_targets(output, report, {"the model": model, **samples_read, **tests_read})
    testing.check()
    loaded = read_float_model(model, None, chosen.opset, external_data=external_data)
    say_external(loaded.external, quiet=quiet)
    samples = calibration.load(loaded, drawing)
    measured = testing.load(loaded, drawing)
    with layer_progress(loaded.name, quiet=quiet, describe=True) as progress:
        quantised = quantise(loaded, chosen, samples, seed=drawing.seed, progress=progress)
        quantised.save(Path(output))
        wanted = report is not None or json_output or not quiet
        with _saying_what_is_there(output):
            found = report_on(quantised, measured, None, progress) if wanted else None
    if report is not None and found is not None:
        _write_report(found, Path(report))
    warn_of(samples, measured)
    if found is not None:
        with printing():
            _print(found, quantised, output, json_output=json_output, quiet=quiet)


@contextmanager
def _saying_what_is_there(output: str) -> Iterator[None]:
    """Say on an interrupt that the model is complete, though nothing is said about it yet."""
    from accelsim.errors import printable

    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write(f"accel-sim: {printable(output)} is written and complete, its report is not\n")
        raise


def warn_of(*samples: Calibration | None) -> None:
    """Print what there is to know about samples on stderr, each sentence once."""
    from accelsim.errors import printable

    sentences = dict.fromkeys(sentence for one in samples if one is not None for sentence in one.warnings)
    for sentence in sentences:
        sys.stderr.write(f"accel-sim: warning: {printable(sentence, 1000)}\n")


def _check_targets(output: str, report: str | None, read: dict[str, str | None]) -> None:
    """Refuse files that cannot be written, or that are read, before any work is done."""
    from accelsim.errors import UsageError, printable
    from accelsim.files.writing import check_target

    if report is not None and not report.endswith((".html", ".json")):
        raise UsageError(f"a report is .html or .json, not '{printable(report)}': choose one of the two")
    check_target(output, "-o", read)
    if report is not None:
        check_target(report, "--report", {**read, "the model to write": output})


def _write_report(found: QuantisationReport, path: object) -> None:
    """Write the report, whole or not at all."""
    from pathlib import Path

    from accelsim.files.writing import written_atomically
    from accelsim.reports.page.page import quantisation_html

    target = Path(str(path))
    text = found.to_json() if target.suffix == ".json" else quantisation_html(found)
    with written_atomically(target) as file:
        file.write(text.encode())


def _print(found: QuantisationReport, quantised: Quantised, output: str, *, json_output: bool, quiet: bool) -> None:
    """Print the report as JSON or as tables."""
    if json_output:
        sys.stdout.write(found.to_json())
        return
    if quiet:
        return
    from accelsim.errors import printable
    from accelsim.quantise.terminal import print_comparison, print_errors
    from accelsim.reports.terminal.run_table import make_console

    console = make_console()
    print_errors(console, found)
    print_comparison(console, found)
    for remark in found.remarks:
        if remark not in quantised.data.warnings:
            console.print(printable(remark, 700))
    console.print(
        f"wrote {printable(output)}: {_describe(quantised.scheme)}; {len(quantised.onnx):,} bytes, constants "
        f"{found.float_bytes:,} -> {found.quantised_bytes:,} bytes, {found.effective_bits:.2f} bits per weight"
    )


def _describe(scheme: Scheme) -> str:
    """Return a scheme in a few words."""
    from accelsim.errors import printable

    return f"{printable(scheme.name)}, {scheme.weight_bits}-bit weights, {scheme.activation_bits}-bit activations"
