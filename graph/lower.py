"""Lowering: the integer graph on a machine becomes a program of layers with their work and plans."""

from __future__ import annotations

from accelsim.arch import Arch
from accelsim.fixed_point import machine_operator
from accelsim.graph.ir import Graph, Node
from accelsim.plan import StreamPlan
from accelsim.program import Layer, Program
from accelsim.program_plans import plan_program
from accelsim.work import describe_work
from accelsim.zero_points import machine_work


def lower(graph: Graph, arch: Arch) -> Program:
    """Plan every node of a graph on a machine.

    Args:
        graph: a verified graph.
        arch: the machine.

    Raises:
        UsageError: a scratchpad is too small for one tile of some layer.
    """
    layers = tuple(_unplanned(graph, node, arch) for node in graph.nodes)
    types = {name: graph.types[name] for name in graph.inputs}
    return plan_program(Program(types, graph.outputs, graph.constants, layers), arch)


def _unplanned(graph: Graph, node: Node, arch: Arch) -> Layer:
    """Return a node as a layer whose plan is still to be made."""
    inputs = tuple(graph.types[name] for name in node.inputs)
    outputs = tuple(graph.types[name] for name in node.outputs)
    operator = machine_operator(node.operator, arch.requant_mode)
    work = machine_work(describe_work(operator, inputs, outputs), operator, arch)
    exactness = "q31" if node.exactness == "exact" and operator is not node.operator else node.exactness
    return Layer(
        node.name,
        node.kind,
        operator,
        node.inputs,
        node.outputs,
        inputs,
        outputs,
        work,
        StreamPlan(1),
        exactness,
        part_of=node.part_of,
        remark=node.remark,
    )
