"""Bytes that DMA commands move: contiguous segments, in whole bursts (contract, 5.5 and 5.7)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsim.work import ContractionWork, ImageLayout

Addresses = NDArray[np.int64]


@dataclass(frozen=True)
class Moved:
    """Bytes of one command: in whole bursts, and those that were asked for."""

    burst_bytes: int = 0
    useful_bytes: int = 0

    def __add__(self, other: Moved) -> Moved:
        return Moved(self.burst_bytes + other.burst_bytes, self.useful_bytes + other.useful_bytes)


@dataclass(frozen=True)
class Tensors:
    """Where the operands and the result of a contraction lie: [images, channels, height, width], or row by row.

    burst: bytes of a burst.
    """

    work: ContractionWork
    burst: int

    def first(self, group: int, packed: int, rows: tuple[int, int], depth: tuple[int, int]) -> Moved:
        """Return what loading some output rows' part of the first operand moves, at a range of depths."""
        work, size = self.work, self.work.input_bytes
        low, high = rows
        if work.image is None:
            starts = (group * work.m + np.arange(low, high)) * work.k + depth[0]
            return self._segments(starts * size, (depth[1] - depth[0]) * size)
        image = work.image
        taps = image.geometry.kernel[0] * image.geometry.kernel[1]
        per_group = work.k // taps
        wanted = (0, per_group * packed) if packed > 1 else (depth[0] // taps, -(-depth[1] // taps))
        channels = np.arange(*wanted)
        plane, total = image.height * image.width, Moved()
        for number, first, last in _image_parts(image, low, high):
            start, stop = needed_span(image, first, last)
            base = number * work.groups * per_group + group * per_group
            total += self._segments(((base + channels) * plane + start) * size, (stop - start) * size)
        return total

    def second(self, group: int, packed: int, columns: tuple[int, int], depth: tuple[int, int]) -> Moved:
        """Return what loading columns of the second operand moves; weights lie packed with their parameters."""
        work = self.work
        low, high = columns
        if work.dynamic_second:
            starts = (group * work.k + np.arange(*depth)) * work.n + low
            return self._segments(starts * work.input_bytes, (high - low) * work.input_bytes)
        width = (high - low) * packed
        size = -(-(depth[1] - depth[0]) * width * work.weight_bits // 8)
        size += width * work.parameter_bytes if depth[0] == 0 else 0
        return self._segments(np.zeros(1, np.int64), size)

    def output(self, group: int, packed: int, rows: tuple[int, int], columns: tuple[int, int]) -> Moved:
        """Return what storing one output block moves."""
        work, size = self.work, self.work.output_bytes
        width = (columns[1] - columns[0]) * packed
        if work.image is None:
            starts = (group * work.m + np.arange(*rows)) * work.n + columns[0]
            return self._segments(starts * size, width * size)
        pixels, total = work.image.out_height * work.image.out_width, Moved()
        for number, first, last in _image_parts(work.image, *rows):
            base = (number * work.groups + group) * work.n + columns[0]
            total += self._segments(((base + np.arange(width)) * pixels + first) * size, (last - first) * size)
        return total

    def _segments(self, starts: Addresses, length: int) -> Moved:
        """Return the bytes of equally long segments; adjacent ones are moved as one."""
        count = len(starts)
        if not count or length <= 0:
            return Moved()
        if count > 1 and starts[1] - starts[0] == length:
            starts, length, count = starts[:1], length * count, 1
        touched = (starts + length - 1) // self.burst - starts // self.burst + 1
        return Moved(int(touched.sum()) * self.burst, count * length)


def _image_parts(image: ImageLayout, low: int, high: int) -> list[tuple[int, int, int]]:
    """Return (image, first pixel, pixel after the last) for the images that a range of output rows touches."""
    pixels = image.out_height * image.out_width
    numbers = range(low // pixels, (high - 1) // pixels + 1)
    return [(number, max(low - number * pixels, 0), min(high - number * pixels, pixels)) for number in numbers]


def needed_span(image: ImageLayout, first: int, last: int) -> tuple[int, int]:
    """Return the span of a plane that holds all that output pixels first..last-1 read (contract, 5.7).

    It goes from the first to the last element needed; a row hidden by a pad or by inserted zeros is replaced by the
    nearest whole row, since other output rows read it whole.

    Args:
        image: the feature map and its window.
        first: output pixel, row-major.
        last: output pixel after the last one.
    """
    window = image.geometry
    top, left = window.pads[0], window.pads[1]
    (step_h, step_w), (stride_h, stride_w) = window.insertion, window.strides
    corner_row, corner_column = divmod(first, image.out_width)
    final_row, final_column = divmod(last - 1, image.out_width)
    row, column = corner_row * stride_h - top, corner_column * stride_w - left
    hidden = row < 0 or row % step_h != 0
    begin = (max(-(-row // step_h), 0), 0 if hidden else -(-column // step_w))
    row = final_row * stride_h - top + window.dilations[0] * (window.kernel[0] - 1)
    column = final_column * stride_w - left + window.dilations[1] * (window.kernel[1] - 1)
    end = (row // step_h, image.width - 1 if row % step_h else column // step_w)
    if end[0] >= image.height:
        end = (image.height - 1, image.width - 1)
    start = min(begin[0], image.height - 1) * image.width + min(max(begin[1], 0), image.width - 1)
    stop = max(end[0], 0) * image.width + min(max(end[1], 0), image.width - 1) + 1
    return start, max(stop, start + 1)
