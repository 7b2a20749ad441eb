"""What a run says about its comparison with onnxruntime: per layer, where it first differs and why, the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from accelsim.files.json_writing import to_json
from accelsim.results.limits import Amount, Count, Flag, Float, FloatOrNan, Name, Real, Signed, Text, Texts
from accelsim.results.plain import plain

Verdict = Literal["exact", "near", "mismatch", "skipped", "q31"]
Unit = Literal["LSB", "ULP"]


@dataclass(frozen=True)
class LayerCheck:
    """Comparison of one layer with the reference."""

    COMPUTED: ClassVar[tuple[str, ...]] = ("verdict", "share")

    elements: Count
    """How many were compared."""
    mismatched: Count
    """Elements that differ when the layer reads the reference's own tensors."""
    drifted: Count
    """Elements that differ in the free run from the model's inputs."""
    exactness: Text = "exact"
    """Its class: "exact", or "float-reference" where onnxruntime itself computes in float, or "q31" where the machine's
    requantiser differs from onnxruntime's, so that a difference is a distance and no mismatch."""
    behind_float: Flag = False
    """Some tensor the layer depends on is not of class exact, so that drift is expected."""
    max_lsb: Signed | None = None
    """The largest distance in steps of the output, None for class exact."""
    sums_mismatched: Count = 0
    """Elements whose sums are wrong, which is a mismatch: for class q31, those that differ even when the same sums pass
    a float32 requantiser; for float-reference, those that an accumulator without overflow would change."""

    @property
    def share(self) -> float:
        """Share of elements that differ when the layer reads the reference's own tensors."""
        return self.mismatched / max(self.elements, 1)

    @property
    def verdict(self) -> str:
        """One word: exact, float-ref, q31, drifted (exact by itself, other inputs) or mismatch."""
        if self.sums_mismatched:
            return "mismatch"
        if self.exactness != "exact":
            return "float-ref" if self.exactness == "float-reference" else self.exactness
        if self.mismatched:
            return "mismatch"
        return "drifted" if self.drifted else "exact"


@dataclass(frozen=True)
class AccumulatorEvidence:
    """One accumulator before requantisation, on both sides."""

    bits: Count
    """Width of ours."""
    terms: Count
    """Products in the sum."""
    ours: Signed
    """Replayed in Python integers."""
    exact: Signed
    """The sum in unbounded integers."""
    overflows: Count
    """Steps that narrowing changed."""
    reference: Signed
    """The sum as onnxruntime's int32 holds it, or exact where onnxruntime computes in float."""
    lowest: Signed | None
    """The least int32 accumulator that gives the reference's value, None when none does."""
    highest: Signed | None
    """The largest such accumulator."""
    ours_before_rounding: Real | None
    """Ours times the multiplier, None where nothing is rounded."""


@dataclass(frozen=True)
class Diagnosis:
    """Why an element differs."""

    cause: Text
    """One of accumulator-overflow, reference-wraps, reference-saturation, bias-scale, collapsed-qdq, kernel,
    constant-offset, rounding-tie, inputs-differ, final-output, unknown."""
    explanation: Text
    """One sentence."""
    accumulator: AccumulatorEvidence | None
    """None where the layer has none."""


@dataclass(frozen=True)
class FirstMismatch:
    """Where the first difference in topological order is, and why."""

    tensor: Name
    layer: Name
    index: Annotated[tuple[Count, ...], Field(max_length=64)]
    """Of the element."""
    got: FloatOrNan
    """Our value."""
    expected: FloatOrNan
    """The reference's."""
    forced: Flag
    """Found on the reference's own inputs."""
    operator: Text = ""
    """Of the layer, in the graph that onnxruntime executes."""
    diagnosis: Diagnosis | None = None


@dataclass(frozen=True)
class FloatReference:
    """Distance of one tensor, on the reference's own inputs, from what onnxruntime computes for it."""

    tensor: Name
    max_lsb: Signed
    """The largest distance, in units."""
    share: Real
    """Of elements that differ."""
    unit: Unit = "LSB"
    """Steps of codes (LSB), or units in the last place of the tensor's largest value (ULP)."""


@dataclass(frozen=True)
class LiteralDistance:
    """Distance of the outputs from another evaluation of the file."""

    max_lsb: Float | None
    """None where an output has no known step."""
    max_abs: FloatOrNan
    share: FloatOrNan
    """Of elements that differ."""


FloatReferences = Annotated[tuple[FloatReference, ...], Field(max_length=100_000)]


@dataclass(frozen=True)
class CheckResult:
    """The verdict on a run, and what it counts."""

    reference: Text
    """What it was compared with."""
    verdict: Verdict
    """exact: every output of the free run equals that of the reference, bit for bit, and nothing of class exact
    differs; near: nothing of class exact differs, but outputs do, behind layers that onnxruntime computes in float;
    q31: likewise, but layers use the machine's own requantiser, whose distance is measured and not judged."""
    tensors: Count = 0
    """How many were compared."""
    elements: Count = 0
    """Of all these tensors."""
    mismatched_elements: Count = 0
    """Elements of class exact that differ when their layer reads the reference's own tensors."""
    drifted_elements: Count = 0
    """Elements of class exact that differ in the free run, with nothing of another class in front of them."""
    output_elements: Count = 0
    """Of the model's outputs."""
    output_mismatched: Count = 0
    """Elements of the model's outputs that differ."""
    first_mismatch: FirstMismatch | None = None
    literal_qdq: LiteralDistance | None = None
    """How far the outputs are from those of the file's Q/DQ nodes, executed as they stand in float."""
    literal_remark: Text = ""
    """Why there is no such distance."""
    float_reference: FloatReferences = ()
    """Tensors that onnxruntime computes in float."""
    host_elements: Count = 0
    """Elements that onnxruntime itself computed, as the values of host operators."""
    q31: FloatReferences = ()
    """Tensors that the machine's own requantiser scaled."""
    output_distance: LiteralDistance | None = None
    """How far the model's outputs are from the reference's, end to end, where the verdict is near or q31."""
    notes: Texts = ()
    """What else onnxruntime makes of the file that its text does not say."""
    subject: Text = ""
    """What the reference ran, empty in results of versions that did not write it."""
    output_lsb: Amount | None = None
    """The largest distance of the outputs with a known step (codes, and floats that were dequantised), in steps; None
    where no such output differs."""
    output_ulp: Amount | None = None
    """The same of the other floats, in units in the last place of the largest reference output."""
    behind: Name = ""
    """The layer that the differing outputs are behind."""
    behind_operator: Name = ""
    """Its operator."""
    ignored: Texts = ()
    """What the file says and onnxruntime's integer kernels do not read."""

    def passed(self, *, strict: bool = False) -> bool:
        """Tell whether nothing is wrong: the verdict is no mismatch.

        Args:
            strict: demand equal outputs, so that near and q31 do not pass either.
        """
        return self.verdict in ("exact", "skipped") or (not strict and self.verdict in ("near", "q31"))

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as plain data."""
        return plain(self)

    def to_json(self) -> str:
        """Return the verdict as JSON: sorted keys, null for what JSON lacks."""
        return to_json(self.to_dict())
