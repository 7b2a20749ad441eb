"""Quantisers that make the same codes of one tensor are one: exporters give every reader a pair of its own."""

from __future__ import annotations

from dataclasses import replace

from accelsim.graph.ir import Node
from accelsim.operators import Quantise


def share_quantisers(nodes: tuple[Node, ...], outputs: tuple[str, ...]) -> tuple[Node, ...]:
    """Let all readers of equal codes read those of the first quantiser.

    Args:
        nodes: in topological order.
        outputs: tensors that leave the graph, which stay what they are called.
    """
    first: dict[tuple[str, Quantise], str] = {}
    renamed: dict[str, str] = {}
    kept = []
    for node in nodes:
        inputs = tuple(renamed.get(name, name) for name in node.inputs)
        if isinstance(node.operator, Quantise):
            known = first.setdefault((inputs[0], node.operator), node.outputs[0])
            if known != node.outputs[0] and node.outputs[0] not in outputs:
                renamed[node.outputs[0]] = known
                continue
        kept.append(replace(node, inputs=inputs))
    return tuple(kept)
