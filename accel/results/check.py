"""What a run says about its comparison with onnxruntime: per layer, where it first differs and why, the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from accelsim.files.json_writing import to_json


@dataclass(frozen=True)
class LayerCheck:
    """Comparison of one layer with the reference.

    mismatched: elements that differ when the layer reads the reference's own tensors; drifted: elements that differ in
    the free run from the model's inputs; elements: how many were compared; exactness: "exact", or "float-reference"
    where onnxruntime itself computes in float, or "q31" where the machine's requantiser differs from onnxruntime's, so
    that a difference is a distance and no mismatch; behind_float: some tensor the layer depends on is not of class
    exact, so that drift is expected; max_lsb: that distance in steps of the output, None for class exact;
    sums_mismatched: elements whose sums are wrong, which is a mismatch: for class q31, those that differ even when the
    same sums pass a float32 requantiser; for float-reference, those that an accumulator without overflow would change.
    """

    elements: int
    mismatched: int
    drifted: int
    exactness: str = "exact"
    behind_float: bool = False
    max_lsb: int | None = None
    sums_mismatched: int = 0

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
    """One accumulator before requantisation, on both sides.

    bits: width of ours; terms: products in the sum; ours: replayed in Python integers; exact: the sum in unbounded
    integers; overflows: steps that narrowing changed; reference: the sum as onnxruntime's int32 holds it, or exact
    where onnxruntime computes in float; lowest, highest: int32 accumulators that give the reference's value, None when
    none does; ours_before_rounding: ours times the multiplier, None where nothing is rounded.
    """

    bits: int
    terms: int
    ours: int
    exact: int
    overflows: int
    reference: int
    lowest: int | None
    highest: int | None
    ours_before_rounding: float | None


@dataclass(frozen=True)
class Diagnosis:
    """Why an element differs.

    cause: accumulator-overflow, reference-wraps, reference-saturation, bias-scale, collapsed-qdq, kernel,
    constant-offset, rounding-tie, inputs-differ, final-output or unknown; explanation: one sentence; accumulator: None
    where the layer has none.
    """

    cause: str
    explanation: str
    accumulator: AccumulatorEvidence | None

    def to_dict(self) -> dict[str, Any]:
        """Return the diagnosis as plain data."""
        return vars(self) | {"accumulator": None if self.accumulator is None else vars(self.accumulator).copy()}


@dataclass(frozen=True)
class FirstMismatch:
    """Where the first difference in topological order is, and why.

    index: of the element; got, expected: our value and the reference's; forced: found on the reference's own inputs;
    operator: of the layer, in the graph that onnxruntime executes.
    """

    tensor: str
    layer: str
    index: tuple[int, ...]
    got: float
    expected: float
    forced: bool
    operator: str = ""
    diagnosis: Diagnosis | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the place as plain data."""
        data = vars(self) | {"index": list(self.index)}
        return data | {"diagnosis": None if self.diagnosis is None else self.diagnosis.to_dict()}


@dataclass(frozen=True)
class FloatReference:
    """Distance of one tensor, on the reference's own inputs, from what onnxruntime computes for it.

    max_lsb: in units: "LSB", steps of codes, or "ULP", units in the last place of the tensor's largest value; share: of
    elements that differ.
    """

    tensor: str
    max_lsb: int
    share: float
    unit: str = "LSB"


@dataclass(frozen=True)
class LiteralDistance:
    """Distance of the outputs from another evaluation of the file; max_lsb: None where an output has no known step."""

    max_lsb: float | None
    max_abs: float
    share: float


@dataclass(frozen=True)
class CheckResult:
    """The verdict: exact, near, mismatch, q31, or skipped.

    exact: every output of the free run equals that of the reference, bit for bit, and nothing of class exact differs;
    near: nothing of class exact differs, but outputs do, behind layers that onnxruntime computes in float; q31:
    likewise, but layers use the machine's own requantiser, whose distance is measured and not judged: q31 lists these
    tensors.
    subject: what the reference ran, empty in results of versions that did not write it.
    output_distance: how far the model's outputs are from the reference's, end to end, where the verdict is near or q31;
    output_lsb: the largest distance of the outputs with a known step (codes, and floats that were dequantised), in
    steps; output_ulp: that of the other floats, in units in the last place of the largest reference output; each None
    where no such output differs; behind: the layer that the differing outputs are behind; behind_operator: of it.
    ignored: what the file says and onnxruntime's integer kernels do not read; notes: what else onnxruntime makes of
    the file that its text does not say.
    """

    reference: str
    verdict: str
    tensors: int = 0
    elements: int = 0
    mismatched_elements: int = 0
    drifted_elements: int = 0
    output_elements: int = 0
    output_mismatched: int = 0
    first_mismatch: FirstMismatch | None = None
    literal_qdq: LiteralDistance | None = None
    literal_remark: str = ""
    float_reference: tuple[FloatReference, ...] = ()
    host_elements: int = 0
    q31: tuple[FloatReference, ...] = ()
    output_distance: LiteralDistance | None = None
    notes: tuple[str, ...] = ()
    subject: str = ""
    output_lsb: float | None = None
    output_ulp: float | None = None
    behind: str = ""
    behind_operator: str = ""
    ignored: tuple[str, ...] = ()

    def passed(self, *, strict: bool = False) -> bool:
        """Tell whether nothing is wrong: the verdict is no mismatch.

        Args:
            strict: demand equal outputs, so that near and q31 do not pass either.
        """
        return self.verdict in ("exact", "skipped") or (not strict and self.verdict in ("near", "q31"))

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as plain data."""
        data = vars(self).copy()
        first = self.first_mismatch
        data["first_mismatch"] = None if first is None else first.to_dict()
        data["notes"], data["ignored"] = list(self.notes), list(self.ignored)
        data["literal_qdq"] = None if self.literal_qdq is None else vars(self.literal_qdq).copy()
        data["output_distance"] = None if self.output_distance is None else vars(self.output_distance).copy()
        data["float_reference"] = [vars(distance).copy() for distance in self.float_reference]
        data["q31"] = [vars(distance).copy() for distance in self.q31]
        return data

    def to_json(self) -> str:
        """Return the verdict as JSON: sorted keys, null for what JSON lacks."""
        return to_json(self.to_dict())
