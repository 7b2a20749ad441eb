"""GELU as exporters write it: a chain of steps around Erf or Tanh, found by its values and written as one operator.

One function of one tensor becomes one table on the machine; of a chain, each step would be rounded to codes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

Reals = NDArray[np.float64]

OLDEST_OPSET = 20  # with Gelu
_LONGEST_CHAIN = 12  # steps
_TOLERANCE = 2e-5  # of constants with five digits; the two kinds of GELU are 5e-4 apart
_POINTS: Reals = np.linspace(-9, 9, 145)


def _erf(values: Reals) -> Reals:
    """Return the error function, which numpy lacks."""
    return np.array([math.erf(value) for value in values.reshape(-1)]).reshape(values.shape)


_STEPS: Mapping[str, Callable[..., Any]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Pow": np.power, "Neg": np.negative,
    "Sqrt": np.sqrt, "Identity": np.positive, "Tanh": np.tanh, "Erf": _erf,
}  # fmt: skip
_NUMBERS = (TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64)  # of exponents, too
_CORES = ("Erf", "Tanh")
_KINDS: Mapping[str, Reals] = {
    "none": 0.5 * _POINTS * (1 + _erf(_POINTS / math.sqrt(2))),
    "tanh": 0.5 * _POINTS * (1 + np.tanh(math.sqrt(2 / math.pi) * (_POINTS + 0.044715 * _POINTS**3))),
}


class _Chains:
    """A graph as chains of element-wise steps: who writes and reads what, and constants of one element."""

    def __init__(self, graph: GraphProto) -> None:
        self.producers = {name: node for node in graph.node for name in node.output}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.scalars = {
            tensor.name: numpy_helper.to_array(tensor).astype(np.float64).reshape(())
            for tensor in graph.initializer
            if tensor.data_type in _NUMBERS and math.prod(tensor.dims) == 1 and len(tensor.dims) <= 1
        }

    def sources(self, core: NodeProto) -> Iterator[str]:
        """Yield the tensors that a step may be a function of, nearest first."""
        waiting = [core.input[0]]
        for _ in range(_LONGEST_CHAIN):
            if not waiting:
                return
            name = waiting.pop(0)
            yield name
            node = self.producers.get(name)
            if node is not None and node.op_type in _STEPS:
                waiting += [each for each in node.input if each not in self.scalars and each not in waiting]

    def values(self, source: str) -> dict[str, Reals]:
        """Return the tensors that are functions of one, with their values where it takes the points."""
        known = {source: _POINTS}
        waiting = [source]
        while waiting and len(known) <= _LONGEST_CHAIN:
            for node in self.readers.get(waiting.pop(0), ()):
                computable = node.op_type in _STEPS and all(
                    name in known or name in self.scalars for name in node.input
                )
                if computable and node.output[0] not in known:
                    operands = [known[name] if name in known else self.scalars[name] for name in node.input]
                    known[node.output[0]] = np.broadcast_to(_STEPS[node.op_type](*operands), _POINTS.shape)
                    waiting += [node.output[0], *known]  # a step may have waited for its other operand
        return known


def find_gelus(graph: GraphProto) -> dict[str, tuple[str, str]]:
    """Return the chains that are a GELU: by the tensor that they end in, the one that they start from, and the kind.

    Args:
        graph: with the constants folded.
    """
    chains, found = _Chains(graph), {}
    with np.errstate(all="ignore"):
        for core in (node for node in graph.node if node.op_type in _CORES):
            for source in chains.sources(core):
                values = chains.values(source)
                ends = (
                    (name, kind)
                    for name, reals in values.items()
                    for kind, wanted in _KINDS.items()
                    if name != source and core.output[0] in values and np.allclose(reals, wanted, 0, _TOLERANCE)
                )
                end = next(ends, None)
                if end is not None:
                    found[end[0]] = source, end[1]
                    break
    return found


def write_gelus(graph: GraphProto) -> None:
    """Write every chain that is a GELU as one operator, and drop its steps where nothing else reads them.

    Args:
        graph: changed in place; its operator set has Gelu.
    """
    for target, (source, kind) in find_gelus(graph).items():
        place, last = next((i, node) for i, node in enumerate(graph.node) if target in node.output)
        fresh = helper.make_node("Gelu", [source], [target], last.name)  # its last step gives the name
        if kind != "none":
            fresh.attribute.append(helper.make_attribute("approximate", kind))
        graph.node[place].CopyFrom(fresh)
    _drop_unread(graph)


def _drop_unread(graph: GraphProto) -> None:
    """Drop element-wise steps that nothing reads any more."""
    outputs = {value.name for value in graph.output}
    while True:
        read = {name for node in graph.node for name in node.input} | outputs
        unread = [node for node in graph.node if node.op_type in _STEPS and read.isdisjoint(node.output)]
        if not unread:
            break
        for node in unread:
            graph.node.remove(node)
    read = {name for node in graph.node for name in node.input} | outputs
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
