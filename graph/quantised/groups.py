"""Groups around float operators of quantised tensors: what they read as codes, and what their readers make of them.

The optimiser keeps DequantizeLinear, the float operator and QuantizeLinear as separate nodes when it has no integer
kernel for them (16-bit activations, 4-bit weights, convolutions with a loose clip, most unary functions, quantisers at
the inputs only). Here such a group is found in the normalised graph, so that an importer can put it on the machine as
one operator. A contraction of codes is a group whoever reads its result; other operators are one only in front of a
quantiser.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from accelsim.graph.context import FLOAT_PRODUCTS, Context, Prelude
from accelsim.graph.load.operator_checks import BLOCKED_DOMAIN
from accelsim.graph.quantised.analysis import CODES, Quantisation
from accelsim.graph.quantised.clips import clip_bounds
from accelsim.graph.quantised.tensor import NotOnTheMachineError, QuantisedTensor
from accelsim.operators import CodeFormat, Operator

Floats = NDArray[np.float32]

# Float operators that are integer at heart wherever their operands are codes.
CONTRACTIONS = FLOAT_PRODUCTS | {"MatMulNBits"}


@dataclass(frozen=True, eq=False)
class Quantised:
    """The quantiser that a group ends in: format and scale of the codes, and the tensors that hold them.

    aliases: other quantisers with the same parameters write the same codes once more.
    """

    code: CodeFormat
    scale: np.float32
    name: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Group:
    """One float operator that reads quantised tensors."""

    core: NodeProto
    """The float operator."""
    sources: Mapping[int, QuantisedTensor]
    """Its quantised inputs by position."""
    bounds: tuple[float, float] | None
    """Clip in real numbers, or None."""
    ending: Quantised | None
    """The quantiser that alone reads it, None where its result stays float."""
    inside: tuple[str, ...]
    """Tensors that exist only inside the group."""

    @property
    def quantised(self) -> Quantised:
        """The quantiser at the end.

        Raises:
            NotOnTheMachineError: there is none.
        """
        if self.ending is None:
            raise NotOnTheMachineError("a float result")
        return self.ending

    @property
    def output(self) -> CodeFormat:
        """Format of the codes that the group ends in."""
        return self.quantised.code

    @property
    def output_scale(self) -> np.float32:
        """Their scale."""
        return self.quantised.scale

    def as_float(self) -> Group:
        """Return the operator alone, its result float for whoever reads it."""
        return replace(self, bounds=None, ending=None, inside=())


@dataclass(frozen=True, eq=False)
class GroupImport:
    """An operator, what it reads, and whether onnxruntime's float result is only its reference."""

    operator: Operator
    inputs: tuple[str, ...]
    float_reference: bool
    result: str = ""
    """Name of what it writes where that is no tensor of the graph: then the steps make of it what the group gives."""
    steps: tuple[Prelude, ...] = ()
    remark: str = ""
    """What is multiplied, in words."""
    floating: bool = False
    """The quantiser at the end of the group is not part of it after all."""


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


def find_groups(context: Context, found: Quantisation, kinds: frozenset[str]) -> dict[str, Group]:
    """Find all groups whose float operator is one of some kinds.

    Args:
        context: the normalised graph.
        found: its quantised tensors.
        kinds: operators to look for.

    Returns:
        Groups by the name of the float operator's output.
    """
    index = _index(context)
    groups = {}
    for node in context.proto.graph.node:
        if node.op_type in kinds and node.domain != BLOCKED_DOMAIN:
            group = _group(context, found, index, node)
            if group is not None:
                groups[node.output[0]] = group
    return groups


def _group(context: Context, found: Quantisation, index: _Index, core: NodeProto) -> Group | None:
    """Return the group around one float operator, if it is one."""
    contraction = core.op_type in CONTRACTIONS
    outputs = [name for name in core.output if name]
    sources = {
        position: source
        for position, name in enumerate(core.input)
        if (source := found.get(name)) is not None and (contraction or (source.exact and not source.block))
    }
    if len(outputs) != 1 or all(found.is_constant(source) for source in sources.values()):
        return None
    if contraction and not ({0} if core.op_type == "MatMulNBits" else {0, 1}) <= sources.keys():
        return None
    bounds, inside = None, [outputs[0]]
    follower = index.only_consumer(outputs[0])
    if follower is not None and follower.op_type in ("Relu", "Clip"):
        bounds = clip_bounds(follower, context.constants.get)
        if bounds is not None:
            inside.append(follower.output[0])
            follower = index.only_consumer(follower.output[0])
    if contraction and follower is not None and follower.op_type == "Cast":
        inside.append(follower.output[0])
    ending = _ending(context, found, index, inside[-1], contraction)
    if ending is not None:
        return Group(core, sources, bounds, ending, tuple(inside))
    return Group(core, sources, None, None, ()) if contraction else None


def _ending(context: Context, found: Quantisation, index: _Index, name: str, contraction: bool) -> Quantised | None:
    """Return the quantiser that is all that reads a tensor, also where there are several of the same parameters."""
    readers = index.consumers.get(name, [])
    if not readers or name in index.outputs or any(node.op_type != "QuantizeLinear" for node in readers):
        return None
    ends = [_quantiser(context, found, node, contraction) for node in readers]
    first = ends[0]
    if first is None or any(end is None or (end.code, end.scale) != (first.code, first.scale) for end in ends):
        return None
    return replace(first, aliases=tuple(node.output[0] for node in readers[1:]))


def _quantiser(context: Context, found: Quantisation, node: NodeProto, contraction: bool) -> Quantised | None:
    """Read a QuantizeLinear with one constant scale, of float16 only behind a contraction, never exact anyway."""
    parameters = [found.folder.value(name) for name in node.input[1:] if name]
    dtype = context.types[node.output[0]].dtype
    if any(value is None or value.size != 1 for value in parameters) or dtype not in CODES:
        return None
    scale, *zero = (value.reshape(-1) for value in parameters if value is not None)
    if scale.dtype != np.float32 and not contraction:
        return None
    code = CodeFormat(dtype, int(zero[0][0]) if zero else 0)
    return Quantised(code, np.float32(scale[0]), node.output[0])


def quantised_operand(context: Context, group: Group, position: int) -> tuple[QuantisedTensor, CodeFormat]:
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
    return source, context.format_of(source.name, source.zero)
