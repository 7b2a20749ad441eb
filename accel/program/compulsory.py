"""The least DRAM traffic of a layer: every needed operand once, every result once, but for what stays on chip."""

from __future__ import annotations

import math

from accelsim.program.layers import Layer
from accelsim.program.plan import ContractionPlan, StreamPlan
from accelsim.program.work import ContractionWork, StreamWork


def compulsory_bytes(layer: Layer) -> tuple[int, int]:
    """Return the bytes that must be read and written at least, before they are rounded up to bursts.

    What is done several times reads its second operand once.

    Pixels that no window reads are not needed, padding is not read, and an operand that several groups or slices share
    is read once.

    Args:
        layer: the layer, for its work, the types of its operands, and what its plan keeps on chip.
    """
    work, plan = layer.work, layer.plan
    if isinstance(work, StreamWork) and isinstance(plan, StreamPlan):
        moved = work.moved_reads(plan.kept_reads), work.moved_writes(plan.kept_writes)
        read, written = (work.repeats * sum(count * size for count, size in part) for part in moved)
        return read, written
    if not isinstance(work, ContractionWork) or not isinstance(plan, ContractionPlan):
        raise TypeError(f"{type(plan).__name__} does not plan {type(work).__name__}")
    first, second = operand_bytes(layer, work)
    results = 0 if plan.kept_output else work.repeats * work.groups * work.m * work.n * work.output_bits
    return (0 if plan.kept_input else first) + second, _bytes(results)


def operand_bytes(layer: Layer, work: ContractionWork) -> tuple[int, int]:
    """Return the bytes of both operands of a contraction that are needed, the second with its parameters.

    Args:
        layer: the layer, for the types of its operands.
        work: the layer's work.
    """
    first = work.groups * work.m * work.k
    if work.image is not None:
        channels = work.groups * work.k // math.prod(work.image.geometry.kernel)
        first = work.image.images * channels * work.image.needed_positions
    first = work.repeats * min(first, layer.input_types[0].elements)
    second = work.groups * work.k * work.n
    if work.dynamic_second:
        second, bits, parameters = min(second, layer.input_types[1].elements), work.second_bits, 0
    else:
        bits, parameters = work.weight_bits, work.groups * work.n * work.parameter_bytes
    return _bytes(first * work.first_bits), _bytes(second * bits) + parameters


def _bytes(bits: int) -> int:
    """Return the bytes that hold so many bits."""
    return -(-bits // 8)
