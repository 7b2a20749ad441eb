"""Explains a lowering: the loop nest of every layer, what is resident, and its cycles with the formula filled in."""

from __future__ import annotations

from collections.abc import Iterator

from accelsim.arch import Arch
from accelsim.errors import UsageError, printable
from accelsim.graph.lower import lower
from accelsim.model import Model
from accelsim.plan import ContractionPlan
from accelsim.program import Layer
from accelsim.timing import LayerTiming, time_layer
from accelsim.work import ContractionWork, StreamWork

_FORMULAS = {
    "ws": "sum over tiles of max(streamed rows, weight push) + exposed waits + R + C",
    "is": "sum over tiles of max(streamed columns, input push) + exposed waits + R + C",
    "os": "sum over tiles of (K + max(0, R + 1 - K)) + exposed waits + R drain + R + C",
}


def explain_model(model: Model, arch: Arch, only: str | None = None) -> Iterator[str]:
    """Yield one block of text per layer.

    Args:
        model: the model, its dynamic dimensions taken as 1.
        arch: the machine.
        only: text that a layer's name must contain.

    Raises:
        UsageError: no layer has that text in its name, or a scratchpad is too small.
    """
    program = lower(model.bind().graph, arch)
    chosen = [layer for layer in program.layers if only is None or only in layer.name]
    if not chosen:
        wanted = printable(str(only))
        raise UsageError(f"no layer of {model.name} has '{wanted}' in its name: leave --layer out")
    total = sum(time_layer(layer.work, layer.plan, arch).cycles for layer in program.layers)
    for layer in chosen:
        timing = time_layer(layer.work, layer.plan, arch)
        yield "\n".join(_explain_layer(layer, timing, arch, total))


def _explain_layer(layer: Layer, timing: LayerTiming, arch: Arch, total: int) -> list[str]:
    """Return the lines of one layer."""
    shapes = " x ".join(str(kind) for kind in layer.input_types)
    results = ", ".join(str(kind) for kind in layer.output_types)
    share = timing.cycles / total if total else 0.0
    head = f"{printable(layer.name, 70)}  {layer.kind}  {timing.cycles:,} cycles ({share:.1%})"
    lines = [head, f"    tensors   {shapes} -> {results}"]
    if isinstance(layer.work, ContractionWork) and isinstance(layer.plan, ContractionPlan):
        lines += _explain_contraction(layer.work, layer.plan, timing, arch)
    elif isinstance(layer.work, StreamWork):
        lines.append(f"    runs on   {_placement(layer.work)}")
    if timing.classes:
        parts = " + ".join(f"{cycles:,} {name}" for name, cycles in timing.classes)
        lines.append(f"    cycles    {timing.cycles:,} = {parts}")
    if timing.dram_bytes:
        read, written = timing.event("dram_read_bytes"), timing.event("dram_write_bytes")
        useful = timing.event("useful_read_bytes") + timing.event("useful_write_bytes")
        share = useful / timing.dram_bytes
        lines.append(f"    DRAM      {read:,} B read, {written:,} B written, {share:.0%} of it useful")
    return lines


def _placement(work: StreamWork) -> str:
    """Say in words which unit executes a layer without the array."""
    return {
        "vector": f"the vector unit, {work.lane_operations:,} lane operations",
        "dma": "the DMA engine, as a copy",
        "host": "the host: outside of the machine, its tensors cross the DMA engine",
        "none": "nothing: the same bytes under another shape",
    }[work.placement]


def _explain_contraction(work: ContractionWork, plan: ContractionPlan, timing: LayerTiming, arch: Arch) -> list[str]:
    """Return the loop nest and the formula of a layer on the array."""
    outer, inner = ("n", "m") if arch.dataflow != "is" else ("m", "n")
    extents = {"m": (work.m, plan.block_m), "n": (work.n, plan.block_n)}
    groups = f"for group in {-(-work.groups // plan.pack)} x {plan.pack} packed: " if work.groups > 1 else ""
    nest = groups + " ".join(f"for {axis} in {extents[axis][0]} by {extents[axis][1]}:" for axis in (outer, inner))
    chunks = f" for k in {work.k} by {plan.chunk_k}:" if plan.chunk_k < work.k else ""
    held = {"m": "activations", "n": "weights"}
    resident = f"{held[inner]} loaded once" if plan.resident else f"{held[inner]} loaded again for every {outer} block"
    reloaded = "" if plan.chunk_k >= work.k else f", {held[outer]} loaded again for every {inner} block"
    utilisation = work.macs / (arch.rows * arch.cols * timing.cycles) if timing.cycles else 0.0
    return [
        f"    GEMM      M={work.m} K={work.k} N={work.n} groups={work.groups}, {work.macs:,} MACs, "
        f"utilisation {utilisation:.1%}",
        f"    loops     {nest}{chunks} fold k by {arch.rows} rows ({timing.event('tiles'):,} tiles)",
        f"    resident  {resident}{reloaded}",
        f"    formula   {_FORMULAS[arch.dataflow]}, R={arch.rows} C={arch.cols}",
    ]
