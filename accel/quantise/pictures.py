"""Histograms of tensors with their grids drawn over them, as SVG."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from accelsim.quantise.analysis import TensorError

_MOST_LINES = 64  # a finer grid is drawn as a band


def histogram_svg(error: TensorError) -> str:
    """Return the histogram of a tensor as SVG, without the header of an XML file.

    Args:
        error: the tensor.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    shape, codes = error.distribution, error.codes
    settings: Any = {"svg.hashsalt": "accel-sim", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 8}
    with mpl.rc_context(settings):
        figure = Figure(figsize=(3.6, 1.7), layout="constrained")
        axes = figure.add_subplot()
        edges = np.asarray(shape.edges)
        axes.stairs(np.maximum(shape.counts, 0.5), edges, fill=True, color="#4477aa", alpha=0.75)
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.5)
        if error.scales == 1 and codes <= _MOST_LINES:
            for place in np.linspace(shape.grid_low, shape.grid_high, codes):
                axes.axvline(place, color="#ee6677", linewidth=0.5, alpha=0.7)
        axes.axvspan(shape.grid_low, shape.grid_high, color="#ee6677", alpha=0.10, linewidth=0)
        for end in (shape.grid_low, shape.grid_high):
            axes.axvline(end, color="#ee6677", linewidth=1.0)
        axes.set_ylabel("values")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
