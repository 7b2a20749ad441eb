"""Slow, obvious twins of the operators that rearrange, reduce and interpolate: one element at a time, exact float32.

They follow the operators' definitions (ONNX) with plain loops; nothing is shared with the package under test.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.oracles.naive import Code, dequantise, divided, plus, quantise, times

Array = NDArray[Any]
Scale = np.float32


def rearranged(data: Array, positions: Sequence[Sequence[int]], fill: Any) -> Array:
    """Copy the element at the positions of every axis, or fill where any of them is negative."""
    out = np.empty([len(part) for part in positions], data.dtype)
    for index in np.ndindex(out.shape):
        source = tuple(int(part[i]) for part, i in zip(positions, index, strict=True))
        out[index] = fill if min(source, default=0) < 0 else data[source]
    return out


def depth_to_space(data: Array, block: int, order: str) -> Array:
    """Channel q of pixel (i, j) goes to one place inside of the block that the pixel becomes."""
    images, channels, height, width = data.shape
    depth = channels // block**2
    out = np.empty((images, depth, height * block, width * block), data.dtype)
    for image, channel, row, column in np.ndindex(*data.shape):
        if order == "CRD":
            target, place = divmod(channel, block * block)
        else:
            place, target = divmod(channel, depth)
        down, right = divmod(place, block)
        out[image, target, row * block + down, column * block + right] = data[image, channel, row, column]
    return out


def space_to_depth(data: Array, block: int) -> Array:
    """A pixel's place in its block selects the group of channels that it goes to."""
    images, channels, height, width = data.shape
    out = np.empty((images, channels * block**2, height // block, width // block), data.dtype)
    for image, channel, row, column in np.ndindex(*data.shape):
        place = (row % block) * block + column % block
        out[image, place * channels + channel, row // block, column // block] = data[image, channel, row, column]
    return out


def gathered_elements(data: Array, indices: Array, axis: int) -> Array:
    """Element by element: its own index, replaced on one axis."""
    out = np.empty(indices.shape, data.dtype)
    for index in np.ndindex(*indices.shape):
        source = list(index)
        source[axis] = int(indices[index]) % data.shape[axis]
        out[index] = data[tuple(source)]
    return out


def gathered_nd(data: Array, indices: Array, batch: int) -> Array:
    """Slices selected by tuples, after common batch dimensions."""
    outer, depth = indices.shape[:-1], indices.shape[-1]
    out = np.empty((*outer, *data.shape[batch + depth :]), data.dtype)
    for index in np.ndindex(*outer):
        out[index] = data[(*index[:batch], *(int(part) for part in indices[index]))]
    return out


def extreme(data: Array, axes: Sequence[int], sign: int) -> Array:
    """Largest (sign 1) or smallest (sign -1) element over axes, which are kept with one element."""
    shape = [1 if axis in axes else size for axis, size in enumerate(data.shape)]
    found: dict[tuple[int, ...], int] = {}
    for index in np.ndindex(*data.shape):
        place = tuple(0 if axis in axes else i for axis, i in enumerate(index))
        value = int(data[index])
        if place not in found or sign * value > sign * found[place]:
            found[place] = value
    out = np.empty(shape, data.dtype)
    for place, value in found.items():
        out[place] = value
    return out


def extreme_index(data: Array, axis: int, sign: int, *, last: bool) -> Array:
    """Index of the largest or smallest element along an axis."""
    moved = np.moveaxis(data, axis, -1)
    out = np.empty(moved.shape[:-1], np.int64)
    for place in np.ndindex(*out.shape):
        best = 0
        for i, value in enumerate(moved[place]):
            gain = sign * (int(value) - int(moved[place][best]))
            if gain > 0 or (last and gain == 0):
                best = i
        out[place] = best
    return np.expand_dims(out, axis)


def sum_in_vectors_of_four(reals: Sequence[Scale], start: int) -> Scale:
    """Add as a loop over aligned groups of four floats with two running groups does; the loose ends come last."""
    aligned = [i for i in range(len(reals)) if (start + i) % 4 == 0 and i + 4 <= len(reals)]
    if not aligned:
        return sum_in_order(reals)
    groups = [list(reals[i : i + 4]) for i in aligned]
    running = groups[:2]
    whole = len(groups) - len(groups) % 2
    for number in range(2, whole):
        running[number % 2] = [plus(a, b) for a, b in zip(running[number % 2], groups[number], strict=True)]
    lanes = running[0]
    if len(groups) > 1:
        lanes = [plus(a, b) for a, b in zip(*running, strict=True)]
        if whole < len(groups):
            lanes = [plus(a, b) for a, b in zip(lanes, groups[-1], strict=True)]
    total = plus(plus(lanes[0], lanes[2]), plus(lanes[1], lanes[3]))
    for i in (*range(aligned[0]), *range(aligned[-1] + 4, len(reals))):
        total = plus(total, reals[i])
    return total


def sum_in_order(reals: Sequence[Scale]) -> Scale:
    """Add one after the other."""
    total = reals[0]
    for real in reals[1:]:
        total = plus(total, real)
    return total


def reduced(rows: Array, quantisation: tuple[Scale, int], output: tuple[Scale, Code], *, mean: bool) -> list[int]:
    """Sums or means of rows of codes [K, R] that lie one behind the other in memory."""
    result = []
    for number, row in enumerate(rows):
        reals = [dequantise(int(code), *quantisation) for code in row]
        total = sum_in_vectors_of_four(reals, number * len(reals))
        result.append(quantise(divided(total, len(reals)) if mean else total, *output))
    return result


def affine(code: int, factor: Scale, offset: Scale, quantisation: tuple[Scale, int], output: tuple[Scale, Code]) -> int:
    """Multiply and add, each rounded."""
    return quantise(plus(times(dequantise(code, *quantisation), factor), offset), *output)


def neighbours(coordinate: Scale, size: int) -> tuple[int, int, Scale, Scale]:
    """Return both neighbours of a coordinate and their weights; beyond the last pixel both count half."""
    inside = max(Scale(0), min(coordinate, Scale(size - 1)))
    first = int(inside)
    second = min(first + 1, size - 1)
    if first == second:
        return first, second, Scale(0.5), Scale(0.5)
    return first, second, abs(plus(inside, -second)), abs(plus(inside, -first))


def interpolated(
    plane: Array,
    coordinates: tuple[Sequence[Scale], Sequence[Scale]],
    quantisation: tuple[Scale, int],
    output: tuple[Scale, Code],
) -> Array:
    """Interpolate codes [H, W] at coordinates: four products of two weights and a pixel, added from left to right."""
    out = np.empty([len(axis) for axis in coordinates], np.int64)
    for (i, y), (j, x) in product(*map(enumerate, coordinates)):
        top, bottom, upper, lower = neighbours(y, plane.shape[0])
        left, right, near, far = neighbours(x, plane.shape[1])
        parts = [
            times(times(horizontal, vertical), dequantise(int(plane[row, column]), *quantisation))
            for row, vertical in ((top, upper), (bottom, lower))
            for column, horizontal in ((left, near), (right, far))
        ]
        out[i, j] = quantise(sum_in_order(parts), *output)
    return out
