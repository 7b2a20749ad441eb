"""What result.json holds, checked on the way in: types, ranges and sizes of every key that is read; others may follow.

Files of earlier versions lack keys that were added since; their values are then None, and what shows them says so.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0, lt=1 << 62)]
Signed = Annotated[int, Field(gt=-(1 << 130), lt=1 << 130)]
Real = Annotated[float, Field(ge=-1e30, le=1e30, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, le=1e30, allow_inf_nan=False)]
Name = Annotated[str, Field(max_length=1 << 16)]
Text = Annotated[str, Field(max_length=1 << 14)]
Scalar = bool | Annotated[int, Field(gt=-(1 << 62), lt=1 << 62)] | Real | Text | None
Names = Annotated[list[Name], Field(max_length=10_000)]


class Part(BaseModel):
    """A frozen part of the file that converts nothing and passes over keys of later versions."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class InputPart(Part):
    """An input of a model."""

    name: Name
    dtype: Text
    shape: Annotated[list[Count], Field(max_length=64)]


class DimensionPart(Part):
    """A dimension that the model's file leaves open."""

    name: Name
    size: Count
    origin: Literal["input", "bind", "default"]


class ModelPart(Part):
    """What was run."""

    name: Name
    sha256: Text
    macs: Count
    parameters_bytes: Count
    inputs: Annotated[list[InputPart], Field(max_length=10_000)] | None = None
    dimensions: Annotated[list[DimensionPart], Field(max_length=10_000)] | None = None
    batch: Count | None = None


class AccumulatorPart(Part):
    """Accumulators of one layer."""

    bits: Annotated[int, Field(ge=1, le=128)]
    peak: Annotated[int, Field(ge=0, lt=1 << 130)]
    overflows: Count
    min_safe_bits: Annotated[int, Field(ge=0, le=256)]


class LayerCheckPart(Part):
    """Comparison of one layer."""

    elements: Count
    mismatched: Count
    drifted: Count
    exactness: Text = "exact"
    behind_float: bool = False
    max_lsb: Signed | None = None
    sums_mismatched: Count = 0
    verdict: Text | None = None


class ChargePart(Part):
    """One line of a bill."""

    component: Text
    action: Text
    count: Count
    unit: Text


class LayerPart(Part):
    """One layer."""

    name: Name
    op: Name
    placement: Text
    m: Count | None
    k: Count | None
    n: Count | None
    groups: Count | None
    tiles: Count
    macs: Count
    cycles: Count
    cycle_classes: Annotated[dict[Text, Count], Field(max_length=100)]
    utilisation: Amount | None
    energy_pj: Annotated[dict[Text, Amount], Field(max_length=100)]
    dram_bytes: Count
    acc: AccumulatorPart | None
    check: LayerCheckPart | None
    arithmetic: Text | None = None
    part_of: Text | None = None
    computed_by: Text = "machine"
    off_array_macs: Count = 0
    macs_counted: bool = True
    requantiser: Text | None = None
    dataflow: Text | None = None
    kept_input: bool = False
    kept_output: bool = False
    charges: Annotated[list[ChargePart], Field(max_length=1_000)] = []
    gated_macs: Count | None = None
    inputs: Names | None = None
    outputs: Names | None = None
    dram_read_bytes: Count | None = None
    dram_write_bytes: Count | None = None
    compulsory_dram_bytes: Count | None = None
    lane_operations: Count | None = None
    behind_overflow: bool | None = None
    sums_unknown: bool | None = None


class TotalsPart(Part):
    """Totals that must be those of the layers."""

    cycles: Count
    energy_pj: Amount
    macs: Count | None = None
    dram_bytes: Count | None = None
    utilisation: Amount | None = None
    time_s: Amount | None = None
    macs_on_array_share: Amount | None = None
    acc_bits_needed: Count | None = None


Rows = Annotated[list[dict[Text, Any]], Field(max_length=10_000)]


class BaselinePart(Part):
    """The same network in another number format."""

    format: Text
    energy_pj: Amount
    ratio: Amount
    components: Annotated[dict[Text, Amount], Field(max_length=100)]
    charges: Annotated[list[ChargePart], Field(max_length=1_000)]
    units: Rows
    bases: Annotated[list[Text], Field(max_length=100)]


class EnergyPart(Part):
    """Where the picojoules come from; rows of the table may have any columns."""

    table: Text
    source: Text
    sources: Rows
    components: Annotated[dict[Text, Amount], Field(max_length=100)] | None = None
    scaling_pj: dict[Text, Amount] = {}
    rows: Rows = []
    laws: Rows = []
    scaling: dict[Text, Any] | None = None
    notes: Annotated[list[Text], Field(max_length=1_000)] = []
    baselines: Annotated[list[BaselinePart], Field(max_length=100)] = []
    baseline_assumptions: Text = ""


class EvidencePart(Part):
    """One accumulator on both sides."""

    bits: Count
    terms: Count
    ours: Signed
    exact: Signed
    overflows: Count
    reference: Signed
    lowest: Signed | None
    highest: Signed | None
    ours_before_rounding: Real | None


class DiagnosisPart(Part):
    """Why an element differs."""

    cause: Text
    explanation: Text
    accumulator: EvidencePart | None


class FirstMismatchPart(Part):
    """Where the first difference is; values that JSON lacks are null."""

    tensor: Name
    layer: Name
    index: Annotated[list[Count], Field(max_length=64)]
    got: float | None
    expected: float | None
    forced: bool
    operator: Text = ""
    diagnosis: DiagnosisPart | None = None


class FloatReferencePart(Part):
    """Distance of one tensor."""

    tensor: Name
    max_lsb: Signed
    share: Real
    unit: Literal["LSB", "ULP"] = "LSB"


class LiteralPart(Part):
    """Distance of the outputs."""

    max_lsb: float | None
    max_abs: float | None
    share: float | None


class CheckPart(Part):
    """The verdict."""

    reference: Text
    verdict: Literal["exact", "near", "mismatch", "skipped", "q31"]
    tensors: Count = 0
    elements: Count = 0
    mismatched_elements: Count = 0
    drifted_elements: Count = 0
    output_elements: Count = 0
    output_mismatched: Count = 0
    first_mismatch: FirstMismatchPart | None = None
    literal_qdq: LiteralPart | None = None
    literal_remark: Text = ""
    float_reference: Annotated[list[FloatReferencePart], Field(max_length=100_000)] = []
    host_elements: Count = 0
    q31: Annotated[list[FloatReferencePart], Field(max_length=100_000)] = []
    output_distance: LiteralPart | None = None
    notes: Annotated[list[Text], Field(max_length=1_000)] = []
    subject: Text = ""
    output_lsb: Amount | None = None
    output_ulp: Amount | None = None
    behind: Name = ""
    behind_operator: Name = ""
    ignored: Annotated[list[Text], Field(max_length=1_000)] = []


Interval = tuple[Text, Text, Count, Count]


class TimelinePart(Part):
    """What the engines did during one layer."""

    layer: Name
    number: Count
    cycles: Count
    until: Count
    # JSON has no tuples: each list of four is converted, its members are not.
    intervals: Annotated[list[Annotated[Interval, Field(strict=False)]], Field(max_length=20_000)]
    note: Text = ""


class ResultPart(Part):
    """The whole file."""

    schema_version: Literal[1]
    model: ModelPart
    arch: Annotated[dict[Text, dict[Text, Scalar]], Field(max_length=100)]
    totals: TotalsPart
    layers: Annotated[list[LayerPart], Field(max_length=200_000)]
    energy: EnergyPart
    check: CheckPart
    versions: Annotated[dict[Text, Text], Field(max_length=100)]
    timeline: TimelinePart | None = None
