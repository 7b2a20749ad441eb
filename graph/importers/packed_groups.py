"""Activations in codes times packed weights: what some versions of onnxruntime make of Q/DQ around a product.

They turn DQ -> MatMul <- DQ(weights of 2, 4 or 8 bits) into DQ -> MatMulNBits: weights in blocks of one column, all
with the scale and the zero point of the column. Taken apart again it is the product of integers that the file states,
whatever onnxruntime does with the activations before it multiplies: see `NormalisedModel.with_float_products`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.graph.context import Context, attributes
from accelsim.graph.quantised.groups import Group
from accelsim.graph.quantised.tensor import NotOnTheMachineError

_BITS = 4  # where the operator does not say how many


def unpacked_weights(context: Context, group: Group) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.int64]]:
    """Return codes [N, K], scales [N] and zero points [N] of a MatMulNBits of codes.

    Codes and zero points are signed: the operator stores them half their range higher.

    Args:
        context: the normalised graph.
        group: the group around the MatMulNBits.

    Raises:
        NotOnTheMachineError: the activations are no codes, the scales differ within a column, or the weights have an
            order of their own.
    """
    core, attribute = group.core, attributes(group.core)
    source = group.sources.get(0)
    if source is None:
        raise NotOnTheMachineError("activations that are no codes")
    if (len(core.input) > 4 and core.input[4]) or attribute.get("weight_prepacked", 0):
        raise NotOnTheMachineError("weights in an order of their own")
    bits, columns, depth = int(attribute.get("bits", _BITS)), int(attribute["N"]), int(attribute["K"])
    blocks = -(-depth // int(attribute["block_size"]))
    half = 1 << (bits - 1)
    codes = _unpack(context.constant(core, 1).reshape(columns, -1), bits)[:, :depth]
    scales = _same_in_blocks(context.constant(core, 2).reshape(columns, blocks))
    zero_points = np.full(columns, half, np.int64)
    if len(core.input) > 3 and core.input[3]:
        packed = context.constant(core, 3)
        if packed.dtype != np.uint8:
            raise NotOnTheMachineError("zero points that are no codes")
        zero_points = _same_in_blocks(_unpack(packed.reshape(columns, -1), bits)[:, :blocks]).astype(np.int64)
    return (codes.astype(np.int16) - half).astype(np.int8), scales.astype(np.float32), zero_points - half


def _unpack(packed: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Take codes out of bytes, the lowest bits first, along the last axis."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    codes = (packed.astype(np.uint8)[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return codes.reshape(*packed.shape[:-1], -1)


def _same_in_blocks(values: NDArray[Any]) -> NDArray[Any]:
    """Return the value that all blocks of a column share.

    Raises:
        NotOnTheMachineError: they differ.
    """
    first = values[:, :1]
    if not np.array_equal(values, np.broadcast_to(first, values.shape)):
        raise NotOnTheMachineError("scales or zero points in blocks")
    return first[:, 0]
