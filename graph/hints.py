"""What onnxruntime makes of a file that the file does not say: merged Q/DQ pairs and scales that it ignores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, numpy_helper

from accelsim.errors import printable
from accelsim.graph.block_quantisation import INT8_LEVEL, asks_for_int8, runs_in_int8
from accelsim.graph.normalise import NormalisedModel
from accelsim.graph.reference import saturates_products
from accelsim.hints import Hints
from accelsim.operators import CodeFormat, Quantise

# Scales that are products of float32 scales differ by rounding; what is farther away was meant.
_ROUNDING = 1e-5


@dataclass(frozen=True, eq=False)
class _Source:
    """The nodes of the file, who makes each tensor, what it is quantised to, and its small constants."""

    nodes: tuple[NodeProto, ...]
    makers: Mapping[str, NodeProto]
    quantised: Mapping[str, str]
    constants: Mapping[str, TensorProto]

    @classmethod
    def of(cls, model: NormalisedModel) -> _Source:
        """Index the checked file."""
        nodes = tuple(model.source.graph.node)
        makers = {name: node for node in nodes for name in node.output}
        quantised = {node.input[0]: node.output[0] for node in nodes if node.op_type == "QuantizeLinear"}
        constants = {tensor.name: tensor for tensor in model.source.graph.initializer}
        return cls(nodes, makers, quantised, constants)

    def maker(self, name: str, kind: str) -> NodeProto | None:
        """Return the node of a kind that makes a tensor."""
        node = self.makers.get(name)
        return node if node is not None and node.op_type == kind else None

    def values(self, node: NodeProto, position: int) -> NDArray[np.generic] | None:
        """Return a constant operand."""
        name = node.input[position] if position < len(node.input) else ""
        tensor = self.constants.get(name)
        if tensor is None or tensor.data_location == TensorProto.EXTERNAL:
            return None
        return np.asarray(numpy_helper.to_array(tensor))

    def quantise(self, node: NodeProto) -> Quantise | None:
        """Return a QuantizeLinear with one constant scale and an integer zero point."""
        scale, zero = self.values(node, 1), self.values(node, 2)
        if scale is None or zero is None or scale.size != 1 or zero.size != 1 or zero.dtype.kind not in "iu":
            return None
        return Quantise(np.float32(scale.item()), CodeFormat(zero.dtype, int(zero.item())))


def hints_of(model: NormalisedModel) -> Hints:
    """Return what a diagnosis may need to know beside the tensors.

    Args:
        model: the file as it was checked and as onnxruntime executes it.
    """
    source = _Source.of(model)
    ratios = {name: float(ratio.item()) for _, name, ratio in _bias_ratios(source) if ratio.size == 1}
    return Hints(saturates_products(), dict(_collapsed_pairs(source, model)), ratios)


def notes_of(model: NormalisedModel) -> tuple[str, ...]:
    """Return sentences on what a literal evaluation of the file would compute otherwise.

    Args:
        model: the file as it was checked and as onnxruntime executes it.
    """
    notes = []
    if model.by_data:
        count = f"{len(model.by_data)} tensor{'' if len(model.by_data) == 1 else 's'}"
        notes.append(
            f"the shapes of {count} depend on data, '{printable(model.by_data[0], 60)}' first: cycles and energy are "
            f"those of this input"
        )
    if not model.reference.optimised:  # then nothing is merged or ignored
        return tuple(notes)
    source = _Source.of(model)
    notes += _quantised_activations(model)
    merged = [name for name, _ in _collapsed_pairs(source, model)]
    if merged:
        notes.append(
            f"onnxruntime merges {len(merged)} double Q/DQ pairs into one, at '{printable(merged[0], 60)}' first: "
            f"a literal evaluation rounds twice"
        )
    biases = {node.output[0]: (node, ratio) for node, _, ratio in _bias_ratios(source)}
    if biases:
        node, ratio = next(iter(biases.values()))
        worst = float(np.abs(ratio - 1).max())
        notes.append(
            f"onnxruntime ignores the scales of {len(biases)} biases, {worst:.2%} off in {node.op_type} "
            f"'{printable(node.name or node.output[0], 60)}'"
        )
    return tuple(notes)


def _quantised_activations(model: NormalisedModel) -> Iterator[str]:
    """Say that products whose activations the file keeps in float are computed with int8 ones."""
    types = {**model.inputs, **model.types}
    made = [
        node
        for node in model.proto.graph.node
        if node.op_type == "MatMulNBits" and node.input[0] in types
        if runs_in_int8(node, types[node.input[0]].dtype.name)
    ]
    count = len(made) - sum(node.op_type == "MatMulNBits" and asks_for_int8(node) for node in model.source.graph.node)
    if count > 0:
        yield (
            f"onnxruntime quantises the activations of {count:,} products to int8 per block (MatMulNBits, accuracy "
            f"level {INT8_LEVEL}), which the file does not say"
        )


def _collapsed_pairs(source: _Source, model: NormalisedModel) -> Iterator[tuple[str, Quantise]]:
    """Yield the tensor that is left of each chain Q, DQ, Q with other parameters, and the file's own Q of it."""
    for second in source.nodes:
        between = source.maker(second.input[0], "DequantizeLinear") if second.op_type == "QuantizeLinear" else None
        first = source.maker(between.input[0], "QuantizeLinear") if between is not None else None
        if first is None:
            continue
        own, other = source.quantise(first), source.quantise(second)
        kept = [node.output[0] for node in (first, second) if node.output[0] in model.types]
        if own is not None and other is not None and own != other and len(kept) == 1:
            yield kept[0], own if kept[0] == first.output[0] else other


def _bias_ratios(source: _Source) -> Iterator[tuple[NodeProto, str, NDArray[np.float64]]]:
    """Yield for each quantised bias whose scale is not the product of the others: node, tensor behind it, ratio."""
    for node in source.nodes:
        if node.op_type not in ("Gemm", "Conv") or len(node.input) < 3:
            continue
        makers = [source.maker(name, "DequantizeLinear") for name in node.input[:3]]
        scales = [None if maker is None else source.values(maker, 1) for maker in makers]
        if any(scale is None for scale in scales):
            continue
        first, second, bias = (np.asarray(scale, np.float64).reshape(-1) for scale in scales)
        if first.size != 1 or bias.size not in (1, second.size):
            continue
        ratio = bias / (first * second)
        if np.abs(ratio - 1).max() <= _ROUNDING:
            continue
        yield node, node.output[0], ratio
        if node.output[0] in source.quantised:
            yield node, source.quantised[node.output[0]], ratio
