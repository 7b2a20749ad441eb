"""Puts the parts of a run together into a Result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata

import numpy as np
from accelsim.arch import Arch
from accelsim.contraction import AccumulatorUse
from accelsim.energy import COMPONENTS, LayerEnergy, load_table, units_used
from accelsim.model import Model
from accelsim.program import Layer, Program
from accelsim.result import (
    AccumulatorResult,
    CheckResult,
    EnergyInfo,
    LayerCheck,
    LayerResult,
    ModelInfo,
    Result,
)
from accelsim.timing import LayerTiming
from accelsim.version import __version__
from accelsim.work import ContractionWork
from numpy.typing import NDArray


def assemble(
    model: Model,
    arch: Arch,
    program: Program,
    timings: Sequence[LayerTiming],
    bills: Sequence[LayerEnergy],
    uses: Sequence[AccumulatorUse | None],
    checks: Sequence[LayerCheck] | None,
    verdict: CheckResult,
    outputs: Mapping[str, NDArray[np.generic]],
) -> Result:
    """Build the result from what each stage produced, all sequences in layer order."""
    compared: Sequence[LayerCheck | None] = checks if checks is not None else [None] * len(program.layers)
    layers = tuple(
        _layer_result(*parts, arch) for parts in zip(program.layers, timings, bills, uses, compared, strict=True)
    )
    table = load_table()
    units = tuple(
        {"name": unit.name, "value_pj": unit.value_pj, "basis": unit.basis, "source": unit.source}
        for unit in units_used(bills)
    )
    size = sum(len(tensor.raw_data) or tensor.ByteSize() for tensor in model.checked.proto.graph.initializer)
    info = ModelInfo(model.name, model.checked.sha256, sum(layer.macs for layer in layers), size)
    return Result(
        info,
        arch.to_sections(),
        arch.clock_ghz,
        arch.rows * arch.cols,
        layers,
        EnergyInfo(table.name, table.source, units),
        verdict,
        versions(),
        dict(outputs),
    )


def versions() -> dict[str, str]:
    """Return the versions of everything that decides the result."""
    packages = ("numpy", "numba", "onnx", "onnxruntime")
    return {"accelsim": __version__} | {name: metadata.version(name) for name in packages}


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
        groups=contraction.groups if contraction else None,
        tiles=timing.event("tiles"),
        macs=macs,
        cycles=timing.cycles,
        cycle_classes=dict(timing.classes),
        utilisation=macs / (arch.rows * arch.cols * timing.cycles) if contraction and timing.cycles else None,
        energy_pj=energy,
        dram_bytes=timing.dram_bytes,
        acc=acc,
        check=check,
    )
