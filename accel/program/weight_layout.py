"""Where the tiles of packed weights lie in DRAM (contract, section 5.7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from accelsim.program.plan import ContractionPlan
from accelsim.program.work import ContractionWork


@dataclass(frozen=True)
class PackedWeights:
    """Where each tile of packed weights lies: every tile starts on a burst, in the order of groups, columns and depth.

    offsets: first byte by (group, column, depth); size: bytes of all tiles.
    """

    offsets: Mapping[tuple[int, int, int], int]
    size: int


def pack_weights(work: ContractionWork, plan: ContractionPlan, burst: int) -> PackedWeights:
    """Lay the weights of a layer out as its plan loads them.

    Args:
        work: the layer's work.
        plan: its blocking.
        burst: bytes of a burst.
    """
    offsets, size = {}, 0
    for group in range(0, work.groups, plan.pack):
        packed = min(plan.pack, work.groups - group)
        for column in range(0, work.n, plan.block_n):
            width = min(plan.block_n, work.n - column) * packed
            for depth in range(0, work.k, plan.chunk_k):
                offsets[group, column, depth] = size
                used = weight_tile_bytes(work, width, depth, min(depth + plan.chunk_k, work.k))
                size += -(-used // burst) * burst
    return PackedWeights(offsets, size)


def first_tile_bytes(work: ContractionWork, plan: ContractionPlan) -> int:
    """Bytes of the tile of packed weights that a layer starts with, which the layer before it may load.

    Args:
        work: the layer's work.
        plan: its blocking.
    """
    width = min(plan.block_n, work.n) * min(plan.pack, work.groups)
    return weight_tile_bytes(work, width, 0, min(plan.chunk_k, work.k))


def weight_tile_bytes(work: ContractionWork, width: int, low: int, high: int) -> int:
    """Bytes of a tile of packed weights; the first chunk of a column has its parameters in front."""
    size = -(-(high - low) * width * work.weight_bits // 8)
    return size + (width * work.parameter_bytes if low == 0 else 0)
