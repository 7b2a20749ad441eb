"""Plans of a whole program: what stays on chip, a plan of every layer, and which of several such plans is the best.

The mapper plans layers one by one. With weights prefetched over the boundary, with open rows, whose misses depend on
where tensors lie, and where what stays on chip depends on the dataflow, the best of every layer need not be the best of
the network. There, and only there, the network is timed as a whole: as the machine would do it with each dataflow
alone, with what stays on chip then, and with every layer planned with and without open rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from math import fsum

from accelsim.energy import EnergyTable, price_layer
from accelsim.errors import UsageError
from accelsim.machine.arch import Arch
from accelsim.mapping.bounds import objective
from accelsim.mapping.planner import Planner
from accelsim.mapping.residency import keep_activations
from accelsim.mapping.search import is_plannable
from accelsim.program.addresses import map_addresses
from accelsim.program.layers import Choice, Layer, Program
from accelsim.program.plan import ContractionPlan, Kept
from accelsim.program.work import ContractionWork
from accelsim.timing.boundary import ALONE, Surroundings
from accelsim.timing.recurrence import DATAFLOWS, time_program


def plan(program: Program, arch: Arch, prices: EnergyTable) -> Program:
    """Return a program with the plan of every layer.

    Args:
        program: its plans are not looked at.
        arch: the machine.
        prices: what energy costs, where the mapper minimises it: those that the run is billed with.

    Raises:
        UsageError: a scratchpad is too small for one tile of some layer.
    """
    residency, planner = _Residency(program, arch), Planner(arch, prices)
    own = _planned(program, planner, residency.kept)
    apart = not arch.prefetch_weights and residency.alike  # what is best for every layer is best for the network
    if not arch.dram_row_bytes and (apart or arch.dataflow != "best"):
        return own
    plans = [(arch.dataflow, False, own), *_alternatives(program, arch, planner, residency)]
    dataflow, rows, chosen = min(plans, key=lambda found: _measure(found[2], arch, prices))
    return replace(chosen, choice=Choice(dataflow, rows, len(plans)))


def _alternatives(
    program: Program, arch: Arch, planner: Planner, residency: _Residency
) -> Iterator[tuple[str, bool, Program]]:
    """Yield (dataflow, whether planned with open rows, plans) of the network beside the best of its layers."""
    around = _with_addresses(program, arch) if arch.dram_row_bytes else None
    if around is not None:
        yield arch.dataflow, True, _planned(program, planner, residency.kept, around)
    if arch.dataflow != "best":
        return
    for dataflow in DATAFLOWS:
        kept = residency.of_dataflow(dataflow)
        planners = [(dataflow, planner.single(dataflow))]
        planners += [] if residency.alike else [(arch.dataflow, planner)]
        for (name, one), places in product(planners, (None,) if around is None else (None, around)):
            try:
                yield name, places is not None, _planned(program, one, kept, places)
            except UsageError:  # not every dataflow has a plan for every layer
                continue


def _planned(program: Program, planner: Planner, kept: list[Kept], around: list[Surroundings] | None = None) -> Program:
    """Return a program with the plans that one planner gives its layers."""
    places = [ALONE] * len(kept) if around is None else around
    layers = (planner.planned(*each) for each in zip(program.layers, kept, places, strict=True))
    return replace(program, layers=tuple(layers))


def _with_addresses(program: Program, arch: Arch) -> list[Surroundings]:
    """Return where the tensors of every layer lie, before there are plans: as if weights were packed as one tile.

    The tiles of a plan start on bursts, which may move what lies behind them by some pages.
    """
    layers = tuple(_in_one_tile(layer) for layer in program.layers)
    places = map_addresses(replace(program, layers=layers), arch).layers
    return [Surroundings(None, place) for place in places]


def _in_one_tile(layer: Layer) -> Layer:
    work = layer.work
    if not isinstance(work, ContractionWork):
        return layer
    return replace(layer, plan=ContractionPlan(work.m, work.n, work.k, work.groups, True))


def _measure(program: Program, arch: Arch, prices: EnergyTable) -> tuple[float, float]:
    """Return what is to be minimised of a whole network, and what decides between equals."""
    timings = time_program(program, arch)
    bills = (price_layer(layer, each, arch, prices) for layer, each in zip(program.layers, timings, strict=True))
    return objective(arch, sum(each.cycles for each in timings), fsum(bill.total_pj for bill in bills))


@dataclass
class _Residency:
    """What stays on chip on a machine, and on the same one with one dataflow."""

    program: Program
    arch: Arch
    kept: list[Kept] = field(init=False)
    """On the machine itself."""
    alike: bool = True
    """Whether it is the same with each of its dataflows."""

    def __post_init__(self) -> None:
        """Find out what stays on chip, and whether any dataflow could have made a difference."""
        flows = tuple(DATAFLOWS) if self.arch.dataflow == "best" else (self.arch.dataflow,)
        machines = [self.arch.with_dataflow(dataflow) for dataflow in flows]

        def feasible(number: int, around: Kept) -> bool:
            work = self.program.layers[number].work
            asked = machines if isinstance(work, ContractionWork) else machines[:1]
            answers = {is_plannable(work, machine, around) for machine in asked}
            self.alike &= len(answers) == 1
            return True in answers

        self.kept = keep_activations(self.program.layers, self.program.outputs, self.arch, feasible)

    def of_dataflow(self, dataflow: str) -> list[Kept]:
        """Return what stays on chip with one dataflow."""
        return self.kept if self.alike else _Residency(self.program, self.arch.with_dataflow(dataflow)).kept
