"""Plans layers with what they cost on this machine: the mapper, and the energy table as its price."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

from accelsim.energy import EnergyTable, price_layer
from accelsim.errors import UsageError
from accelsim.machine.arch import Arch
from accelsim.mapping.bounds import Floor
from accelsim.mapping.residency import with_local_copies
from accelsim.mapping.search import Mapping, choose_plan
from accelsim.operators.zero_points import constant_weights
from accelsim.program.layers import Layer
from accelsim.program.machine_work import weight_operand_bits
from accelsim.program.plan import ContractionPlan, Kept
from accelsim.program.work import ContractionWork, StreamWork
from accelsim.timing.boundary import ALONE, Surroundings
from accelsim.timing.layer_timing import LayerTiming
from accelsim.timing.recurrence import DATAFLOWS


class Planner:
    """Plans the layers of one machine; those that cost the same are planned once."""

    def __init__(self, arch: Arch, prices: EnergyTable) -> None:
        self._arch, self._prices = arch, prices
        self._known: dict[Hashable, Mapping] = {}
        self._single: dict[str, Planner] = {}

    def single(self, dataflow: str) -> Planner:
        """Return the planner of this machine with one dataflow; what it has planned it knows the next time.

        Args:
            dataflow: "ws", "os" or "is".
        """
        if dataflow not in self._single:
            self._single[dataflow] = Planner(self._arch.with_dataflow(dataflow), self._prices)
        return self._single[dataflow]

    def planned(self, layer: Layer, kept: Kept, around: Surroundings = ALONE) -> Layer:
        """Return a layer with its plan.

        Args:
            layer: its plan is not looked at.
            kept: what stays on chip around it.
            around: with addresses, the layer is timed with open rows.

        Raises:
            UsageError: a scratchpad is too small for one tile of it.
        """
        work = with_local_copies(layer.work, kept) if isinstance(layer.work, StreamWork) else layer.work
        found = self._mapping(replace(layer, work=work), kept, around)
        return replace(layer, work=work, plan=found.plan, kept=kept, considered=found.considered, timed=found.timed)

    def _mapping(self, layer: Layer, kept: Kept, around: Surroundings) -> Mapping:
        """Return what the mapper chooses for a layer; layers that cost the same ask it once."""
        work = layer.work
        if not isinstance(work, ContractionWork):
            key: Hashable = (layer.name, kept)
        elif around.addresses is not None and self._arch.dataflow == "best":
            return self._best_of_dataflows(layer, kept, around)
        else:
            key = (work, kept, _price_class(layer), around)
        if key not in self._known:

            def price(plan: ContractionPlan, timing: LayerTiming) -> float:
                return price_layer(replace(layer, plan=plan), timing, self._arch, self._prices).total_pj

            self._known[key] = choose_plan(layer.name, work, self._arch, kept, price, self._floor(layer), around)
        return self._known[key]

    def _best_of_dataflows(self, layer: Layer, kept: Kept, around: Surroundings) -> Mapping:
        """Return the best of what each dataflow can do, which plans of the network with one dataflow need, too."""
        found: list[Mapping] = []
        refused: UsageError | None = None
        for dataflow in DATAFLOWS:
            try:
                found.append(self.single(dataflow)._mapping(layer, kept, around))
            except UsageError as error:
                refused = error
        if refused is not None and not found:
            raise refused
        best = min(found, key=lambda mapping: mapping.value)
        considered, timed = (sum(counts) for counts in zip(*((f.considered, f.timed) for f in found), strict=True))
        return replace(best, considered=considered, timed=timed)

    def _floor(self, layer: Layer) -> Floor:
        """Return what no plan can save: DRAM at its bytes, and the multipliers and adders of the array."""
        work, table = layer.work, self._prices
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
