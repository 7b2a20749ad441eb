"""Chooses the plan of each layer: a few blockings, timed by the recurrence itself."""

from __future__ import annotations

from itertools import islice

from accelsim.arch import Arch
from accelsim.plan import Plan, contraction_plans, make_plan
from accelsim.timing import time_layer
from accelsim.work import ContractionWork, Work

# Smaller blocks let the first load and the last store overlap more; beyond a few halvings only overheads grow.
_BLOCKINGS = 4


def choose_plan(name: str, work: Work, arch: Arch) -> Plan:
    """Return the plan with the smallest product of cycles and DRAM bytes, of equal ones that with the largest blocks.

    DRAM dominates the energy, so the product stands for energy times delay.

    Args:
        name: the layer's name, for messages.
        work: the layer's work.
        arch: the machine.

    Raises:
        UsageError: a scratchpad is too small for one tile; names the buffer, the layer and the minimum.
    """
    if not isinstance(work, ContractionWork):
        return make_plan(name, work, arch)
    plans = islice(contraction_plans(name, work, arch), _BLOCKINGS)

    def cost(plan: Plan) -> int:
        timing = time_layer(work, plan, arch)
        return timing.cycles * timing.dram_bytes

    return min(plans, key=cost)
