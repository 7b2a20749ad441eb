"""The result of a run: one frozen tree that tables, JSON and scripts read; schema version 1.

The type of each field says what a file may hold for it; a file of an earlier version may lack those with a default.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from accelsim.files.json_writing import to_json
from accelsim.results.accumulators import bits_needed
from accelsim.results.check import CheckResult, LayerCheck
from accelsim.results.energy import Charges, EnergyDetail
from accelsim.results.limits import (
    ELSEWHERE,
    Amount,
    Amounts,
    Count,
    Counts,
    Flag,
    Magnitude,
    Name,
    Names,
    Rows,
    Scalar,
    Text,
)
from accelsim.results.model_info import ModelInfo
from accelsim.results.plain import plain
from accelsim.results.timeline import Timeline

SCHEMA_VERSION = 1

# Arithmetic of products whose operands are integers with a scale per block: activations quantised at run time.
BLOCKED = "int8 per block"


@dataclass(frozen=True)
class AccumulatorResult:
    """Accumulators of one layer."""

    bits: Annotated[int, Field(strict=True, ge=1, le=128)]
    """Width given."""
    peak: Magnitude
    """Largest magnitude of an exact sum, on the inputs that the layer has where nothing overflows in front of it."""
    overflows: Count
    """Events in the run."""
    min_safe_bits: Annotated[int, Field(strict=True, ge=0, le=256)]
    """The width that holds all these sums."""


@dataclass(frozen=True)
class LayerResult:
    """One row of the result."""

    name: Name
    op: Name
    """Operator, in the graph that onnxruntime executes."""
    placement: Text
    """Where it runs: "array", the vector unit, the host, or nowhere."""
    m: Count | None
    """Rows of the product, None for a layer that is not on the array; so for k, n and groups."""
    k: Count | None
    """Depth."""
    n: Count | None
    """Columns."""
    groups: Count | None
    """Products of this size, all repetitions together."""
    tiles: Count
    macs: Count
    """Multiply-accumulates on the array."""
    cycles: Count
    cycle_classes: Counts
    """The same cycles by what happens in them."""
    utilisation: Amount | None
    """Multiply-accumulates over those that the array could do in these cycles; None for a layer that is not on it."""
    energy_pj: Amounts
    """Energy by component, in pJ."""
    dram_bytes: Count
    """DRAM traffic in whole bursts."""
    acc: AccumulatorResult | None
    """None where the layer has no accumulators or nothing was computed."""
    check: LayerCheck | None
    """None where nothing was compared."""
    arithmetic: Text | None = None
    """Of a layer on the array: "integer", "float32", "float16" or BLOCKED."""
    part_of: Text | None = None
    """The operator that a layer is a part of, where a node takes several and onnxruntime alone knows its values."""
    computed_by: Text = "machine"
    """Or "onnxruntime" for a host operator, whose values are the reference's own."""
    off_array_macs: Count = 0
    """Multiply-accumulates that a host operator does, which `macs` does not count."""
    macs_counted: Flag = True
    """Whether those are known; 0 stands for them where they are not."""
    requantiser: Text | None = None
    """The arithmetic that scales its outputs (f32, q31), None if nothing does."""
    dataflow: Text | None = None
    """Of a layer on the array."""
    kept_input: Flag = False
    """All that it reads of activations stays in the scratchpad."""
    kept_output: Flag = False
    """All that it writes of activations stays in the scratchpad."""
    charges: Charges = ()
    """The bill behind energy_pj."""
    gated_macs: Count | None = None
    """Multiply-accumulates with a zero operand, None where they were not counted."""
    inputs: Names | None = None
    """Names of the tensors it reads, which are edges of the graph; None, as for the next six fields, in results of
    versions that did not write them."""
    outputs: Names | None = None
    """Names of the tensors it writes."""
    dram_read_bytes: Count | None = None
    """What of dram_bytes is read."""
    dram_write_bytes: Count | None = None
    """What of dram_bytes is written."""
    compulsory_dram_bytes: Count | None = None
    """Of what is not kept on chip, every needed operand once and every result once."""
    lane_operations: Count | None = None
    """Of the vector unit."""
    behind_overflow: Flag | None = None
    """It reads what an overflow may have changed."""
    sums_unknown: Flag = False
    """Peak and width in `acc` are of such inputs, not of the network's."""

    @property
    def largest_stall(self) -> tuple[str, int] | None:
        """The largest class of cycles in which the layer's unit did no work, if any."""
        stalls = {name: cycles for name, cycles in self.cycle_classes.items() if name not in ("stream", "vector")}
        return max(stalls.items(), key=lambda item: item[1]) if stalls else None


@dataclass(frozen=True)
class EnergyInfo:
    """Where the picojoules come from."""

    table: Text
    """Name of the table."""
    source: Text
    """Of the table."""
    units: Annotated[Rows, Field(alias="sources")]
    """Every unit energy used."""
    scaling_pj: Amounts = field(default_factory=dict)
    """By mode of the requantiser, what all arithmetic costs that depends on the mode."""
    detail: EnergyDetail = field(default_factory=EnergyDetail)
    """In a file its fields stand among those of the energy."""


@dataclass(frozen=True)
class Totals:
    """Figures of the whole run, as a file holds them beside the layers that they follow from."""

    cycles: Count
    energy_pj: Amount
    macs: Count | None = None
    dram_bytes: Count | None = None
    utilisation: Amount | None = None
    time_s: Amount | None = None
    macs_on_array_share: Amount | None = None
    acc_bits_needed: Count | None = None


@dataclass(frozen=True, eq=False)
class Result:
    """Everything one run gives. Sizes in bytes, energies in pJ, times in cycles unless the name says otherwise."""

    COMPUTED: ClassVar[tuple[str, ...]] = ("totals",)

    model: ModelInfo
    arch: Annotated[Mapping[Text, Mapping[Text, Scalar]], Field(max_length=100)]
    """Parameters of the machine by section, as in its file."""
    layers: Annotated[tuple[LayerResult, ...], Field(max_length=200_000)]
    energy: EnergyInfo
    check: CheckResult
    versions: Annotated[Mapping[Text, Text], Field(max_length=100)]
    """Of the packages that decide the result."""
    outputs: Annotated[Mapping[str, NDArray[np.generic]], ELSEWHERE] = field(repr=False)
    """Arrays by name; empty in a result that was read, since they stay in outputs.npz."""
    timeline: Timeline | None = None
    """What the engines did during one layer, if asked for."""

    @property
    def clock_ghz(self) -> float:
        """Clock of the machine."""
        clock: Any = self.arch["clock"]["ghz"]
        return float(clock)

    @property
    def pe_count(self) -> int:
        """Processing elements of the array."""
        array: Mapping[str, Any] = self.arch["array"]
        return int(array["rows"] * array["cols"])

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

    @property
    def totals(self) -> Totals:
        """The figures above together."""
        names = ("utilisation", "time_s", "macs_on_array_share")
        return Totals(
            self.cycles,
            self.energy_pj,
            self.model.macs,
            self.dram_bytes,
            acc_bits_needed=bits_needed(self.layers),
            **{name: getattr(self, name) for name in names},
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain data, in the layout of result.json."""
        data = plain(self)
        data["energy"] |= data["energy"].pop("detail") | {"components": self.energy_components_pj}
        return data | {"schema_version": SCHEMA_VERSION}

    def to_json(self) -> str:
        """Return result.json: sorted keys, no timestamps, so that equal runs give equal bytes."""
        return to_json(self.to_dict())

    def _repr_html_(self) -> str:
        from accelsim.reports.page.html import result_html

        return result_html(self)
