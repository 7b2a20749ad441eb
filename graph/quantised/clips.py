"""Bounds of a Clip or Relu, wherever an opset keeps them: attributes before opset 11, inputs since."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from accelsim.graph.context import attributes

Bounds = tuple[float, float]


def clip_bounds(node: NodeProto, value: Callable[[str], NDArray[np.generic] | None]) -> Bounds | None:
    """Return the bounds of a Relu or Clip, None when they are computed.

    Args:
        node: the node.
        value: gives a constant tensor by name, None for one that is computed.
    """
    if node.op_type == "Relu":
        return 0.0, float("inf")
    attribute = attributes(node)
    bounds = [float(attribute.get("min", float("-inf"))), float(attribute.get("max", float("inf")))]
    for position in (1, 2):
        if position < len(node.input) and node.input[position]:
            known = value(node.input[position])
            if known is None:
                return None
            bounds[position - 1] = float(known.reshape(-1)[0])
    return bounds[0], bounds[1]
