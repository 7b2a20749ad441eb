"""What stands behind a product moves into its requantiser, as on any machine that has one: no pass over the tensor.

Sums that leave as int32 or float32 are often scaled, added to a bias, clipped, and quantised by nodes of their own,
most of all behind ConvInteger and MatMulInteger. Each is one float32 operation per element, and the requantiser does
the same operations in the same order, so that the values are the same to the bit.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from accelsim.graph.context import Context
from accelsim.graph.importers.contractions import with_runtime
from accelsim.graph.ir import Node
from accelsim.graph.quantised.clips import clip_bounds
from accelsim.operators import (
    Contraction,
    Convolution,
    Epilogue,
    HostOperator,
    MatrixMultiply,
    Quantise,
    Raw,
    Rescale,
)
from accelsim.operators.vector import FloatArithmetic

Floats = NDArray[np.float32]
Fused = tuple[Contraction, tuple[str, ...]]


def fuse_epilogues(nodes: tuple[Node, ...], outputs: tuple[str, ...], context: Context) -> tuple[Node, ...]:
    """Merge into each product what alone reads its result, as far as the requantiser can do it.

    Args:
        nodes: in topological order.
        outputs: tensors that leave the graph.
        context: for types and constants.
    """
    fuser = _Fuser(nodes, outputs, context)
    for node in nodes:
        if isinstance(node.operator, Contraction):
            fuser.absorb(node)
    return fuser.result()


class _Fuser:
    """Merges nodes; what is merged stands in the place of the last of them."""

    def __init__(self, nodes: tuple[Node, ...], outputs: tuple[str, ...], context: Context) -> None:
        self._nodes = nodes
        self._context = context
        self._readers = Counter(name for node in nodes for name in node.inputs)
        self._readers.update(outputs)
        self._consumers = {name: node for node in nodes for name in node.inputs}
        self._writers = {name: node for node in nodes for name in node.outputs}
        self._merged: dict[str, Node] = {}
        self._gone: set[str] = set()

    def absorb(self, first: Node) -> None:
        """Merge what follows a product, one node after the other."""
        node, last = first, first
        while self._readers[node.outputs[0]] == 1 and node.outputs[0] in self._consumers:
            follower = self._consumers[node.outputs[0]]
            fused = self._fuse(node, follower)
            if fused is None:
                break
            operator, inputs = fused
            exactness = "exact" if {node.exactness, follower.exactness} == {"exact"} else "float-reference"
            node = replace(node, operator=operator, inputs=inputs, outputs=follower.outputs, exactness=exactness)
            self._gone.add(last.outputs[0])
            last = follower
        if last is not first:
            self._merged[last.outputs[0]] = node

    def result(self) -> tuple[Node, ...]:
        """Return the nodes with the merged ones in place."""
        kept = (node for node in self._nodes if node.outputs[0] not in self._gone)
        return tuple(self._merged.get(node.outputs[0], node) for node in kept)

    def _fuse(self, node: Node, follower: Node) -> Fused | None:
        """Return a product with one more step in its epilogue, None where there is no such step."""
        operator = node.operator
        if not isinstance(operator, Convolution | MatrixMultiply):
            return None
        if isinstance(operator.epilogue, Raw):
            return self._as_float(operator, node, follower)
        if not isinstance(operator.epilogue, Rescale) or not _is_plain(operator.epilogue):
            return self._clipped(operator, node, follower)
        step = follower.operator
        if isinstance(step, FloatArithmetic) and len(follower.inputs) == 2:
            return self._arithmetic(operator, operator.epilogue, node, follower, step.function)
        return self._clipped(operator, node, follower)

    def _as_float(self, operator: Contraction, node: Node, follower: Node) -> Fused | None:
        """Cast of int32 sums to float32."""
        step = follower.operator
        kind = self._context.types[follower.outputs[0]].dtype
        if not isinstance(step, HostOperator) or step.kind != "Cast" or kind != np.float32:
            return None
        return replace(operator, epilogue=Rescale(np.ones(1, np.float32))), node.inputs

    def _arithmetic(
        self, operator: Contraction, epilogue: Rescale, node: Node, follower: Node, function: str
    ) -> Fused | None:
        """Mul by a scale, or Add of a bias."""
        other = next((name for name in follower.inputs if name != node.outputs[0]), "")
        if self._context.types[follower.outputs[0]].shape != self._context.types[node.outputs[0]].shape:
            return None
        if function == "Add":
            bias = self._per_column(operator, other, follower)
            if bias is None or epilogue.bias is not None:
                return None
            columns = self._columns(operator, follower)
            return replace(operator, epilogue=replace(epilogue, bias=np.broadcast_to(bias, (columns,)))), node.inputs
        neutral = epilogue.bias is None and (epilogue.scale == 1).all()
        runtime = operator.runtime
        late = runtime is not None and (runtime.scale is not None or runtime.second_scale is not None)
        if function != "Mul" or not neutral or late:
            return None
        scale = self._per_column(operator, other, follower)
        if scale is not None:
            return replace(operator, epilogue=Rescale(scale)), node.inputs
        return self._late_scale(operator, other, node, follower)

    def _late_scale(self, operator: Contraction, other: str, node: Node, follower: Node) -> Fused | None:
        """A scale that is known at run time: one number, or one number times constants."""
        scale: Floats | None = np.ones(1, np.float32)
        writer = self._writers.get(other)
        if writer is not None and isinstance(writer.operator, FloatArithmetic) and writer.operator.function == "Mul":
            found = [(self._per_column(operator, name, follower), name) for name in writer.inputs]
            known = [part for part, _ in found if part is not None]
            late = [name for part, name in found if part is None]
            if len(known) == 1 and len(late) == 1:
                scale, other = known[0], late[0]
        kind = self._context.types[other]
        if kind.elements != 1 or kind.dtype != np.float32 or scale is None:
            return None
        product = replace(operator, epilogue=Rescale(scale))
        imported = with_runtime(product, node.inputs, scale=other)
        if not isinstance(imported.operator, Contraction):
            return None
        return imported.operator, imported.inputs

    def _columns(self, operator: Contraction, follower: Node) -> int:
        """Return the number of columns of a product."""
        shape = self._context.types[follower.outputs[0]].shape
        return shape[1] if isinstance(operator, Convolution) else shape[-1]

    def _per_column(self, operator: Contraction, name: str, follower: Node) -> Floats | None:
        """Return a constant with one value, or one for each column of a product."""
        array = self._context.constants.get(name)
        shape = self._context.types[follower.outputs[0]].shape
        if array is None or array.dtype != np.float32 or array.ndim > len(shape) or not shape:
            return None
        axis = 1 if isinstance(operator, Convolution) else len(shape) - 1
        wide = (1,) * (len(shape) - array.ndim) + array.shape
        if any(size != 1 for place, size in enumerate(wide) if place != axis) or wide[axis] not in (1, shape[axis]):
            return None
        vector = isinstance(operator, MatrixMultiply) and len(shape) < 2
        return None if vector else array.reshape(-1).astype(np.float32)

    def _clipped(self, operator: Contraction, node: Node, follower: Node) -> Fused | None:
        """Relu, Clip, conversion to float16, or a quantiser behind a float result."""
        epilogue, step = operator.epilogue, follower.operator
        if not isinstance(epilogue, Rescale) or epilogue.quantise is not None or epilogue.half:
            return None
        changed: Epilogue | None = None
        if isinstance(step, Quantise):
            changed = replace(epilogue, quantise=step)
        elif isinstance(step, HostOperator) and step.kind in ("Relu", "Clip") and epilogue.bounds is None:
            writer = self._context.producer(follower.outputs[0])
            bounds = None if writer is None else clip_bounds(writer, self._context.constants.get)
            changed = None if bounds is None else replace(epilogue, bounds=bounds)
        elif isinstance(step, HostOperator) and step.kind == "Cast":
            half = self._context.types[follower.outputs[0]].dtype == np.float16
            changed = replace(epilogue, half=True) if half else None
        return None if changed is None else (replace(operator, epilogue=changed), node.inputs)


def _is_plain(epilogue: Rescale) -> bool:
    """Tell whether nothing follows the bias."""
    return epilogue.bounds is None and not epilogue.half and epilogue.quantise is None
