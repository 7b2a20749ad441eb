"""Plans layers with what they cost on this machine: the mapper, and the energy table as its price."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

from accelsim.arch import Arch
from accelsim.energy import load_table, price_layer
from accelsim.mapping import Floor, Mapping, choose_plan
from accelsim.plan import ContractionPlan, Kept
from accelsim.program import Layer
from accelsim.residency import with_local_copies
from accelsim.timing import LayerTiming
from accelsim.work import ContractionWork, StreamWork
from accelsim.zero_points import constant_weights, weight_operand_bits


class Planner:
    """Plans the layers of one machine; those that cost the same are planned once."""

    def __init__(self, arch: Arch) -> None:
        self._arch, self._table = arch, load_table()
        self._known: dict[Hashable, Mapping] = {}

    def planned(self, layer: Layer, kept: Kept) -> Layer:
        """Return a layer with its plan.

        Args:
            layer: its plan is not looked at.
            kept: what stays on chip around it.

        Raises:
            UsageError: a scratchpad is too small for one tile of it.
        """
        work = with_local_copies(layer.work, kept) if isinstance(layer.work, StreamWork) else layer.work
        layer = replace(layer, work=work)
        key = (work, kept, _price_class(layer)) if isinstance(work, ContractionWork) else (layer.name, kept)
        if key not in self._known:

            def price(plan: ContractionPlan, timing: LayerTiming) -> float:
                return price_layer(replace(layer, plan=plan), timing, self._arch, self._table).total_pj

            self._known[key] = choose_plan(layer.name, work, self._arch, kept, price, self._floor(layer))
        found = self._known[key]
        return replace(layer, plan=found.plan, kept=kept, considered=found.considered, timed=found.timed)

    def _floor(self, layer: Layer) -> Floor:
        """Return what no plan can save: DRAM at its bytes, and the multipliers and adders of the array."""
        work, table = layer.work, self._table
        fixed = 0.0
        if isinstance(work, ContractionWork) and work.arithmetic == "integer":
            operands = 8 * work.input_bytes + 1, weight_operand_bits(layer.operator, work, self._arch)
            unit = table.multiplier(*operands).value_pj + table.adder(self._arch.acc_bits).value_pj
            fixed = work.macs * unit
        return Floor(table.dram().value_pj, fixed)


def _price_class(layer: Layer) -> Hashable:
    """Return what a contraction's price depends on beside its work."""
    weights = constant_weights(layer.operator)
    shape = None if weights is None else (weights.bits, weights.wide, weights.zero_points.size)
    return layer.kind, type(getattr(layer.operator, "epilogue", None)), layer.exactness, shape
