"""Bytes that DMA commands move: contiguous segments, in whole bursts (contract, 5.5 and 5.7)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsim.program.plan import ContractionPlan
from accelsim.program.weight_layout import PackedWeights, weight_tile_bytes
from accelsim.program.work import ContractionWork, ImageLayout

Addresses = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Segments:
    """Equally long and equally spaced segments of one operand."""

    operand: str
    """One of "first", "second" or "output", "prefetch" for the second operand of a later layer, "read" or "written" for
    addresses of a layer without the array."""
    start: int
    """First byte, from the operand's own start."""
    length: int
    """Bytes of a segment."""
    count: int
    """Segments."""
    stride: int
    """Bytes from one to the next."""


@dataclass(frozen=True)
class Moved:
    """Bytes of one command: in whole bursts, and those that were asked for; segments only where they are wanted."""

    burst_bytes: int = 0
    useful_bytes: int = 0
    segments: tuple[Segments, ...] = ()

    def __add__(self, other: Moved) -> Moved:
        bursts, useful = self.burst_bytes + other.burst_bytes, self.useful_bytes + other.useful_bytes
        return Moved(bursts, useful, self.segments + other.segments)


@dataclass(frozen=True)
class Tensors:
    """Where the operands and the result of a contraction lie: [images, channels, height, width], or row by row."""

    work: ContractionWork
    burst: int
    """Bytes of a burst."""
    weights: PackedWeights | None = None
    """Their layout, where segments are wanted."""

    def first(self, group: int, packed: int, rows: tuple[int, int], depth: tuple[int, int]) -> Moved:
        """Return what loading some output rows' part of the first operand moves, at a range of depths."""
        work, bits = self.work, self.work.first_bits
        low, high = rows
        if work.image is None:
            return self._rows("first", group * work.m + np.arange(low, high), work.k, depth, bits)
        image = work.image
        taps = image.geometry.kernel[0] * image.geometry.kernel[1]
        per_group = work.k // taps
        wanted = (0, per_group * packed) if packed > 1 else (depth[0] // taps, -(-depth[1] // taps))
        channels = np.arange(*wanted)
        plane, total = image.height * image.width, Moved()
        for number, first, last in _image_parts(image, low, high):
            start, stop = needed_span(image, first, last)
            base = number * work.groups * per_group + group * per_group
            total += self._rows("first", base + channels, plane, (start, stop), bits)
        return total

    def second(self, group: int, packed: int, columns: tuple[int, int], depth: tuple[int, int]) -> Moved:
        """Return what loading columns of the second operand moves; weights lie packed with their parameters."""
        work = self.work
        low, high = columns
        if work.dynamic_second and work.second_by_column:
            return self._rows("second", group * work.n + np.arange(*columns), work.k, depth, work.second_bits)
        if work.dynamic_second:
            return self._rows("second", group * work.k + np.arange(*depth), work.n, columns, work.second_bits)
        start = 0 if self.weights is None else self.weights.offsets[group, low, depth[0]]
        size = weight_tile_bytes(work, (high - low) * packed, *depth)
        return self._segments("second", np.full(1, start, np.int64), size)

    def output(self, group: int, packed: int, rows: tuple[int, int], columns: tuple[int, int]) -> Moved:
        """Return what storing one output block moves."""
        work, bits = self.work, self.work.output_bits
        width = (columns[1] - columns[0]) * packed
        if work.image is None:
            span = columns[0], columns[0] + width
            return self._rows("output", group * work.m + np.arange(*rows), work.n, span, bits)
        pixels, total = work.image.out_height * work.image.out_width, Moved()
        for number, first, last in _image_parts(work.image, *rows):
            base = (number * work.groups + group) * work.n + columns[0]
            total += self._rows("output", base + np.arange(width), pixels, (first, last), bits)
        return total

    def _rows(self, operand: str, numbers: Addresses, elements: int, span: tuple[int, int], bits: int) -> Moved:
        """Return the bytes that hold elements of each of some rows or planes, which lie packed, each from a byte on."""
        row_bytes = -(-elements * bits // 8)
        first, last = span[0] * bits // 8, -(-span[1] * bits // 8)
        return self._segments(operand, numbers * row_bytes + first, last - first)

    def _segments(self, operand: str, starts: Addresses, length: int) -> Moved:
        """Return the bytes of equally long segments; adjacent ones are moved as one."""
        count = len(starts)
        if not count or length <= 0:
            return Moved()
        if count > 1 and starts[1] - starts[0] == length:
            starts, length, count = starts[:1], length * count, 1
        touched = (starts + length - 1) // self.burst - starts // self.burst + 1
        segments: tuple[Segments, ...] = ()
        if self.weights is not None:
            stride = int(starts[1] - starts[0]) if count > 1 else 0
            segments = (Segments(operand, int(starts[0]), length, count, stride),)
        return Moved(int(touched.sum()) * self.burst, count * length, segments)


def first_weights(work: ContractionWork, plan: ContractionPlan, burst: int) -> Moved:
    """Return what loading the constant second operand of a layer's first chunk moves.

    Args:
        work: the layer's work.
        plan: its blocking.
        burst: bytes of a burst.
    """
    width = min(plan.block_n, work.n) * min(plan.pack, work.groups)
    size = weight_tile_bytes(work, width, 0, min(plan.chunk_k, work.k))
    return Moved(-(-size // burst) * burst, size, (Segments("prefetch", 0, size, 1, 0),))


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
