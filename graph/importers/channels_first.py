"""Channels-last operators in the channels-first form that the rest of the import knows.

A file that onnxruntime saved at ORT_ENABLE_ALL holds its own layout: com.microsoft QLinearConv, QLinearAveragePool and
QLinearGlobalAveragePool with channels_last, NhwcMaxPool, and a Transpose at every border. Here each becomes the same
operator on channels first, and so does what stands between them and looks at elements only; pairs of inverse Transposes
are gone then, and the machine executes the same layers as for the file before that pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from accelsim.graph.context import attributes
from accelsim.graph.load.loader import copy_model
from accelsim.graph.load.operator_checks import is_channels_last
from accelsim.operators.tensors import TensorType
from accelsim.operators.uniform import Permuted

# Operators without an axis, whose results do not depend on where an element stands.
_ELEMENTWISE = frozenset(
    {
        "QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu", "QLinearWhere", "Where", "Add", "Sub", "Mul",
        "Div", "Max", "Min", "Sum", "PRelu", "Sigmoid", "Tanh", "Erf", "Exp", "Sqrt", "Gelu", "QuickGelu", "Relu",
        "Clip", "Abs", "HardSigmoid", "HardSwish", "Reciprocal", "Neg", "Floor", "Ceil", "Round", "Softsign",
        "LeakyRelu", "Sign", "ThresholdedRelu", "Shrink", "Identity", "Cast",
    }
)  # fmt: skip

# Operators with one axis, and its default.
_ALONG_AXIS = {"QuantizeLinear": 1, "DequantizeLinear": 1, "Concat": 0, "QLinearConcat": 0, "Split": 0}

_SMALLEST_RANK = 3  # batch, channels, and an axis that they can change places with


@dataclass(frozen=True, eq=False)
class ChannelsFirst:
    """A graph without channels-last operators.

    proto: the graph; types: of all its tensors; views: by tensor that only this graph has, the one that it is a
    transposed view of.
    """

    proto: ModelProto
    types: Mapping[str, TensorType]
    views: Mapping[str, Permuted] = field(default_factory=dict)


def with_channels_first(proto: ModelProto, types: Mapping[str, TensorType]) -> ChannelsFirst:
    """Rewrite a normalised graph; one without channels-last operators is given back as it is.

    Args:
        proto: the graph that onnxruntime executes, unchanged.
        types: types of its inputs and of what its nodes produce.
    """
    if not any(map(is_channels_last, proto.graph.node)):
        return ChannelsFirst(proto, types)
    rewriter = _Rewriter(proto, dict(types))
    for node in proto.graph.node:
        rewriter.take(node)
    copy = copy_model(proto, lambda tensor: tensor)
    del copy.graph.node[:]
    copy.graph.node.extend(rewriter.read_nodes())
    copy.graph.initializer.extend(rewriter.added)
    return ChannelsFirst(copy, rewriter.types, rewriter.views)


def _to_first(rank: int) -> tuple[int, ...]:
    """Return the permutation that moves the last axis behind the first one."""
    return (0, rank - 1, *range(1, rank - 1))


def _to_last(rank: int) -> tuple[int, ...]:
    """Return the inverse permutation."""
    return (0, *range(2, rank), 1)


def _permutation(node: NodeProto) -> tuple[int, ...]:
    """Return the permutation that a Transpose states, () for other nodes and for one that reverses the axes."""
    return tuple(attributes(node).get("perm", ())) if node.op_type == "Transpose" else ()


def _is_order(permutation: tuple[int, ...], order: Callable[[int], tuple[int, ...]]) -> bool:
    """Tell whether a permutation moves the channels to the end, or back from there."""
    return len(permutation) >= _SMALLEST_RANK and permutation == order(len(permutation))


@dataclass(eq=False)
class _Rewriter:
    """One walk over the graph.

    first: by tensor, its channels-first form; same: by tensor that is no longer written, the one that equals it;
    wanted: tensors that something reads with channels first; existing: by tensor, the name that the graph itself has
    for its channels-first form; turned: by result of another Transpose, what it reads and how; written: names in use.
    """

    proto: ModelProto
    types: dict[str, TensorType]
    views: dict[str, Permuted] = field(default_factory=dict)
    added: list[TensorProto] = field(default_factory=list)
    nodes: list[NodeProto] = field(default_factory=list)
    first: dict[str, str] = field(default_factory=dict)
    same: dict[str, str] = field(default_factory=dict)
    turned: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        graph = self.proto.graph
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.outputs = {value.name for value in graph.output}
        self.written |= self.types.keys() | self.constants.keys()
        self.existing: dict[str, str] = {}
        self.wanted: set[str] = set()
        for node in reversed(graph.node):
            if is_channels_last(node) or len(_permutation(node)) >= _SMALLEST_RANK:
                self.wanted.add(node.input[0])
            elif self._passes_on(node) and any(name in self.wanted for name in node.output):
                self.wanted.update(node.input)
            if _is_order(_permutation(node), _to_first):
                self.existing[node.input[0]] = node.output[0]

    def take(self, node: NodeProto) -> None:
        """Add what stands for a node of the graph."""
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [self.same.get(name, name) for name in node.input]
        order = _permutation(copy)
        if order and copy.input[0] in self.first:
            self._turn(copy, order)
        elif is_channels_last(copy):
            self._convert(copy, [self._first_form(copy.input[0]), *copy.input[1:]])
            _make_channels_first(copy)
        elif self._is_worth_it(copy):
            self._convert(copy, [self._operand(copy, name) for name in copy.input])
            _move_axis(copy, len(self.types[copy.output[0]].shape))
        else:
            self.nodes.append(copy)
            self.existing = {name: known for name, known in self.existing.items() if known not in copy.output}
            if _is_order(order, _to_last):
                self.first[copy.output[0]] = copy.input[0]
            elif order:
                self.turned[copy.output[0]] = copy.input[0], order

    def _turn(self, node: NodeProto, order: tuple[int, ...]) -> None:
        """Let a Transpose read channels first: then it often is none, and its result a tensor that is there already."""
        known, name = self.first[node.input[0]], node.output[0]
        to_last = _to_last(len(order))
        turned = [to_last[axis] for axis in order]
        if turned != sorted(turned):
            node.input[0] = known
            del node.attribute[:]
            node.attribute.append(helper.make_attribute("perm", turned))
            self.nodes.append(node)
            return
        if known == name:
            return
        self.same[name] = known
        if name in self.outputs:
            self.nodes.append(helper.make_node("Identity", [known], [name], name=f"{name}/Identity"))

    def _convert(self, node: NodeProto, inputs: Sequence[str]) -> None:
        """Add a node that reads and writes channels first, and the way back to the tensors of the graph."""
        results = list(node.output)
        node.input[:] = inputs
        node.output[:] = [self._new_form(name) if name else "" for name in results]
        self.nodes.append(node)
        for name, form in zip(results, node.output, strict=True):
            if name:
                self.nodes.append(_transpose(form, name, _to_last(len(self.types[name].shape))))

    def _new_form(self, name: str) -> str:
        """Name the channels-first form of a tensor, as the graph itself does where it has it."""
        form = self.existing.get(name, "")
        kind = self.types[name]
        order = _to_first(len(kind.shape))
        if not form:
            form = self._fresh(name)
            self.types[form] = TensorType.of(kind.dtype, tuple(kind.shape[axis] for axis in order))
            self.views[form] = Permuted(name, order, kind.dtype)
        self.first[name] = form
        return form

    def _fresh(self, name: str) -> str:
        """Return a name that nothing has."""
        form = f"{name}/channels_first"
        while form in self.written:
            form += "'"
        self.written.add(form)
        return form

    def _first_form(self, name: str) -> str:
        """Return the channels-first form of a tensor, transposed where it is not there yet."""
        if name in self.first:
            return self.first[name]
        if name in self.constants:
            return self._constant(name, len(self.constants[name].dims))
        form = self._new_form(name)
        source, order = self.turned.get(name, (name, tuple(range(len(self.types[name].shape)))))
        self.nodes.append(_transpose(source, form, [order[axis] for axis in _to_first(len(order))]))
        return form

    def _constant(self, name: str, rank: int) -> str:
        """Add the channels-first form of a constant that is broadcast to a rank."""
        array = numpy_helper.to_array(self.constants[name])
        whole = array.reshape((1,) * (rank - array.ndim) + array.shape)
        form = self._fresh(name)
        moved = np.ascontiguousarray(whole.transpose(_to_first(rank)))
        self.added.append(numpy_helper.from_array(moved, form))
        self.first[name] = form
        return form

    def _passes_on(self, node: NodeProto) -> bool:
        """Tell whether a node may be executed on any layout."""
        return node.domain in ("", "ai.onnx", "com.microsoft") and (
            node.op_type in _ELEMENTWISE or node.op_type in _ALONG_AXIS
        )

    def _is_worth_it(self, node: NodeProto) -> bool:
        """Tell whether a node between layers is executed on channels first: it can be, and that saves a Transpose."""
        if not self._passes_on(node) or attributes(node).get("block_size"):
            return False
        rank = len(self.types[node.output[0]].shape)
        forms = {name for name in node.input if name in self.first and name not in self.constants}
        if rank < _SMALLEST_RANK or not forms or not all(self._fits(node, name, rank) for name in node.input):
            return False
        if node.op_type == "QLinearAdd" and not self._adds_alike(node):
            return False
        return len(forms) > 1 or any(name in self.wanted for name in node.output)

    def _fits(self, node: NodeProto, name: str, rank: int) -> bool:
        """Tell whether an operand has the rank of the result, or is constant, or one value."""
        return not name or name in self.constants or self._elements(name) == 1 or len(self.types[name].shape) == rank

    def _adds_alike(self, node: NodeProto) -> bool:
        """Tell whether onnxruntime adds the same way in both layouts, which a broadcast in the last axis decides."""
        first, second = node.input[0], node.input[3]
        if 1 in (self._elements(first), self._elements(second)):
            return True
        return self._shape(first) == self._shape(second)

    def _shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.constants[name].dims) if name in self.constants else self.types[name].shape

    def _elements(self, name: str) -> int:
        return int(np.prod(self._shape(name), dtype=np.int64))

    def _operand(self, node: NodeProto, name: str) -> str:
        """Return what a node on channels first reads in place of an operand."""
        if not name or (name not in self.first and self._elements(name) == 1):
            return name
        if name not in self.constants:
            return self._first_form(name)
        rank = len(self.types[node.output[0]].shape) if node.op_type in _ELEMENTWISE else len(self._shape(name))
        return self._constant(name, rank) if rank >= _SMALLEST_RANK else name  # scales per channel, sizes of pieces

    def read_nodes(self) -> Iterator[NodeProto]:
        """Yield the nodes whose results something reads: most ways back to the graph's own tensors lead nowhere."""
        read = set(self.outputs)
        kept = []
        for node in reversed(self.nodes):
            if any(name in read for name in node.output):
                kept.append(node)
                read.update(node.input)
        yield from reversed(kept)


def _transpose(source: str, target: str, order: Sequence[int]) -> NodeProto:
    """Return a Transpose, named by what it writes."""
    return helper.make_node("Transpose", [source], [target], name=f"{target}/Transpose", perm=list(order))


def _make_channels_first(node: NodeProto) -> None:
    """Make the operator on channels first of one on channels last."""
    kept = [attribute for attribute in node.attribute if attribute.name != "channels_last"]
    del node.attribute[:]
    node.attribute.extend(kept)
    if node.op_type == "NhwcMaxPool":
        node.op_type, node.domain = "MaxPool", ""


def _move_axis(node: NodeProto, rank: int) -> None:
    """Let a node that looks along one axis find it where it is with channels first."""
    if node.op_type not in _ALONG_AXIS:
        return
    given = attributes(node)
    axis = int(given.get("axis", _ALONG_AXIS[node.op_type]))
    kept = [attribute for attribute in node.attribute if attribute.name != "axis"]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute("axis", _to_last(rank)[axis % rank])])
