"""What the layers of a program have to do with each other's time: channel, prefetch, addresses (contract 5.6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from accelsim.machine.arch import Arch
from accelsim.program.addresses import Addresses, map_addresses
from accelsim.program.layers import Layer, Program
from accelsim.program.plan import ContractionPlan
from accelsim.program.scratchpads import weight_buffer_bytes
from accelsim.program.weight_layout import first_tile_bytes
from accelsim.program.work import ContractionWork


@dataclass(frozen=True)
class Boundary:
    """What a layer finds at its cycle 0, left by the layer before it."""

    busy: int = 0
    """Cycles for which LOAD and its channel still are."""
    weights_ready: int | None = None
    """Cycle from which the second operand of its first chunk is there, None where nothing was prefetched."""


@dataclass(frozen=True)
class Prefetch:
    """The second operand of a later layer's first chunk, which a layer loads behind its own loads (contract 5.6)."""

    work: ContractionWork
    plan: ContractionPlan
    """work and plan: of the layer that uses it."""
    waits: bool
    """Not before the issue end of this layer's last chunk."""
    address: int = 0
    """Its first byte in DRAM."""


@dataclass(frozen=True)
class Surroundings:
    """Where a layer stands: what it loads for the next one, and where its operands and results lie in DRAM.

    addresses: None where no row model asks for them.
    """

    prefetch: Prefetch | None = None
    addresses: Addresses | None = None


ALONE = Surroundings()
NOTHING_FOUND = Boundary()


def surroundings(program: Program, arch: Arch) -> list[Surroundings]:
    """Return the surroundings of every layer.

    Args:
        program: the layers.
        arch: the machine.
    """
    places: Sequence[Addresses | None] = [None] * len(program.layers)
    if arch.dram_row_bytes:
        places = map_addresses(program, arch).layers
    fetches: list[Prefetch | None] = [None] * len(program.layers)
    if arch.prefetch_weights:
        timed = [number for number, layer in enumerate(program.layers) if takes_time(layer)]
        for number, later in pairwise(timed):
            fetches[number] = _prefetch(program.layers[number], program.layers[later], arch, places[later])
    return [Surroundings(fetch, place) for fetch, place in zip(fetches, places, strict=True)]


def takes_time(layer: Layer) -> bool:
    """Tell whether a layer is more than another shape for the same bytes."""
    return isinstance(layer.work, ContractionWork) or layer.work.placement != "none"


def _prefetch(layer: Layer, later: Layer, arch: Arch, place: Addresses | None) -> Prefetch | None:
    """Return what a layer loads for the next one, if that has constant weights."""
    work, plan = later.work, later.plan
    if not isinstance(work, ContractionWork) or not isinstance(plan, ContractionPlan) or work.dynamic_second:
        return None
    used = 0
    if isinstance(layer.work, ContractionWork) and isinstance(layer.plan, ContractionPlan):
        used = weight_buffer_bytes(layer.work, layer.plan, arch)
    waits = used + first_tile_bytes(work, plan) > arch.spm_weight
    return Prefetch(work, plan, waits, place.reads[1] if place is not None else 0)
