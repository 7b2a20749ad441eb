"""Where codes step: the float chain between an accumulator and the next quantiser, turned into integer thresholds.

What stands between (batch normalisation, scales, biases, Relu) and the quantiser itself are monotone functions of one
accumulator, one per channel. Their thresholds are found by bisection over the accumulators that can occur, each point
evaluated by onnxruntime's own float kernels: no formula of ours stands between the file and the thresholds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from accelsim.graph.context import Context, attributes
from accelsim.graph.qonnx.expand import ExpandedQuantiser
from accelsim.graph.quantised.tensor import NotOnTheMachineError
from accelsim.operators import HostOperator
from accelsim.operators.thresholds import UNREACHED
from accelsim.reference.host import run_host_operator

Integers = NDArray[np.int64]
Floats = NDArray[np.float32]
Constants = Mapping[str, NDArray[np.generic]]

# Operators that are monotone in one operand whatever their constants are; rounding to float32 keeps that.
_BINARY = frozenset({"Add", "Sub", "Mul", "Div", "Min", "Max", "PRelu"})
_MONOTONE = frozenset({"Relu", "LeakyRelu", "Clip", "Neg", "Identity", "Floor", "Ceil", "Round", "Sign", "Dropout"})
# Operators whose kernels need not be monotone to the last bit: every accumulator that can occur is evaluated.
_SCANNED = frozenset({"Sigmoid", "Tanh", "Erf", "HardSigmoid", "Softsign", "Exp", "Sqrt", "HardSwish", "Gelu", "Abs"})
_LARGEST_SCAN = 1 << 22

_POINTS = "points"


@dataclass(frozen=True, eq=False)
class Channels:
    """Layout of a tensor of accumulators: its rank, the axis of channels and how many there are."""

    rank: int
    axis: int
    count: int

    def fits(self, array: NDArray[np.generic]) -> bool:
        """Tell whether a constant is one value, or one per channel, when it is broadcast to the tensor."""
        if array.ndim > self.rank:
            return False
        shape = (1,) * (self.rank - array.ndim) + array.shape
        return all(size == 1 for axis, size in enumerate(shape) if axis != self.axis)


@dataclass(frozen=True, eq=False)
class Steps:
    """Thresholds of every channel: y = first + step * #{t <= A} (see accelsim.operators.Threshold)."""

    thresholds: Integers
    first: NDArray[np.int32]
    step: NDArray[np.int32]
    lowest: int
    highest: int


def joins_chain(node: NodeProto, name: str, channels: Channels, constants: Constants) -> bool:
    """Tell whether a node is a function of one accumulator per channel.

    Args:
        node: the only reader of a tensor.
        name: that tensor.
        channels: its layout.
        constants: values that are known before the run.
    """
    others = [value for value in node.input if value and value != name]
    if list(node.input).count(name) != 1 or any(value not in constants for value in others):
        return False
    if node.op_type == "BatchNormalization":
        training = attributes(node).get("training_mode", 0)
        return channels.axis == 1 and not training and len(list(filter(None, node.output))) == 1
    if node.op_type in _BINARY:
        if node.op_type == "Div" and node.input[0] != name:
            return False
        small = all(channels.fits(constants[value]) for value in others)
        slopes = node.op_type != "PRelu" or all(
            bool((constants[value].astype(np.float32) >= 0).all()) for value in others
        )
        return small and slopes
    if node.op_type == "LeakyRelu":
        return float(attributes(node).get("alpha", 0.01)) >= 0
    one = len(list(filter(None, node.output))) == 1
    return one and node.op_type in _MONOTONE | _SCANNED and node.domain in ("", "ai.onnx")


class ChainEvaluator:
    """onnxruntime on a chain of nodes, its input one value per channel and point."""

    def __init__(
        self, nodes: Sequence[NodeProto], ends: tuple[str, str], channels: Channels, constants: Constants, opset: int
    ) -> None:
        """Build the chain's model.

        Args:
            nodes: the chain, in order.
            ends: its first input and its last output.
            channels: layout of its input.
            constants: values of all other inputs.
            opset: version of the operators.
        """
        self._channels = channels
        shape: list[int | str] = [1] * channels.rank
        shape[0], shape[channels.axis] = _POINTS, channels.count
        produced = {name for node in nodes for name in node.output} | {ends[0]}
        wanted = dict.fromkeys(name for node in nodes for name in node.input if name and name not in produced)
        graph = helper.make_graph(
            list(nodes),
            "chain",
            [helper.make_tensor_value_info(ends[0], TensorProto.FLOAT, shape)],
            [helper.make_empty_tensor_value_info(ends[1])],
            [numpy_helper.from_array(np.ascontiguousarray(constants[name]), name) for name in wanted],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        self._operator = HostOperator("chain", model.SerializeToString(), (ends[0],), (ends[1],))

    def __call__(self, values: Floats) -> Integers:
        """Return the codes of values[points, channels]."""
        shape = [1] * self._channels.rank
        shape[0], shape[self._channels.axis] = values.shape
        result = run_host_operator(self._operator, [values.reshape(shape)])[0]
        if result.size != values.size:
            raise NotOnTheMachineError("a chain that is not element by element")
        return result.reshape(values.shape).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Chain:
    """What follows a tensor: float nodes, then a quantiser; nodes holds them all up to the quantiser's codes."""

    nodes: tuple[NodeProto, ...]
    quantiser: ExpandedQuantiser

    @property
    def inside(self) -> tuple[str, ...]:
        """Tensors that exist only inside, the quantiser's output included."""
        written = [name for node in self.nodes for name in node.output]
        return (*written, *self.quantiser.inside, self.quantiser.output)


class Follower:
    """Finds the quantiser that a tensor of sums leads to, if nothing else reads what is between."""

    def __init__(
        self,
        context: Context,
        quantisers: Sequence[ExpandedQuantiser],
        readers: Mapping[str, Sequence[NodeProto]],
        outputs: Sequence[str],
    ) -> None:
        """Index the graph.

        Args:
            context: the literal graph; its constants are those known before the run.
            quantisers: the quantisers of the graph.
            readers: who reads each tensor.
            outputs: the graph's outputs.
        """
        self.context = context
        self._by_node = {name: quantiser for quantiser in quantisers for name in quantiser.inside}
        self._writers = {node.output[0]: node for node in context.proto.graph.node}
        self._readers = readers
        self._outputs = frozenset(outputs)

    def follow(self, name: str, channels: Channels) -> Chain | None:
        """Return what follows a tensor, or None when no quantiser does.

        Args:
            name: the tensor.
            channels: its layout.
        """
        nodes: list[NodeProto] = []
        while name not in self._outputs and len(self._readers.get(name, ())) == 1:
            node = self._readers[name][0]
            quantiser = self._by_node.get(node.output[0])
            if quantiser is not None:
                return self._closed(nodes, quantiser, channels) if quantiser.source == name else None
            if not joins_chain(node, name, channels, self.context.constants):
                return None
            nodes.append(node)
            name = node.output[0]
        return None

    def _closed(self, nodes: list[NodeProto], quantiser: ExpandedQuantiser, channels: Channels) -> Chain | None:
        """Append the quantiser's own nodes, up to its codes."""
        uniform = quantiser.quantiser
        if not all(channels.fits(part) for part in (uniform.scale, uniform.zero_point, uniform.step, uniform.zero)):
            return None
        last = quantiser.inside.index(quantiser.code)
        own = [self._writers[name] for name in quantiser.inside[: last + 1]]
        return Chain((*nodes, *own), quantiser)


def needs_scan(nodes: Sequence[NodeProto]) -> bool:
    """Tell whether every accumulator has to be looked at, since a kernel may not be monotone."""
    return any(node.op_type in _SCANNED for node in nodes)


def find_steps(
    codes: Callable[[Integers], Integers], lowest: Integers, highest: Integers, stride: int, *, scan: bool
) -> Steps:
    """Find the accumulators at which the codes of each channel step.

    Args:
        codes: gives the codes of accumulators int64[points, channels].
        lowest: smallest accumulator of each channel, int64[channels].
        highest: largest one.
        stride: distance of neighbouring codes, 2 for bipolar ones.
        scan: look at every accumulator instead of trusting that the codes are monotone.

    Raises:
        NotOnTheMachineError: the codes of a channel rise and fall, or there is too much to scan.
    """
    first, last = codes(lowest[None])[0], codes(highest[None])[0]
    if scan:
        _demand_monotone(codes, lowest, highest)
    sign = np.where(last >= first, 1, -1)
    counts = np.abs(last - first) // stride
    levels = int(counts.max(initial=0))
    number = np.arange(1, levels + 1)[:, None]
    wanted = number <= counts
    low = np.broadcast_to(lowest, (levels, lowest.size)).copy()
    high = np.broadcast_to(highest, (levels, lowest.size)).copy()
    while levels and (wanted & (high - low > 1)).any():
        middle = low + (high - low) // 2
        reached = sign * (codes(middle) - first) >= stride * number
        high = np.where(reached, middle, high)
        low = np.where(reached, low, middle)
    thresholds = np.where(wanted, high, UNREACHED).T
    ends = np.stack([first, last])
    return Steps(
        np.ascontiguousarray(thresholds, np.int64),
        first.astype(np.int32),
        (sign * stride).astype(np.int32),
        int(ends.min()),
        int(ends.max()),
    )


def _demand_monotone(codes: Callable[[Integers], Integers], lowest: Integers, highest: Integers) -> None:
    """Evaluate every accumulator, and refuse codes that rise and fall."""
    points = int((highest - lowest).max(initial=0)) + 1
    if points * lowest.size > _LARGEST_SCAN:
        raise NotOnTheMachineError("too many accumulators to look at")
    grid = np.minimum(lowest + np.arange(points)[:, None], highest)
    moves = np.diff(codes(grid), axis=0)
    if ((moves > 0).any(axis=0) & (moves < 0).any(axis=0)).any():
        raise NotOnTheMachineError("codes that rise and fall")
