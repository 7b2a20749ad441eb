"""The least traffic of a layer, from the contract's text."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from accelsim.program.plan import ContractionPlan, Plan, StreamPlan
from accelsim.program.work import ContractionWork, ImageLayout, StreamWork


@cache
def needed_positions(image: ImageLayout) -> int:
    """Count the positions of a plane that some window reads, padding aside."""
    shape, needed = image.geometry, []
    for axis, (size, out) in enumerate(((image.height, image.out_height), (image.width, image.out_width))):
        starts = np.arange(out)[:, None] * shape.strides[axis] - shape.pads[axis]
        taps: NDArray[np.int64] = starts + np.arange(shape.kernel[axis]) * shape.dilations[axis]
        needed.append(len(np.unique(taps[(taps >= 0) & (taps < size)])))
    return math.prod(needed)


def compulsory_bytes(work: ContractionWork | StreamWork, plan: Plan) -> tuple[int, int]:
    """Return the bytes that must be read and written at least: what is not kept on chip, every needed operand once."""
    if isinstance(work, StreamWork):
        assert isinstance(plan, StreamPlan)
        read = sum(count * size for count, size in work.moved_reads(plan.kept_reads))
        return read, sum(count * size for count, size in work.moved_writes(plan.kept_writes))
    assert isinstance(plan, ContractionPlan)
    image = work.image
    first = work.groups * work.m * work.k
    if image is not None:
        channels = work.groups * work.k // math.prod(image.geometry.kernel)
        first = image.images * channels * needed_positions(image)
    second = work.groups * work.k * work.n
    second += 0 if work.dynamic_second else work.groups * work.n * work.parameter_bytes
    first = 0 if plan.kept_input else first
    return first + second, 0 if plan.kept_output else work.groups * work.m * work.n * work.output_bytes
