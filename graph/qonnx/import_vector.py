"""Sums of codes on the vector unit: an activation itself, two of them, windows of one."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from onnx import NodeProto, helper

from accelsim.graph.context import Context, attributes
from accelsim.graph.importers.windows import window_geometry
from accelsim.graph.qonnx.chain import Channels
from accelsim.graph.qonnx.grid import Codes, Sums, sums_are_exact
from accelsim.graph.qonnx.sums import AllCodes, AllGrids, Head, Summed, channel_scales, operand_of
from accelsim.graph.quantised.tensor import NotOnTheMachineError
from accelsim.operators import Epilogue
from accelsim.operators.thresholds import SumCodes, SumPool, Threshold


def as_sums(context: Context, codes: Codes) -> Summed:
    """Read an activation itself as sums of one code: what follows it steps on its codes.

    Args:
        context: the literal graph.
        codes: the activation.
    """
    tensor, code = codes.decoding.tensor, codes.code
    channels = _layout(context, tensor)
    if not channels.fits(codes.decoding.scale):
        raise NotOnTheMachineError("scales along another axis")
    unit = np.broadcast_to(codes.decoding.scale.reshape(-1).astype(np.float64), (channels.count,))
    bounds = [np.full(channels.count, limit - code.zero_point, np.int64) for limit in codes.limits]
    return Summed(
        tensor,
        Sums(unit, bounds[0], bounds[1], True),  # the decoded floats are the reference's own
        channels,
        (codes.name,),
        lambda epilogue: SumCodes(code, None, channels.axis, _narrowed(epilogue)),
        writes_floats=False,
    )


def _layout(context: Context, tensor: str) -> Channels:
    """Return the layout of an activation: channels come second, or last in sequences of rows."""
    shape = context.types[tensor].shape
    if len(shape) < 2:
        raise NotOnTheMachineError("a tensor without channels")
    axis = len(shape) - 1 if len(shape) == 3 else 1
    return Channels(len(shape), axis, shape[axis])


def _narrowed(epilogue: Epilogue) -> Threshold:
    """Keep one row of thresholds where all are equal."""
    if not isinstance(epilogue, Threshold):
        raise NotOnTheMachineError("sums without a quantiser")
    rows = np.column_stack([epilogue.thresholds, epilogue.first, epilogue.step])
    if (rows != rows[:1]).any():
        return epilogue
    return replace(epilogue, thresholds=epilogue.thresholds[:1], first=epilogue.first[:1], step=epilogue.step[:1])


def import_addition(context: Context, node: NodeProto, codes: AllCodes, grids: AllGrids) -> Summed:
    """Add of two activations of one scale."""
    first, second = (operand_of(codes, name) for name in node.input)
    scale = first.decoding.scale.reshape(-1)
    if scale != second.decoding.scale.reshape(-1):
        raise NotOnTheMachineError("two scales")
    channels, left, right = _layout(context, node.output[0]), first.code, second.code
    low, high = (sum(codes.limits[end] - codes.code.zero_point for codes in (first, second)) for end in (0, 1))
    bounds = [np.full(channels.count, bound, np.int64) for bound in (low, high)]
    unit = np.broadcast_to(scale.astype(np.float64), (channels.count,))
    exact = sums_are_exact(np.full(1, max(-low, high), np.int64), (scale,), unit[:1])
    return Summed(
        node.output[0],
        Sums(unit, bounds[0], bounds[1], exact),
        channels,
        (first.name, second.name),
        lambda epilogue: SumCodes(left, right, channels.axis, _narrowed(epilogue)),
        writes_floats=False,
    )


def import_average(context: Context, node: NodeProto, codes: AllCodes, grids: AllGrids) -> Summed:
    """AveragePool and GlobalAveragePool, their division evaluated by the node itself on one window."""
    attribute, found = attributes(node), codes.get(node.input[0])
    if found is None or attribute.get("ceil_mode"):
        raise NotOnTheMachineError("not on a grid, or a window that may reach outside")
    shape = context.types[node.input[0]].shape
    kernel = shape[2:] if node.op_type == "GlobalAveragePool" else tuple(attribute["kernel_shape"])
    geometry = window_geometry(
        {} if node.op_type == "GlobalAveragePool" else attribute, kernel, shape[2:], pooling=True
    )
    if geometry.dilations != (1, 1) or (any(geometry.pads) and not attribute.get("count_include_pad")):
        raise NotOnTheMachineError("windows of different sizes")
    code, taps = found.code, math.prod(kernel)
    scales = np.broadcast_to(channel_scales(found, shape, shape[1], shape[1]), (shape[1],))
    low, high = (np.full(shape[1], level * taps, np.int64) for level in found.levels)
    exact = sums_are_exact(np.maximum(-low, high), (scales,), scales.astype(np.float64))
    return Summed(
        node.output[0],
        Sums(scales.astype(np.float64), low, high, exact),
        Channels(len(shape), 1, shape[1]),
        (found.name,),
        lambda epilogue: SumPool(geometry, code, _narrowed(epilogue)),
        head=_window_head(node, kernel),
        writes_floats=False,
    )


def _window_head(node: NodeProto, kernel: tuple[int, ...]) -> Head:
    """Average one window that holds a sum and zeros."""
    entry, window, pads = (f"{node.output[0]} {part}" for part in ("sum", "window", "pads"))
    widths = np.array([0] * (len(kernel) + 4) + [size - 1 for size in kernel], np.int64)
    pool = helper.make_node(node.op_type, [window], [node.output[0]])
    if node.op_type == "AveragePool":
        pool.attribute.append(helper.make_attribute("kernel_shape", list(kernel)))
    return Head((helper.make_node("Pad", [entry, pads], [window]), pool), entry, {pads: widths})
