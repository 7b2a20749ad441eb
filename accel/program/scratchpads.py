"""What a plan takes of the scratchpads (timing contract, sections 4.6, 5.4 and 5.7)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from accelsim.machine.arch import Arch
from accelsim.program.plan import ContractionPlan
from accelsim.program.weight_layout import weight_tile_bytes
from accelsim.program.work import ContractionWork


@dataclass(frozen=True)
class Needs:
    """Scratchpad bytes of one blocking: operands with those loaded ahead, and output buffers."""

    activation: int
    weight: int


def groups_packed(work: ContractionWork, arch: Arch, dataflow: str) -> int:
    """Return how many groups share a tile block-diagonally: as many as rows and columns hold (contract 4.6).

    Args:
        work: the layer's work.
        arch: the machine.
        dataflow: "ws", "os" or "is".
    """
    if dataflow == "is" or work.dynamic_second:
        return 1
    return max(min(arch.rows // work.k, arch.cols // (work.n + work.row_sums), work.groups), 1)


def buffer_needs(work: ContractionWork, plan: ContractionPlan, arch: Arch) -> Needs:
    """Return what operands (with those loaded ahead) and output buffers of a plan take of the scratchpads.

    A resident operand is there once per group in flight: the next groups are loaded while this one is computed.

    Args:
        work: the layer's work.
        plan: its blocking.
        arch: the machine.
    """
    ahead = min(arch.operand_buffers, -(-work.groups // plan.pack)) * plan.pack
    outputs = arch.output_buffers * plan.block_m * -(-plan.block_n * plan.pack * work.output_bits // 8)
    if plan.kept_input:
        first = 0
    elif plan.preload or (plan.resident and plan.outer == "n"):
        first = _first_bytes(work, work.m, work.k) * ahead
    else:
        sets = min(arch.operand_buffers, _loads(work, plan, "m"))
        first = _first_bytes(work, plan.block_m, plan.chunk_k) * plan.pack * sets
    return Needs(first + (0 if plan.kept_output else outputs), weight_buffer_bytes(work, plan, arch))


def second_stays(work: ContractionWork, arch: Arch) -> bool:
    """Tell whether constant weights of what is done several times stay in their scratchpad from the first time on.

    They do where all of them fit (contract, section 5.9).

    Args:
        work: the layer's work.
        arch: the machine.
    """
    return work.repeats > 1 and not work.dynamic_second and _all_weights(work) <= arch.spm_weight


def _all_weights(work: ContractionWork) -> int:
    """Bytes of the weights of all groups."""
    return _second_bytes(work, work.n * work.groups, work.k)


def once_more(work: ContractionWork, arch: Arch) -> ContractionWork:
    """Return what is done each time behind the first one: without loading weights that stay.

    Args:
        work: the layer's work.
        arch: the machine.
    """
    once = replace(work, repeats=1)
    return replace(once, weight_bits=0, parameter_bytes=0) if second_stays(work, arch) else once


def weight_buffer_bytes(work: ContractionWork, plan: ContractionPlan, arch: Arch) -> int:
    """Return what the second operand of a layer takes of the weight scratchpad: whole, or up to NB sets (contract 5.7).

    Args:
        work: the layer's work.
        plan: its blocking.
        arch: the machine.
    """
    if second_stays(work, arch):
        return _all_weights(work)
    if plan.resident and plan.outer == "m":
        ahead = min(arch.operand_buffers, -(-work.groups // plan.pack))
        return _second_bytes(work, work.n, work.k) * plan.pack * ahead
    sets = min(arch.operand_buffers, _loads(work, plan, "n"))
    return _second_bytes(work, plan.block_n, plan.chunk_k) * plan.pack * sets


def _loads(work: ContractionWork, plan: ContractionPlan, axis: str) -> int:
    """Return how often the operand of an axis is loaded at most, which is how many sets of it there can be."""
    blocks = {"m": -(-work.m // plan.block_m), "n": -(-work.n // plan.block_n)}
    other = blocks["n" if axis == "m" else "m"]
    chunks = -(-work.k // plan.chunk_k)
    return -(-work.groups // plan.pack) * blocks[axis] * chunks * (1 if plan.outer == axis and chunks == 1 else other)


def fits(needs: Needs, arch: Arch, reserved: int = 0) -> bool:
    """Tell whether the scratchpads hold a blocking beside `reserved` bytes of kept activations."""
    return needs.activation + reserved <= arch.spm_act and needs.weight <= arch.spm_weight


def _first_bytes(work: ContractionWork, rows: int, depth: int) -> int:
    """Bytes of the first operand that a block of output rows needs at a depth (an upper bound for feature maps)."""
    image = work.image
    if image is None:
        return rows * -(-depth * work.first_bits // 8)
    shape = image.geometry
    taps = shape.kernel[0] * shape.kernel[1]
    channels = min(-(-depth // taps) + (1 if depth % taps or depth < work.k else 0), work.k // taps)
    pixels = image.out_height * image.out_width
    if rows >= work.m:
        return channels * image.images * -(-image.height * image.width * work.first_bits // 8)
    lines = -(-rows // image.out_width) + 1
    reach = shape.dilations[0] * (shape.kernel[0] - 1) + 1
    covered = min(((lines - 1) * shape.strides[0] + reach - 1) // shape.insertion[0] + 1, image.height)
    images = min(-(-rows // pixels) + 1, image.images) if image.images > 1 else 1
    return channels * images * -(-covered * image.width * work.first_bits // 8)


def _second_bytes(work: ContractionWork, columns: int, depth: int) -> int:
    """Bytes of packed weights and their parameters (or of the second activation) for some columns at a depth."""
    if work.dynamic_second:
        return depth * -(-columns * work.second_bits // 8)
    return weight_tile_bytes(work, columns, 0, depth)
