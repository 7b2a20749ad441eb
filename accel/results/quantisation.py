"""What `accel-sim quantize` finds out, as frozen data: errors per tensor and layer, executions side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field

from accelsim.files.json_writing import to_json
from accelsim.results.limits import Amount, Count, Name, Real, Share, Text, Texts
from accelsim.results.plain import plain

SCHEMA_VERSION = 1
KIND = "quantisation"
EXACT, NO_SIGNAL = "exact", "no signal"  # ratios without noise and without signal, which are no numbers of JSON
_INFINITE = {EXACT: math.inf, NO_SIGNAL: -math.inf}
_LARGEST_DB = 1e30
_MOST_TENSORS = 20_000
_MOST_BINS = 4096


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


def _ratio(value: object) -> object:
    """Return the infinity that a word stands for; an infinity spelled as a number, as 1e999 is, is none of ours."""
    if isinstance(value, str) and value in _INFINITE:
        return _INFINITE[value]
    if isinstance(value, float | int) and not abs(value) <= _LARGEST_DB:
        raise ValueError(f"a ratio in dB is at most {_LARGEST_DB:g}")
    return value


def _fitting(shape: Distribution) -> Distribution:
    """Check that there is a bin between neighbouring edges, which rise."""
    edges = shape.edges
    if len(edges) != len(shape.counts) + 1 or any(b < a for a, b in pairwise(edges)):
        raise ValueError("edges do not fit the counts between them")
    return shape


Decibels = Annotated[float, Field(strict=True), BeforeValidator(_ratio)]
Power = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Reason = Annotated[str, Field(strict=True, max_length=4000)]
Bits = Annotated[int, Field(strict=True, ge=1, le=64)]


@dataclass(frozen=True)
class Distribution:
    """Histogram of a tensor's values with the grid over it."""

    edges: Annotated[tuple[Real, ...], Field(min_length=2, max_length=_MOST_BINS + 1)]
    """Of the bins."""
    counts: Annotated[tuple[Count, ...], Field(max_length=_MOST_BINS)]
    """Values per bin."""
    grid_low: Real
    """Lower end of the grid, of all grids together where the tensor has several."""
    grid_high: Real
    """Upper end."""
    step: Amount
    """The largest scale."""
    lowest: Real
    """The least value of a code in the grid with that scale."""


@dataclass(frozen=True)
class TensorError:
    """What quantising one tensor does to its values."""

    COMPUTED: ClassVar[tuple[str, ...]] = ("sqnr_db",)

    tensor: Name
    kind: Text
    """Either "weight" or "activation"."""
    bits: Bits
    """Of a code."""
    scales: Count
    """How many the tensor has."""
    effective_bits: Amount
    """Per value as stored, scales and zero points counted."""
    elements: Count
    """Values looked at."""
    signal: Power
    """Sum of their squares."""
    rounding: Power
    """Sum of squared errors of the values inside of the grid."""
    clipping: Power
    """Sum of squared errors of the values outside of it."""
    total: Power
    """Sum of squared errors of all values, computed by itself."""
    clipped_share: Share
    """Share of the values outside."""
    unused_codes: Annotated[int, Field(strict=True, ge=0, le=1 << 16)]
    """Codes that no value takes, of `codes`."""
    codes: Annotated[int, Field(strict=True, ge=1, le=1 << 16)]
    """Per scale, all scales together."""
    outlier_share: Share
    """Share of values more than six standard deviations from the mean."""
    smallest: Real
    largest: Real
    propagated_sqnr_db: Decibels | None
    """Of the tensor in the quantised network, with all errors before it; None for weights."""
    distribution: Annotated[Distribution, AfterValidator(_fitting)] = field(repr=False)

    @property
    def sqnr_db(self) -> float:
        """Signal to quantisation noise ratio of the tensor by itself, in dB."""
        return sqnr_db(self.signal, self.total)


TensorErrors = Annotated[tuple[TensorError, ...], Field(max_length=_MOST_TENSORS)]


@dataclass(frozen=True)
class LayerError:
    """Errors around one layer."""

    layer: Name
    kind: Name
    weight_bits: Bits | None
    weight_sqnr_db: Decibels | None
    """Of its weights by themselves."""
    output: Name
    output_sqnr_db: Decibels | None
    """Of its output in the quantised network, None where the output has no quantiser."""


@dataclass(frozen=True)
class ErrorAnalysis:
    """All errors of a quantised model: per tensor, per layer, and end to end."""

    weights: TensorErrors
    activations: TensorErrors
    layers: Annotated[tuple[LayerError, ...], Field(max_length=_MOST_TENSORS)]
    output_sqnr_db: Decibels | None
    """Of the outputs, literally executed; None where it could not be told."""
    reason: Reason | None = None
    """Why figures are missing, None if none is."""


@dataclass(frozen=True)
class Sensitivity:
    """One layer alone quantised, its weights and its input."""

    layer: Name
    kind: Name
    output_sqnr_db: Decibels | None
    """Of the outputs; least first in a ranking. None where it could not be told; such layers come last."""
    reason: Reason | None = None
    """Why it could not."""


@dataclass(frozen=True)
class OutputDistance:
    """How far one output is from another execution's."""

    output: Name
    step: Real | None
    """None where the output has no known step."""
    max_lsb: Amount | None
    """The largest distance in steps, None without a step."""
    share: Share
    """Of elements that differ."""
    max_abs: Amount


@dataclass(frozen=True)
class Execution:
    """One way to execute the network, judged."""

    name: Text
    sqnr_db: Decibels | None
    """Against float, None for float itself."""
    accuracy: Share | None
    """Share of samples whose label is the largest output, None without labels."""
    agreement: Share | None
    """Share of samples with the float network's class, None where the first output is no vector of classes."""
    reason: Reason | None = None
    """Why there are no figures at all, None if there are some."""


@dataclass(frozen=True)
class ThreeWay:
    """Float, fake quantisation and machine on the same samples."""

    samples: Count
    original: Execution
    literal: Execution
    machine: Execution
    distances: Annotated[tuple[OutputDistance, ...], Field(max_length=_MOST_TENSORS)]
    """Of the machine's outputs from those of fake quantisation, in steps of the output."""
    acc_bits: Bits | None = None
    """Width of the machine's accumulators."""
    acc_bits_needed: Bits | None = None
    """By the sums of these samples, None without sums or without machine."""


@dataclass(frozen=True)
class QuantisationReport:
    """A quantised model taken apart."""

    model: Name
    """Name of the float file."""
    sha256: Text
    """Of the float file."""
    quantised_sha256: Text
    """Of the file that came out."""
    scheme: Mapping[Text, Any]
    """Its fields by name, "name" among them."""
    calibration: Text
    """Where the samples come from that ranges and errors are told from."""
    samples: Count
    """How many these are."""
    measured_on: Text
    """Where those of `comparison` come from."""
    ranked_on: Count
    """How many of the first calibration samples `sensitivity` is told from."""
    float_bytes: Count
    """Of all constants of the float file."""
    quantised_bytes: Count
    """Of all constants of the file that came out."""
    effective_bits: Amount
    """Per weight as stored."""
    remarks: Texts
    errors: ErrorAnalysis
    sensitivity: Annotated[tuple[Sensitivity, ...], Field(max_length=_MOST_TENSORS)]
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
        return plain(self) | {"kind": KIND, "schema_version": SCHEMA_VERSION}

    def to_json(self) -> str:
        """Return the report as JSON: sorted keys, infinite ratios as "exact" and "no signal", null for NaN."""
        return to_json(with_words(self.to_dict()))


def _counted(figures: Sequence[str]) -> str:
    """Return names of figures, each once, with how often it is meant."""
    counts = {figure: figures.count(figure) for figure in figures}
    return ", ".join(figure if count == 1 else f"{figure} ({count} layers)" for figure, count in counts.items())
