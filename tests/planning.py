"""Programs for tests: a graph lowered onto a machine and planned at the packaged prices."""

from __future__ import annotations

from accelsim.energy import load_table
from accelsim.graph.ir import Graph
from accelsim.machine.arch import Arch
from accelsim.mapping.network import plan
from accelsim.program.layers import Program
from accelsim.program.lower import lower


def planned(graph: Graph, arch: Arch) -> Program:
    """Return the layers of a graph on a machine, each with its plan."""
    return plan(lower(graph, arch), arch, load_table())
