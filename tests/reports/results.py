"""Results to report on, computed once."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import accelsim
from accelsim import Arch
from accelsim.results.check import CheckResult
from accelsim.results.result import Result
from accelsim.simulation.timeline import TimelineRequest

ROOT = Path(__file__).resolve().parent.parent.parent
DIGITS = ROOT / "models" / "digits_int8.onnx"
HOSTILE = "<script>alert(1)</script>\x1b[31m$x^2$ & \"'>{{ 7*7 }}</svg>\u202e"


@cache
def digits_result(dataflow: str = "ws", acc_bits: int = 32) -> Result:
    """Run the digits network, with a timeline."""
    arch = Arch(dataflow=dataflow, acc_bits=acc_bits)
    return accelsim.run(DIGITS, arch, timeline=TimelineRequest())


@cache
def model_result(path: Path) -> Result:
    """Run a real model without its values, with a timeline."""
    return accelsim.run(path, values=False, timeline=TimelineRequest())


def consistent(result: Result) -> Result:
    """Return a result of invented layers without verdict and bills, its other parts made to agree with them."""
    layers = tuple(
        replace(
            layer,
            utilisation=layer.macs / (result.pe_count * layer.cycles) if layer.placement == "array" else None,
            check=None,
            charges=(),
        )
        for layer in result.layers
    )
    return replace(
        result,
        model=replace(result.model, macs=sum(layer.macs for layer in layers)),
        layers=layers,
        check=CheckResult("none", "skipped"),
        energy=replace(result.energy, detail=replace(result.energy.detail, baselines=())),
        timeline=None,
    )


def named_badly(result: Result) -> Result:
    """Return a result in which every text that comes from a model is hostile."""
    layers = tuple(
        replace(
            layer,
            name=f"{HOSTILE}/{number}",
            op=HOSTILE,
            inputs=tuple(f"{HOSTILE}{name}" for name in layer.inputs or ()),
            outputs=tuple(f"{HOSTILE}{name}" for name in layer.outputs or ()),
            charges=(),  # their units are renamed below
        )
        for number, layer in enumerate(result.layers)
    )
    timeline = result.timeline
    first = result.check.first_mismatch
    return replace(
        result,
        model=replace(result.model, name=HOSTILE),
        layers=layers,
        timeline=None if timeline is None else replace(timeline, layer=HOSTILE, note=HOSTILE),
        check=replace(
            result.check,
            notes=(HOSTILE,),
            reference=HOSTILE,
            first_mismatch=None if first is None else replace(first, tensor=HOSTILE, layer=HOSTILE, operator=HOSTILE),
        ),
        versions={HOSTILE: HOSTILE},
        energy=replace(
            result.energy,
            table=HOSTILE,
            source=HOSTILE,
            units=({"name": HOSTILE, HOSTILE: 1.0},),
            detail=replace(
                result.energy.detail,
                notes=(HOSTILE,),
                assumptions=HOSTILE,
                laws=({HOSTILE: [HOSTILE]},),
                baselines=tuple(
                    replace(one, format=HOSTILE, bases=(HOSTILE,)) for one in result.energy.detail.baselines
                ),
            ),
        ),
    )
