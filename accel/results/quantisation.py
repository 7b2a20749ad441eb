"""What `accel-sim quantize` finds out, as frozen data: errors per tensor and layer, executions side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

SCHEMA_VERSION = 1
KIND = "quantisation"
EXACT, NO_SIGNAL = "exact", "no signal"  # ratios without noise and without signal, which are no numbers of JSON
_PLAIN = (
    "model", "sha256", "quantised_sha256", "calibration", "samples", "measured_on", "ranked_on",
    "float_bytes", "quantised_bytes", "effective_bits",
)  # fmt: skip


def sqnr_db(signal: float, noise: float) -> float:
    """Return a signal to noise ratio in dB; infinite without noise, -infinite without signal or with infinite noise.

    Args:
        signal: sum of squares.
        noise: sum of squared errors.
    """
    if noise <= 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 and noise < math.inf else -math.inf


def with_words(data: Any) -> Any:
    """Return plain data whose infinite ratios are words, since null already says that there is no ratio.

    Args:
        data: dicts and lists; ratios are values of keys that end in "sqnr_db".
    """
    if isinstance(data, dict):
        return {key: _word(value) if key.endswith("sqnr_db") else with_words(value) for key, value in data.items()}
    return [with_words(value) for value in data] if isinstance(data, list | tuple) else data


def _word(ratio: float | None) -> float | str | None:
    """Return an infinite ratio as a word."""
    if ratio is None or not math.isinf(ratio):
        return ratio
    return EXACT if ratio > 0 else NO_SIGNAL


@dataclass(frozen=True)
class Distribution:
    """Histogram of a tensor's values with the grid over it.

    edges: of the bins; counts: values per bin; grid_low, grid_high: ends of the grid, of all grids together where the
    tensor has several; step: the largest scale; lowest: the least value of a code in the grid with that scale.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    grid_low: float
    grid_high: float
    step: float
    lowest: float


@dataclass(frozen=True)
class TensorError:
    """What quantising one tensor does to its values.

    tensor: name; kind: "weight" or "activation"; bits: of a code; scales: how many the tensor has; effective_bits:
    per value as stored, scales and zero points counted; elements: values looked at; signal: sum of their squares;
    rounding, clipping: sums of squared errors of the values inside and outside of the grid; total: the sum over all,
    computed by itself; clipped_share: share of the values outside; unused_codes: codes that no value takes, of
    `codes` per scale together; outlier_share: share of values more than six standard deviations from the mean;
    propagated_sqnr_db: of the tensor in the quantised network, with all errors before it, None for weights.
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
    """All errors of a quantised model: per tensor, per layer, and end to end (the outputs, literally executed).

    output_sqnr_db: None where it could not be told; reason: why figures are missing, None if none is.
    """

    weights: tuple[TensorError, ...]
    activations: tuple[TensorError, ...]
    layers: tuple[LayerError, ...]
    output_sqnr_db: float | None
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the analysis as plain data."""
        return {
            "weights": [error.to_dict() for error in self.weights],
            "activations": [error.to_dict() for error in self.activations],
            "layers": [asdict(layer) for layer in self.layers],
            "output_sqnr_db": self.output_sqnr_db,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Sensitivity:
    """One layer alone quantised, its weights and its input: SQNR of the outputs in dB, least first in a ranking.

    output_sqnr_db: None where it could not be told, and reason: why; such layers come last.
    """

    layer: str
    kind: str
    output_sqnr_db: float | None
    reason: str | None = None


@dataclass(frozen=True)
class OutputDistance:
    """How far one output is from another execution's; lsb figures are None where the output has no known step."""

    output: str
    step: float | None
    max_lsb: float | None
    share: float
    max_abs: float


@dataclass(frozen=True)
class Execution:
    """One way to execute the network: SQNR against float (None for float itself), accuracy and agreement of classes.

    accuracy: share of samples whose label is the largest output, None without labels; agreement: share of samples with
    the float network's class, None where the first output is no vector of classes; reason: why there are no figures at
    all, None if there are some.
    """

    name: str
    sqnr_db: float | None
    accuracy: float | None
    agreement: float | None
    reason: str | None = None


@dataclass(frozen=True)
class ThreeWay:
    """Float, fake quantisation and machine on the same samples.

    distances: of the machine's outputs from those of fake quantisation, in steps of the output; acc_bits: width of the
    machine's accumulators; acc_bits_needed: by the sums of these samples, None without sums or without machine.
    """

    samples: int
    original: Execution
    literal: Execution
    machine: Execution
    distances: tuple[OutputDistance, ...]
    acc_bits: int | None = None
    acc_bits_needed: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain data."""
        return asdict(self) | {"distances": [asdict(distance) for distance in self.distances]}


@dataclass(frozen=True)
class QuantisationReport:
    """A quantised model taken apart.

    model, sha256: of the float file; quantised_sha256: of the file that came out; scheme: its fields by name, "name"
    among them; calibration, samples: where the samples come from that ranges and errors are told from, and how many;
    measured_on: where those of `comparison` come from; ranked_on: how many of the first calibration samples
    `sensitivity` is told from; float_bytes, quantised_bytes: of all constants; effective_bits: per weight as stored;
    errors, sensitivity, comparison: see there.
    """

    model: str
    sha256: str
    quantised_sha256: str
    scheme: Mapping[str, Any]
    calibration: str
    samples: int
    measured_on: str
    ranked_on: int
    float_bytes: int
    quantised_bytes: int
    effective_bits: float
    remarks: tuple[str, ...]
    errors: ErrorAnalysis
    sensitivity: tuple[Sensitivity, ...]
    comparison: ThreeWay

    @property
    def measured_samples(self) -> str:
        """What the executions are measured on, in words."""
        same = (self.measured_on, self.comparison.samples) == (self.calibration, self.samples)
        noun = "sample" if self.comparison.samples == 1 else "samples"
        return f"the {self.comparison.samples:,} {'calibration' if same else 'test'} {noun}"

    @property
    def missing(self) -> tuple[str, ...]:
        """Which figures could not be had, and why, each reason once."""
        about: dict[str, list[str]] = {}
        if self.errors.reason is not None:
            about.setdefault(self.errors.reason, []).append("errors in the network")
        rows = [row for row in self.sensitivity if row.reason is not None]
        for row in rows:
            about.setdefault(str(row.reason), []).append("sensitivity")
        for one in (self.comparison.original, self.comparison.literal, self.comparison.machine):
            if one.reason is not None:
                about.setdefault(one.reason, []).append(one.name)
        return tuple(f"{_counted(figures)}: n/a, because {reason}" for reason, figures in about.items())

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {name: getattr(self, name) for name in _PLAIN} | {
            "kind": KIND,
            "schema_version": SCHEMA_VERSION,
            "scheme": dict(self.scheme),
            "remarks": list(self.remarks),
            "errors": self.errors.to_dict(),
            "sensitivity": [asdict(row) for row in self.sensitivity],
            "comparison": self.comparison.to_dict(),
        }

    def to_json(self) -> str:
        """Return the report as JSON: sorted keys, infinite ratios as "exact" and "no signal", null for NaN."""
        from accelsim.files.json_writing import to_json

        return to_json(with_words(self.to_dict()))


def _counted(figures: Sequence[str]) -> str:
    """Return names of figures, each once, with how often it is meant."""
    counts = {figure: figures.count(figure) for figure in figures}
    return ", ".join(figure if count == 1 else f"{figure} ({count} layers)" for figure, count in counts.items())
