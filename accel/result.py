"""The result of a run: one frozen tree that tables, JSON and scripts read; schema version 1."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.accumulators import bits_needed
from accelsim.energy_result import ChargeLine, EnergyDetail
from accelsim.model_info import ModelInfo
from accelsim.timeline import Timeline

SCHEMA_VERSION = 1


def to_json(data: Any) -> str:
    """Return plain data as JSON: sorted keys, null for NaN and infinities, so that equal data gives equal bytes."""
    return json.dumps(_finite(data), sort_keys=True, indent=2, allow_nan=False) + "\n"


def _finite(data: Any) -> Any:
    """Replace NaN and infinities by null, which JSON lacks."""
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


@dataclass(frozen=True)
class AccumulatorResult:
    """Accumulators of one layer.

    bits: width given; overflows: events in the run; peak, min_safe_bits: largest magnitude of a sum, and the width that
    holds all of them, of exact sums on the inputs that the layer has where nothing overflows in front of it.
    """

    bits: int
    peak: int
    overflows: int
    min_safe_bits: int


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
class LayerResult:
    """One row of the result.

    computed_by: "machine", or "onnxruntime" for a host operator, whose values are the reference's own; off_array_macs:
    multiply-accumulates that such an operator does, which `macs` does not count; requantiser: the arithmetic that
    scales its outputs (f32, q31), None if nothing does; dataflow: of a layer on the array; kept_input, kept_output: all
    that it reads, or writes, of activations stays in the scratchpad; charges: the bill behind energy_pj; gated_macs:
    multiply-accumulates with a zero operand, None where they were not counted; inputs, outputs: tensor names, which are
    the edges of the graph; dram_read_bytes, dram_write_bytes: the two directions of `dram_bytes`;
    compulsory_dram_bytes: what is not kept on chip, every needed operand once, every result once; lane_operations: of
    the vector unit; behind_overflow: it reads what an overflow may have changed. The last seven are None in results of
    versions that did not write them. sums_unknown: peak and width in acc are of such inputs, not of the network's.
    """

    name: str
    op: str
    placement: str
    m: int | None
    k: int | None
    n: int | None
    groups: int | None
    tiles: int
    macs: int
    cycles: int
    cycle_classes: Mapping[str, int]
    utilisation: float | None
    energy_pj: Mapping[str, float]
    dram_bytes: int
    acc: AccumulatorResult | None
    check: LayerCheck | None
    arithmetic: str | None = None
    computed_by: str = "machine"
    off_array_macs: int = 0
    requantiser: str | None = None
    dataflow: str | None = None
    kept_input: bool = False
    kept_output: bool = False
    charges: tuple[ChargeLine, ...] = ()
    gated_macs: int | None = None
    inputs: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None
    dram_read_bytes: int | None = None
    dram_write_bytes: int | None = None
    compulsory_dram_bytes: int | None = None
    lane_operations: int | None = None
    behind_overflow: bool | None = None
    sums_unknown: bool = False

    @property
    def largest_stall(self) -> tuple[str, int] | None:
        """The largest class of cycles in which the layer's unit did no work, if any."""
        stalls = {name: cycles for name, cycles in self.cycle_classes.items() if name not in ("stream", "vector")}
        return max(stalls.items(), key=lambda item: item[1]) if stalls else None

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain data."""
        row = {
            name: getattr(self, name)
            for name in ("name", "op", "placement", "m", "k", "n", "groups", "tiles", "macs", "cycles", "requantiser")
        }
        row |= {"computed_by": self.computed_by, "off_array_macs": self.off_array_macs}
        row |= {"dataflow": self.dataflow, "kept_input": self.kept_input, "kept_output": self.kept_output}
        row |= {"cycle_classes": dict(self.cycle_classes), "utilisation": self.utilisation}
        row |= {"energy_pj": dict(self.energy_pj), "dram_bytes": self.dram_bytes, "arithmetic": self.arithmetic}
        row |= {"charges": [line.to_dict() for line in self.charges], "gated_macs": self.gated_macs}
        for name in ("dram_read_bytes", "dram_write_bytes", "compulsory_dram_bytes", "lane_operations"):
            row[name] = getattr(self, name)
        row["inputs"] = None if self.inputs is None else list(self.inputs)
        row["outputs"] = None if self.outputs is None else list(self.outputs)
        row["acc"] = None if self.acc is None else vars(self.acc).copy()
        row |= {"behind_overflow": self.behind_overflow, "sums_unknown": self.sums_unknown}
        check = self.check
        row["check"] = None if check is None else vars(check) | {"verdict": check.verdict, "share": check.share}
        return row


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
    """Distance of one tensor, on the reference's own inputs, from what onnxruntime computes for it."""

    tensor: str
    max_lsb: int
    share: float


@dataclass(frozen=True)
class LiteralDistance:
    """Distance of the outputs from another evaluation of the file; max_lsb: None where an output has no known step."""

    max_lsb: float | None
    max_abs: float
    share: float


@dataclass(frozen=True)
class CheckResult:
    """The verdict: exact, mismatch, skipped, or q31.

    q31: nothing of class exact differs, but layers use the machine's own requantiser, whose distance is measured and
    not judged; q31 lists these tensors, output_distance is the distance of the model's outputs from onnxruntime's, end
    to end.
    notes: what onnxruntime makes of the file that its text does not say.
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

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as plain data."""
        data = vars(self).copy()
        first = self.first_mismatch
        data["first_mismatch"] = None if first is None else first.to_dict()
        data["notes"] = list(self.notes)
        data["literal_qdq"] = None if self.literal_qdq is None else vars(self.literal_qdq).copy()
        data["output_distance"] = None if self.output_distance is None else vars(self.output_distance).copy()
        data["float_reference"] = [vars(distance).copy() for distance in self.float_reference]
        data["q31"] = [vars(distance).copy() for distance in self.q31]
        return data

    def to_json(self) -> str:
        """Return the verdict as JSON: sorted keys, null for what JSON lacks."""
        return to_json(self.to_dict())


@dataclass(frozen=True)
class EnergyInfo:
    """Where the picojoules come from: name of the table, its source, and every unit energy used.

    scaling_pj: by mode of the requantiser, what all arithmetic costs that depends on the mode; detail: rows, laws,
    notes and baselines.
    """

    table: str
    source: str
    units: tuple[Mapping[str, Any], ...]
    scaling_pj: Mapping[str, float] = field(default_factory=dict)
    detail: EnergyDetail = field(default_factory=EnergyDetail)


@dataclass(frozen=True, eq=False)
class Result:
    """Everything one run gives. Sizes in bytes, energies in pJ, times in cycles unless the name says otherwise."""

    model: ModelInfo
    arch: Mapping[str, Mapping[str, Any]]
    clock_ghz: float
    pe_count: int
    layers: tuple[LayerResult, ...]
    energy: EnergyInfo
    check: CheckResult
    versions: Mapping[str, str]
    outputs: Mapping[str, NDArray[np.generic]] = field(repr=False)
    timeline: Timeline | None = None

    @property
    def cycles(self) -> int:
        """Cycles of the whole run."""
        return sum(layer.cycles for layer in self.layers)

    @property
    def energy_components_pj(self) -> dict[str, float]:
        """Energy by component, in pJ; sums do not depend on the order of layers and components."""
        names = dict.fromkeys(name for layer in self.layers for name in layer.energy_pj)
        return {name: math.fsum(layer.energy_pj.get(name, 0.0) for layer in self.layers) for name in names}

    @property
    def energy_pj(self) -> float:
        """Energy of the whole run, in pJ."""
        return math.fsum(value for layer in self.layers for value in layer.energy_pj.values())

    @property
    def dram_bytes(self) -> int:
        """DRAM traffic in whole bursts."""
        return sum(layer.dram_bytes for layer in self.layers)

    @property
    def utilisation(self) -> float:
        """MACs over the MACs that the array could do in all cycles."""
        return self.model.macs / (self.pe_count * self.cycles) if self.cycles else 0.0

    @property
    def macs_on_array_share(self) -> float | None:
        """Share of the model's multiply-accumulates that the array does; None for a model without any."""
        total = self.model.macs + sum(layer.off_array_macs for layer in self.layers)
        return self.model.macs / total if total else None

    @property
    def time_s(self) -> float:
        """Latency at the machine's clock, in seconds."""
        return self.cycles / (self.clock_ghz * 1e9)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain data, in the layout of result.json."""
        return {
            "schema_version": SCHEMA_VERSION,
            "model": self.model.to_dict(),
            "arch": {section: dict(values) for section, values in self.arch.items()},
            "totals": {
                "cycles": self.cycles,
                "macs": self.model.macs,
                "macs_on_array_share": self.macs_on_array_share,
                "utilisation": self.utilisation,
                "energy_pj": self.energy_pj,
                "dram_bytes": self.dram_bytes,
                "time_s": self.time_s,
                "acc_bits_needed": bits_needed(self.layers),
            },
            "layers": [layer.to_dict() for layer in self.layers],
            "energy": {
                "components": self.energy_components_pj,
                "table": self.energy.table,
                "source": self.energy.source,
                "sources": [dict(unit) for unit in self.energy.units],
                "scaling_pj": dict(self.energy.scaling_pj),
                **self.energy.detail.to_dict(),
            },
            "check": self.check.to_dict(),
            "versions": dict(self.versions),
            "timeline": None if self.timeline is None else self.timeline.to_dict(),
        }

    def to_json(self) -> str:
        """Return result.json: sorted keys, no timestamps, so that equal runs give equal bytes."""
        return to_json(self.to_dict())

    def _repr_html_(self) -> str:
        from accelsim.reports.html import result_html

        return result_html(self)
