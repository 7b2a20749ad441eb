"""How a machine does a layer: the types of plans (timing contract, sections 4.4 and 5.4)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ContractionPlan:
    """Blocking of a contraction on the array."""

    block_m: int
    block_n: int
    """block_m and block_n: extents of one output block (on OS several tiles of R rows, unless the depth is cut)."""
    chunk_k: int
    """Depth loaded at a time."""
    pack: int
    """Groups sharing a tile, block-diagonal (contract 4.6)."""
    resident: bool
    """The operand of the inner loop stays in its scratchpad."""
    preload: bool = False
    """The first operand is loaded whole, once per group of channels, before its first block."""
    dataflow: str = "ws"
    """One of "ws", "os" or "is"."""
    outer: str = "n"
    """One of "n" or "m", the outer one of the two block loops."""
    kept_input: bool = False
    kept_output: bool = False
    """kept_input and kept_output: the first operand lies in the activation scratchpad already, the result stays there
    (contract 5.8)."""


@dataclass(frozen=True)
class StreamPlan:
    """Number of blocks that a vector or DMA layer is cut into, and what of it stays on chip.

    kept_reads, kept_writes: one flag per entry of the work's reads and writes, empty when nothing is kept
    (contract 5.8).
    """

    blocks: int
    kept_reads: tuple[bool, ...] = ()
    kept_writes: tuple[bool, ...] = ()


Plan = ContractionPlan | StreamPlan


@dataclass(frozen=True)
class Kept:
    """What stays on chip around a layer (contract 5.8)."""

    reads: tuple[bool, ...] = ()
    writes: tuple[bool, ...] = ()
    """reads and writes: one flag per operand and result (a contraction) or per entry of the work; empty: none."""
    reserved: int = 0
    """Bytes of the activation scratchpad that kept tensors take while the layer runs."""

    @property
    def first(self) -> bool:
        """Whether the first operand of a contraction is there already."""
        return bool(self.reads) and self.reads[0]

    @property
    def output(self) -> bool:
        """Whether the result of a contraction stays."""
        return bool(self.writes) and self.writes[0]


NOTHING_KEPT = Kept()
