"""Integer sums that stand for a float node, and what follows them: thresholds up to the next quantiser, or a scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from accelsim.graph.context import Context
from accelsim.graph.qonnx.chain import Chain, ChainEvaluator, Channels, Follower, find_steps, needs_scan
from accelsim.graph.qonnx.codes import codes_of
from accelsim.graph.qonnx.grid import Codes, ConstantGrid, Sums
from accelsim.graph.quantised.tensor import NotOnTheMachineError
from accelsim.operators import CodeFormat, Epilogue, Operator, Rescale
from accelsim.operators.thresholds import Threshold

Floats = NDArray[np.float32]
AllCodes = Mapping[str, Codes]
AllGrids = Mapping[str, ConstantGrid]


@dataclass(frozen=True, eq=False)
class Head:
    """Float nodes from a tensor of sums to a node's output, with constants of their own."""

    nodes: tuple[NodeProto, ...]
    entry: str
    constants: Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, eq=False)
class Summed:
    """A node as integer sums.

    output: the reference's tensor; sums: their unit and bounds; channels: their layout; inputs: tensors of codes; make:
    builds the operator around an epilogue; bias: added in float32 behind the sums, one per channel; head: what the node
    does in float32 with a sum, if more than adding the bias; writes_floats: whether sums and bias give the output.
    """

    output: str
    sums: Sums
    channels: Channels
    inputs: tuple[str, ...]
    make: Callable[[Epilogue], Operator]
    bias: Floats | None = None
    head: Head | None = None
    writes_floats: bool = True


@dataclass(frozen=True, eq=False)
class Fused:
    """An operator of the machine; codes: what it writes, None for floats; inside: tensors that it swallows."""

    operator: Operator
    inputs: tuple[str, ...]
    codes: Codes | None
    inside: tuple[str, ...]
    exact: bool


def fuse(source: Summed, follower: Follower) -> Fused:
    """Put sums on the machine: thresholds where a quantiser follows, else floats.

    Raises:
        NotOnTheMachineError: neither is possible.
    """
    chain = follower.follow(source.output, source.channels)
    if chain is not None:
        try:
            return _with_thresholds(source, chain, follower.context)
        except NotOnTheMachineError:
            pass
    if not source.writes_floats:
        raise NotOnTheMachineError("no quantiser follows")
    epilogue = Rescale(source.sums.unit.astype(np.float32), source.bias)
    return Fused(source.make(epilogue), source.inputs, None, (), source.sums.exact)


def _with_thresholds(source: Summed, chain: Chain, context: Context) -> Fused:
    """Turn the float chain behind sums into thresholds on them."""
    head = _bias_head(source) if source.bias is not None else source.head
    nodes, entry, constants = chain.nodes, source.output, dict(context.constants)
    if head is not None:
        nodes, entry = (*head.nodes, *nodes), head.entry
        constants |= head.constants
    ends = entry, chain.quantiser.code
    evaluate = ChainEvaluator(nodes, ends, source.channels, constants, context.opset)
    quantiser = chain.quantiser.quantiser
    sums = source.sums
    steps = find_steps(
        lambda points: evaluate(sums.values(points)),
        sums.lowest,
        sums.highest,
        2 if quantiser.bipolar else 1,
        scan=needs_scan(chain.nodes),
    )
    if not quantiser.clips:
        span = steps.highest - steps.lowest
        if span >= 1 << quantiser.bits or min(abs(steps.lowest), abs(steps.highest)) > 255:
            raise NotOnTheMachineError("truncated codes wider than they claim")
        quantiser = replace(quantiser, lowest=steps.lowest, highest=steps.highest)
    codes = codes_of(chain.quantiser.output, quantiser)
    written = CodeFormat(codes.decoding.dtype, 0, codes.limits, codes.bits)
    epilogue = Threshold(steps.thresholds, steps.first, steps.step, written)
    return Fused(source.make(epilogue), source.inputs, codes, chain.inside, sums.exact)


def _bias_head(source: Summed) -> Head:
    """Add the bias in float32, as onnxruntime's Conv does behind its sums."""
    channels = source.channels
    shape = [channels.count if axis == channels.axis else 1 for axis in range(channels.rank)]
    entry, bias = f"{source.output} without bias", f"{source.output} bias"
    constants = {} if source.bias is None else {bias: source.bias.reshape(shape)}
    return Head((helper.make_node("Add", [entry, bias], [source.output]),), entry, constants)


def operand_of(codes: AllCodes, name: str) -> Codes:
    """Return an activation on one grid."""
    found = codes.get(name)
    if found is None or not found.whole_tensor:
        raise NotOnTheMachineError(f"'{name}' is not on one grid")
    return found


def grid_of(grids: AllGrids, name: str) -> ConstantGrid:
    """Return a quantised constant."""
    if name not in grids:
        raise NotOnTheMachineError(f"'{name}' is not a quantised constant")
    return grids[name]


def channel_scales(found: Codes, shape: tuple[int, ...], groups: int, filters: int) -> Floats:
    """Return the input's scale for every output channel.

    Raises:
        NotOnTheMachineError: a filter adds up channels of different scales.
    """
    scale = found.decoding.scale
    if scale.size == 1:
        return scale.reshape(-1)
    channels = Channels(len(shape), 1, shape[1])
    if not channels.fits(scale) or groups != shape[1]:
        raise NotOnTheMachineError("channels of different scales are added up")
    return np.repeat(scale.reshape(-1), filters // groups)
