"""Ranges of activations, chosen from calibration data.

percentile and entropy come from onnxruntime's own calibrators; the others are ours.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import UsageError, reason_of
from accelsim.progress import Steps
from accelsim.quantise.calibrate.calibration import BATCH, Calibration, Feeds
from accelsim.quantise.calibrate.observe import float_tensors, observe
from accelsim.quantise.calibrate.optimum import Histogram, least_squares_range
from accelsim.quantise.network.source import FloatModel
from accelsim.quantise.scheme import Scheme
from accelsim.quantise.write.widths import ActivationSpecs, activation_specs

Floats = NDArray[np.float32]

_BINS = 2048  # of the histograms in which the least squared error, or the least divergence, is sought
_LEAST_VALUES = _BINS // 2  # a tensor with fewer leaves most bins empty, and the divergence says nothing
_ENTROPY_LEVELS = 128  # to which a histogram is reduced to see what quantising loses, as TensorRT does
_FROM_ORT = {"percentile": "Percentile", "entropy": "Entropy"}


@dataclass(frozen=True)
class Range:
    """What an activation takes: its chosen range, and its extremes in the calibration data."""

    tensor: str
    low: float
    high: float
    smallest: float
    largest: float


Ranges = Mapping[str, Range]


def choose_ranges(model: FloatModel, data: Calibration, scheme: Scheme, steps: Steps | None = None) -> Ranges:
    """Choose the range of every float activation; cross-entropy starts from the least squared error (see `refine`).

    A tensor of fewer than 1,024 values keeps its extremes under entropy: their histogram is mostly empty.

    Args:
        model: the float model.
        data: calibration samples.
        scheme: names the method.
        steps: shows progress.

    A tensor that takes NaN or infinity has the extremes -infinity and infinity, and a range of nothing.
    """
    names = float_tensors(model)
    method = scheme.activation_range
    spans = _extremes(model, data, names, scheme.averaging if method == "moving-average" else None, steps)
    chosen = {name: (span.low, span.high) for name, span in spans.items()}
    if method in ("percentile", "entropy"):
        few = {name for name, span in spans.items() if method == "entropy" and span.values < _LEAST_VALUES}
        found = _from_onnxruntime(model, data, scheme, steps)
        chosen |= {name: ends for name, ends in found.items() if name not in few}
    elif method in ("mse", "sqnr", "cross-entropy"):
        chosen |= _least_squares(model, data, spans, activation_specs(model, scheme), steps)
    elif method == "abs-max":
        chosen = {name: (-max(-low, high), max(-low, high)) for name, (low, high) in chosen.items()}
    return {n: Range(n, chosen[n][0], chosen[n][1], span.smallest, span.largest) for n, span in spans.items()}


@dataclass(frozen=True)
class _Span:
    """Range by extremes, averaged or not, the extremes of all samples, and how many values they have."""

    low: float
    high: float
    smallest: float
    largest: float
    values: int


def _extremes(
    model: FloatModel, data: Calibration, names: Sequence[str], averaging: float | None, steps: Steps | None
) -> dict[str, _Span]:
    """Find the extremes of tensors, averaged exponentially over samples where asked for."""
    spans: dict[str, _Span] = {}
    for values in observe(model, data, names, steps, "ranges", BATCH if averaging is None else 1):
        for name, array in values.items():
            if not array.size:
                continue
            low, high = float(array.min()), float(array.max())
            before = spans.get(name)
            if not np.isfinite([low, high]).all() or (before is not None and not np.isfinite(before.smallest)):
                spans[name] = _Span(0.0, 0.0, -np.inf, np.inf, array.size)
                continue
            if before is None:
                spans[name] = _Span(low, high, low, high, array.size)
                continue
            smallest, largest = min(before.smallest, low), max(before.largest, high)
            count = before.values + array.size
            if averaging is None:
                spans[name] = _Span(smallest, largest, smallest, largest, count)
            else:
                lower = before.low + averaging * (low - before.low)
                upper = before.high + averaging * (high - before.high)
                spans[name] = _Span(lower, upper, smallest, largest, count)
    return spans


def _least_squares(
    model: FloatModel, data: Calibration, spans: Mapping[str, _Span], specs: ActivationSpecs, steps: Steps | None
) -> dict[str, tuple[float, float]]:
    """Choose the ranges with the least squared error from histograms of all values."""
    spans = {name: span for name, span in spans.items() if np.isfinite(span.smallest)}
    edges = {name: np.linspace(span.smallest, span.largest, _BINS + 1) for name, span in spans.items()}
    counts = {name: np.zeros(_BINS, np.int64) for name in spans}
    for values in observe(model, data, list(spans), steps, "histograms"):
        for name, array in values.items():
            low, high = spans[name].smallest, spans[name].largest
            if low < high:
                counts[name] += np.histogram(array[array != 0].astype(np.float64), _BINS, (low, high))[0]
    chosen = {}
    for name, span in spans.items():
        centres = (edges[name][1:] + edges[name][:-1]) / 2
        if span.smallest < span.largest:
            chosen[name] = least_squares_range(Histogram(centres, counts[name]), specs.of(name))
    return chosen


def _from_onnxruntime(
    model: FloatModel, data: Calibration, scheme: Scheme, steps: Steps | None
) -> dict[str, tuple[float, float]]:
    """Let onnxruntime's calibrators choose."""
    from onnxruntime.quantization import CalibrationMethod, create_calibrator

    options: dict[str, Any] = {"symmetric": scheme.activation_mapping == "symmetric"}
    if scheme.activation_range == "entropy":  # by default there are as many bins as codes, and nothing to choose from
        options |= {"num_bins": _BINS, "num_quantized_bins": _ENTROPY_LEVELS}
    if scheme.activation_range == "percentile":
        options["percentile"] = scheme.percentile
    batches = list(data.batches(model, 1))  # the calibrators want batches of one shape
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):  # the calibrators print
        source = Path(folder) / "float.onnx"
        source.write_bytes(model.proto.SerializeToString())
        try:
            calibrator = create_calibrator(
                str(source),
                [],
                augmented_model_path=str(Path(folder) / "augmented.onnx"),
                calibrate_method=getattr(CalibrationMethod, _FROM_ORT[scheme.activation_range]),
                extra_options=options,
            )
            calibrator.collect_data(_Reader(batches, steps))
            found = calibrator.compute_data().data
        except (ValueError, RuntimeError, KeyError, TypeError) as error:
            raise UsageError(
                f"onnxruntime's {scheme.activation_range} calibration failed on this data ({reason_of(error, 120)}): "
                f"choose another activation_range"
            ) from None
    return {name: (float(np.min(d.range_value[0])), float(np.max(d.range_value[1]))) for name, d in found.items()}


class _Reader:
    """Hands batches to onnxruntime's calibrators, which look at nothing but this method."""

    def __init__(self, batches: Sequence[Feeds], steps: Steps | None) -> None:
        self._batches, self._steps, self._done = batches, steps, 0

    def get_next(self) -> Feeds | None:
        """Return the next batch, or None at the end."""
        if self._done == len(self._batches):
            return None
        self._done += 1
        if self._steps is not None:
            self._steps("calibrate", self._done, len(self._batches))
        return self._batches[self._done - 1]
