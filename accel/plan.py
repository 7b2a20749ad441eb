"""How a machine does a layer: block sizes that respect the scratchpads (timing contract, sections 4.4 and 5.4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from accelsim.arch import Arch
from accelsim.errors import UsageError, printable
from accelsim.work import ContractionWork, StreamWork, Work


@dataclass(frozen=True)
class ContractionPlan:
    """Blocking of a contraction on the array.

    block_m, block_n: extents of one output block (on OS several tiles of R rows, unless the depth is cut);
    chunk_k: depth loaded at a time; pack: groups sharing a tile,
    block-diagonal (contract 4.6); resident: the operand of the inner loop stays in its scratchpad; preload: the first
    operand is loaded whole, once per group of channels, before its first block; dataflow: "ws", "os" or "is"; outer:
    "n" or "m", the outer one of the two block loops; kept_input, kept_output: the first operand lies in the activation
    scratchpad already, the result stays there (contract 5.8).
    """

    block_m: int
    block_n: int
    chunk_k: int
    pack: int
    resident: bool
    preload: bool = False
    dataflow: str = "ws"
    outer: str = "n"
    kept_input: bool = False
    kept_output: bool = False


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

_OVERLAPPED_BLOCKS = 16


def make_plan(name: str, work: Work, arch: Arch) -> Plan:
    """Choose the blocking of a layer.

    Args:
        name: the layer's name, for messages.
        work: the layer's work.
        arch: the machine.

    Raises:
        UsageError: a scratchpad is too small for one tile; names the buffer, the layer and the minimum.
    """
    return plan_contraction(name, work, arch) if isinstance(work, ContractionWork) else plan_stream(name, work, arch)


def plan_stream(name: str, work: StreamWork, arch: Arch) -> StreamPlan:
    """Cut a vector or DMA layer so that double-buffered blocks fit into the activation scratchpad.

    More blocks than needed let loading, computing and storing overlap, as long as moving one takes longer than the
    DRAM's latency, which two buffers then hide.
    """
    copies = max(arch.operand_buffers, arch.output_buffers)
    room = arch.spm_act // copies
    needed = work.bytes_per_unit
    if not needed or work.placement == "host":  # what goes to the host only passes through
        return StreamPlan(min(work.units, _OVERLAPPED_BLOCKS) if needed else 1)
    if needed > room:
        raise UsageError(_too_small("activation", "buffers.activation", name, needed * copies, arch.spm_act))
    fitting = -(-work.units // (room // needed))
    hiding = max(arch.dram_latency * arch.dram_bytes_per_cycle, arch.dram_burst)
    return StreamPlan(max(fitting, min(work.units, _OVERLAPPED_BLOCKS, work.units * needed // hiding), 1))


def plan_contraction(name: str, work: ContractionWork, arch: Arch) -> ContractionPlan:
    """Return the blocking with the largest output blocks; see `contraction_plans`."""
    return next(contraction_plans(name, work, arch))


def contraction_plans(name: str, work: ContractionWork, arch: Arch) -> Iterator[ContractionPlan]:
    """Yield blockings of a layer that respect the scratchpads, output blocks from large to small.

    Blocks whose whole depth fits come alone; where none does, the largest block that fits with at least one tile's
    depth is the only one, its depth cut into chunks.

    Args:
        name: the layer's name, for messages.
        work: the layer's work.
        arch: the machine.

    Raises:
        UsageError: a scratchpad is too small for one tile; names the buffer, the layer and the minimum.
    """
    pack = _pack(work, arch)
    plans = [_fit(work, arch, *block, pack) for block in _candidates(work, arch, pack)]
    fitting = [plan for plan in plans if plan is not None]
    if not fitting:
        raise UsageError(_smallest_problem(name, work, arch, pack))
    tile = min(arch.rows, work.m) if arch.dataflow == "os" else 1  # OS: a block of less than a tile is the last resort
    deep = [plan for plan in fitting if plan.chunk_k >= work.k]
    whole = [plan for plan in deep if plan.block_m >= tile] or deep[:1]
    yield from whole or fitting[:1]


def _pack(work: ContractionWork, arch: Arch) -> int:
    """Groups that share a tile block-diagonally: as many as rows and columns hold (contract 4.6)."""
    if arch.dataflow == "is" or work.dynamic_second:
        return 1
    return max(min(arch.rows // work.k, arch.cols // (work.n + work.row_sums), work.groups), 1)


def _candidates(work: ContractionWork, arch: Arch, pack: int) -> list[tuple[int, int]]:
    """Output blocks (m, n) to try, largest first; only the streamed extent is free, on OS in whole tiles of R rows."""
    if arch.dataflow == "is":
        held, limit, extent = min(arch.cols, work.m), arch.acc_rows - work.row_sums, work.n
    else:
        held = work.n if pack > 1 else min(arch.cols - work.row_sums, work.n)
        limit, extent = arch.acc_rows, work.m
    sizes = []
    size = min(limit, extent)
    while size > 1:
        whole = arch.dataflow == "os" and arch.rows < size < extent
        sizes.append(size - size % arch.rows if whole else size)
        size = -(-size // 2)
    return [(held, s) if arch.dataflow == "is" else (s, held) for s in [*sizes, 1]]


@dataclass(frozen=True)
class _Needs:
    """Scratchpad bytes of one blocking; resident: the inner operand is kept whole; preload: see ContractionPlan."""

    activation: int
    weight: int
    resident: bool
    preload: bool = False


def _needs(work: ContractionWork, arch: Arch, block: tuple[int, int], chunk: int, pack: int) -> _Needs:
    """Return what operands (with those loaded ahead) and output buffers take.

    A resident operand is there once per group in flight: the next groups are loaded while this one is computed.
    """
    block_m, block_n = block
    ahead = min(arch.operand_buffers, -(-work.groups // pack))
    outputs = arch.output_buffers * block_m * -(-block_n * pack * work.output_bits // 8)
    first = _first_bytes(work, block_m, chunk) * pack * arch.operand_buffers
    second = _second_bytes(work, block_n, chunk) * pack * arch.operand_buffers
    if arch.dataflow == "is":
        whole = _second_bytes(work, work.n, work.k) * pack * ahead
        resident = whole <= max(arch.spm_weight, second)
        map_bytes = _first_bytes(work, work.m, work.k) * pack * ahead
        preload = map_bytes <= max(arch.spm_act - outputs, first)
        return _Needs((map_bytes if preload else first) + outputs, whole if resident else second, resident, preload)
    whole = _first_bytes(work, work.m, work.k) * pack * ahead
    resident = whole <= max(arch.spm_act - outputs, first)
    return _Needs((whole if resident else first) + outputs, second, resident)


def _fit(work: ContractionWork, arch: Arch, block_m: int, block_n: int, pack: int) -> ContractionPlan | None:
    """Return the plan for one block shape, or None when not even one tile's depth fits."""
    chunk = work.k
    while True:
        needs = _needs(work, arch, (block_m, block_n), chunk, pack)
        one_tile = arch.dataflow != "os" or block_m <= arch.rows or chunk >= work.k
        if one_tile and needs.activation <= arch.spm_act and needs.weight <= arch.spm_weight:
            return ContractionPlan(block_m, block_n, chunk, pack, needs.resident, needs.preload)
        if chunk <= arch.rows:
            return None
        tiles = -(-chunk // arch.rows)
        chunk = max(tiles // 2, 1) * arch.rows


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
    return -(-columns * depth * work.weight_bits // 8) + columns * work.parameter_bytes


def _smallest_problem(name: str, work: ContractionWork, arch: Arch, pack: int) -> str:
    """Say which scratchpad cannot hold even the smallest block, and what it would need."""
    needs = _needs(work, arch, _candidates(work, arch, pack)[-1], min(work.k, arch.rows), pack)
    if needs.weight > arch.spm_weight:
        return _too_small("weight", "buffers.weight", name, needs.weight, arch.spm_weight)
    return _too_small("activation", "buffers.activation", name, needs.activation, arch.spm_act)


def _too_small(buffer: str, key: str, name: str, needed: int, available: int) -> str:
    return (
        f"the {buffer} scratchpad is too small for one tile of layer '{printable(name)}': it needs {needed:,} bytes "
        f"and has {available:,}: raise it with --set {key}={-(-needed // 1024)}KiB"
    )


def weight_buffer_bytes(work: ContractionWork, plan: ContractionPlan, arch: Arch) -> int:
    """Return what the second operand of a layer takes of the weight scratchpad: whole, or NB sets (contract 5.7).

    Args:
        work: the layer's work.
        plan: its blocking.
        arch: the machine.
    """
    if plan.resident and plan.outer == "m":
        ahead = min(arch.operand_buffers, -(-work.groups // plan.pack))
        return _second_bytes(work, work.n, work.k) * plan.pack * ahead
    return _second_bytes(work, plan.block_n, plan.chunk_k) * plan.pack * arch.operand_buffers
