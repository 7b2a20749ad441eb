"""Records the timeline of one layer on the event model, bounded in work and in size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from accelsim.errors import UsageError, printable
from accelsim.machine.arch import Arch
from accelsim.program.layers import Layer, Program
from accelsim.program.plan import ContractionPlan
from accelsim.results.timeline import Bar, Timeline
from accelsim.timing.event.recorder import Interval
from accelsim.timing.layer_timing import LayerTiming
from accelsim.timing.scene import View, run_scene, set_scene, visible

# The event model takes about 0.1 ms per tile; a layer with more tiles is not run for a picture's sake.
LARGEST_TILES = 20_000

# Bars that a timeline keeps: what a screen shows, and about 100 kB of JSON.
LARGEST_BARS = 1_200


@dataclass(frozen=True)
class TimelineRequest:
    """Which layer's timeline a result keeps: the one whose name contains a text, or None for that with most cycles."""

    layer: str | None = None


def check_request(request: TimelineRequest, program: Program, model_name: str) -> None:
    """Refuse a request for a layer that does not exist, before any long work.

    Raises:
        UsageError: no layer has the text in its name.
    """
    if request.layer is not None and not any(request.layer in layer.name for layer in program.layers):
        wanted = printable(request.layer)
        raise UsageError(f"no layer of {model_name} has '{wanted}' in its name: leave --timeline out or name another")


def record_timeline(
    request: TimelineRequest, program: Program, timings: Sequence[LayerTiming], arch: Arch
) -> Timeline | None:
    """Run one layer on the event model and keep the first of what its engines did.

    Args:
        request: the layer wanted; of several that match, the one with most cycles.
        program: the layers.
        timings: of all layers.
        arch: the machine.

    Returns:
        The timeline; without bars and with a note where the layer has too many tiles; None where no layer takes time.
    """
    matching = [
        number
        for number, layer in enumerate(program.layers)
        if timings[number].cycles and (request.layer is None or request.layer in layer.name)
    ]
    if not matching:
        return None
    ranked = sorted(matching, key=lambda number: -timings[number].cycles)
    number = next((one for one in ranked if _tiles(program.layers[one], timings[one]) <= LARGEST_TILES), None)
    layer = program.layers[ranked[0] if number is None else number]
    if number is None:
        note = (
            f"not recorded: {_tiles(layer, timings[ranked[0]]):,} tiles are more than the {LARGEST_TILES:,} that are "
            f"run for a timeline; accel-sim trace shows any window of it"
        )
        return Timeline(layer.name, ranked[0], timings[ranked[0]].cycles, 0, (), note)
    passed = "" if number == ranked[0] else f"layers with more cycles have more than {LARGEST_TILES:,} tiles"
    start = sum(timing.cycles for timing in timings[:number])
    cycles = timings[number].cycles
    scene = set_scene(layer.name, program, arch, View(None, start, start + cycles))
    parts: list[Interval] = []
    for placed, trace in run_scene(scene, arch):
        activity = visible(scene, arch, placed, trace)
        parts += [*activity.phases, *activity.intervals]
    return _timeline(Timeline(layer.name, number, cycles, cycles, (), passed), parts, start)


def _tiles(layer: Layer, timing: LayerTiming) -> int:
    """Return how many tiles or blocks the event model would run."""
    return timing.event("tiles") if isinstance(layer.plan, ContractionPlan) else layer.plan.blocks


def _timeline(whole: Timeline, parts: Sequence[Interval], start: int) -> Timeline:
    """Keep the first bars, cut at the cycle from which not all are kept.

    Args:
        whole: the timeline without bars.
        parts: what happened, in cycles of the run.
        start: cycle of the run in which the layer starts.
    """
    ordered = sorted(parts, key=lambda part: (part.start, part.engine, part.end, part.what))
    until, note = whole.cycles, whole.note
    if len(ordered) > LARGEST_BARS:
        until = max(ordered[LARGEST_BARS].start - start, 1)
        cut = (
            f"the first {until:,} of {whole.cycles:,} cycles, at most {LARGEST_BARS:,} bars; "
            "accel-sim trace shows the rest"
        )
        note = f"{note}; {cut}" if note else cut
    bars = tuple(
        Bar(part.engine, part.what, part.start - start, min(part.end - start, until))
        for part in ordered[:LARGEST_BARS]
        if part.start - start < until
    )
    return replace(whole, until=until, bars=bars, note=note)
