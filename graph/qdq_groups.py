"""Groups that onnxruntime leaves in float although they are integer at heart: DQ -> float operator [-> clip] -> Q.

The optimiser keeps DequantizeLinear, the float operator and QuantizeLinear as separate nodes when it has no integer
kernel for them (16-bit activations, 4-bit weights, convolutions with a loose clip, most unary functions). Here such a
group is found in the normalised graph, so that an importer can put it on the machine as one operator.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from accelsim.graph.context import Context, NotOnTheMachineError, attributes
from accelsim.operators import CodeFormat, Operator

Floats = NDArray[np.float32]

CODES = {np.dtype(name) for name in ("uint8", "int8", "uint16", "int16")}


@dataclass(frozen=True, eq=False)
class Source:
    """A quantised operand: the tensor of codes, its scales and zero points (one, or one per index of the axis)."""

    name: str
    scales: Floats
    zero_points: NDArray[np.int64]
    axis: int

    @property
    def scale(self) -> np.float32:
        """The scale of a whole tensor.

        Raises:
            NotOnTheMachineError: there are several.
        """
        if self.scales.size != 1 or self.zero_points.size != 1:
            raise NotOnTheMachineError("an activation with several scales")
        return np.float32(self.scales[0])


@dataclass(frozen=True, eq=False)
class Group:
    """One float operator between quantised tensors.

    core: the float operator; sources: its quantised inputs by position; bounds: clip in real numbers, or None;
    output: format of the codes it ends in; output_scale: their scale; output_name: the tensor of codes; inside: tensors
    that exist only inside the group.
    """

    core: NodeProto
    sources: Mapping[int, Source]
    bounds: tuple[float, float] | None
    output: CodeFormat
    output_scale: np.float32
    output_name: str
    inside: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class GroupImport:
    """An operator, what it reads, and whether onnxruntime's float result is only its reference."""

    operator: Operator
    inputs: tuple[str, ...]
    float_reference: bool


@dataclass(frozen=True, eq=False)
class _Index:
    """Who writes and who reads each tensor."""

    producers: Mapping[str, NodeProto]
    consumers: Mapping[str, list[NodeProto]]
    outputs: frozenset[str]

    def only_consumer(self, name: str) -> NodeProto | None:
        """Return the single node that reads a tensor, None when there are others or it leaves the graph."""
        readers = self.consumers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.outputs else None


def _index(context: Context) -> _Index:
    graph = context.proto.graph
    consumers: dict[str, list[NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in dict.fromkeys(filter(None, node.input)):
            consumers[name].append(node)
    return _Index(context.producers, consumers, frozenset(value.name for value in graph.output))


def find_groups(context: Context, kinds: frozenset[str]) -> dict[str, Group]:
    """Find all groups whose float operator is one of some kinds.

    Args:
        context: the normalised graph.
        kinds: operators to look for.

    Returns:
        Groups by the name of the float operator's output.
    """
    index = _index(context)
    groups = {}
    for node in context.proto.graph.node:
        if node.op_type in kinds:
            group = _group(context, index, node)
            if group is not None:
                groups[node.output[0]] = group
    return groups


def _group(context: Context, index: _Index, core: NodeProto) -> Group | None:
    """Return the group around one float operator, if it is one."""
    outputs = [name for name in core.output if name]
    follower = index.only_consumer(outputs[0]) if len(outputs) == 1 else None
    bounds, inside = None, outputs
    if follower is not None and follower.op_type in ("Relu", "Clip"):
        bounds, inside = clip_bounds(context, follower), [*outputs, follower.output[0]]
        follower = index.only_consumer(follower.output[0]) if bounds is not None else None
    if follower is None or follower.op_type != "QuantizeLinear":
        return None
    sources = {
        position: source
        for position, name in enumerate(core.input)
        if (source := _source(context, index.producers.get(name))) is not None
    }
    if not any(source.name not in context.constants for source in sources.values()):
        return None
    output = _output(context, follower)
    return None if output is None else Group(core, sources, bounds, *output, follower.output[0], tuple(inside))


def _source(context: Context, node: NodeProto | None) -> Source | None:
    """Read a DequantizeLinear with constant parameters, blocked ones excluded."""
    if node is None or node.op_type != "DequantizeLinear" or node.input[1] not in context.constants:
        return None
    scales = context.constants[node.input[1]]
    zero = context.constants.get(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1, np.int64)
    if zero is None or scales.ndim > 1 or scales.dtype != np.float32:
        return None
    axis = int(attributes(node).get("axis", 1))
    return Source(node.input[0], scales.reshape(-1).astype(np.float32), zero.reshape(-1).astype(np.int64), axis)


def _output(context: Context, node: NodeProto) -> tuple[CodeFormat, np.float32] | None:
    """Read a QuantizeLinear with one constant scale."""
    try:
        scale, zero_point = context.scale(node, 1), context.zero_point(node, 2)
    except NotOnTheMachineError:
        return None
    dtype = context.types[node.output[0]].dtype
    return (CodeFormat(dtype, zero_point), scale) if dtype in CODES else None


def quantised_operand(context: Context, group: Group, position: int) -> tuple[Source, CodeFormat]:
    """Return a quantised operand of one scale, and its format.

    Args:
        context: the normalised graph.
        group: the group.
        position: input position of its float operator.

    Raises:
        NotOnTheMachineError: the operand is not quantised, or has several scales.
    """
    source = group.sources.get(position)
    if source is None:
        raise NotOnTheMachineError(f"input {position} is not quantised")
    source.scale  # noqa: B018 - raises for several scales
    return source, CodeFormat(context.types[source.name].dtype, int(source.zero_points[0]))


def clip_bounds(context: Context, node: NodeProto) -> tuple[float, float] | None:
    """Return the bounds of a Relu or Clip with constant limits, None when they are computed."""
    if node.op_type == "Relu":
        return 0.0, float("inf")
    bounds = [float("-inf"), float("inf")]
    for position in (1, 2):
        if position < len(node.input) and node.input[position]:
            value = context.constants.get(node.input[position])
            if value is None:
                return None
            bounds[position - 1] = float(value.reshape(-1)[0])
    return bounds[0], bounds[1]
