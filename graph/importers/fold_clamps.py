"""Clamps behind a product or a quantiser are bounds of its codes: no pass over the tensor of their own.

A Relu or Clip between quantisers of equal scale is a table that gives every code back within bounds. The requantiser
clamps anyway, so that narrower bounds there give the same codes. A Clip of the codes themselves is how files say that
codes have fewer bits than their type, which are packed in memory then.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from accelsim.graph.ir import Node
from accelsim.graph.quantised.quantiser import all_codes
from accelsim.operators import CLAMP, CLIP_CODES, CodeFormat, Contraction, Operator, Quantise, Requantise, TableLookup
from accelsim.operators.codes import code_bits


def fold_clamps(nodes: tuple[Node, ...], outputs: tuple[str, ...]) -> tuple[Node, ...]:
    """Merge each clamp into the product or the quantiser whose codes only it reads.

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
        source = source if source is None else merged.get(source.outputs[0], source)
        if source is None or readers[node.inputs[0]] != 1:
            continue
        operator = _clamped(source.operator, node)
        if operator is not None:
            merged[source.outputs[0]] = replace(source, operator=operator, outputs=node.outputs)
            gone.add(node.outputs[0])
    return tuple(merged.get(node.outputs[0], node) for node in nodes if node.outputs[0] not in gone)


def _clamped(operator: Operator, node: Node) -> Operator | None:
    """Return what writes codes with the bounds of a table behind it, None if the table is more than a clamp."""
    table = node.operator
    if not isinstance(table, TableLookup):
        return None
    if isinstance(operator, Quantise):
        if table.function not in (CLAMP, CLIP_CODES):  # any other table is a function of its own, whatever it gives
            return None
        bounds = _bounds(table, operator.output, (operator.output.lowest, operator.output.highest))
        return None if bounds is None else replace(operator, output=_narrowed(table, operator.output, bounds))
    epilogue = operator.epilogue if isinstance(operator, Contraction) else None
    if not isinstance(operator, Contraction) or not isinstance(epilogue, Requantise):
        return None
    bounds = _bounds(table, epilogue.output, epilogue.bounds)
    if bounds is None:
        return None
    output = _narrowed(table, epilogue.output, bounds) if table.function == CLIP_CODES else epilogue.output
    return replace(operator, epilogue=replace(epilogue, output=output, lowest=bounds[0], highest=bounds[1]))


def _bounds(table: TableLookup, code: CodeFormat, known: tuple[int, int]) -> tuple[int, int] | None:
    """Return the bounds that a table leaves of known ones, None if it does more than clamp codes."""
    lowest, highest = int(table.table.min()), int(table.table.max())
    if table.table.dtype != code.dtype:
        return None
    if not np.array_equal(table.table, np.clip(all_codes(code.dtype), lowest, highest)):
        return None
    return min(max(known[0], lowest), highest), max(min(known[1], highest), lowest)


def _narrowed(table: TableLookup, code: CodeFormat, bounds: tuple[int, int]) -> CodeFormat:
    """Return a format with limits, and with fewer bits where the file clips the codes themselves."""
    bits = code_bits(code.dtype, *bounds) if table.function == CLIP_CODES else code.bits
    return replace(code, limits=bounds, bits=bits)
