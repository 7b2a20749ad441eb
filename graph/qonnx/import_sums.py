"""Contractions of codes: Conv, MatMul and Gemm as integer sums on the array."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from accelsim.graph.context import Context, attributes
from accelsim.graph.importers.windows import window_geometry
from accelsim.graph.qonnx.chain import Channels
from accelsim.graph.qonnx.grid import Codes, Sums, sums_are_exact, weighted_sums
from accelsim.graph.qonnx.sums import AllCodes, AllGrids, Summed, channel_scales, grid_of, operand_of
from accelsim.graph.quantised.tensor import NotOnTheMachineError
from accelsim.operators import Convolution, MatrixMultiply, Weights

Floats = NDArray[np.float32]


def _whole_bias(values: Floats, sums: Sums, factors: tuple[Floats, ...]) -> NDArray[np.int32] | None:
    """Return a bias as integers of the sums' unit, None when it is not on their grid or leaves exact sums inexact."""
    with np.errstate(all="ignore"):
        counts = np.rint(values.astype(np.float64) / sums.unit)
    if (
        not (np.isfinite(counts).all() and (counts * sums.unit == values).all())
        or np.abs(counts).max(initial=0) >= 2**31
    ):
        return None
    reach = np.maximum(-sums.lowest, sums.highest) + np.abs(counts).astype(np.int64)
    if sums.exact and not sums_are_exact(reach, factors, sums.unit):
        return None
    return counts.astype(np.int32)


def _shifted(sums: Sums, bias: NDArray[np.int32]) -> Sums:
    """Add an integer bias to the bounds."""
    return replace(sums, lowest=sums.lowest + bias, highest=sums.highest + bias)


def import_convolution(context: Context, node: NodeProto, codes: AllCodes, grids: AllGrids) -> Summed:
    """Conv: x, w [, bias]; a depthwise one may have a scale per channel of x."""
    attribute, groups = attributes(node), int(attributes(node).get("group", 1))
    grid = grid_of(grids, node.input[1])
    found = codes.get(node.input[0])
    if found is None or (groups == 1 and not found.whole_tensor):
        raise NotOnTheMachineError("an activation that is not on one grid")
    code = found.code
    levels, scales, zeros = grid.rows()
    input_scale = channel_scales(found, context.types[node.input[0]].shape, groups, levels.shape[0])
    spatial = context.types[node.input[0]].shape[2:]
    geometry = window_geometry(attribute, grid.levels.shape[2:], spatial)
    sums = weighted_sums(levels, scales, found, input_scale)
    start, bias = np.zeros(levels.shape[0], np.int32), None
    if len(node.input) > 2 and node.input[2]:
        values = _constant(context, node.input[2]).reshape(-1).astype(np.float32)
        whole = _whole_bias(values, sums, (np.broadcast_to(input_scale, scales.shape), scales))
        start, bias = (start, values) if whole is None else (whole, None)
    weights = _weights(levels, start, grid.bits, zeros)
    channels = Channels(len(context.types[node.output[0]].shape), 1, levels.shape[0])
    return Summed(
        node.output[0],
        _shifted(sums, start),
        channels,
        (found.name,),
        lambda epilogue: Convolution(geometry, groups, weights, code, epilogue),
        bias,
    )


def _weights(levels: NDArray[np.int32], bias: NDArray[np.int32], bits: int, zero_points: NDArray[np.int32]) -> Weights:
    return Weights(np.ascontiguousarray(levels.astype(np.int16)), bias, bits, zero_points)


def _constant(context: Context, name: str) -> NDArray[np.generic]:
    if name not in context.constants:
        raise NotOnTheMachineError(f"'{name}' is computed")
    return context.constants[name]


def import_product(context: Context, node: NodeProto, codes: AllCodes, grids: AllGrids) -> Summed:
    """MatMul of an activation with quantised weights, or with another activation."""
    first = operand_of(codes, node.input[0])
    ranks = [len(context.types[name].shape) for name in node.input]
    if min(ranks) < 2:
        raise NotOnTheMachineError("a vector operand")
    if node.input[1] in codes:
        return _dynamic_product(context, node, first, operand_of(codes, node.input[1]))
    grid = grid_of(grids, node.input[1])
    if ranks[1] != 2:
        raise NotOnTheMachineError("weights that are not a matrix")
    levels, scales, zeros = grid.moved(np.transpose).rows()
    sums = weighted_sums(levels, scales, first, first.decoding.scale.reshape(-1))
    weights = _weights(levels, np.zeros(levels.shape[0], np.int32), grid.bits, zeros)
    code = first.code
    return Summed(
        node.output[0],
        sums,
        _last_axis(context, node),
        (first.name,),
        lambda epilogue: MatrixMultiply(code, weights, None, epilogue),
    )


def _last_axis(context: Context, node: NodeProto) -> Channels:
    """Return the layout of a matrix product: its columns are the channels."""
    shape = context.types[node.output[0]].shape
    return Channels(len(shape), len(shape) - 1, shape[-1])


def _dynamic_product(context: Context, node: NodeProto, first: Codes, second: Codes) -> Summed:
    """MatMul of two activations."""
    channels = _last_axis(context, node)
    depth = context.types[node.input[0]].shape[-1]
    extremes = [a * b * depth for a in first.levels for b in second.levels]
    factors = first.decoding.scale.reshape(-1), second.decoding.scale.reshape(-1)
    unit = np.broadcast_to(factors[0].astype(np.float64) * factors[1].astype(np.float64), (channels.count,))
    reach = depth * max(map(abs, first.levels)) * max(map(abs, second.levels))
    exact = sums_are_exact(np.full(1, reach, np.int64), factors, unit[:1])
    bounds = [np.full(channels.count, bound, np.int64) for bound in (min(*extremes, 0), max(*extremes, 0))]
    left, right = first.code, second.code
    return Summed(
        node.output[0],
        Sums(unit, bounds[0], bounds[1], exact),
        channels,
        (first.name, second.name),
        lambda epilogue: MatrixMultiply(left, None, right, epilogue),
    )


def import_gemm(context: Context, node: NodeProto, codes: AllCodes, grids: AllGrids) -> Summed:
    """Gemm: a, b [, c] with alpha = beta = 1; onnxruntime starts its sums from c."""
    attribute: dict[str, Any] = attributes(node)
    if attribute.get("alpha", 1.0) != 1.0 or attribute.get("beta", 1.0) != 1.0:
        raise NotOnTheMachineError("alpha or beta is not 1")
    first, grid = operand_of(codes, node.input[0]), grid_of(grids, node.input[1])
    levels, scales, zeros = (grid if attribute.get("transB") else grid.moved(np.transpose)).rows()
    sums = weighted_sums(levels, scales, first, first.decoding.scale.reshape(-1))
    start, bias = np.zeros(levels.shape[0], np.int32), None
    if len(node.input) > 2 and node.input[2]:
        values = _constant(context, node.input[2]).astype(np.float32)
        if values.size not in (1, levels.shape[0]) or (values.ndim > 1 and values.shape[-1] != values.size):
            raise NotOnTheMachineError("a bias that differs from row to row")
        values = np.broadcast_to(values.reshape(-1), scales.shape)
        scale = np.broadcast_to(first.decoding.scale.reshape(-1), scales.shape)
        whole = _whole_bias(values, sums, (scale, scales))
        if whole is None:
            bias, sums = values, replace(sums, exact=False)
        else:
            start = whole
    weights, code, transposed = _weights(levels, start, grid.bits, zeros), first.code, bool(attribute.get("transA"))
    return Summed(
        node.output[0],
        _shifted(sums, start),
        _last_axis(context, node),
        (first.name,),
        lambda epilogue: MatrixMultiply(code, weights, None, epilogue, transposed),
        bias,
    )
