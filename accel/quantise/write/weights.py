"""Weights: ranges per tensor, channel or group, grids and codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import printable
from accelsim.quantise.calibrate.optimum import shrink_rows
from accelsim.quantise.grid import Codes, CodeSpec, Grid, blocks, dequantise, fit, quantise
from accelsim.quantise.network.source import FloatLayer, FloatModel
from accelsim.quantise.scheme import Scheme

Floats = NDArray[np.float32]

_MATRIX_RANK = 2
_SHOWN = 8  # layers that a remark names


@dataclass(frozen=True, eq=False)
class QuantisedWeights:
    """Weights of one layer: values, their grid and codes; code_bits: of a code in the file, which may be wider."""

    layer: FloatLayer
    values: Floats = field(repr=False)
    grid: Grid = field(repr=False)
    codes: Codes = field(repr=False)
    code_bits: int

    @property
    def restored(self) -> Floats:
        """What the codes stand for."""
        return dequantise(self.codes, self.grid)

    @property
    def stored_bits(self) -> int:
        """Bits of codes, scales and zero points in the file."""
        return self.grid.stored_bits(self.codes.size, self.code_bits)


Weights = Mapping[str, QuantisedWeights]


def weight_spec(scheme: Scheme, layer: str) -> CodeSpec:
    """Return the codes of a layer's weights; they are signed."""
    return CodeSpec(scheme.weight_bits_of(layer), True, scheme.weight_mapping == "symmetric", scheme.weight_narrow)


def quantise_weights(
    model: FloatModel, scheme: Scheme, kept: frozenset[str] = frozenset()
) -> dict[str, QuantisedWeights]:
    """Quantise the weights of all layers.

    Args:
        model: the float model.
        scheme: how.
        kept: names of layers that stay in float.
    """
    layers = [layer for layer in model.layers if layer.name not in kept]
    done: dict[str, QuantisedWeights] = {}
    for layer in layers:
        if layer.weight not in {weights.layer.weight for weights in done.values()}:
            done[layer.name] = quantise_layer(layer, model.constant(layer.weight), scheme)
    by_constant = {weights.layer.weight: weights for weights in done.values()}
    return {layer.name: by_constant[layer.weight] for layer in layers}


def ungrouped(weights: Weights, block: int) -> list[str]:
    """Say which layers have a scale per output channel where groups were asked for, and why.

    Args:
        weights: by layer.
        block: weights of a group, 0 where no groups were asked for.
    """
    depths = {name: one.values.shape[one.layer.depth_axis] for name, one in weights.items() if not one.grid.block}
    left = [
        f"'{printable(name, 60)}' {depth}"
        for name, depth in depths.items()
        if block and depth % block and not is_stack(weights[name].layer, weights[name].values.ndim)
    ]
    if not left:
        return []
    more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
    return [
        f"blocks of {block} weights do not divide the input channels of {', '.join(left[:_SHOWN])}{more}: "
        f"{'this layer has' if len(left) == 1 else f'these {len(left)} layers have'} a scale per output channel instead"
    ]


def quantise_layer(layer: FloatLayer, values: Floats, scheme: Scheme) -> QuantisedWeights:
    """Quantise the weights of one layer.

    A stack of matrices has one scale, the only kind that onnxruntime's integer products of stacks take. Where groups
    are asked for, a layer has a scale for every block along the input channels at every place; one whose input channels
    the blocks do not divide, or make up a single block of, has one per output channel.

    Args:
        layer: the layer.
        values: its weights, float32.
        scheme: how.
    """
    spec = weight_spec(scheme, layer.name)
    whole = scheme.granularity == "tensor" or is_stack(layer, values.ndim)
    depth = values.shape[layer.depth_axis]
    block = scheme.block if scheme.block and depth > scheme.block and depth % scheme.block == 0 else 0
    if whole:
        low, high = _range(values.reshape(1, -1), spec, scheme)
        scales, zero_points = fit(low, high, spec)
        grid = Grid(spec, scales.reshape(()), zero_points.reshape(()))
    elif not block:
        moved = np.moveaxis(values, layer.channel_axis, 0)
        scales, zero_points = fit(*_range(moved.reshape(moved.shape[0], -1), spec, scheme), spec)
        grid = Grid(spec, scales, zero_points, layer.channel_axis)
    else:
        scales, zero_points = _fit_groups(values, layer.depth_axis, block, spec, scheme)
        grid = Grid(spec, scales, zero_points, layer.depth_axis, block)
    return QuantisedWeights(layer, values, grid, quantise(values, grid), spec.bits)


def is_stack(layer: FloatLayer, rank: int) -> bool:
    """Tell whether the weights of a layer are several matrices, one per place in the batch."""
    return layer.kind == "MatMul" and rank > _MATRIX_RANK


def _fit_groups(values: Floats, axis: int, block: int, spec: CodeSpec, scheme: Scheme) -> tuple[Floats, Codes]:
    """Return scales and zero points of groups, in the shape that DequantizeLinear's block_size wants."""
    moved = np.moveaxis(values, axis, -1)
    shape = (*moved.shape[:-1], blocks(moved.shape[-1], block))
    low, high = _range(moved.reshape(-1, block), spec, scheme)
    scales, zero_points = fit(low, high, spec)
    return tuple(np.ascontiguousarray(np.moveaxis(a.reshape(shape), -1, axis)) for a in (scales, zero_points))  # type: ignore[return-value]


def _range(rows: Floats, spec: CodeSpec, scheme: Scheme) -> tuple[Floats, Floats]:
    """Choose the range of each row of weights."""
    low, high = rows.min(axis=1), rows.max(axis=1)
    if scheme.weight_range == "abs-max":
        peak = np.maximum(-low, high)
        return -peak, peak
    if scheme.weight_range == "percentile":
        rest = (100 - scheme.percentile) / 2
        ends = np.percentile(rows, [rest, 100 - rest], axis=1).astype(np.float32)
        return ends[0], ends[1]
    if scheme.weight_range in ("mse", "sqnr"):
        return shrink_rows(rows, low, high, spec)
    return low, high
