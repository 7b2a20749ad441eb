"""What `accel-sim quantize --report FILE.json` holds, checked on the way in: types, ranges and sizes."""

from __future__ import annotations

import math
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from accelsim.results.quantisation import EXACT, NO_SIGNAL
from accelsim.results.schema import Amount, Count, Name, Part, Real, Text

_INFINITE = {EXACT: math.inf, NO_SIGNAL: -math.inf}
_LARGEST_DB = 1e30


def _ratio(value: object) -> object:
    """Return the infinity that a word stands for; an infinity spelled as a number, as 1e999 is, is none of ours."""
    if isinstance(value, str) and value in _INFINITE:
        return _INFINITE[value]
    if isinstance(value, float | int) and not abs(value) <= _LARGEST_DB:
        raise ValueError(f"a ratio in dB is at most {_LARGEST_DB:g}")
    return value


Decibels = Annotated[float, BeforeValidator(_ratio)]
Reason = Annotated[str, Field(max_length=4000)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Bits = Annotated[int, Field(ge=1, le=64)]
Codes = Annotated[int, Field(ge=1, le=1 << 16)]
_MOST_TENSORS = 20_000
_MOST_BINS = 4096


class DistributionPart(Part):
    """Histogram of one tensor."""

    edges: Annotated[list[Real], Field(min_length=2, max_length=_MOST_BINS + 1)]
    counts: Annotated[list[Count], Field(max_length=_MOST_BINS)]
    grid_low: Real
    grid_high: Real
    step: Amount
    lowest: Real

    @model_validator(mode="after")
    def _fits(self) -> Self:
        """Check that there is a bin between neighbouring edges, which rise."""
        if len(self.edges) != len(self.counts) + 1 or any(
            b < a for a, b in zip(self.edges, self.edges[1:], strict=False)
        ):
            raise ValueError("edges do not fit the counts between them")
        return self


class TensorPart(Part):
    """Errors of one tensor."""

    tensor: Name
    kind: Text
    bits: Bits
    scales: Count
    effective_bits: Amount
    elements: Count
    signal: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    rounding: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    clipping: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    total: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    clipped_share: Share
    unused_codes: Annotated[int, Field(ge=0, le=1 << 16)]
    codes: Codes
    outlier_share: Share
    smallest: Real
    largest: Real
    propagated_sqnr_db: Decibels | None
    distribution: DistributionPart


class LayerPart(Part):
    """Errors around one layer."""

    layer: Name
    kind: Name
    weight_bits: Bits | None
    weight_sqnr_db: Decibels | None
    output: Name
    output_sqnr_db: Decibels | None


class ErrorsPart(Part):
    """All errors."""

    weights: Annotated[list[TensorPart], Field(max_length=_MOST_TENSORS)]
    activations: Annotated[list[TensorPart], Field(max_length=_MOST_TENSORS)]
    layers: Annotated[list[LayerPart], Field(max_length=_MOST_TENSORS)]
    output_sqnr_db: Decibels | None
    reason: Reason | None = None


class SensitivityPart(Part):
    """One layer alone quantised."""

    layer: Name
    kind: Name
    output_sqnr_db: Decibels | None
    reason: Reason | None = None


class ExecutionPart(Part):
    """One way to execute the network."""

    name: Text
    sqnr_db: Decibels | None
    accuracy: Share | None
    agreement: Share | None
    reason: Reason | None = None


class DistancePart(Part):
    """How far one output is from another execution's."""

    output: Name
    step: Real | None
    max_lsb: Amount | None
    share: Share
    max_abs: Amount


class ComparisonPart(Part):
    """Float, fake quantisation, machine."""

    samples: Count
    original: ExecutionPart
    literal: ExecutionPart
    machine: ExecutionPart
    distances: Annotated[list[DistancePart], Field(max_length=_MOST_TENSORS)]
    acc_bits: Bits | None = None
    acc_bits_needed: Bits | None = None


class QuantisationPart(Part):
    """The whole file."""

    model: Name
    sha256: Text
    quantised_sha256: Text
    scheme: dict[Text, Any]
    calibration: Text
    samples: Count
    measured_on: Text
    ranked_on: Count
    float_bytes: Count
    quantised_bytes: Count
    effective_bits: Amount
    remarks: Annotated[list[Text], Field(max_length=1000)]
    errors: ErrorsPart
    sensitivity: Annotated[list[SensitivityPart], Field(max_length=_MOST_TENSORS)]
    comparison: ComparisonPart
