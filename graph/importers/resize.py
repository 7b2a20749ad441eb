"""Resize: where each output index reads, with the float32 arithmetic of onnxruntime.

A difference of one rounding moves a pixel, so every operation keeps the type that it has there
(onnxruntime/core/providers/cpu/tensor/upsamplebase.h and upsample.cc).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from accelsim.graph.context import Context, attributes
from accelsim.graph.quantised.tensor import NotOnTheMachineError
from accelsim.operators.vector import AxisBlend

Floats = NDArray[np.float32]
Indices = NDArray[np.int32]
_HALF = np.float32(0.5)
_HALF_TOLERANCE = 1e-6


@dataclass(frozen=True)
class AxisResize:
    """One axis: sizes before and after, scale, and the region that tf_crop_and_resize reads."""

    size: int
    resized: int
    scale: np.float32
    start: np.float32
    end: np.float32


@dataclass(frozen=True)
class ResizeGeometry:
    """A Resize node: its axes, mode, coordinate transformation and rounding; fill: value outside of the region."""

    axes: tuple[AxisResize, ...]
    mode: str
    coordinates: str
    rounding: str
    fill: float

    @property
    def is_copy(self) -> bool:
        """Whether no size changes: onnxruntime then copies, whatever the scales are."""
        return all(axis.size == axis.resized for axis in self.axes)


def resize_geometry(context: Context, node: NodeProto) -> ResizeGeometry:
    """Read a Resize node: x, scales (opset 10), or x, roi, scales, sizes.

    Raises:
        NotOnTheMachineError: parameters that are computed, antialiasing, or a policy for the aspect ratio.
    """
    attribute = attributes(node)
    if attribute.get("antialias") or attribute.get("keep_aspect_ratio_policy", b"stretch") != b"stretch":
        raise NotOnTheMachineError("antialiasing or a policy for the aspect ratio")
    shape, resized = context.types[node.input[0]].shape, context.types[node.output[0]].shape
    if 0 in shape or 0 in resized:
        raise NotOnTheMachineError("an empty tensor")
    old = context.opset < 11
    mode = attribute.get("mode", b"nearest").decode()
    coordinates = "asymmetric" if old else attribute.get("coordinate_transformation_mode", b"half_pixel").decode()
    rounding = "simple" if old else attribute.get("nearest_mode", b"round_prefer_floor").decode()
    chosen = [int(axis) for axis in attribute.get("axes", ())]
    if chosen and min(chosen) < 0:
        raise NotOnTheMachineError("negative axes")
    scales = _scales(context, node, shape, resized, chosen)
    starts, ends = _region(context, node, coordinates, len(shape), chosen)
    axes = tuple(AxisResize(*row) for row in zip(shape, resized, scales, starts, ends, strict=True))
    return ResizeGeometry(axes, mode, coordinates, rounding, float(attribute.get("extrapolation_value", 0.0)))


def _scales(
    context: Context, node: NodeProto, shape: tuple[int, ...], resized: tuple[int, ...], chosen: list[int]
) -> list[np.float32]:
    """Return the scale of each axis: as given, or from the sizes by one float32 division."""
    given = context.optional(node, 1 if context.opset < 11 else 2)
    if given is None or not given.size:
        return [np.float32(np.float32(new) / np.float32(old)) for new, old in zip(resized, shape, strict=True)]
    if len(chosen or shape) != given.size:
        raise NotOnTheMachineError("scales that do not fit the axes")
    scales = [np.float32(1)] * len(shape)
    for axis, scale in zip(chosen or range(len(shape)), given.astype(np.float32), strict=True):
        scales[axis] = np.float32(scale)
    return scales


def _region(
    context: Context, node: NodeProto, coordinates: str, rank: int, chosen: list[int]
) -> tuple[list[np.float32], list[np.float32]]:
    """Return start and end of the region per axis; only tf_crop_and_resize has one."""
    starts, ends = [np.float32(0)] * rank, [np.float32(1)] * rank
    if coordinates == "tf_crop_and_resize":
        region = context.constant(node, 1).astype(np.float32)
        axes = chosen or list(range(rank))
        if region.size != 2 * len(axes):
            raise NotOnTheMachineError("a region that does not fit the axes")
        for index, axis in enumerate(axes):
            starts[axis], ends[axis] = np.float32(region[index]), np.float32(region[len(axes) + index])
    return starts, ends


def source_coordinates(axis: AxisResize, coordinates: str) -> Floats:
    """Return float32[resized]: the coordinate in the input of each output index."""
    index = np.arange(axis.resized, dtype=np.float32)
    size, resized, scale = np.float32(axis.size), np.float32(axis.resized), axis.scale
    if coordinates == "asymmetric":
        return np.asarray(index / scale)
    if coordinates == "half_pixel" or (coordinates == "pytorch_half_pixel" and axis.resized > 1):
        return np.asarray((index + _HALF) / scale - _HALF)
    if coordinates == "tf_half_pixel_for_nn":
        return np.asarray((index + _HALF) / scale)
    if coordinates == "half_pixel_symmetric":  # the last line is in double precision
        adjustment = resized / np.float32(scale * size)
        offset = np.float32(size / np.float32(2)) * np.float32(np.float32(1) - adjustment)
        wide = float(offset) + (index.astype(np.float64) + 0.5) / float(scale) - 0.5
        return wide.astype(np.float32)
    last = np.float32(size - np.float32(1))
    if coordinates == "tf_crop_and_resize":
        if axis.resized == 1:
            return np.array([0.5 * float(np.float32(axis.start + axis.end)) * float(last)], np.float32)
        length = np.float32(axis.end - axis.start)
        return np.asarray(axis.start * last + (index * length * last) / np.float32(resized - np.float32(1)))
    if coordinates in ("align_corners", "pytorch_half_pixel"):
        return np.zeros(1, np.float32) if axis.resized == 1 else np.asarray(index * last / (resized - np.float32(1)))
    raise NotOnTheMachineError(f"coordinates '{coordinates}'")


def nearest_positions(axis: AxisResize, geometry: ResizeGeometry) -> Indices:
    """Return int32[resized]: the input index that each output index copies; -1 outside of the region."""
    if axis.scale == 1:
        return np.arange(axis.resized, dtype=np.int32)
    where = source_coordinates(axis, geometry.coordinates)
    positions = np.clip(_round(where, geometry.rounding, axis.scale), 0, axis.size - 1).astype(np.int32)
    if geometry.coordinates == "tf_crop_and_resize":
        positions[(where < 0) | (where > axis.size - 1)] = -1
    return positions


def _round(where: Floats, rounding: str, scale: np.float32) -> NDArray[np.float64]:
    """Round coordinates to indices; "round_prefer" decides where they lie within 1e-6 of a half (measured, 1.31.1)."""
    wide = where.astype(np.float64)
    if rounding == "simple":
        return np.ceil(wide) if scale < 1 else np.trunc(wide)
    floor, ceiling = np.floor(wide), np.ceil(wide)
    if rounding in ("floor", "ceil"):
        return floor if rounding == "floor" else ceiling
    half = np.abs(wide - floor - 0.5) < _HALF_TOLERANCE
    preferred = ceiling if rounding == "round_prefer_ceil" else floor
    return np.where(half, preferred, np.floor(wide + 0.5))


def linear_blend(axis: AxisResize, coordinates: str) -> AxisBlend:
    """Return neighbours and weights of each output index of a linear Resize."""
    plain = np.arange(axis.resized, dtype=np.float32)
    where = plain if axis.scale == 1 else source_coordinates(axis, coordinates)
    where = np.maximum(np.float32(0), np.minimum(where, np.float32(axis.size - 1)))
    first = np.minimum(where.astype(np.int32), axis.size - 1).astype(np.int32)
    second = np.minimum(first + 1, axis.size - 1).astype(np.int32)
    alone = first == second
    weights = [np.where(alone, _HALF, np.abs(where - near.astype(np.float32))) for near in (first, second)]
    # The farther the first neighbour, the more the second one counts.
    return AxisBlend(first, second, weights[1].astype(np.float32), weights[0].astype(np.float32))
