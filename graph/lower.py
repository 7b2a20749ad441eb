"""Lowering: the integer graph on a machine becomes a program of layers with their work and plans."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

from accelsim.arch import Arch
from accelsim.energy import load_table, price_layer
from accelsim.fixed_point import machine_operator
from accelsim.graph.ir import Graph, Node
from accelsim.mapping import Floor, Mapping, choose_plan, is_plannable
from accelsim.plan import ContractionPlan, Kept, StreamPlan
from accelsim.program import Layer, Program
from accelsim.residency import keep_activations, with_local_copies
from accelsim.timing import LayerTiming
from accelsim.work import ContractionWork, StreamWork, describe_work
from accelsim.zero_points import constant_weights, machine_work, weight_operand_bits


def lower(graph: Graph, arch: Arch) -> Program:
    """Plan every node of a graph on a machine.

    Args:
        graph: a verified graph.
        arch: the machine.

    Raises:
        UsageError: a scratchpad is too small for one tile of some layer.
    """
    layers = [_unplanned(graph, node, arch) for node in graph.nodes]
    kept = keep_activations(
        layers, graph.outputs, arch, lambda number, around: is_plannable(layers[number].work, arch, around)
    )
    mapper = _Mapper(arch)
    planned = tuple(mapper.planned(layer, around) for layer, around in zip(layers, kept, strict=True))
    types = {name: graph.types[name] for name in graph.inputs}
    return Program(types, graph.outputs, graph.constants, planned)


def _unplanned(graph: Graph, node: Node, arch: Arch) -> Layer:
    """Return a node as a layer whose plan is still to be made."""
    inputs = tuple(graph.types[name] for name in node.inputs)
    outputs = tuple(graph.types[name] for name in node.outputs)
    operator = machine_operator(node.operator, arch.requant_mode)
    work = machine_work(describe_work(operator, inputs, outputs), operator, arch)
    exactness = "q31" if node.exactness == "exact" and operator is not node.operator else node.exactness
    return Layer(
        node.name, node.kind, operator, node.inputs, node.outputs, inputs, outputs, work, StreamPlan(1), exactness
    )


class _Mapper:
    """Plans layers; those that cost the same are planned once."""

    def __init__(self, arch: Arch) -> None:
        self._arch, self._table = arch, load_table()
        self._known: dict[Hashable, Mapping] = {}

    def planned(self, layer: Layer, kept: Kept) -> Layer:
        """Return a layer with its plan."""
        work = with_local_copies(layer.work, kept) if isinstance(layer.work, StreamWork) else layer.work
        layer = replace(layer, work=work)
        key = (work, kept, _price_class(layer)) if isinstance(work, ContractionWork) else (layer.name, kept)
        if key not in self._known:

            def price(plan: ContractionPlan, timing: LayerTiming) -> float:
                return price_layer(replace(layer, plan=plan), timing, self._arch, self._table).total_pj

            self._known[key] = choose_plan(layer.name, work, self._arch, kept, price, self._floor(layer))
        found = self._known[key]
        return replace(layer, plan=found.plan, considered=found.considered, timed=found.timed)

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
