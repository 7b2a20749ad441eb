"""Lowering: the integer graph on a machine becomes a program of layers with their work, still unplanned."""

from __future__ import annotations

from accelsim.graph.ir import Graph, Node
from accelsim.machine.arch import Arch
from accelsim.operators.fixed_point import machine_operator
from accelsim.program.layers import Layer, Program
from accelsim.program.machine_work import machine_work
from accelsim.program.plan import StreamPlan
from accelsim.program.work import describe_work


def lower(graph: Graph, arch: Arch) -> Program:
    """Return what every node of a graph is on a machine: its operator and its work, without a plan.

    Args:
        graph: a verified graph.
        arch: the machine.
    """
    layers = tuple(_unplanned(graph, node, arch) for node in graph.nodes)
    types = {name: graph.types[name] for name in graph.inputs}
    return Program(types, graph.outputs, graph.constants, layers)


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
