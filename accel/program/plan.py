"""How a machine does a layer: block sizes that respect the scratchpads (timing contract, sections 4.4 and 5.4)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from accelsim.errors import UsageError, printable
from accelsim.machine.arch import Arch
from accelsim.program.work import ContractionWork, StreamWork


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


@dataclass(frozen=True)
class Needs:
    """Scratchpad bytes of one blocking: operands with those loaded ahead, and output buffers."""

    activation: int
    weight: int


@dataclass(frozen=True)
class Kept:
    """What stays on chip around a layer (contract 5.8).

    reads, writes: one flag per operand and result (a contraction) or per entry of the work; empty: none; reserved:
    bytes of the activation scratchpad that kept tensors take while the layer runs.
    """

    reads: tuple[bool, ...] = ()
    writes: tuple[bool, ...] = ()
    reserved: int = 0

    @property
    def first(self) -> bool:
        """Whether the first operand of a contraction is there already."""
        return bool(self.reads) and self.reads[0]

    @property
    def output(self) -> bool:
        """Whether the result of a contraction stays."""
        return bool(self.writes) and self.writes[0]


NOTHING_KEPT = Kept()


def plan_stream(name: str, work: StreamWork, arch: Arch, kept: Kept = NOTHING_KEPT) -> StreamPlan:
    """Cut a vector or DMA layer so that double-buffered blocks fit into the activation scratchpad.

    More blocks than needed let loading, computing and storing overlap, as long as moving one takes longer than the
    DRAM's latency, which two buffers then hide.

    Args:
        name: the layer's name, for messages.
        work: the layer's work.
        arch: the machine.
        kept: what stays on chip.

    Raises:
        UsageError: the scratchpad is too small for one unit; names the buffer, the layer and the minimum.
    """
    copies = max(arch.operand_buffers, arch.output_buffers)
    room = max(arch.spm_act - kept.reserved, 0) // copies
    needed = work.buffered_bytes(kept.reads, kept.writes)
    if not needed or work.placement == "host":  # what goes to the host only passes through
        return StreamPlan(min(work.units, _OVERLAPPED_BLOCKS) if needed else 1, kept.reads, kept.writes)
    if needed > room:
        raise UsageError(_too_small("activation", "buffers.activation", name, needed * copies, arch.spm_act))
    fitting = -(-work.units // (room // needed))
    hiding = max(arch.dram_latency * arch.dram_bytes_per_cycle, arch.dram_burst)
    blocks = max(fitting, min(work.units, _OVERLAPPED_BLOCKS, work.units * needed // hiding), 1)
    return StreamPlan(blocks, kept.reads, kept.writes)


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


@dataclass
class Shortage:
    """The least that plans need which do not fit: of the weight scratchpad, and of the other one where weights fit."""

    weight: int | None = None
    activation: int | None = None

    def note(self, needs: Needs, arch: Arch) -> None:
        """Take one plan that does not fit into account."""
        if needs.weight > arch.spm_weight:
            self.weight = needs.weight if self.weight is None else min(self.weight, needs.weight)
        else:
            self.activation = needs.activation if self.activation is None else min(self.activation, needs.activation)

    def sentence(self, name: str, arch: Arch, reserved: int = 0) -> str:
        """Say which scratchpad cannot hold even the smallest block, and what it would need."""
        if self.activation is None:
            return _too_small("weight", "buffers.weight", name, self.weight or 0, arch.spm_weight)
        return _too_small("activation", "buffers.activation", name, self.activation + reserved, arch.spm_act)


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


def _too_small(buffer: str, key: str, name: str, needed: int, available: int) -> str:
    return (
        f"the {buffer} scratchpad is too small for one tile of layer '{printable(name)}': it needs {needed:,} bytes "
        f"and has {available:,}: raise it with --set {key}={-(-needed // 1024)}KiB"
    )
