"""Puts the parts of a run together into a Result."""

from __future__ import annotations

from functools import cache
from importlib import metadata
from typing import TypedDict

from accelsim.energy import COMPONENTS, gathered, units_used
from accelsim.energy.account import detail, lines
from accelsim.energy.bills import billed_macs, part_of
from accelsim.energy.notes import unit_dict
from accelsim.energy.requantiser import scaling_energy
from accelsim.operators import HostOperator, Part
from accelsim.operators.fixed_point import scaling
from accelsim.program.compulsory import compulsory_bytes
from accelsim.program.layers import Layer
from accelsim.program.plan import ContractionPlan
from accelsim.program.work import ContractionWork
from accelsim.results.model_info import InputInfo, ModelInfo
from accelsim.results.result import BLOCKED, AccumulatorResult, EnergyInfo, LayerResult, Result
from accelsim.simulation.layer_runs import LayerRun, Run
from accelsim.version import __version__


class _Placement(TypedDict, total=False):
    """Fields of a LayerResult that the plan decides."""

    dataflow: str
    kept_input: bool
    kept_output: bool


def assemble(run: Run) -> Result:
    """Build the result of a run.

    Args:
        run: what each stage made of it.
    """
    arch, prices, program = run.arch, run.prices, run.program
    layers = tuple(_layer_result(part, run) for part in run.layers)
    timings, bills = [part.timing for part in run.layers], [part.bill for part in run.layers]
    units = tuple(unit_dict(unit) for unit in units_used(bills))
    behind = detail(program.layers, timings, bills, arch, prices, zero_gating=run.zero_gating)
    scaled = scaling_energy(program.layers, timings, arch, prices)
    return Result(
        _model_info(run, sum(layer.macs for layer in layers)),
        arch.to_sections(),
        layers,
        EnergyInfo(prices.name, prices.described, units, scaled, behind),
        run.evaluation.verdict,
        versions(),
        dict(run.evaluation.outputs),
        run.timeline,
    )


def _model_info(run: Run, macs: int) -> ModelInfo:
    """Return what a result says about the model."""
    checked, bound = run.model.checked, run.bound
    inputs = tuple(InputInfo(name, kind.dtype.name, kind.shape) for name, kind in run.program.inputs.items())
    digest, size = checked.sha256, checked.parameters_bytes
    return ModelInfo(run.model.name, digest, macs, size, inputs, bound.dimensions, bound.batch)


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


def _layer_result(part: LayerRun, run: Run) -> LayerResult:
    """Return what a result says about a layer."""
    layer, timing, value, use = part.layer, part.timing, part.value, part.value.use
    work = layer.work
    energy = {name: pj for name in COMPONENTS if (pj := part.bill.component(name))}
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
        utilisation=run.arch.utilisation(macs, timing.cycles) if contraction and timing.cycles else None,
        energy_pj=energy,
        dram_bytes=timing.dram_bytes,
        acc=acc,
        check=value.check,
        arithmetic=_arithmetic(layer),
        computed_by="onnxruntime" if isinstance(layer.operator, HostOperator | Part) else "machine",
        part_of=layer.part_of,
        off_array_macs=0 if isinstance(work, ContractionWork) else work.off_array_macs or 0,
        macs_counted=isinstance(work, ContractionWork) or work.off_array_macs is not None,
        **_placement(layer),
        charges=lines(gathered((part.bill,))),
        requantiser=scaling(layer.operator, () if isinstance(work, ContractionWork) else work.events),
        inputs=layer.inputs,
        outputs=layer.outputs,
        dram_read_bytes=timing.event("dram_read_bytes"),
        dram_write_bytes=timing.event("dram_write_bytes"),
        compulsory_dram_bytes=sum(compulsory_bytes(layer)),
        lane_operations=0 if isinstance(work, ContractionWork) else work.lane_operations * work.repeats,
        behind_overflow=value.behind_overflow,
        sums_unknown=value.behind_overflow and not run.evaluation.sums_known,
        gated_macs=None if value.busy_macs is None else billed_macs(layer, timing) - value.busy_macs,
    )
