"""Errors of quantisation, taken apart: rounding and clipping, tensor by tensor, weights and activations.

Every element either has a code for its nearest step, and is rounded, or has none, and is clipped to the end of the
grid. The two sets are disjoint, so that their squared errors add up to the whole error with no cross term.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from accelsim.progress import Steps
from accelsim.quantise.calibrate.calibration import Calibration
from accelsim.quantise.calibrate.observe import observe, open_float, with_outputs
from accelsim.quantise.grid import Grid, clipped, dequantise, quantise
from accelsim.quantise.measure.attempt import attempt
from accelsim.quantise.pipeline import Quantised
from accelsim.quantise.write.emit import QuantisedActivation
from accelsim.results.quantisation import Distribution, ErrorAnalysis, LayerError, TensorError, sqnr_db

Floats = NDArray[np.float32]

OUTLIER_DEVIATIONS = 6.0  # a value so many standard deviations from the mean is an outlier
_BINS = 96


class _Tally:
    """Errors of one tensor, added up over batches."""

    def __init__(self, grid: Grid, smallest: float, largest: float, mean: float, deviation: float) -> None:
        self.grid, self.mean, self.deviation = grid, mean, deviation
        self.smallest, self.largest = smallest, largest
        self.elements = self.outside = self.outliers = 0
        self.signal = self.rounding = self.clipping = self.total = 0.0
        low, high = (float(end.min() if at == 0 else end.max()) for at, end in enumerate(grid.bounds()))
        self.ends = low, high
        self.edges = np.linspace(min(low, smallest), max(high, largest), _BINS + 1)
        self.counts = np.zeros(_BINS, np.int64)
        self.used = np.zeros(1 << grid.spec.bits, bool)

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

    def result(
        self, tensor: str, kind: str, values: int, propagated: float | None, code_bits: int | None = None
    ) -> TensorError:
        """Return the figures; values: elements that share the scales, and code_bits: as stored, for effective bits."""
        spec = self.grid.spec
        codes = spec.levels + 1
        return TensorError(
            tensor, kind, spec.bits, self.grid.scales.size, self.grid.effective_bits(values, code_bits), self.elements,
            self.signal, self.rounding, self.clipping, self.total, self.outside / max(self.elements, 1),
            codes - int(self.used.sum()), codes, self.outliers / max(self.elements, 1), self.smallest, self.largest,
            propagated,
            Distribution(
                tuple(map(float, self.edges)), tuple(map(int, self.counts)), *self.ends, *self._coarsest()
            ),
        )  # fmt: skip

    def _coarsest(self) -> tuple[float, float]:
        """Return the largest step, and the least value of a code in the grid that has it."""
        place = int(self.grid.scales.argmax())
        step = float(self.grid.scales.flat[place])
        return step, step * (self.grid.spec.lowest - int(self.grid.zero_points.flat[place]))


def tensor_error(
    values: Floats, grid: Grid, tensor: str = "", kind: str = "weight", code_bits: int | None = None
) -> TensorError:
    """Return what a grid does to the values of one tensor.

    Args:
        values: float32.
        grid: its grid.
        tensor: its name.
        kind: "weight" or "activation".
        code_bits: of a code as it is stored, None for no more than it has.
    """
    spread = float(values.std(dtype=np.float64)) if values.size else 0.0
    ends = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    tally = _Tally(grid, *ends, float(values.mean(dtype=np.float64)) if values.size else 0.0, spread)
    tally.add(values)
    return tally.result(tensor, kind, values.size, None, code_bits)


def analyse(quantised: Quantised, data: Calibration | None = None, steps: Steps | None = None) -> ErrorAnalysis:
    """Take the errors of a quantised model apart.

    Args:
        quantised: the model with its grids.
        data: samples to measure on; None takes the calibration samples.
        steps: shows progress.
    """
    data = data or quantised.data
    distinct = {weights.layer.weight: weights for weights in quantised.weights.values()}
    weights = tuple(tensor_error(w.values, w.grid, name, code_bits=w.code_bits) for name, w in distinct.items())
    wanted = _measurable(quantised)
    found, reason = attempt(lambda: _propagated(quantised, wanted, data, steps))
    propagated, end = found or ({}, None)
    activations, why = attempt(lambda: _activations(quantised, wanted, data, propagated, steps))
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
    return ErrorAnalysis(weights, activations or (), layers, end, reason or why)


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
            noise[tensor] += float(((got[name].astype(np.float64) - exact) ** 2).sum())
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
