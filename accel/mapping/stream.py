"""Plans of vector and DMA layers: how many blocks they are cut into (timing contract, section 5.4)."""

from __future__ import annotations

from accelsim.errors import UsageError
from accelsim.machine.arch import Arch
from accelsim.mapping.shortage import too_small
from accelsim.program.plan import NOTHING_KEPT, Kept, StreamPlan
from accelsim.program.stream_work import StreamWork

_OVERLAPPED_BLOCKS = 16


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
        raise UsageError(too_small("activation", "buffers.activation", name, needed * copies, arch.spm_act))
    fitting = -(-work.units // (room // needed))
    hiding = max(arch.dram_latency * arch.dram_bytes_per_cycle, arch.dram_burst)
    blocks = max(fitting, min(work.units, _OVERLAPPED_BLOCKS, work.units * needed // hiding), 1)
    return StreamPlan(blocks, kept.reads, kept.writes)
