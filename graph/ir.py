"""The typed integer graph: nodes that carry machine operators, tensors with static types, and a verifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import AccelSimError, printable
from accelsim.graph.shapes import infer
from accelsim.operators import Operator
from accelsim.operators.tensors import TensorType
from accelsim.operators.uniform import Decoding, Permuted


@dataclass(frozen=True, eq=False)
class Node:
    """One operator with the names of its dynamic inputs and its outputs."""

    name: str
    kind: str
    operator: Operator
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    exactness: str = "exact"
    """One of "exact", or "float-reference" where onnxruntime itself computes in float and may be a step away."""
    remark: str = ""
    """What the importer concluded about its operands, for people."""
    part_of: str | None = None
    """Operator of the node that this is a part of, whose values onnxruntime alone knows."""


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in topological order; types of all tensors; constants that nodes read as inputs."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    types: Mapping[str, TensorType]
    constants: Mapping[str, NDArray[np.generic]]
    nodes: tuple[Node, ...]
    decodings: Mapping[str, Decoding | Permuted] = field(default_factory=dict)
    """By tensor of codes, the float tensor of the reference that it stands for (QONNX), or that it is a transposed view
    of."""
    recast: frozenset[str] = frozenset()
    """Outputs of MatMulNBits that are products of codes here, although onnxruntime may quantise their activations once
    more."""


class GraphError(AccelSimError):
    """The graph that lowering produced breaks one of its own rules: a bug of the simulator."""


def with_widths(nodes: Sequence[Node], types: Mapping[str, TensorType]) -> dict[str, TensorType]:
    """Return the types of all tensors, those of codes that are narrower than their type with their width.

    Args:
        nodes: in topological order.
        types: as onnxruntime knows them: it has no codes of, say, three bits.
    """
    known = dict(types)
    for node in nodes:
        computed = infer(node.operator, tuple(known[name] for name in node.inputs)) or ()
        for name, kind in zip(node.outputs, computed, strict=False):
            if kind.bits is not None and kind == replace(known[name], bits=kind.bits):
                known[name] = kind
    return known


def verify(graph: Graph) -> None:
    """Check order, uniqueness and types of a graph.

    Raises:
        GraphError: a tensor is read before it is written, written twice, or has another type than its operator gives.
    """
    known = {*graph.inputs, *graph.constants}
    for node in graph.nodes:
        label = f"{node.kind} '{printable(node.name)}'"
        missing = [name for name in node.inputs if name not in known]
        if missing:
            raise GraphError(f"{label} reads '{printable(missing[0])}' before anything writes it")
        for name in node.outputs:
            if name in known:
                raise GraphError(f"{label} writes '{printable(name)}', which exists already")
            known.add(name)
        declared = tuple(graph.types[name] for name in node.outputs)
        expected = infer(node.operator, tuple(graph.types[name] for name in node.inputs))
        if expected is not None and expected != declared:
            shown = [", ".join(map(str, types)) for types in (expected, declared)]
            raise GraphError(f"{label} computes {shown[0]}, but the model says {shown[1]}")
    lost = [name for name in graph.outputs if name not in known]
    if lost:
        raise GraphError(f"nothing writes the output '{printable(lost[0])}'")
