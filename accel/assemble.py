"""Puts the parts of a run together into a Result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from accelsim.arch import Arch
from accelsim.check_result import CheckResult, LayerCheck
from accelsim.compulsory import compulsory_bytes
from accelsim.contraction import AccumulatorUse
from accelsim.energy import COMPONENTS, EnergyTable, LayerEnergy, gathered, units_used
from accelsim.energy.account import detail, lines
from accelsim.energy.bills import billed_macs, part_of
from accelsim.energy.notes import unit_dict
from accelsim.fixed_point import scaling
from accelsim.model import Bound, Model
from accelsim.model_info import InputInfo, ModelInfo
from accelsim.operators import HostOperator, Part
from accelsim.plan import ContractionPlan
from accelsim.program import Layer, Program
from accelsim.requantiser_energy import scaling_energy
from accelsim.result import (
    BLOCKED,
    AccumulatorResult,
    EnergyInfo,
    LayerResult,
    Result,
)
from accelsim.timeline import Timeline
from accelsim.timing import LayerTiming
from accelsim.version import __version__
from accelsim.work import ContractionWork


class _Placement(TypedDict, total=False):
    """Fields of a LayerResult that the plan decides."""

    dataflow: str
    kept_input: bool
    kept_output: bool


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Values of a run: accumulators' use and comparison by layer, the verdict, and the outputs by name.

    behind: by layer, whether it reads what an overflow may have changed; sums_known: the extremes of these layers are
    those of the network all the same.
    """

    uses: list[AccumulatorUse | None]
    checks: list[LayerCheck | None]
    verdict: CheckResult
    outputs: Mapping[str, NDArray[np.generic]]
    behind: Sequence[bool]
    sums_known: bool = True

    @classmethod
    def skipped(cls, program: Program) -> Evaluation:
        """Return the evaluation of a run whose values are not computed."""
        count = len(program.layers)
        return cls([None] * count, [None] * count, CheckResult("none", "skipped"), {}, [False] * count)


def assemble(
    model: Model,
    bound: Bound,
    arch: Arch,
    program: Program,
    timings: Sequence[LayerTiming],
    bills: Sequence[LayerEnergy],
    evaluation: Evaluation,
    table: EnergyTable,
    busy: Sequence[int | None] | None = None,
    timeline: Timeline | None = None,
) -> Result:
    """Build the result from what each stage produced, all sequences in layer order.

    Args:
        model: what was run.
        bound: the same for the shapes of this run.
        arch: the machine.
        program: the lowered model.
        timings: cycles and events.
        bills: energy.
        evaluation: values and verdict.
        table: unit energies of the bills.
        busy: multiply-accumulates without a zero operand, where zero operands are gated.
        timeline: what the engines did during one layer, if that was asked for.
    """
    parts = zip(program.layers, timings, bills, evaluation.uses, evaluation.checks, strict=True)
    rows = (_layer_result(*part, arch) for part in parts)
    layers = tuple(
        replace(row, behind_overflow=behind, sums_unknown=behind and not evaluation.sums_known)
        for row, behind in zip(rows, evaluation.behind, strict=True)
    )
    if busy is not None:
        layers = tuple(_gated(*part) for part in zip(layers, program.layers, timings, busy, strict=True))
    units = tuple(unit_dict(unit) for unit in units_used(bills))
    behind = detail(program.layers, timings, bills, arch, table, zero_gating=busy is not None)
    macs = sum(layer.macs for layer in layers)
    inputs = tuple(InputInfo(name, kind.dtype.name, kind.shape) for name, kind in program.inputs.items())
    checked = model.checked
    return Result(
        ModelInfo(model.name, checked.sha256, macs, checked.parameters_bytes, inputs, bound.dimensions, bound.batch),
        arch.to_sections(),
        arch.clock_ghz,
        arch.rows * arch.cols,
        layers,
        EnergyInfo(table.name, table.described, units, scaling_energy(program.layers, timings, arch, table), behind),
        evaluation.verdict,
        versions(),
        dict(evaluation.outputs),
        timeline,
    )


def _gated(row: LayerResult, layer: Layer, timing: LayerTiming, busy: int | None) -> LayerResult:
    """Say how many multiply-accumulates were gated, of those that the bill would have."""
    return row if busy is None else replace(row, gated_macs=billed_macs(layer, timing) - busy)


def versions() -> dict[str, str]:
    """Return the versions of everything that decides the result."""
    return {"accelsim": __version__} | dict(_package_versions())


@cache
def _package_versions() -> tuple[tuple[str, str], ...]:
    """Return the versions of the packages, read from their metadata once per process."""
    return tuple((name, metadata.version(name)) for name in ("numpy", "numba", "onnx", "onnxruntime"))


def _placement(layer: Layer) -> _Placement:
    """Return the dataflow of a layer and what it has to do with the activations that stay on chip."""
    plan = layer.plan
    if isinstance(plan, ContractionPlan):
        return {"dataflow": plan.dataflow, "kept_input": plan.kept_input, "kept_output": plan.kept_output}
    return {"kept_input": any(plan.kept_reads), "kept_output": bool(plan.kept_writes) and all(plan.kept_writes)}


def _arithmetic(layer: Layer) -> str | None:
    """Return the arithmetic of a layer on the array, with the scales per block of its operands where they have them."""
    if not isinstance(layer.work, ContractionWork):
        return None
    part = part_of(layer)
    return BLOCKED if part is not None and part.block else layer.work.arithmetic


def _layer_result(
    layer: Layer,
    timing: LayerTiming,
    bill: LayerEnergy,
    use: AccumulatorUse | None,
    check: LayerCheck | None,
    arch: Arch,
) -> LayerResult:
    work = layer.work
    energy = {name: value for name in COMPONENTS if (value := bill.component(name))}
    acc = None if use is None else AccumulatorResult(use.bits, use.peak, use.overflows, use.min_safe_bits)
    contraction = work if isinstance(work, ContractionWork) else None
    macs = contraction.macs if contraction else 0
    return LayerResult(
        name=layer.name,
        op=layer.kind,
        placement="array" if isinstance(work, ContractionWork) else work.placement,
        m=contraction.m if contraction else None,
        k=contraction.k if contraction else None,
        n=contraction.n if contraction else None,
        groups=contraction.groups * contraction.repeats if contraction else None,
        tiles=timing.event("tiles"),
        macs=macs,
        cycles=timing.cycles,
        cycle_classes=dict(timing.classes),
        utilisation=macs / (arch.rows * arch.cols * timing.cycles) if contraction and timing.cycles else None,
        energy_pj=energy,
        dram_bytes=timing.dram_bytes,
        acc=acc,
        check=check,
        arithmetic=_arithmetic(layer),
        computed_by="onnxruntime" if isinstance(layer.operator, HostOperator | Part) else "machine",
        part_of=layer.part_of,
        off_array_macs=0 if isinstance(work, ContractionWork) else work.off_array_macs or 0,
        macs_counted=isinstance(work, ContractionWork) or work.off_array_macs is not None,
        **_placement(layer),
        charges=lines(gathered((bill,))),
        requantiser=scaling(layer.operator, () if isinstance(work, ContractionWork) else work.events),
        inputs=layer.inputs,
        outputs=layer.outputs,
        dram_read_bytes=timing.event("dram_read_bytes"),
        dram_write_bytes=timing.event("dram_write_bytes"),
        compulsory_dram_bytes=sum(compulsory_bytes(layer)),
        lane_operations=0 if isinstance(work, ContractionWork) else work.lane_operations * work.repeats,
    )
