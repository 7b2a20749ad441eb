"""Writes traces of a run on the event model: Perfetto, VCD, pictures, DRAM accesses."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from accelsim.energy.options import EnergyOptions
from accelsim.errors import ResourceLimitError, UsageError, nearest, printable
from accelsim.files.writing import written_atomically
from accelsim.graph.normalise.tensor_types import Feeds
from accelsim.machine.arch import Arch
from accelsim.program.addresses import Region, map_addresses
from accelsim.program.layers import Program
from accelsim.simulation.model import Model, Shapes
from accelsim.timing.scene import Budget, Progress, Scene, View, run_scene, set_scene, visible

Write = Callable[[IO[bytes], "Job", Budget], None]


@dataclass(frozen=True)
class Format:
    """A kind of trace: file names it is for, the package it needs, the most events it may have and their name."""

    suffixes: tuple[str, ...]
    package: str | None
    limit: int
    unit: str


FORMATS = {
    "perfetto": Format((".pftrace", ".perfetto-trace"), "perfetto", 2_000_000, "slices and samples"),
    "vcd": Format((".vcd",), "vcd", 2_000_000, "changes of signals"),
    "svg": Format((".svg",), None, 20_000, "bars"),
    "png": Format((".png",), None, 200_000, "bars"),
    "dram": Format((".dram", ".trace"), None, 50_000_000, "bursts"),
}


@dataclass(frozen=True, eq=False)
class Job:
    """What is traced: a lowered model on a machine, and what of its run."""

    model: Model
    arch: Arch
    program: Program
    scene: Scene
    progress: Progress | None

    @property
    def title(self) -> str:
        """One line: the model on its machine."""
        arch = self.arch
        return f"{self.model.name} on {arch.rows}x{arch.cols} {arch.dataflow}, {arch.clock_ghz:g} GHz"


@dataclass(frozen=True)
class TraceSummary:
    """What was written: events of a unit, layers, cycles first..last-1 of the run's total; regions of a DRAM trace."""

    events: int
    unit: str
    layers: int
    first: int
    last: int
    total: int
    regions: tuple[Region, ...] = ()


def choose_format(name: str | None, path: Path) -> str:
    """Return the format of a trace: the one named, or that of the file's ending, or Perfetto without an ending.

    Raises:
        UsageError: there is no such format or ending, or the package that writes it is not installed.
    """
    chosen = name.lower() if name is not None else _format_of(path.suffix.lower(), printable(path.name))
    if chosen not in FORMATS:
        raise UsageError(f"there is no trace format '{printable(chosen)}' ({nearest(chosen, list(FORMATS))})")
    package = FORMATS[chosen].package
    if package is not None and find_spec(package) is None:
        raise UsageError(
            f"{chosen} traces need a package that is not installed: pip install '.[trace]' in the folder of accel-sim"
        )
    return chosen


def _format_of(suffix: str, shown: str) -> str:
    """Return the format that an ending stands for."""
    if not suffix:
        return "perfetto"
    for known, kind in FORMATS.items():
        if suffix in kind.suffixes:
            return known
    endings = ", ".join(ending for kind in FORMATS.values() for ending in kind.suffixes)
    raise UsageError(
        f"cannot tell from {shown} what to write: its name must end in {endings}, or name the format with --format"
    )


def write_trace(
    model: Model,
    arch: Arch,
    path: str | Path,
    kind: str | None = None,
    *,
    view: View | None = None,
    shapes: Shapes | None = None,
    feeds: Feeds | None = None,
    progress: Progress | None = None,
    energy: EnergyOptions | None = None,
) -> TraceSummary:
    """Run a model's layers on the event model and write what their engines did.

    Args:
        model: the model.
        arch: the machine.
        path: the file to write; it is whole or not there.
        kind: "perfetto", "vcd", "svg", "png" or "dram"; None chooses by the file's name.
        view: layers and cycles to show; None shows all.
        shapes: shape of every input; None takes dynamic dimensions as 1.
        feeds: gives the inputs, for models whose shapes depend on data; None draws them.
        progress: called with (layer name, number of the layer, count of layers) after each layer.
        energy: how energy is priced, which the mapper may minimise; None takes the packaged table.

    Raises:
        UsageError: unknown format, missing package, no such layer, or a window with nothing in it.
        ResourceLimitError: more events than the format's limit, or the file cannot be written.
    """
    target = Path(path)
    kind = choose_format(kind, target)
    program = model.bind(shapes, feeds).planned(arch, (energy or EnergyOptions()).load())
    scene = set_scene(model.name, program, arch, view or View())
    job = Job(model, arch, program, scene, progress)
    budget = Budget(FORMATS[kind].limit, scene, FORMATS[kind].unit)
    _refuse_early(kind, job, budget)
    write = {"perfetto": _write_perfetto, "vcd": _write_vcd, "dram": _write_dram}.get(kind)
    with written_atomically(target) as file:
        if write is not None:
            write(file, job, budget)
        else:
            _write_picture(file, job, budget, kind)
    regions = map_addresses(program, arch).regions if kind == "dram" else ()
    return TraceSummary(
        budget.used, FORMATS[kind].unit, len(scene.layers), scene.first, scene.last, scene.total, regions
    )


def _refuse_early(kind: str, job: Job, budget: Budget) -> None:
    """Refuse before any work what certainly has too many events: every tile is one, and every burst."""
    whole = [placed for placed in job.scene.layers if job.scene.covers(placed)]
    if kind == "dram":
        moved = [placed.timing.dram_bytes for placed in whole]
        if job.arch.prefetch_weights:  # a layer's reads may be in the one before, which may not be shown
            moved = [placed.timing.event("dram_write_bytes") for placed in whole]
        least = sum(moved) // job.arch.dram_burst
    else:
        least = sum(placed.timing.event("tiles") for placed in whole)
    budget.take(least)
    budget.used = 0


def _metadata(job: Job) -> dict[str, str | int | float]:
    """Return what a trace says about the run it is of."""
    settings = {
        f"{section}.{key}": value if type(value) in (int, float) else str(value)
        for section, keys in job.arch.to_sections().items()
        for key, value in keys.items()
    }
    return {"model": job.model.name, "sha256": job.model.checked.sha256, "engine": "event", **settings}


def _write_perfetto(file: IO[bytes], job: Job, budget: Budget) -> None:
    """Write a Perfetto trace layer by layer."""
    from accelsim.traces.perfetto import PerfettoWriter

    writer = PerfettoWriter(file, job.title, job.arch, job.scene, budget)
    writer.open(_metadata(job))
    for placed, trace in run_scene(job.scene, job.arch, progress=job.progress):
        writer.layer(visible(job.scene, job.arch, placed, trace))
    writer.close()


def _write_vcd(file: IO[bytes], job: Job, budget: Budget) -> None:
    """Write waveforms layer by layer."""
    from accelsim.traces.vcd import WaveWriter

    text = io.TextIOWrapper(file, "ascii", errors="replace", newline="\n", write_through=True)
    writer = WaveWriter(text, job.title, job.arch, job.scene, budget)
    for placed, trace in run_scene(job.scene, job.arch, progress=job.progress):
        writer.layer(visible(job.scene, job.arch, placed, trace))
    writer.close()
    text.detach()


def _write_dram(file: IO[bytes], job: Job, budget: Budget) -> None:
    """Write the bursts layer by layer."""
    from accelsim.traces.dram import accesses, lines

    addresses = map_addresses(job.program, job.arch)
    for placed, trace in run_scene(job.scene, job.arch, segments=True, progress=job.progress):
        found = accesses(job.scene, job.arch, addresses, placed, trace)
        budget.take(len(found.addresses))
        file.write(lines(found).encode("ascii"))


def _write_picture(file: IO[bytes], job: Job, budget: Budget, kind: str) -> None:
    """Draw a window."""
    from accelsim.traces.picture import draw

    activities = []
    for placed, trace in run_scene(job.scene, job.arch, progress=job.progress):
        activity = visible(job.scene, job.arch, placed, trace)
        budget.take(len(activity.intervals) + len(activity.phases))
        activities.append(activity)
    try:
        file.write(draw(activities, job.scene, job.arch, job.title, kind))
    except MemoryError:
        raise ResourceLimitError(
            "out of memory while drawing: narrow the picture with --layer or --from/--until"
        ) from None
