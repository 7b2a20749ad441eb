"""What the machine makes of a quantised file: which of its layers are computed in float."""

from __future__ import annotations

from accelsim.graph.ir import Graph, Node
from accelsim.operators import HostOperator
from accelsim.simulation.model import Model, Shapes

# Operators that put values elsewhere and compute none, so that they are in no arithmetic.
MOVEMENTS = frozenset({
    "Cast", "Compress", "Concat", "ConstantOfShape", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements",
    "GatherND", "Identity", "OneHot", "Pad", "Reshape", "ReverseSequence", "ScatterElements", "ScatterND", "Shape",
    "Size", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "Where",
})  # fmt: skip


def float_layers(model: Model, shapes: Shapes) -> tuple[tuple[str, str], ...]:
    """Return the layers that `accel-sim run` leaves to float: name and operator, as its table shows them.

    Those are operators on floats that onnxruntime computes, products of dequantised weights among them; what the
    machine computes from codes, in a table for instance, is not, however the file spells it.

    Args:
        model: a quantised model.
        shapes: of every input.

    Raises:
        AccelSimError: the machine cannot take the model.
    """
    graph = model.bind(shapes).graph
    return tuple((node.name, node.kind) for node in graph.nodes if _is_float(graph, node))


def _is_float(graph: Graph, node: Node) -> bool:
    """Tell whether onnxruntime computes a node, from floats or to floats."""
    if not isinstance(node.operator, HostOperator) or node.kind in MOVEMENTS:
        return False
    return any(graph.types[name].dtype.kind == "f" for name in (*node.inputs, *node.outputs))
