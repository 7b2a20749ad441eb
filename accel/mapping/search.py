"""The mapper of one layer: dataflow, loop order, block sizes and residency, timed by the recurrence itself.

The space of a layer is every combination of dataflow (one, or all with `best`), order of the two block loops, size of
the streamed block, depth loaded at a time, and whether the first operand is loaded ahead of all blocks. Small spaces
hold every size; in larger ones sizes are balanced cuts of the streamed extent, of which the largest that fit are taken,
and the depth is halved. A lower bound on cycles and DRAM traffic orders the candidates, so that those that cannot be
better are never timed: what is found is the best of the space.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from math import inf, prod

from accelsim.errors import UsageError
from accelsim.machine.arch import Arch
from accelsim.program.plan import (
    NOTHING_KEPT,
    ContractionPlan,
    Kept,
    Plan,
    Shortage,
    buffer_needs,
    fits,
    groups_packed,
    plan_stream,
)
from accelsim.program.work import ContractionWork, ImageLayout, Work
from accelsim.timing.boundary import ALONE, Surroundings
from accelsim.timing.layer_timing import LayerTiming
from accelsim.timing.recurrence import DATAFLOWS, time_layer

# Up to so many sizes of the streamed block, and so many folds of depth, all are tried.
_ALL_SIZES, _ALL_FOLDS = 8, 4
_BALANCED_CUTS = 4

# Of the sizes that fit, so many of the largest are candidates (all of a small extent).
_FITTING_SIZES = 8

Price = Callable[[ContractionPlan, LayerTiming], float]


@dataclass(frozen=True)
class Floor:
    """What the energy of a layer is at least: of each byte to or from DRAM, and of what no plan changes (its MACs)."""

    dram_byte_pj: float = 1.0
    fixed_pj: float = 0.0

    def energy_pj(self, dram_bytes: int) -> float:
        """Return the least energy with so much DRAM traffic."""
        return self.fixed_pj + dram_bytes * self.dram_byte_pj


@dataclass(frozen=True)
class Mapping:
    """What the mapper chose for a layer.

    plan: the plan; considered: plans in its space that fit the scratchpads; timed: those whose bound did not rule them
    out; value: what was minimised, and what decides between equals.
    """

    plan: Plan
    considered: int = 1
    timed: int = 1
    value: tuple[float, float] = (0.0, 0.0)


def choose_plan(
    name: str,
    work: Work,
    arch: Arch,
    kept: Kept = NOTHING_KEPT,
    price: Price | None = None,
    floor: Floor | None = None,
    around: Surroundings = ALONE,
) -> Mapping:
    """Return the plan that minimises arch.objective: cycles, energy, or their product.

    Args:
        name: the layer's name, for messages.
        work: the layer's work.
        arch: the machine.
        kept: what stays on chip.
        price: energy of a timed plan in pJ; None: that of its DRAM traffic alone.
        floor: what every price includes; None: a unit per byte of DRAM traffic.
        around: where the layer's tensors lie, for the row model; without addresses it is timed without one. The bound
            holds for both, since a row that is opened only adds cycles.

    Raises:
        UsageError: a scratchpad is too small for one tile; names the buffer, the layer and the minimum.
    """
    if not isinstance(work, ContractionWork):
        return Mapping(plan_stream(name, work, arch, kept))
    plans = list(fitting_plans(name, work, arch, kept))
    floor = floor or Floor()
    bounded = sorted((_bound(work, plan, arch, floor), number) for number, plan in enumerate(plans))
    best, chosen, timed = (inf, inf), plans[0], 0
    for bound, number in bounded:
        if bound > best[0]:
            break
        timing = time_layer(work, plans[number], arch, around)
        timed += 1
        energy = floor.energy_pj(timing.dram_bytes)
        if objective(arch, timing.cycles, energy)[0] > best[0]:
            continue
        energy = energy if price is None else price(plans[number], timing)
        value = objective(arch, timing.cycles, energy)
        if value < best:
            best, chosen = value, plans[number]
    return Mapping(chosen, len(plans), timed, best)


def is_plannable(work: Work, arch: Arch, kept: Kept) -> bool:
    """Tell whether a layer has any plan with something kept on chip around it.

    Args:
        work: the layer's work.
        arch: the machine.
        kept: what stays on chip.
    """
    try:
        if isinstance(work, ContractionWork):
            next(fitting_plans("", work, arch, kept))
        else:
            plan_stream("", work, arch, kept)
    except UsageError:
        return False
    return True


def objective(arch: Arch, cycles: int, energy_pj: float) -> tuple[float, float]:
    """Return what is to be minimised, and what decides between equal plans.

    Args:
        arch: the machine.
        cycles: of a layer or of a network.
        energy_pj: of the same.
    """
    if arch.objective == "energy":
        return energy_pj, float(cycles)
    return float(cycles) if arch.objective == "cycles" else cycles * energy_pj, energy_pj


def fitting_plans(name: str, work: ContractionWork, arch: Arch, kept: Kept = NOTHING_KEPT) -> Iterator[ContractionPlan]:
    """Yield every plan of a layer's space that the scratchpads hold.

    Args:
        name: the layer's name, for messages.
        work: the layer's work.
        arch: the machine.
        kept: what stays on chip.

    Raises:
        UsageError: there is none; names the buffer, the layer and the minimum.
    """
    shortest, found = Shortage(), Counter[tuple[object, ...]]()
    resident: dict[bool, ContractionPlan] = {}  # in large spaces loading an operand again is not tried
    for plan in plan_space(work, arch, kept):
        way = plan.dataflow, plan.outer, plan.preload, plan.resident, plan.chunk_k
        small = (work.n if plan.dataflow == "is" else work.m) <= _ALL_SIZES
        loaded_once = not small and not plan.resident and resident.get(plan.preload) == replace(plan, resident=True)
        if found[way] >= _FITTING_SIZES or loaded_once:
            continue
        needs = buffer_needs(work, plan, arch)
        if fits(needs, arch, kept.reserved):
            found[way] += 1
            if plan.resident:
                resident[plan.preload] = plan
            yield plan
        elif not found:
            shortest.note(needs, arch)
    if not found:
        raise UsageError(shortest.sentence(name, arch, kept.reserved))


def plan_space(work: ContractionWork, arch: Arch, kept: Kept = NOTHING_KEPT) -> Iterator[ContractionPlan]:
    """Yield every plan of a layer's space, whether the scratchpads hold it or not, large blocks first.

    Args:
        work: the layer's work.
        arch: the machine.
        kept: what stays on chip.
    """
    for dataflow in DATAFLOWS if arch.dataflow == "best" else (arch.dataflow,):
        pack = groups_packed(work, arch, dataflow)
        for block_m, block_n in _blocks(work, arch, dataflow, pack):
            for chunk in _chunks(work.k, arch.rows):
                if chunk < work.k and dataflow == "os" and block_m > arch.rows:
                    continue  # partial sums of a tile stay in the PEs, so its depth is not left in between
                whole = block_m >= work.m and block_n >= work.n and chunk >= work.k
                for outer in ("n",) if whole else ("n", "m"):
                    yield from _residencies(work, kept, (block_m, block_n, chunk, pack), dataflow, outer)


def _residencies(
    work: ContractionWork, kept: Kept, sizes: tuple[int, int, int, int], dataflow: str, outer: str
) -> Iterator[ContractionPlan]:
    """Yield the ways in which the operands of a blocking may stay in their scratchpads, resident ones first."""
    whole = sizes[0] >= work.m and sizes[2] >= work.k
    ahead = (True, False) if outer == "m" and not kept.first and not whole else (False,)
    for resident, preload in product((True, False), ahead):
        yield ContractionPlan(*sizes, resident, preload, dataflow, outer, kept.first, kept.output)


def _blocks(work: ContractionWork, arch: Arch, dataflow: str, pack: int) -> list[tuple[int, int]]:
    """Return the output blocks (m, n) to try, largest first; only the streamed extent is free, on OS in whole tiles."""
    if dataflow == "is":
        held = min(arch.cols, work.m)
        return [(held, size) for size in _sizes(work.n, arch.acc_rows - work.row_sums)]
    held = work.n if pack > 1 else min(arch.cols - work.row_sums, work.n)
    sizes = _sizes(work.m, arch.acc_rows)
    if dataflow == "os":
        tiles = [size if size <= arch.rows or size >= work.m else size - size % arch.rows for size in sizes]
        sizes = sorted({*tiles, min(arch.rows, work.m, arch.acc_rows)}, reverse=True)
    return [(size, held) for size in sizes]


@lru_cache(maxsize=4096)
def _sizes(extent: int, limit: int) -> list[int]:
    """Return the sizes to cut an extent into: all of a small one, balanced cuts of a large one, down to one."""
    largest = min(extent, limit)
    if largest <= _ALL_SIZES:
        return list(range(largest, 0, -1))
    least = -(-extent // largest)
    cuts = [largest, *(-(-extent // (least + more)) for more in range(_BALANCED_CUTS))]
    size = min(cuts)
    while size > 1:
        size = -(-size // 2)
        cuts.append(size)
    return sorted(set(cuts), reverse=True)


@lru_cache(maxsize=4096)
def _chunks(depth: int, rows: int) -> list[int]:
    """Return the depths to load at a time, in whole folds: all of a few, halves of many, down to one."""
    folds = -(-depth // rows)
    if folds <= _ALL_FOLDS:
        return [depth, *(fold * rows for fold in range(folds - 1, 0, -1))]
    chunks, cut = [depth], folds
    while cut > 1:
        cut = -(-cut // 2)
        chunks.append(cut * rows)
    return chunks


def _bound(work: ContractionWork, plan: ContractionPlan, arch: Arch, floor: Floor) -> float:
    """Return what no timing of a plan can be below: its tiles one after the other, its DRAM bytes on the channel."""
    read, written = _least_traffic(work, plan, arch.dram_burst)
    moved = read + written if arch.dram_channel == "shared" else max(read, written)
    cycles = max(_issue_cycles(work, plan, arch), moved // arch.dram_bytes_per_cycle)
    return objective(arch, cycles, floor.energy_pj(read + written))[0]


def _issue_cycles(work: ContractionWork, plan: ContractionPlan, arch: Arch) -> int:
    """Return the least cycles in which the tiles are issued (contract 4.1 and 4.2), gathering aside.

    On WS and IS a tile starts no earlier than its own push after the start of the one before it.
    """
    groups, rest = divmod(work.groups, plan.pack)
    if plan.dataflow == "os":
        tiles = -(-work.n // plan.block_n) * _row_tiles(work.m, plan.block_m, arch.rows)
        return tiles * work.k * (groups * plan.pack + rest)
    held = -(-work.n // plan.block_n) if plan.dataflow == "ws" else -(-work.m // plan.block_m)
    extent, size = (work.m, plan.block_m) if plan.dataflow == "ws" else (work.n, plan.block_n)
    whole, last = divmod(extent, size)
    total = 0
    for low in range(0, work.k, plan.chunk_k):
        depth = min(plan.chunk_k, work.k - low) * (plan.pack if groups else rest)
        for fold in (arch.rows,) * (depth // arch.rows) + ((depth % arch.rows,) if depth % arch.rows else ()):
            push = arch.rows if arch.weight_load == "full" else fold
            least = push if arch.weight_double_buffer else size + push
            total += whole * max(size, least) + (max(last, push) if last else 0)
    return max(groups, 1) * held * total - arch.rows


def _row_tiles(extent: int, block: int, rows: int) -> int:
    """Return the tiles of R rows that blocks of rows are cut into."""
    whole, last = divmod(extent, block)
    return whole * -(-block // rows) + -(-last // rows)


def _least_traffic(work: ContractionWork, plan: ContractionPlan, burst: int) -> tuple[int, int]:
    """Return (bytes read, bytes written) that a plan moves at least.

    Every operand moves as often as its loops need it; of a feature map every block touches a burst of each channel.
    """
    blocks_m, blocks_n = -(-work.m // plan.block_m), -(-work.n // plan.block_n)
    inner_first, cut = plan.outer == "n", plan.chunk_k < work.k
    first_loads = blocks_n if (inner_first and not plan.resident) or (not inner_first and cut) else 1
    second_loads = blocks_m if (not inner_first and not plan.resident) or (inner_first and cut) else 1
    first = second = output = 0
    if not plan.kept_input:
        first = _least_first(work) * (1 if plan.preload else first_loads)
        if work.image is not None and not plan.preload:
            channels = work.groups * (work.k // prod(work.image.geometry.kernel))
            first = max(first, channels * blocks_m * burst * first_loads if _apart(work, plan, burst) else 0)
    if not plan.kept_output:
        output = work.groups * work.m * work.n * work.output_bits // 8
        if work.image is not None and plan.block_m * work.output_bits // 8 < burst:
            output = max(output, work.groups * work.n * blocks_m * burst if _apart(work, plan, burst) else 0)
    second = work.groups * (work.k * work.n * (work.second_bits if work.dynamic_second else work.weight_bits) // 8)
    return first + second * second_loads, output


def _apart(work: ContractionWork, plan: ContractionPlan, burst: int) -> bool:
    """Tell whether the planes of a feature map are so far apart that segments of two never share a burst."""
    image = work.image
    if image is None or image.images > 1 or plan.block_m >= work.m:
        return False
    planes = image.height * image.width * work.first_bits, image.out_height * image.out_width * work.output_bits
    parts = plan.block_m * work.output_bits, _reach(image, plan.block_m) * work.first_bits
    return planes[0] // 8 > parts[1] // 8 + burst and planes[1] // 8 > parts[0] // 8 + burst


def _reach(image: ImageLayout, pixels: int) -> int:
    """Return the most elements of a plane that some output pixels of one block can span."""
    lines = -(-pixels // image.out_width) + 1
    window = image.geometry
    return (lines * window.strides[0] + window.dilations[0] * (window.kernel[0] - 1) + 1) * image.width


@lru_cache(maxsize=4096)
def _least_first(work: ContractionWork) -> int:
    """Return bytes of the first operand that are needed whatever the blocking; of a feature map the pixels read."""
    image = work.image
    if image is None:
        return work.groups * work.m * (work.k * work.first_bits // 8)
    channels = image.images * work.groups * (work.k // prod(image.geometry.kernel))
    rows = _needed_places(image, 0, image.height, image.out_height)
    columns = _needed_places(image, 1, image.width, image.out_width)
    return channels * (rows * columns * work.first_bits // 8)


def _needed_places(image: ImageLayout, axis: int, size: int, outputs: int) -> int:
    """Count the rows or columns of a feature map that some window reads; padding and inserted zeros aside."""
    window = image.geometry
    step = window.insertion[axis]
    places: set[int] = set()
    for tap in range(window.kernel[axis]):
        first = tap * window.dilations[axis] - window.pads[axis]
        places.update(range(first, first + outputs * window.strides[axis], window.strides[axis]))
    return sum(1 for place in places if place % step == 0 and 0 <= place // step < size)
