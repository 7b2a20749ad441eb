"""Constants whose quantiser a file spells in float operators: onnxruntime folds them, so that only floats are left.

Div, Round, Clip, [Sub,] Mul of a constant are one float constant in the graph that runs. The file still says that it
holds whole numbers of a small range times a scale; they are taken from it where the product gives every float back.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from accelsim.graph.normalise.source import Source
from accelsim.graph.quantised.analysis import Quantisation
from accelsim.graph.quantised.clips import clip_bounds
from accelsim.graph.quantised.tensor import QuantisedTensor
from accelsim.operators.codes import code_type

Array = NDArray[np.generic]


def take_spelled_constants(found: Quantisation, source: Source) -> None:
    """Register the constants of the graph that a file makes of whole numbers and a scale.

    Args:
        found: what is known of the graph so far.
        source: the checked file.
    """
    for node in source.nodes:
        folded = found.context.constants.get(node.output[0]) if node.op_type == "Mul" else None
        if folded is not None and folded.dtype == np.float32:
            _take(found, node, folded, source)


def _take(found: Quantisation, node: NodeProto, folded: Array, source: Source) -> None:
    """Register one constant, if it is what its nodes say."""
    for whole, other in (tuple(node.input), tuple(reversed(node.input))):
        scale, limits = source.value(other), _limits(whole, source)
        if scale is None or limits is None or scale.dtype != np.float32:
            continue
        axis, dtype = _axis(scale.shape, folded.shape), code_type(*limits)
        if axis is None or dtype is None:
            continue
        steps = scale.astype(np.float32)
        with np.errstate(all="ignore"):
            codes = np.rint(folded.astype(np.float32) / steps)
        exact = np.isfinite(codes).all() and np.array_equal((codes * steps).astype(np.float32), folded)
        if exact and limits[0] <= codes.min(initial=limits[0]) and codes.max(initial=limits[1]) <= limits[1]:
            name = found.add_constant(node.output[0], codes.astype(dtype))
            found.context.limits[name] = limits
            zeros = np.zeros(1, np.int64)
            found.tensors[node.output[0]] = QuantisedTensor(name, steps.reshape(-1), zeros, axis)
        return


def _axis(scale: tuple[int, ...], shape: tuple[int, ...]) -> int | None:
    """Return the axis along which scales lie, 0 for a single one, None where they lie along several."""
    wide = (1,) * (len(shape) - len(scale)) + scale
    axes = [axis for axis, size in enumerate(wide) if size > 1]
    fits = len(wide) == len(shape) and len(axes) < 2 and all(wide[axis] == shape[axis] for axis in axes)
    return (axes or [0])[0] if fits else None


def _limits(name: str, source: Source) -> tuple[int, int] | None:
    """Return the limits of whole numbers behind Round and Clip, in either order, less what is subtracted from them."""
    node, shift = source.makers.get(name), 0
    if node is not None and node.op_type == "Sub":
        zero = source.values(node, 1)
        if zero is None or zero.size != 1 or not float(zero.item()).is_integer():
            return None
        node, shift = source.makers.get(node.input[0]), int(zero.item())
    rounded = False
    while node is not None and node.op_type == "Round":
        rounded, node = True, source.makers.get(node.input[0])
    if node is None or node.op_type != "Clip":
        return None
    before = source.makers.get(node.input[0])
    while before is not None and before.op_type in ("Add", "Sub"):
        before = source.makers.get(before.input[0])
    bounds = clip_bounds(node, source.value)
    if bounds is None or not (rounded or (before is not None and before.op_type == "Round")):
        return None
    if not all(np.isfinite(bound) and float(bound).is_integer() for bound in bounds):
        return None
    return int(bounds[0]) - shift, int(bounds[1]) - shift
