"""Clamps behind a contraction are bounds of its requantiser: no pass over the tensor of their own.

A Relu or Clip between quantisers of equal scale is a table that gives every code back within bounds. The requantiser
clamps anyway, so that narrower bounds there give the same codes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from accelsim.graph.ir import Node
from accelsim.graph.quantiser import all_codes
from accelsim.operators import Contraction, Convolution, MatrixMultiply, Requantise, TableLookup


def fold_clamps(nodes: tuple[Node, ...], outputs: tuple[str, ...]) -> tuple[Node, ...]:
    """Merge each clamp into the contraction whose codes only it reads.

    Args:
        nodes: in topological order.
        outputs: tensors that leave the graph.
    """
    readers = Counter(name for node in nodes for name in node.inputs)
    readers.update(outputs)
    writers = {name: node for node in nodes for name in node.outputs}
    merged: dict[str, Node] = {}
    gone: set[str] = set()
    for node in nodes:
        source = writers.get(node.inputs[0]) if len(node.inputs) == 1 else None
        if source is None or readers[node.inputs[0]] != 1 or not isinstance(source.operator, Contraction):
            continue
        operator = _clamped(source.operator, node)
        if operator is not None:
            merged[source.outputs[0]] = replace(source, operator=operator, outputs=node.outputs)
            gone.add(node.outputs[0])
    return tuple(merged.get(node.outputs[0], node) for node in nodes if node.outputs[0] not in gone)


def _clamped(operator: Convolution | MatrixMultiply, node: Node) -> Convolution | MatrixMultiply | None:
    """Return a contraction with the bounds of a table behind it, None if the table is more than a clamp."""
    epilogue, table = operator.epilogue, node.operator
    if not isinstance(epilogue, Requantise) or not isinstance(table, TableLookup):
        return None
    code = epilogue.output
    if table.table.dtype != code.dtype:
        return None
    lowest, highest = int(table.table.min()), int(table.table.max())
    if not np.array_equal(table.table, np.clip(all_codes(code.dtype), lowest, highest)):
        return None
    low, high = epilogue.bounds
    bounds = min(max(low, lowest), highest), max(min(high, highest), lowest)
    return replace(operator, epilogue=replace(epilogue, lowest=bounds[0], highest=bounds[1]))
