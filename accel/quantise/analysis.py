"""Errors of quantisation, taken apart: rounding and clipping, tensor by tensor, weights and activations.

Every element either has a code for its nearest step, and is rounded, or has none, and is clipped to the end of the
grid. The two sets are disjoint, so that their squared errors add up to the whole error with no cross term.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.quantise.calibration import Calibration
from accelsim.quantise.emit import QuantisedActivation
from accelsim.quantise.grid import Grid, clipped, dequantise, quantise
from accelsim.quantise.observe import observe, open_float, with_outputs
from accelsim.quantise.pipeline import Quantised
from accelsim.quantise.progress import Steps

Floats = NDArray[np.float32]

OUTLIER_DEVIATIONS = 6.0  # a value so many standard deviations from the mean is an outlier
_BINS = 96
_LARGEST_CODES = 1 << 16


@dataclass(frozen=True)
class Distribution:
    """Histogram of a tensor's values with the grid over it.

    edges: of the bins; counts: values per bin; grid_low, grid_high: ends of the grid; step: its (largest) scale.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    grid_low: float
    grid_high: float
    step: float


@dataclass(frozen=True)
class TensorError:
    """What quantising one tensor does to its values.

    tensor: name; kind: "weight" or "activation"; bits: of a code; scales: how many the tensor has; effective_bits: per
    value, scales and zero points counted; elements: values looked at; signal: sum of their squares; rounding, clipping:
    sums of squared errors of the values inside and outside of the grid; total: the sum over all, computed by itself;
    clipped_share: share of the values outside; unused_codes: codes that no value takes, of `codes` per scale together;
    outlier_share: share of values more than six standard deviations from the mean; propagated_sqnr_db: of the tensor in
    the quantised network, with all errors before it, None for weights.
    """

    tensor: str
    kind: str
    bits: int
    scales: int
    effective_bits: float
    elements: int
    signal: float
    rounding: float
    clipping: float
    total: float
    clipped_share: float
    unused_codes: int
    codes: int
    outlier_share: float
    smallest: float
    largest: float
    propagated_sqnr_db: float | None
    distribution: Distribution = field(repr=False)

    @property
    def sqnr_db(self) -> float:
        """Signal to quantisation noise ratio of the tensor by itself, in dB."""
        return sqnr_db(self.signal, self.total)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain data."""
        data = asdict(self) | {"sqnr_db": self.sqnr_db}
        data["distribution"] |= {"edges": list(self.distribution.edges), "counts": list(self.distribution.counts)}
        return data


@dataclass(frozen=True)
class LayerError:
    """Errors around one layer.

    weight_sqnr_db: of its weights by themselves; output_sqnr_db: of its output in the quantised network, None where
    the output has no quantiser.
    """

    layer: str
    kind: str
    weight_bits: int | None
    weight_sqnr_db: float | None
    output: str
    output_sqnr_db: float | None


@dataclass(frozen=True)
class ErrorAnalysis:
    """All errors of a quantised model: per tensor, per layer, and end to end (the outputs, literally executed)."""

    weights: tuple[TensorError, ...]
    activations: tuple[TensorError, ...]
    layers: tuple[LayerError, ...]
    output_sqnr_db: float

    def to_dict(self) -> dict[str, Any]:
        """Return the analysis as plain data."""
        return {
            "weights": [error.to_dict() for error in self.weights],
            "activations": [error.to_dict() for error in self.activations],
            "layers": [asdict(layer) for layer in self.layers],
            "output_sqnr_db": self.output_sqnr_db,
        }


def sqnr_db(signal: float, noise: float) -> float:
    """Return a signal to noise ratio in dB; infinite without noise.

    Args:
        signal: sum of squares.
        noise: sum of squared errors.
    """
    if noise <= 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


class _Tally:
    """Errors of one tensor, added up over batches."""

    def __init__(self, grid: Grid, smallest: float, largest: float, mean: float, deviation: float) -> None:
        self.grid, self.mean, self.deviation = grid, mean, deviation
        self.smallest, self.largest = smallest, largest
        self.elements = self.outside = self.outliers = 0
        self.signal = self.rounding = self.clipping = self.total = self.noise = 0.0
        low, high = (float(end.min() if at == 0 else end.max()) for at, end in enumerate(grid.bounds()))
        self.ends = low, high
        self.edges = np.linspace(min(low, smallest), max(high, largest), _BINS + 1)
        self.counts = np.zeros(_BINS, np.int64)
        self.used = np.zeros(min(1 << grid.spec.bits, _LARGEST_CODES), bool)

    def add(self, values: Floats) -> None:
        """Add values of the tensor."""
        codes = quantise(values, self.grid)
        restored = dequantise(codes, self.grid)
        squared = (restored.astype(np.float64) - values) ** 2
        outside = clipped(values, self.grid)
        self.elements += values.size
        self.signal += float(np.square(values, dtype=np.float64).sum())
        self.rounding += float(squared[~outside].sum())
        self.clipping += float(squared[outside].sum())
        self.total += float(squared.sum())
        self.outside += int(outside.sum())
        self.outliers += int((np.abs(values - self.mean) > OUTLIER_DEVIATIONS * self.deviation).sum())
        self.counts += np.histogram(values, self.edges)[0]
        self.used[np.unique(codes) - (self.grid.spec.lowest - self.grid.spec.narrow)] = True

    def result(self, tensor: str, kind: str, values: int, propagated: float | None) -> TensorError:
        """Return the figures; values: elements that share the scales, for the effective bits."""
        spec = self.grid.spec
        codes = spec.levels + 1
        return TensorError(
            tensor, kind, spec.bits, self.grid.scales.size, self.grid.effective_bits(values), self.elements,
            self.signal, self.rounding, self.clipping, self.total, self.outside / max(self.elements, 1),
            codes - int(self.used.sum()), codes, self.outliers / max(self.elements, 1), self.smallest, self.largest,
            propagated,
            Distribution(
                tuple(map(float, self.edges)), tuple(map(int, self.counts)), *self.ends, float(self.grid.scales.max())
            ),
        )  # fmt: skip


def tensor_error(values: Floats, grid: Grid, tensor: str = "", kind: str = "weight") -> TensorError:
    """Return what a grid does to the values of one tensor.

    Args:
        values: float32.
        grid: its grid.
        tensor: its name.
        kind: "weight" or "activation".
    """
    spread = float(values.std(dtype=np.float64)) if values.size else 0.0
    ends = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    tally = _Tally(grid, *ends, float(values.mean(dtype=np.float64)) if values.size else 0.0, spread)
    tally.add(values)
    return tally.result(tensor, kind, values.size, None)


def analyse(quantised: Quantised, data: Calibration | None = None, steps: Steps | None = None) -> ErrorAnalysis:
    """Take the errors of a quantised model apart.

    Args:
        quantised: the model with its grids.
        data: samples to measure on; None takes the calibration samples.
        steps: shows progress.
    """
    data = data or quantised.data
    distinct = {weights.layer.weight: weights for weights in quantised.weights.values()}
    weights = tuple(tensor_error(w.values, w.grid, name) for name, w in distinct.items())
    wanted = _measurable(quantised)
    propagated, end = _propagated(quantised, wanted, data, steps)
    activations = _activations(quantised, wanted, data, propagated, steps)
    by_name = {error.tensor: error for error in weights}
    layers = tuple(
        LayerError(
            layer.name,
            layer.kind,
            by_name[layer.weight].bits if layer.weight in by_name else None,
            by_name[layer.weight].sqnr_db if layer.weight in by_name else None,
            (shown := _quantised_output(quantised, layer.output, propagated)),
            propagated.get(shown),
        )
        for layer in quantised.model.layers
    )
    return ErrorAnalysis(weights, activations, layers, end)


def _measurable(quantised: Quantised) -> list[QuantisedActivation]:
    """Return the activations that exist in the float model as well, each once, without those a clamp follows."""
    chosen: dict[str, QuantisedActivation] = {}
    for activation in quantised.emission.activations:
        if not activation.clamped and activation.tensor in quantised.ranges:
            chosen.setdefault(activation.tensor, activation)
    return list(chosen.values())


def _quantised_output(quantised: Quantised, tensor: str, known: dict[str, float]) -> str:
    """Follow a layer's output to where it is quantised: through a Relu or Clip."""
    if tensor in known:
        return tensor
    for node in quantised.model.proto.graph.node:
        if node.op_type in ("Relu", "Clip") and node.input[0] == tensor:
            return str(node.output[0])
    return tensor


def _propagated(
    quantised: Quantised, wanted: Sequence[QuantisedActivation], data: Calibration, steps: Steps | None
) -> tuple[dict[str, float], float]:
    """Return the SQNR of tensors in the literally executed quantised network, and that of the outputs together."""
    model = quantised.model
    restored = {a.tensor: a.restored for a in wanted if a.restored}
    outputs = list(model.outputs)
    names = list(dict.fromkeys([*restored.values(), *outputs]))
    session = open_float(with_outputs(quantised.emission.proto, names), literal=True)
    pairs = restored | {name: name for name in outputs}
    signal = dict.fromkeys(pairs, 0.0)
    noise = dict.fromkeys(pairs, 0.0)
    references = observe(model, data, list(pairs), steps, "errors in the network")
    for feeds, expected in zip(data.batches(model), references, strict=True):
        got = dict(zip(names, session.run(names, feeds), strict=True))
        for tensor, name in pairs.items():
            exact = expected[tensor].astype(np.float64)
            signal[tensor] += float((exact**2).sum())
            noise[tensor] += float(((got[name] - exact) ** 2).sum())
    found = {tensor: sqnr_db(signal[tensor], noise[tensor]) for tensor in pairs}
    whole = sqnr_db(sum(signal[name] for name in outputs), sum(noise[name] for name in outputs))
    return found, whole


def _activations(
    quantised: Quantised,
    wanted: Sequence[QuantisedActivation],
    data: Calibration,
    propagated: dict[str, float],
    steps: Steps | None,
) -> tuple[TensorError, ...]:
    """Measure the errors of activations by themselves: the float network's values through each grid."""
    names = [activation.tensor for activation in wanted]
    sums = {name: np.zeros(5) for name in names}  # count, sum, squares, smallest, largest
    for values in observe(quantised.model, data, names, steps, "moments"):
        for name, array in values.items():
            mine = sums[name]
            ends = (array.min(initial=0.0), array.max(initial=0.0)) if not array.size else (array.min(), array.max())
            first = mine[0] == 0
            mine[3] = ends[0] if first else min(mine[3], ends[0])
            mine[4] = ends[1] if first else max(mine[4], ends[1])
            mine[:3] += array.size, array.sum(dtype=np.float64), np.square(array, dtype=np.float64).sum()
    tallies = {}
    for activation in wanted:
        count, total, squares, smallest, largest = sums[activation.tensor]
        mean = total / max(count, 1)
        spread = math.sqrt(max(squares / max(count, 1) - mean**2, 0.0))
        tallies[activation.tensor] = _Tally(activation.grid, smallest, largest, mean, spread)
    for values in observe(quantised.model, data, names, steps, "errors"):
        for name, array in values.items():
            tallies[name].add(array)
    samples = max(data.samples, 1)
    return tuple(
        tally.result(name, "activation", tally.elements // samples, propagated.get(name))
        for name, tally in tallies.items()
    )
