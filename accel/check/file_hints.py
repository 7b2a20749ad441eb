"""What onnxruntime makes of a file that the file does not say: merged Q/DQ pairs, and scales for a diagnosis."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from accelsim.check.hints import Hints
from accelsim.errors import counted, printable
from accelsim.graph.normalise.block_quantisation import INT8_LEVEL, asks_for_int8, runs_in_int8
from accelsim.graph.normalise.ignored import bias_scales
from accelsim.graph.normalise.normalise import NormalisedModel
from accelsim.graph.normalise.reference import saturates_products
from accelsim.graph.normalise.source import Source
from accelsim.operators import Quantise


def hints_of(model: NormalisedModel) -> Hints:
    """Return what a diagnosis may need to know beside the tensors.

    Args:
        model: the file as it was checked and as onnxruntime executes it.
    """
    source = Source.of(model)
    ratios = {
        name: float(bias.ratio.item())
        for bias in bias_scales(source)
        if bias.ratio.size == 1 and np.isfinite(bias.ratio).all()
        for name in bias.tensors
    }
    return Hints(saturates_products(), dict(_collapsed_pairs(source, model)), ratios)


def notes_of(model: NormalisedModel) -> tuple[str, ...]:
    """Return sentences on what a literal evaluation of the file would compute otherwise.

    Args:
        model: the file as it was checked and as onnxruntime executes it.
    """
    notes: list[str] = []
    if model.by_data:
        first = printable(model.by_data[0], 60)
        notes.append(
            f"the shapes of {counted(len(model.by_data), 'tensor')} depend on data, '{first}' first: cycles and energy "
            f"are those of this input"
        )
    if not model.reference.optimised:  # then nothing is merged or ignored
        return tuple(notes)
    source = Source.of(model)
    notes += _quantised_activations(model)
    if model.narrowed:
        notes.append(
            f"onnxruntime quantises the activations of {counted(model.narrowed, 'product')} "
            f"once more, to int8 per block, which the file does not say; the machine multiplies the codes of the file: "
            f"these layers are compared with onnxruntime at accuracy level 1, the outputs with onnxruntime on the file"
        )
    merged = [name for name, _ in _collapsed_pairs(source, model)]
    if merged:
        notes.append(
            f"onnxruntime merges {len(merged)} double Q/DQ {'pair' if len(merged) == 1 else 'pairs'} into one, at "
            f"'{printable(merged[0], 60)}' first: a literal evaluation rounds twice"
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
            f"onnxruntime quantises the activations of {counted(count, 'product')} to int8 per block "
            f"(MatMulNBits, accuracy level {INT8_LEVEL}), which the file does not say"
        )


def _collapsed_pairs(source: Source, model: NormalisedModel) -> Iterator[tuple[str, Quantise]]:
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
