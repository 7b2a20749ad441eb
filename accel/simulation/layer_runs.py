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
    """What the values of a layer came to.

    use: of its accumulators, None where it has none or nothing was computed; check: its comparison, None where there
    is none; busy_macs: multiply-accumulates without a zero operand, where they were counted; behind_overflow: it reads
    what an overflow may have changed.
    """

    use: AccumulatorUse | None = None
    check: LayerCheck | None = None
    busy_macs: int | None = None
    behind_overflow: bool = False


@dataclass(frozen=True, eq=False)
class LayerRun:
    """One layer of a run: what it is, its cycles and events, its energy, and what its values came to."""

    layer: Layer
    timing: LayerTiming
    bill: LayerEnergy
    value: LayerValue


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Values of a run, in the order of the layers, with the verdict and the outputs by name.

    sums_known: extremes of sums behind an overflow are those of the network all the same.
    """

    layers: tuple[LayerValue, ...]
    verdict: CheckResult
    outputs: Mapping[str, NDArray[np.generic]]
    sums_known: bool = True

    @classmethod
    def skipped(cls, program: Program) -> Evaluation:
        """Return the evaluation of a run whose values are not computed."""
        return cls((LayerValue(),) * len(program.layers), CheckResult("none", "skipped"), {})


@dataclass(frozen=True, eq=False)
class Run:
    """A whole run.

    model: what was run; bound: the same for the shapes of this run; prices: unit energies of the bills; zero_gating:
    what multiplies a zero was left out of them; timeline: what the engines did during one layer, if asked for.
    """

    model: Model
    bound: Bound
    arch: Arch
    prices: EnergyTable
    program: Program
    layers: tuple[LayerRun, ...]
    evaluation: Evaluation
    zero_gating: bool = False
    timeline: Timeline | None = None
