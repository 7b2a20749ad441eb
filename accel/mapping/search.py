"""The mapper of one layer: the plan of its space that is best, timed by the recurrence itself.

A lower bound on cycles and DRAM traffic orders the candidates, so that those that cannot be better are never timed:
what is found is the best of the space.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from accelsim.errors import UsageError
from accelsim.machine.arch import Arch
from accelsim.mapping.bounds import Floor, least_value, objective
from accelsim.mapping.space import fitting_plans
from accelsim.mapping.stream import plan_stream
from accelsim.program.plan import NOTHING_KEPT, ContractionPlan, Kept, Plan
from accelsim.program.work import ContractionWork, Work
from accelsim.timing.boundary import ALONE, Surroundings
from accelsim.timing.layer_timing import LayerTiming
from accelsim.timing.recurrence import time_layer

Price = Callable[[ContractionPlan, LayerTiming], float]


@dataclass(frozen=True)
class Mapping:
    """What the mapper chose for a layer."""

    plan: Plan
    """The plan."""
    considered: int = 1
    """Plans in its space that fit the scratchpads."""
    timed: int = 1
    """Those whose bound did not rule them out."""
    value: tuple[float, float] = (0.0, 0.0)
    """What was minimised, and what decides between equals."""


def choose_plan(
    name: str,
    work: Work,
    arch: Arch,
    kept: Kept = NOTHING_KEPT,
    price: Price | None = None,
    floor: Floor | None = None,
    around: Surroundings = ALONE,
) -> Mapping:
    """Return the plan that minimises arch.objective: cycles, energy, or their product.

    Args:
        name: the layer's name, for messages.
        work: the layer's work.
        arch: the machine.
        kept: what stays on chip.
        price: energy of a timed plan in pJ; None: that of its DRAM traffic alone.
        floor: what every price includes; None: a unit per byte of DRAM traffic.
        around: where the layer's tensors lie, for the row model; without addresses it is timed without one. The bound
            holds for both, since a row that is opened only adds cycles.

    Raises:
        UsageError: a scratchpad is too small for one tile; names the buffer, the layer and the minimum.
    """
    if not isinstance(work, ContractionWork):
        return Mapping(plan_stream(name, work, arch, kept))
    plans = list(fitting_plans(name, work, arch, kept))
    floor = floor or Floor()
    bounded = sorted((least_value(work, plan, arch, floor), number) for number, plan in enumerate(plans))
    best, chosen, timed = (inf, inf), plans[0], 0
    for bound, number in bounded:
        if bound > best[0]:
            break
        timing = time_layer(work, plans[number], arch, around)
        timed += 1
        energy = floor.energy_pj(timing.dram_bytes)
        if objective(arch, timing.cycles, energy)[0] > best[0]:
            continue
        energy = energy if price is None else price(plans[number], timing)
        value = objective(arch, timing.cycles, energy)
        if value < best:
            best, chosen = value, plans[number]
    return Mapping(chosen, len(plans), timed, best)


def is_plannable(work: Work, arch: Arch, kept: Kept) -> bool:
    """Tell whether a layer has any plan with something kept on chip around it.

    Args:
        work: the layer's work.
        arch: the machine.
        kept: what stays on chip.
    """
    try:
        if isinstance(work, ContractionWork):
            next(fitting_plans("", work, arch, kept))
        else:
            plan_stream("", work, arch, kept)
    except UsageError:
        return False
    return True
