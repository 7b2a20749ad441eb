"""Horizontal bars, one row per layer, stacked: the form of most charts, readable with a hundred names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from accelsim.reports.charts.style import (
    INK,
    SMALL_PX,
    Drawing,
    bar,
    blank,
    grid,
    place,
    plain,
    row_names,
    text_width,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW_PX = 16.0
_GAP_PX = 18.0


@dataclass(frozen=True)
class Series:
    """One colour of the stack; values: one per row; unit: behind values in the texts of marks."""

    name: str
    colour: str
    values: Sequence[float]


@dataclass(frozen=True)
class Rows:
    """Names of the rows, their tips, and what stands at the right end of each."""

    labels: Sequence[str]
    tips: Sequence[str]
    ends: Sequence[str] = ()


@dataclass(frozen=True)
class Scale:
    """The axis of values: its title, its largest value (None takes that of the bars), decimals of values in tips."""

    title: str
    largest: float | None = None
    decimals: int = 0
    unit: str = ""


def legend_lines(names: Sequence[str], width: float) -> list[list[int]]:
    """Break the entries of a legend into lines that fit a width in pixels; returns indices."""
    lines: list[list[int]] = [[]]
    used = 0.0
    for index, name in enumerate(names):
        needed = 16 + text_width(name) + _GAP_PX
        if lines[-1] and used + needed > width:
            lines.append([])
            used = 0.0
        lines[-1].append(index)
        used += needed
    return lines


def draw_legend(
    drawing: Drawing, entries: Sequence[tuple[str, str]], markers: Sequence[str] = (), left: float = 4.0
) -> None:
    """Draw colours and their names in lines from the upper left corner, each entry as wide as its name.

    Args:
        drawing: the figure.
        entries: (name, colour).
        markers: shapes, one per entry, in place of squares.
        left: margin in pixels.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

    figure = drawing.figure
    width, height = (72 * inches for inches in figure.get_size_inches())
    for number, line in enumerate(legend_lines([name for name, _ in entries], width - left)):
        x, y = left, height - 15 - 17 * number
        for index in line:
            name, colour = entries[index]
            if markers:
                spot = [(x + 6) / width], [(y + 5.5) / height]
                figure.add_artist(
                    Line2D(*spot, marker=markers[index], color=colour, markersize=8, markeredgecolor=INK,
                           markeredgewidth=0.6, linestyle="none")
                )  # fmt: skip
            else:
                figure.add_artist(
                    Rectangle((x / width, y / height), 11 / width, 11 / height, facecolor=colour, linewidth=0)
                )
            figure.text((x + 16) / width, (y + 1.5) / height, name)
            x += 16 + text_width(name) + _GAP_PX


def legend_height(names: Sequence[str], width: float, left: float = 4.0) -> float:
    """Return the height of a legend in pixels."""
    return 17.0 * len(legend_lines(names, width - left)) + 6


def stacked(rows: Rows, series: Sequence[Series], scale: Scale, width: float) -> Drawing:
    """Draw stacked bars with a legend above and axes above and below.

    Args:
        rows: names.
        series: parts of the bars, from the left.
        scale: the axis of values.
        width: of the picture in pixels.
    """
    names = [part.name for part in series]
    legend = legend_height(names, width) if len(series) > 1 else 0.0
    drawing, axes = row_axes(rows, scale, width, legend)
    if len(series) > 1:
        draw_legend(drawing, [(part.name, part.colour) for part in series])
    starts = [0.0] * len(rows.labels)
    for part in series:
        shown = [row for row, value in enumerate(part.values) if value > 0]
        for row in shown:
            value = f"{part.values[row]:,.{scale.decimals}f} {scale.unit}".rstrip()
            mark = bar(axes, starts[row], row, part.values[row], part.colour)
            drawing.tip(mark, f"{rows.tips[row]}: {value}, {part.name}")
            starts[row] += part.values[row]
    largest = scale.largest if scale.largest is not None else max(starts, default=0.0)
    axes.set_xlim(0, largest * 1.02 or 1.0)
    draw_ends(axes, rows, width)
    return drawing


def row_axes(rows: Rows, scale: Scale, width: float, legend: float) -> tuple[Drawing, Axes]:
    """Return axes with a row per name, ticks of values above and below."""
    count = len(rows.labels)
    left = max((text_width(plain(label, 60)) for label in rows.labels), default=0.0) + 10
    right = max((text_width(end, SMALL_PX) for end in rows.ends), default=0.0) + 16
    drawing = blank(width, legend + 40 + ROW_PX * count + 22)
    axes = place(drawing, left, legend + 38, max(right, 24), 20)
    axes.set_ylim(count - 0.4, -0.6)
    row_names(axes, rows.labels, left)
    axes.tick_params(axis="x", labeltop=True, labelbottom=True, labelsize=SMALL_PX)
    axes.xaxis.set_label_position("top")
    axes.set_xlabel(scale.title, labelpad=5)
    spread_ticks(axes, width - left - right)
    grid(axes)
    return drawing, axes


def spread_ticks(axes: Axes, room: float) -> None:
    """Write ticks of values with thousands separators, so few that they do not touch."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=max(int(room // 85), 2), min_n_ticks=2))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number_text(value)))


def number_text(value: float) -> str:
    """Return a tick's number with thousands separators and no zeros behind."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.6g}"


def draw_ends(axes: Axes, rows: Rows, width: float) -> None:
    """Write what stands at the right end of each row."""
    for row, text in enumerate(rows.ends):
        axes.text(
            1.0 + 6 / width, row, text, transform=axes.get_yaxis_transform(), va="center", fontsize=SMALL_PX
        )  # fmt: skip
