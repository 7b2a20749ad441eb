"""A picture of the engines over time: a Gantt chart with the classes of cycles, buffers in use and DRAM traffic."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from accelsim.errors import printable
from accelsim.machine.arch import Arch
from accelsim.results.cycle_classes import CYCLE_CLASSES, cycle_class
from accelsim.timing.event.recorder import BUFFERS, ENGINES, Interval
from accelsim.timing.scene import Activity, Scene, rates

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {key: kind.colour for key, kind in CYCLE_CLASSES.items()}
# An engine has the colour of the class of cycles that waits for it; a prefetch is darker than what it hides.
_ENGINE_COLOURS = {
    "load": {
        "weights": _COLOURS["wait_w"],
        "activations": _COLOURS["wait_x_load"],
        "operands": _COLOURS["wait_load"],
        "prefetch": "#004C77",
    },
    "push": {"tile": _COLOURS["push"]},
    "array": {"tile": _COLOURS["stream"]},
    "requant": {"block": _COLOURS["wait_x_bank"]},
    "vector": {"block": _COLOURS["vector"]},
    "store": {"outputs": _COLOURS["store"]},
}
_BUFFER_NAMES = {
    "operand_buffers": "operand buffers",
    "acc_banks": "accumulator banks",
    "output_buffers": "output buffers",
}
_INK, _GRID = "#222222", "#DDDDDD"
_WIDTH_INCHES = 12.0


def draw(activities: Sequence[Activity], scene: Scene, arch: Arch, title: str, kind: str) -> bytes:
    """Return the chart of a window.

    Args:
        activities: what happened, layer by layer.
        scene: the window.
        arch: the machine.
        title: heading.
        kind: "svg" or "png".
    """
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "accel-sim", "font.family": "DejaVu Sans", "font.size": 9}):
        figure = _figure(activities, scene, arch, title)
        buffer = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else {}
        figure.savefig(buffer, format=kind, dpi=150, metadata=metadata, bbox_inches="tight", pad_inches=0.15)
    return buffer.getvalue()


def _figure(activities: Sequence[Activity], scene: Scene, arch: Arch, title: str) -> Figure:
    """Lay the rows out: layers and engines above, buffers and DRAM traffic below, one legend."""
    from matplotlib.figure import Figure  # without pyplot: a figure of its own, whatever backend the caller uses

    used = {part.engine for activity in activities for part in activity.intervals}
    engines = [engine for engine in ENGINES if engine in used]
    heights = [len(engines) + 2.0, *[0.8] * len(BUFFERS), 1.3]
    figure = Figure(figsize=(_WIDTH_INCHES, 0.42 * sum(heights) + 0.6))
    axes = figure.subplots(len(heights), 1, sharex=True, gridspec_kw={"height_ratios": heights, "hspace": 0.14})
    _draw_engines(axes[0], activities, engines, scene)
    lines = _draw_legend(axes[0], activities)
    axes[0].set_title(_plain(title), loc="left", pad=13 * lines + 8, fontsize=11, fontweight="bold", color=_INK)
    for axis, buffer in zip(axes[1:-1], BUFFERS, strict=True):
        _draw_buffer(axis, activities, scene, buffer)
    _draw_traffic(axes[-1], activities, scene, arch)
    for axis in axes:
        axis.set_xlim(scene.first, scene.last)
        axis.tick_params(length=0, labelcolor=_INK)
        for side in axis.spines.values():
            side.set_visible(False)
    axes[-1].set_xlabel("cycle of the run", color=_INK)
    axes[-1].xaxis.set_major_formatter("{x:,.0f}")
    axes[-1].tick_params(axis="x", length=3)
    return figure


def _draw_engines(axis: Axes, activities: Sequence[Activity], engines: Sequence[str], scene: Scene) -> None:
    """Draw a band of layers, the issue port by class, and one line per engine."""
    names = ["layer", "issue port", *(engine.upper() for engine in engines)]
    axis.set_ylim(len(names) - 0.45, -0.55)
    axis.set_yticks(range(len(names)), names)
    axis.set_axisbelow(True)
    axis.grid(axis="x", color=_GRID, linewidth=0.6)
    for activity in activities:
        _draw_layer_name(axis, activity, scene)
        for name, colour in _COLOURS.items():
            _draw_bars(axis, [part for part in activity.phases if part.what == name], 1, colour, scene, gaps=False)
        for row, engine in enumerate(engines, start=2):
            for what, colour in _ENGINE_COLOURS[engine].items():
                parts = [part for part in activity.intervals if part.engine == engine and part.what == what]
                _draw_bars(axis, parts, row, colour, scene, gaps=True)


def _draw_bars(axis: Axes, parts: Sequence[Interval], row: int, colour: str, scene: Scene, *, gaps: bool) -> None:
    """Draw bars of one colour; wide ones with a gap between them, narrow ones at least as wide as a hair."""
    pixel = (scene.last - scene.first) / (_WIDTH_INCHES * 72)
    for wide in (False, True):
        spans = [(part.start, part.end - part.start) for part in parts if (part.end - part.start > 4 * pixel) == wide]
        edge = ("white" if gaps else colour, 0.5 if gaps else 0.0) if wide else (colour, 0.3)
        axis.broken_barh(spans, (row - 0.36, 0.72), facecolors=colour, edgecolors=edge[0], linewidth=edge[1])


def _draw_legend(axis: Axes, activities: Sequence[Activity]) -> int:
    """Explain the colours above the chart; returns the number of lines that takes."""
    from matplotlib.patches import Patch

    present = {part.what for activity in activities for part in activity.phases}
    dataflows = {activity.placed.dataflow for activity in activities} - {None}
    dataflow = (dataflows.pop() or "") if len(dataflows) == 1 else ""
    shown = [cycle_class(name, dataflow) for name in CYCLE_CLASSES if name in present]
    named = [(kind.colour, kind.name) for kind in shown]
    operands = {part.what for activity in activities for part in activity.intervals if part.engine == "load"}
    spelled = {"prefetch": "prefetch (weights of the next layer)"}
    named += [(_ENGINE_COLOURS["load"][name], f"LOAD: {spelled.get(name, name)}") for name in sorted(operands)]
    columns = min(len(named), 6)
    axis.legend(
        handles=[Patch(color=colour, label=label) for colour, label in named], loc="lower left",
        bbox_to_anchor=(0, 1.0), ncol=columns, frameon=False, fontsize=8, handlelength=1.1, handleheight=0.9,
        columnspacing=1.4, borderaxespad=0, labelspacing=0.35,
    )  # fmt: skip
    return -(-len(named) // columns)


def _draw_layer_name(axis: Axes, activity: Activity, scene: Scene) -> None:
    """Draw the bar of a layer, with its name where that has room."""
    width = activity.end - activity.start
    shade = "#F0F0F0" if activity.placed.number % 2 else "#E2E2E2"
    axis.broken_barh([(activity.start, width)], (-0.36, 0.72), facecolors=shade, edgecolors="white", linewidth=0.8)
    room = int(width / (scene.last - scene.first) * _WIDTH_INCHES * 11)  # characters of this size
    name = printable(activity.placed.layer.name, 80)
    if room >= 3:
        text = name if len(name) <= room else f"{name[: room - 1]}…"
        axis.text(
            activity.start + width / 2, 0, _plain(text), ha="center", va="center", fontsize=8, color=_INK,
            clip_on=True,
        )  # fmt: skip


def _draw_buffer(axis: Axes, activities: Sequence[Activity], scene: Scene, buffer: str) -> None:
    """Draw how many buffers of a kind are in use, as steps."""
    points, capacity = [(scene.first, 0)], 1
    for activity in activities:
        for samples in activity.samples:
            if samples.buffer == buffer:
                points += samples.points
                capacity = samples.capacity
    cycles, numbers = zip(*points, (scene.last, points[-1][1]), strict=True)
    axis.fill_between(cycles, numbers, step="post", color="#999999", linewidth=0)
    axis.set_ylim(0, capacity * 1.08)
    axis.set_yticks([capacity / 2], [_BUFFER_NAMES[buffer]])
    axis.axhline(capacity, color=_GRID, linewidth=0.6)
    _note(axis, capacity, f"{capacity}")


def _draw_traffic(axis: Axes, activities: Sequence[Activity], scene: Scene, arch: Arch) -> None:
    """Draw DRAM bytes per cycle: reads upwards, writes downwards."""
    for engine, sign, colour in (("load", 1, "#0072B2"), ("store", -1, "#D55E00")):
        points: list[tuple[int, float]] = [(scene.first, 0.0)]
        for activity in activities:
            points += rates(activity, arch, engine)
        cycles, values = zip(*points, (scene.last, points[-1][1]), strict=True)
        heights = [sign * value for value in values]
        axis.fill_between(cycles, heights, step="post", facecolor=colour, edgecolor=colour, linewidth=0.3)
    limit = arch.dram_bytes_per_cycle
    axis.set_ylim(-limit * 1.08, limit * 1.08)
    axis.set_yticks([0], ["DRAM, B/cycle"])
    axis.axhline(0, color=_INK, linewidth=0.5)
    _note(axis, limit, f"{limit} read")
    _note(axis, -limit, f"{limit} write")


def _note(axis: Axes, height: float, text: str) -> None:
    """Write a number at the right edge."""
    axis.text(1.004, height, text, transform=axis.get_yaxis_transform(), va="center", fontsize=7.5, color=_INK)


def _plain(text: str) -> str:
    """Return a text that is not read as a formula."""
    return printable(text, 200).replace("$", r"\$")
