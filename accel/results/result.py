"""The result of a run: one frozen tree that tables, JSON and scripts read; schema version 1."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.files.json_writing import to_json
from accelsim.results.accumulators import bits_needed
from accelsim.results.check import CheckResult, LayerCheck
from accelsim.results.energy import ChargeLine, EnergyDetail
from accelsim.results.model_info import ModelInfo
from accelsim.results.timeline import Timeline

SCHEMA_VERSION = 1

# Arithmetic of products whose operands are integers with a scale per block: activations quantised at run time.
BLOCKED = "int8 per block"


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
class LayerResult:
    """One row of the result.

    arithmetic: of a layer on the array, "integer", "float32", "float16" or BLOCKED; part_of: the operator that a layer
    is a part of, where a node takes several and onnxruntime alone knows its values;
    computed_by: "machine", or "onnxruntime" for a host operator, whose values are the reference's own; off_array_macs:
    multiply-accumulates that such an operator does, which `macs` does not count; macs_counted: whether they are known,
    0 stands for them where they are not; requantiser: the arithmetic that scales its outputs (f32, q31), None if
    nothing does; dataflow: of a layer on the array; kept_input, kept_output: all that it reads, or writes, of
    activations stays in the scratchpad; charges: the bill behind energy_pj; gated_macs: multiply-accumulates with a
    zero operand, None where they were not counted; inputs, outputs: tensor names, which are the edges of the graph;
    dram_read_bytes, dram_write_bytes: the two directions of `dram_bytes`; compulsory_dram_bytes: what is not kept on
    chip, every needed operand once, every result once; lane_operations: of the vector unit; behind_overflow: it
    reads what an overflow may have changed. The last seven are None in results of versions that did not write them.
    sums_unknown: peak and width in acc are of such inputs, not of the network's.
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
    part_of: str | None = None
    computed_by: str = "machine"
    off_array_macs: int = 0
    macs_counted: bool = True
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
        row |= {name: getattr(self, name) for name in ("computed_by", "off_array_macs", "macs_counted", "part_of")}
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
        """Share of the model's multiply-accumulates that the array does; None without any, or if some are unknown."""
        if self.uncounted_operators:
            return None
        total = self.model.macs + sum(layer.off_array_macs for layer in self.layers)
        return self.model.macs / total if total else None

    @property
    def uncounted_operators(self) -> dict[str, int]:
        """Operators whose multiply-accumulates nobody has counted, with the number of their layers."""
        return dict(Counter(layer.op for layer in self.layers if not layer.macs_counted))

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
        from accelsim.reports.page.html import result_html

        return result_html(self)
