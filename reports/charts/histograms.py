"""The values of a tensor as a histogram, with the grid of its quantiser drawn over it."""

from __future__ import annotations

import math

from accelsim.reports.charts.bars import spread_ticks
from accelsim.reports.charts.style import RED, SMALL_PX, Drawing, blank, grid, place
from accelsim.results.quantisation import TensorError

HEIGHT_PX = 132.0
_MOST_LINES = 64  # a finer grid is drawn as a band
_VALUES = "#0072B2"
_LEAST = -0.3  # where bars start on the axis of logarithms, so that a single value is seen
_MOST_POWERS = 3


def draw_histogram(error: TensorError, width: float) -> Drawing:
    """Draw one tensor: counts on a logarithmic axis, what the codes stand for as a band, few codes as lines.

    Args:
        error: the tensor.
        width: of the picture in pixels.
    """
    shape = error.distribution
    drawing = blank(width, HEIGHT_PX)
    axes = place(drawing, 44, 8, 12, 24)
    top = math.log10(2 * max(max(shape.counts, default=0), 1))
    axes.set_ylim(_LEAST, top)
    first, last = shape.edges[0], shape.edges[-1]
    margin = 0.02 * (last - first) or 1.0
    axes.set_xlim(first - margin, last + margin)
    band = axes.axvspan(shape.grid_low, shape.grid_high, color=RED, alpha=0.08, linewidth=0)
    drawing.tip(band, f"codes from {shape.grid_low:.6g} to {shape.grid_high:.6g}, largest step {shape.step:.6g}")
    axes.stairs([bar_height(count) for count in shape.counts], shape.edges, baseline=_LEAST, fill=True, color=_VALUES)
    axes.vlines(grid_lines(error), _LEAST, top, color=RED, linewidth=0.7, alpha=0.6, zorder=3)
    axes.vlines([shape.grid_low, shape.grid_high], _LEAST, top, color=RED, linewidth=1.4, zorder=3)
    powers = range(0, math.floor(top) + 1, math.ceil(top / _MOST_POWERS))
    axes.set_yticks(list(powers), [f"{10**power:,}" for power in powers])
    spread_ticks(axes, width - 56)
    axes.tick_params(axis="both", length=0, labelsize=SMALL_PX)
    grid(axes, "y")
    return drawing


def bar_height(count: int) -> float:
    """Return how high a bin is drawn: the logarithm of its count, nothing where it is empty."""
    return math.log10(count) if count else _LEAST


def grid_lines(error: TensorError) -> list[float]:
    """Return the values of single codes where there are few; of the coarsest grid where a tensor has several.

    Args:
        error: the tensor.
    """
    shape = error.distribution
    if error.codes > _MOST_LINES or not shape.step > 0:
        return []
    return [shape.lowest + code * shape.step for code in range(error.codes)]
