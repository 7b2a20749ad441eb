"""What no timing of a plan can be below: cycles, DRAM traffic, and what is minimised."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from accelsim.machine.arch import Arch
from accelsim.program.plan import ContractionPlan
from accelsim.program.work import ContractionWork, ImageLayout


@dataclass(frozen=True)
class Floor:
    """What the energy of a layer is at least: of each byte to or from DRAM, and of what no plan changes (its MACs)."""

    dram_byte_pj: float = 1.0
    fixed_pj: float = 0.0

    def energy_pj(self, dram_bytes: int) -> float:
        """Return the least energy with so much DRAM traffic."""
        return self.fixed_pj + dram_bytes * self.dram_byte_pj


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


def least_value(work: ContractionWork, plan: ContractionPlan, arch: Arch, floor: Floor) -> float:
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


def _least_first(work: ContractionWork) -> int:
    """Return bytes of the first operand that are needed whatever the blocking; of a feature map the pixels read."""
    image = work.image
    if image is None:
        return work.groups * work.m * (work.k * work.first_bits // 8)
    channels = image.images * work.groups * (work.k // prod(image.geometry.kernel))
    return channels * (image.needed_positions * work.first_bits // 8)
