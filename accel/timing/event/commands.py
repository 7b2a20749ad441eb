"""What the engines are told to do for one contraction: chunks to load, tiles to issue, blocks to store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from accelsim.machine.arch import Arch
from accelsim.program.plan import ContractionPlan
from accelsim.program.weight_layout import pack_weights
from accelsim.program.work import ContractionWork
from accelsim.timing.event.traffic import Moved, Tensors

Range = tuple[int, int]


@dataclass(frozen=True)
class Tile:
    """One tile: steps to stream, cycles of pushing its stationary operand.

    folds: it adds to the sums of the tile before; opens: first of its accumulators; depth: steps of the whole OS tile,
    of which this may be a part; extents (streamed, depth, held) count what happens in it.
    """

    steps: int
    push: int
    folds: bool
    opens: bool
    depth: int
    extents: tuple[int, int, int]


@dataclass(frozen=True)
class Chunk:
    """One operand load and the tiles that it feeds; a load is None where the operand is in its scratchpad already."""

    first: Moved | None
    second: Moved | None
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Block:
    """One output block: its chunks, then rows and columns of the accumulator bank to requantise, then a store.

    store: moves nothing where the result stays on chip.
    """

    packed: int
    chunks: tuple[Chunk, ...]
    bank_rows: int
    bank_columns: int
    elements: int
    store: Moved


def _cut(extent: int, size: int) -> list[Range]:
    """Cut a range into pieces."""
    return [(low, min(low + size, extent)) for low in range(0, extent, size)]


def contraction_blocks(
    work: ContractionWork, plan: ContractionPlan, arch: Arch, *, segments: bool = False
) -> Iterator[Block]:
    """Yield the output blocks of a contraction in the order of its plan (contract, sections 4.4 and 5.7).

    Args:
        work: the layer's work.
        plan: its blocking.
        arch: the machine.
        segments: also say where the bytes of each command lie.
    """
    weights = pack_weights(work, plan, arch.dram_burst) if segments else None
    tensors, columns_outside = Tensors(work, arch.dram_burst, weights), plan.outer == "n"
    row_parts, column_parts = _cut(work.m, plan.block_m), _cut(work.n, plan.block_n)
    outer_parts, inner_parts = (column_parts, row_parts) if columns_outside else (row_parts, column_parts)
    depths = _cut(work.k, plan.chunk_k)
    stays = not work.dynamic_second and not work.weight_bits  # what the time before has loaded (contract 5.9)
    for group in range(0, work.groups, plan.pack):
        packed = min(plan.pack, work.groups - group)
        for outer_number, outer in enumerate(outer_parts):
            for inner_number, inner in enumerate(inner_parts):
                rows, columns = (inner, outer) if columns_outside else (outer, inner)
                chunks = []
                for number, depth in enumerate(depths):
                    outer_wanted = inner_number == 0 or len(depths) > 1
                    inner_wanted = outer_number == 0 or not plan.resident
                    first_wanted, second_wanted = (
                        (inner_wanted, outer_wanted) if columns_outside else (outer_wanted, inner_wanted)
                    )
                    first_rows, first_depth = rows, depth
                    if plan.preload:
                        first_wanted = outer_number == inner_number == number == 0
                        first_rows, first_depth = (0, work.m), (0, work.k)
                    chunks.append(
                        Chunk(
                            tensors.first(group, packed, first_rows, first_depth)
                            if first_wanted and not plan.kept_input
                            else None,
                            tensors.second(group, packed, columns, depth) if second_wanted and not stays else None,
                            tuple(_tiles(work, arch, packed, rows, columns, depth)),
                        )
                    )
                stored = Moved() if plan.kept_output else tensors.output(group, packed, rows, columns)
                yield _block(work, arch, packed, rows, columns, tuple(chunks), stored)


def _block(
    work: ContractionWork, arch: Arch, packed: int, rows: Range, columns: Range, chunks: tuple[Chunk, ...], store: Moved
) -> Block:
    """Close one output block; on IS the bank holds a row per n and a column per m."""
    height, features = rows[1] - rows[0], columns[1] - columns[0]
    width = (features + work.row_sums) * packed
    bank = (width, height) if arch.dataflow == "is" else (height, width)
    return Block(packed, chunks, *bank, height * features * packed, store)


def _tiles(work: ContractionWork, arch: Arch, packed: int, rows: Range, columns: Range, depth: Range) -> Iterator[Tile]:
    """Yield the tiles of one chunk: row tiles on OS, k-folds on WS and IS; each group has its sums of activations."""
    height, deep = rows[1] - rows[0], (depth[1] - depth[0]) * packed
    width = (columns[1] - columns[0] + work.row_sums) * packed
    opens = depth[0] == 0
    if arch.dataflow == "os":
        for low, high in _cut(height, arch.rows):
            cycles = arch.gather_cycles(high - low)
            whole = work.k * packed * cycles
            yield Tile(deep * cycles, 0, False, opens, whole, (high - low, deep, width))
        return
    streamed, held = (width, height) if arch.dataflow == "is" else (height, width)
    for low, high in _cut(deep, arch.rows):
        push = arch.rows if arch.weight_load == "full" else high - low
        steps = streamed
        if arch.dataflow == "is":
            push *= arch.gather_cycles(held)
        else:
            steps *= arch.gather_cycles(high - low)
        first = opens and low == 0
        yield Tile(steps, push, not first, first, steps, (streamed, high - low, held))
