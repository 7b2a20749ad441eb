"""What a run made of each layer, and of the whole: what `assemble` turns into a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsim.energy import EnergyTable, LayerEnergy
from accelsim.machine.arch import Arch
from accelsim.program.layers import Layer, Program
from accelsim.results.check import CheckResult, LayerCheck
from accelsim.results.timeline import Timeline
from accelsim.simulation.model import Bound, Model
from accelsim.timing.layer_timing import LayerTiming
from accelsim.values.accumulators import AccumulatorUse


@dataclass(frozen=True, eq=False)
class LayerValue:
    """What the values of a layer came to."""

    use: AccumulatorUse | None = None
    """Of its accumulators, None where it has none or nothing was computed."""
    check: LayerCheck | None = None
    """Its comparison, None where there is none."""
    busy_macs: int | None = None
    """Multiply-accumulates without a zero operand, where they were counted."""
    behind_overflow: bool = False
    """It reads what an overflow may have changed."""


@dataclass(frozen=True, eq=False)
class LayerRun:
    """One layer of a run: what it is, its cycles and events, its energy, and what its values came to."""

    layer: Layer
    timing: LayerTiming
    bill: LayerEnergy
    value: LayerValue


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Values of a run."""

    layers: tuple[LayerValue, ...]
    """In the order of the program."""
    verdict: CheckResult
    outputs: Mapping[str, NDArray[np.generic]]
    """By name."""
    sums_known: bool = True
    """Extremes of sums behind an overflow are those of the network all the same."""

    @classmethod
    def skipped(cls, program: Program) -> Evaluation:
        """Return the evaluation of a run whose values are not computed."""
        return cls((LayerValue(),) * len(program.layers), CheckResult("none", "skipped"), {})


@dataclass(frozen=True, eq=False)
class Run:
    """A whole run."""

    model: Model
    """What was run."""
    bound: Bound
    """The same for the shapes of this run."""
    arch: Arch
    prices: EnergyTable
    """Unit energies of the bills."""
    program: Program
    layers: tuple[LayerRun, ...]
    evaluation: Evaluation
    zero_gating: bool = False
    """What multiplies a zero was left out of the bills."""
    timeline: Timeline | None = None
    """What the engines did during one layer, if asked for."""
