"""Quantisers that a file spells in float operators: Div, Round, [Add,] Clip, [Sub,] Mul.

Between Round and Clip stand whole numbers, and behind Clip those of a small range: codes, which a Quantise layer makes
from what is divided. Both orders of Round and Clip occur; a division by a constant belongs to the quantiser.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from onnx import NodeProto

from accelsim.graph.quantised.analysis import Quantisation, Rounded
from accelsim.graph.quantised.tensor import NotOnTheMachineError, QuantisedTensor
from accelsim.operators import CodeFormat, Quantise
from accelsim.operators.codes import code_bits, code_type


def take_round(found: Quantisation, node: NodeProto) -> None:
    """Round: whole numbers, within limits where a Clip comes first."""
    source, output = node.input[0], node.output[0]
    if source in found.clipped:
        inner, lowest, highest = found.clipped[source]
        _make_codes(found, node, Rounded(inner), lowest, highest)
    elif found.context.types[source].dtype == np.float32:
        found.rounded[output] = Rounded(source)


def take_shift(found: Quantisation, node: NodeProto) -> None:
    """Add and Sub of a constant whole number: a zero point."""
    source, other = (node.input[1], node.input[0]) if node.input[1] in found.rounded else tuple(node.input[:2])
    if node.op_type == "Sub" and source != node.input[0]:
        return
    shift = _whole_scalar(found, other)
    types = found.context.types
    if shift is None or types[source].shape != types[node.output[0]].shape:
        return
    shift = shift if node.op_type == "Add" else -shift
    known, tensor = found.rounded.get(source), found.get(source)
    if known is not None:
        found.rounded[node.output[0]] = replace(known, shift=known.shift + shift)
    elif tensor is not None and tensor.is_whole and tensor.exact and tensor.scale == 1:
        found.tensors[node.output[0]] = replace(tensor, zero_points=tensor.zero_points - shift)


def take_clip(found: Quantisation, node: NodeProto) -> None:
    """Clip to whole bounds, in front of Round or behind it."""
    bounds = [_whole_scalar(found, name) for name in node.input[1:3]]
    if len(bounds) != 2 or bounds[0] is None or bounds[1] is None:
        return
    source = node.input[0]
    if source in found.rounded:
        _make_codes(found, node, found.rounded[source], bounds[0], bounds[1])
    elif found.context.types[source].dtype == np.float32:
        found.clipped[node.output[0]] = (source, bounds[0], bounds[1])


def _whole_scalar(found: Quantisation, name: str) -> int | None:
    """Return a constant whole number of float32, None for anything else."""
    value = found.folder.value(name) if name and found.folder.is_constant(name) else None
    if value is None or value.size != 1 or value.dtype != np.float32 or not np.isfinite(value).all():
        return None
    number = float(value.reshape(-1)[0])
    return int(number) if number.is_integer() else None


def _make_codes(found: Quantisation, node: NodeProto, rounded: Rounded, lowest: int, highest: int) -> None:
    """Register the codes behind Round and Clip; each is the whole number itself.

    Raises:
        NotOnTheMachineError: the limits hold no code, or more than 16 bits.
    """
    output, dtype = node.output[0], code_type(lowest, highest)
    if dtype is None or lowest > highest:
        raise NotOnTheMachineError(f"limits {lowest}..{highest}, which no code of 16 bits has")
    zeros = np.zeros(1, np.int64)
    if found.folder.is_constant(output):
        values = found.folder.value(output)
        if values is not None and np.isfinite(values.astype(np.float32)).all():
            name = found.add_constant(output, values.astype(dtype))
            found.tensors[output] = QuantisedTensor(name, np.ones(1, np.float32), zeros, 0)
            found.context.limits[name] = (lowest, highest)
        return
    source, scale = _divided(found, rounded.source)
    code = CodeFormat(dtype, rounded.shift, (lowest, highest), code_bits(dtype, lowest, highest))
    name = found.derive(output, Quantise(scale, code), (source,), node)
    found.context.limits[name] = (lowest, highest)
    tensor = QuantisedTensor(name, np.ones(1, np.float32), zeros, 0)
    found.tensors[output] = tensor
    found.decode(name, output, tensor)


def _divided(found: Quantisation, name: str) -> tuple[str, np.float32]:
    """Return what is divided by a constant, and by what; the tensor itself and 1 where nothing is."""
    node, types = found.context.producer(name), found.context.types
    if node is not None and node.op_type == "Div" and found.folder.is_constant(node.input[1]):
        if types[node.input[0]].shape != types[name].shape:
            return name, np.float32(1)
        scale = found.folder.value(node.input[1])
        if scale is not None and scale.size == 1 and scale.dtype == np.float32 and float(scale.reshape(-1)[0]) > 0:
            return node.input[0], np.float32(scale.reshape(-1)[0])
    return name, np.float32(1)
