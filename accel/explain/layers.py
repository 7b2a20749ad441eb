"""Explains a lowering: the loop nest of every layer, what is resident, and its cycles with the formula filled in."""

from __future__ import annotations

from collections.abc import Iterator

from accelsim.energy import EnergyTable
from accelsim.energy.bills import part_of
from accelsim.energy.options import EnergyOptions
from accelsim.errors import UsageError, counted, printable
from accelsim.explain.operands import operand_lines
from accelsim.graph.normalise.tensor_types import Feeds
from accelsim.machine.arch import Arch
from accelsim.program.compulsory import operand_bytes
from accelsim.program.layers import Choice, Layer
from accelsim.program.plan import ContractionPlan, StreamPlan
from accelsim.program.scratchpads import second_stays
from accelsim.program.widths import narrow_lines
from accelsim.program.work import ContractionWork, StreamWork
from accelsim.reports.dimensions import NONE_GIVEN, chosen_dimensions
from accelsim.results.cycle_classes import cycle_class
from accelsim.simulation.model import Model, Shapes
from accelsim.timing.layer_timing import LayerTiming
from accelsim.timing.recurrence import time_program

_WAITS = ("wait_w", "wait_x_load", "wait_x_bank")


def explain_model(
    model: Model,
    arch: Arch,
    only: str | None = None,
    shapes: Shapes | None = None,
    feeds: Feeds | None = None,
    energy: EnergyOptions | None = None,
) -> Iterator[str]:
    """Yield one block of text per layer; before them which dimensions were chosen for lack of an input.

    Args:
        model: the model.
        arch: the machine.
        only: text that a layer's name must contain.
        shapes: shape of every input; None takes dynamic dimensions as 1.
        feeds: gives the inputs, for models whose shapes depend on data; None draws them.
        energy: how energy is priced, which the mapper may minimise; None takes the packaged table.

    Raises:
        UsageError: no layer has that text in its name, a shape does not fit, or a scratchpad is too small.
    """
    bound, prices = model.bind(shapes, feeds), (energy or EnergyOptions()).load()
    program = bound.planned(arch, prices)
    timings = time_program(program, arch)
    chosen = [pair for pair in zip(program.layers, timings, strict=True) if only is None or only in pair[0].name]
    if not chosen:
        wanted = printable(str(only))
        raise UsageError(f"no layer of {model.name} has '{wanted}' in its name: leave --layer out")
    total = sum(timing.cycles for timing in timings)
    yield from (f"input  {words}: {NONE_GIVEN}" for words in chosen_dimensions(bound.dimensions))
    for layer, timing in chosen:
        yield "\n".join(_explain_layer(layer, timing, arch, prices, total, program.choice))


def _explain_layer(
    layer: Layer, timing: LayerTiming, arch: Arch, prices: EnergyTable, total: int, choice: Choice | None
) -> list[str]:
    """Return the lines of one layer."""
    shapes = " x ".join(str(kind) for kind in layer.moved_types)
    results = ", ".join(str(kind) for kind in layer.output_types)
    share = timing.cycles / total if total else 0.0
    head = f"{printable(layer.name, 70)}  {layer.kind}  {timing.cycles:,} cycles ({share:.1%})"
    lines = [head, f"    tensors   {shapes} -> {results}"]
    if layer.remark:
        lines.append(f"    analysis  {printable(layer.remark, 200)}")
    if isinstance(layer.work, ContractionWork) and isinstance(layer.plan, ContractionPlan):
        lines += _explain_contraction(layer, layer.work, layer.plan, timing, arch, choice)
    elif isinstance(layer.work, StreamWork) and isinstance(layer.plan, StreamPlan):
        lines += _explain_stream(layer.work, layer.plan, arch)
    lines += narrow_lines(layer.operator, arch)
    if timing.classes:
        parts = " + ".join(f"{cycles:,} {name}" for name, cycles in timing.classes)
        lines += [f"    cycles    {timing.cycles:,} = {parts}", f"    bound by  {_binding(layer, timing)}"]
    if timing.dram_bytes:
        read, written = timing.event("dram_read_bytes"), timing.event("dram_write_bytes")
        useful = timing.event("useful_read_bytes") + timing.event("useful_write_bytes")
        share = useful / timing.dram_bytes
        lines.append(f"    DRAM      {read:,} B read, {written:,} B written, {share:.0%} of it useful")
    return lines + operand_lines(layer, arch, prices)


def _binding(layer: Layer, timing: LayerTiming) -> str:
    """Say which resource takes most cycles, and behind working cycles also the largest stall."""
    binds = {key: cycle_class(key).waits_for for key, _ in timing.classes}
    if isinstance(layer.plan, ContractionPlan) and layer.plan.dataflow == "os":  # its sums stay, no operand does
        binds["wait_w"] = "loading the second operand from DRAM"
    ordered = sorted(timing.classes, key=lambda item: -item[1])
    name, cycles = ordered[0]
    text = f"{binds[name]}: {cycles / timing.cycles:.0%} of the cycles"
    if name in ("stream", "vector") and len(ordered) > 1:
        stall, lost = ordered[1]
        text += f"; largest stall: {binds[stall]}, {lost / timing.cycles:.0%}"
    return text


def _explain_stream(work: StreamWork, plan: StreamPlan, arch: Arch) -> list[str]:
    """Return where a layer without the array runs, and the formula of the vector unit."""
    operations = work.lane_operations
    place = {
        "vector": f"the vector unit, {operations:,} lane operations",
        "dma": "the DMA engine, as a copy",
        "host": "the host: outside of the machine, its tensors cross the DMA engine",
        "none": "nothing: the same bytes under another shape",
    }[work.placement]
    lines = [f"    runs on   {place}"]
    if work.repeats > 1:
        lines.append(f"    repeats   {work.repeats:,} times, one after the other")
    if work.placement == "none":
        return lines
    kept = [name for name, flags in (("input", plan.kept_reads), ("result", plan.kept_writes)) if any(flags)]
    if kept:
        lines.append(f"    resident  {' and '.join(kept)} on chip")
    overlap = {(True, True): ", loads and stores of the others overlap", (True, False): ", loads of the others overlap",
               (False, True): ", stores of the others overlap"}  # fmt: skip
    sides = arch.operand_buffers > 1, arch.output_buffers > 1
    blocks = "1 block" if plan.blocks == 1 else f"{plan.blocks} blocks{overlap.get(sides, '')}"
    if not operations:
        return [*lines, f"    loops     {blocks}"]
    lanes, latency = arch.vector_lanes, arch.vector_latency
    largest = -(-operations // plan.blocks)
    cycles = -(-largest // lanes) + latency
    each = "" if plan.blocks == 1 else " per block" if operations % plan.blocks == 0 else " for the largest block"
    text = f"ceil(operations={largest:,} / V={lanes}) + latency {latency} = {cycles:,}{each}"
    return [*lines, f"    loops     {blocks}", f"    formula   {text}; + exposed loads and stores"]


def _explain_contraction(
    layer: Layer, work: ContractionWork, plan: ContractionPlan, timing: LayerTiming, arch: Arch, choice: Choice | None
) -> list[str]:
    """Return the loop nest, what is resident and the formula of a layer on the array."""
    mapping, arch = _mapping(layer, arch, choice), arch.with_dataflow(plan.dataflow)
    formula = output_stationary_formula if arch.dataflow == "os" else stationary_formula
    tile, cycles = formula(work, plan, arch)
    groups = f" groups={work.groups}" if work.groups > 1 else ""
    return [
        f"    GEMM      M={work.m} K={work.k} N={work.n}{groups}, {work.macs:,} MACs, "
        f"utilisation {arch.utilisation(work.macs, timing.cycles):.1%}",
        *_remarks(work, arch),
        *_blocks_line(layer),
        f"    loops     {_loops(work, plan, arch)}",
        f"    resident  {_resident(layer, work, plan, timing, arch)}",
        *mapping,
        f"    formula   per full tile {tile} = {cycles:,}",
        f"              {_total(timing, arch)}",
    ]


def _remarks(work: ContractionWork, arch: Arch) -> list[str]:
    """Return what is unusual about a contraction: inserted zeros, float operands, zero points known late."""
    lines = []
    if work.inserted_zero_macs:
        slots = work.macs + work.inserted_zero_macs
        share = work.inserted_zero_macs / slots
        lines.append(
            f"    zeros     {share:.0%} of {slots:,} slots meet zeros inserted between pixels: time, no energy"
        )
    if work.arithmetic != "integer":
        lines.append(
            f"    operands  {_float_operands(work)}: float multipliers, which this array would need in place of its "
            f"integer ones"
        )
    if work.repeats > 1:
        weights = "weights stay in their scratchpad" if second_stays(work, arch) else "operands are loaded each time"
        lines.append(f"    repeats   {work.repeats:,} times, one after the other: {weights}")
    if work.folds_at_run_time:
        lines.append("    operands  zero point known at run time: folded into each bias as it is loaded")
    return lines


def _blocks_line(layer: Layer) -> list[str]:
    """Say what scales per block on both sides cost."""
    part = part_of(layer)
    if part is None or not part.block:
        return []
    return [
        f"    blocks    int8 activations, quantised at run time; a scale per {part.block} of k on both sides: "
        f"{part.block_sums:,} sums scaled and added as float32"
    ]


def _float_operands(work: ContractionWork) -> str:
    """Say what enters the array of float multipliers."""
    bits = work.second_bits if work.dynamic_second else work.weight_bits
    if bits >= 8 * work.input_bytes:
        return f"{work.arithmetic} activations" if work.dynamic_second else f"{work.arithmetic} activations and weights"
    second = "activations" if work.dynamic_second else "weights"
    return f"{work.arithmetic} activations, {bits}-bit {second} dequantised on the way into the array"


def _loops(work: ContractionWork, plan: ContractionPlan, arch: Arch) -> str:
    """Return the loop nest on one line, outermost first (contract, section 4.4)."""
    axes = {"m": (work.m, plan.block_m), "n": (work.n, plan.block_n), "k": (work.k, plan.chunk_k)}
    order = ["m", "n"] if plan.outer == "m" else ["n", "m"]
    nest = [f"for {axis} in {axes[axis][0]} by {axes[axis][1]}:" for axis in [*order, "k"][: 2 + _cut(work, plan)]]
    if work.groups > 1:
        packed = " (block-diagonal)" if plan.pack > 1 else ""
        nest.insert(0, f"for group in {work.groups} by {plan.pack}{packed}:")
    depth = min(plan.chunk_k, work.k) * plan.pack
    if arch.dataflow == "os":
        nest.append(f"for tile in {plan.block_m} by {min(arch.rows, plan.block_m)} rows: stream {depth} of k")
    else:
        streamed = f"{plan.block_m} of m" if arch.dataflow == "ws" else f"{plan.block_n} of n"
        nest.append(f"for k-fold in {depth} by {min(arch.rows, depth)}: push, stream {streamed}")
    return " ".join(nest)


def _cut(work: ContractionWork, plan: ContractionPlan) -> bool:
    """Say whether the depth is loaded in chunks."""
    return plan.chunk_k < work.k


def _resident(layer: Layer, work: ContractionWork, plan: ContractionPlan, timing: LayerTiming, arch: Arch) -> str:
    """Say what stays in the array and how often each operand is loaded, counted in the bytes that were moved."""
    second = "second operand" if work.dynamic_second else "weights"
    names = {"m": "activations", "n": second}
    loaded = {"m": timing.event("activation_fill_bytes"), "n": timing.event("weight_fill_bytes")}
    needed = dict(zip("mn", operand_bytes(layer, work), strict=True))
    blocks = {"m": -(-work.m // plan.block_m), "n": -(-work.n // plan.block_n)}
    outer, inner = ("m", "n") if plan.outer == "m" else ("n", "m")
    held = {"ws": second, "is": names["m"], "os": "sums"}[arch.dataflow]
    parts = [f"{held} stationary in the array"]
    for axis, other in ((inner, outer), (outer, inner)):
        if axis == "m" and plan.kept_input:
            parts.append("activations on chip already")
            continue
        whole = "whole, " if axis == "m" and plan.preload else ""
        times = loaded[axis] / max(needed[axis], 1)
        image = axis == "m" and work.image is not None
        again = not plan.resident if axis == inner else _cut(work, plan)
        repeats = blocks[other] if again and not whole else 1
        parts.append(f"{names[axis]} loaded {whole}{_times(times, repeats, other, image=image)}")
    return "; ".join([*parts, *(["result stays on chip"] if plan.kept_output else [])])


def _times(times: float, repeats: int, other: str, *, image: bool) -> str:
    """Say how often an operand is loaded, and why more than once.

    Args:
        times: bytes that were loaded over bytes that are needed.
        repeats: blocks of the other loop for each of which it is loaded.
        other: the axis of that loop.
        image: it is an image, of which blocks share pixels and strides skip some.
    """
    if times < 1.005:
        return "once"
    reasons = [f"for each of {repeats} {other} blocks"] if repeats > 1 else []
    if image and times > 1.005 * repeats:
        reasons.append("pixels that blocks share or windows skip included")
    return ", ".join([f"{times:.3g} times", *reasons])


def _mapping(layer: Layer, arch: Arch, choice: Choice | None) -> list[str]:
    """Say what the mapper minimised, over how many plans of the layer, and over how many of the network."""
    goal = {"cycles": "cycles", "energy": "energy", "edp": "cycles x energy"}[arch.objective]
    dataflow = arch.dataflow if choice is None else choice.dataflow
    flows = "ws, os and is" if dataflow == "best" else dataflow
    rows = "" if not choice or not arch.dram_row_bytes else " with open rows" if choice.rows else " without open rows"
    lines = [
        f"    mapping   least {goal} of {counted(layer.considered, 'plan')} that fit the scratchpads ({flows}), "
        f"{layer.timed:,} of them timed{rows}"
    ]
    if choice is None:
        return lines
    named = "best of each layer" if dataflow == "best" else f"{dataflow} everywhere"
    return [
        *lines,
        f"              {named}: least {goal} of {choice.among} plans of the whole network",
    ]


def stationary_formula(work: ContractionWork, plan: ContractionPlan, arch: Arch) -> tuple[str, int]:
    """Return the steady interval between full tiles on WS or IS, in words and in cycles (contract, section 4.1).

    Args:
        work: the layer's work.
        plan: its blocking.
        arch: the machine.
    """
    depth = min(plan.chunk_k * plan.pack, arch.rows)
    if arch.dataflow == "ws":
        name, steps, gather = "Mt", plan.block_m, arch.gather_cycles(depth)
        slow = 1
    else:
        name, steps, gather = ("Nt", "Nt+1 row sum")[work.row_sums], plan.block_n + work.row_sums, 1
        slow = arch.gather_cycles(plan.block_m)
    length, push = ("R", arch.rows) if arch.weight_load == "full" else ("Kt", depth)
    stream, load = steps * gather, push * slow
    left = f"{name}={steps}" + (f" x {gather} gathers" if gather > 1 else "")
    right = f"L={length}={push}" + (f" x {slow} gathers" if slow > 1 else "")
    if arch.flush_between_tiles:
        through = arch.rows + arch.cols
        return f"{right} + {left} + R+C={through} (flushed between tiles)", load + stream + through
    hazard = arch.rows + 2 if work.k > arch.rows else 0
    again = f", next k-fold not before R+2={hazard}" if hazard else ""
    if arch.weight_double_buffer:
        return f"max({left}, {right}{again}) (double buffered)", max(stream, load, hazard)
    text = f"{left} + {right}"
    text = f"max({text}{again})" if again else text
    return f"{text} (single buffered)", max(stream + load, hazard)


def output_stationary_formula(work: ContractionWork, plan: ContractionPlan, arch: Arch) -> tuple[str, int]:
    """Return the steady interval between full tiles on OS, in words and in cycles (contract, section 4.2).

    Args:
        work: the layer's work.
        plan: its blocking.
        arch: the machine.
    """
    gather = arch.gather_cycles(min(arch.rows, plan.block_m))
    depth = work.k * plan.pack
    steps = depth * gather
    packed = f"{work.k} x {plan.pack} packed" if plan.pack > 1 else f"{work.k}"
    name = f"K={packed}" + (f" x {gather} gathers" if gather > 1 else "")
    if arch.flush_between_tiles:
        gap = 2 * arch.rows + arch.cols
        return f"{name} + 2R+C={gap} (flushed between tiles)", steps + gap
    if not arch.drain_overlap:
        return f"{name} + drain R={arch.rows} (not overlapped)", steps + arch.rows
    gap = max(0, arch.rows + 1 - steps)
    return f"{name} + max(0, R+1-K)={gap} (drain overlapped with the next tile)", steps + gap


def _total(timing: LayerTiming, arch: Arch) -> str:
    """Return the sum that gives the cycles of a layer on the array, grouped as the formula is."""
    waits = sum(timing.cycle_class(name) for name in _WAITS)
    last = arch.rows if arch.dataflow == "os" else 0
    behind = timing.cycle_class("requant") + timing.cycle_class("store")
    between = [(name, timing.cycle_class(name)) for name in ("push", "shift", "flush", "hazard")]
    parts = [f"{counted(timing.event('tiles'), 'tile')} {timing.cycle_class('stream'):,}"]
    for name, cycles in between:
        shown = cycles - last if name == "shift" else cycles
        parts += [f"exposed {name} {shown:,}"] if shown else []
    parts.append(f"waits {waits:,}")
    parts += [f"last drain R={last}"] if last else []
    parts += [f"R+C={timing.cycle_class('tail')}", f"requantise, store {behind:,}"]
    return f"total = {' + '.join(parts)}"
