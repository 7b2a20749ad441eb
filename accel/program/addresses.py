"""Where every tensor lies in DRAM: the map that gives the addresses of an access trace.

Each tensor has a region of its own, in the order of first use, that starts on a multiple of a burst and of a page of
4096 bytes (of the smallest number of whole bursts that fills a page). Nothing is reused: an activation keeps its region
after its last reader. A view (Reshape, Flatten, ...) shares the region of what it views. Weights of a layer lie tile by
tile as its plan loads them, each tile on a burst, bias and multiplier in front. Layers without the array know how many
segments of which length they move, each on a burst, but not where: their segments are taken one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from accelsim.machine.arch import Arch
from accelsim.operators.tensors import TensorType
from accelsim.program.layers import Layer, Program
from accelsim.program.plan import ContractionPlan, Plan
from accelsim.program.weight_layout import pack_weights
from accelsim.program.work import ContractionWork, StreamWork

_PAGE = 4096

Runs = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Region:
    """Bytes base..base+size-1 of one tensor; size: the most that any layer's layout of it takes."""

    name: str
    base: int
    size: int


@dataclass(frozen=True)
class Piece:
    """Part of a region: a layer's operand, or one entry of what a layer without the array moves."""

    region: str
    offset: int
    size: int


@dataclass(frozen=True)
class Pieces:
    """What a layer moves: (first operand, second operand) and result, or one piece per entry of its work."""

    reads: tuple[Piece, ...]
    writes: tuple[Piece, ...]


@dataclass(frozen=True)
class Addresses:
    """First bytes of what a layer moves; see Pieces."""

    reads: tuple[int, ...]
    writes: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class AddressMap:
    """All regions, and for each layer of a program where it finds what it moves."""

    regions: tuple[Region, ...]
    layers: tuple[Addresses, ...]


def map_addresses(program: Program, arch: Arch) -> AddressMap:
    """Give every tensor of a program its region.

    Args:
        program: the layers.
        arch: the machine.
    """
    burst = arch.dram_burst
    views: dict[str, str] = {}
    sizes: dict[str, int] = {}
    used = []
    for number, layer in enumerate(program.layers):
        pieces = _pieces(number, layer, burst, views)
        for piece in (*pieces.reads, *pieces.writes):
            sizes[piece.region] = max(sizes.get(piece.region, 0), piece.offset + piece.size)
        used.append(pieces)
    alignment, base = -(-_PAGE // burst) * burst, 0
    bases: dict[str, int] = {}
    for name, size in sizes.items():
        bases[name] = base
        base += -(-max(size, 1) // alignment) * alignment
    layers = (
        Addresses(*(tuple(bases[p.region] + p.offset for p in side) for side in (pieces.reads, pieces.writes)))
        for pieces in used
    )
    return AddressMap(tuple(Region(name, bases[name], size) for name, size in sizes.items()), tuple(layers))


def _pieces(number: int, layer: Layer, burst: int, views: dict[str, str]) -> Pieces:
    """Return what a layer moves; a view moves nothing and is noted in `views`."""
    work, inputs = layer.work, [views.get(name, name) for name in layer.moved_inputs]
    if isinstance(work, ContractionWork):
        if work.dynamic_second:
            rows, elements = (work.n, work.k) if work.second_by_column else (work.k, work.n)
            second = Piece(inputs[1], 0, _packed(work.groups * rows, elements, work.second_bits))
        else:
            name = f"weights of layer {number} {layer.name}"
            second = Piece(name, 0, _weights_extent(work, layer.plan, burst))
        output = Piece(layer.outputs[0], 0, _output_extent(work))
        return Pieces((Piece(inputs[0], 0, _first_extent(work)), second), (output,))
    if work.placement == "none":
        views.update(dict.fromkeys(layer.outputs[: len(inputs)], inputs[0]))
        return Pieces((), ())
    return stream_pieces(number, layer, work, inputs, burst)


def _weights_extent(work: ContractionWork, plan: Plan, burst: int) -> int:
    """Bytes of the packed weights of a layer."""
    if not isinstance(plan, ContractionPlan):
        raise TypeError(f"{type(plan).__name__} does not plan {type(work).__name__}")
    return pack_weights(work, plan, burst).size


def _first_extent(work: ContractionWork) -> int:
    """Bytes of the first operand as a contraction reads it; slices of a volume that share rows are laid out apart."""
    image = work.image
    if image is None:
        return _packed(work.groups * work.m, work.k, work.first_bits)
    channels = work.groups * (work.k // (image.geometry.kernel[0] * image.geometry.kernel[1]))
    return _packed(image.images * channels, image.height * image.width, work.first_bits)


def _output_extent(work: ContractionWork) -> int:
    """Bytes of what a contraction writes."""
    image = work.image
    if image is None:
        return _packed(work.groups * work.m, work.n, work.output_bits)
    return _packed(image.images * work.groups * work.n, image.out_height * image.out_width, work.output_bits)


def _packed(rows: int, elements: int, bits: int) -> int:
    """Bytes of rows or planes of packed elements, each from a byte on."""
    return rows * -(-elements * bits // 8)


def stream_pieces(number: int, layer: Layer, work: StreamWork, inputs: Sequence[str], burst: int) -> Pieces:
    """Return one piece per entry of a layer without the array.

    What is read beyond the inputs are tables and constants, in a region of their own.

    Args:
        number: the layer's place in the program.
        layer: the layer; its plan is not looked at.
        work: its work.
        inputs: names of its inputs, views resolved.
        burst: bytes of a burst.
    """
    spare = f"constants of layer {number} {layer.name}"
    return Pieces(
        _lay_out(inputs, layer.moved_types, work.reads, spare, burst),
        _lay_out(layer.outputs, layer.output_types, work.writes, spare, burst),
    )


def _lay_out(
    names: Sequence[str], types: Sequence[TensorType], runs: Runs, spare: str, burst: int
) -> tuple[Piece, ...]:
    """Lay the entries of one direction out: each follows the one before while the tensor holds both, then the next one.

    An entry like the first one, after the last tensor, is another pass over the same tensors.
    """
    tensors = [*((name, kind.size_bytes) for name, kind in zip(names, types, strict=False)), (spare, -1)]
    place = filled = offset = 0
    pieces: list[Piece] = []
    for count, size in runs:
        full = 0 <= tensors[place][1] < filled + count * size
        if pieces and full:
            place, filled, offset = place + 1, 0, 0
            if tensors[place][0] == spare and (count, size) == runs[0]:
                place = 0
        extent = count * -(-size // burst) * burst
        pieces.append(Piece(tensors[place][0], offset, extent))
        filled, offset = filled + count * size, offset + extent
    return tuple(pieces)
