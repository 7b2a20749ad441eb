"""What a layer costs: every event of its timing at the unit energy of this machine."""

from __future__ import annotations

from functools import partial

from accelsim.energy.charges import Charge, LayerEnergy, words_moved
from accelsim.energy.table import EnergyTable
from accelsim.energy.units import Units, requantisation_events
from accelsim.machine.arch import Arch
from accelsim.operators import HostOperator, ProductPart, Raw, Rescale
from accelsim.operators.fixed_point import is_fixed
from accelsim.operators.zero_points import constant_weights, is_asymmetric
from accelsim.program.layers import Layer
from accelsim.program.machine_work import weight_operand_bits
from accelsim.program.plan import ContractionPlan
from accelsim.program.widths import ThresholdSearch, threshold_search
from accelsim.program.work import ContractionWork, StreamWork
from accelsim.timing.layer_timing import LayerTiming


def price_layer(
    layer: Layer, timing: LayerTiming, arch: Arch, table: EnergyTable, busy_macs: int | None = None
) -> LayerEnergy:
    """Return the bill of a layer.

    Args:
        layer: the layer, for operand widths.
        timing: its event counts.
        arch: the machine.
        table: unit energies.
        busy_macs: multiply-accumulates without a zero operand, where multiplier and adder stand still for the others.
    """
    units = Units(table, arch)
    charges = _traffic(timing, units)
    if not isinstance(layer.work, ContractionWork):
        charges += _vector(timing, units, layer)
    elif layer.work.arithmetic == "integer":
        charges += _array(timing, units, layer, layer.work, busy_macs)
    else:
        charges += _float_array(timing, units, layer, layer.work)
    charges += leakage(timing, units)
    return LayerEnergy(tuple(charge for charge in charges if charge.count))


def _traffic(timing: LayerTiming, units: Units) -> list[Charge]:
    """DRAM in both directions, whole bursts."""
    return words_moved("dram", units.dram, timing.event("dram_read_bytes"), timing.event("dram_write_bytes"))


def leakage(timing: LayerTiming, units: Units) -> list[Charge]:
    """What leaks in the cycles of a layer, where the table knows."""
    leaking = units.static()
    return [] if leaking is None else [Charge("static", timing.cycles, leaking, "leak")]


def requantisation(count: int, units: Units, layer: Layer) -> list[Charge]:
    """Turn so many sums into outputs, by scaling or by a search through thresholds."""
    search = threshold_search(layer.operator)
    return _scaling(count, units, layer) if search is None else _comparisons(count, search, units)


def float_conversion(count: int, units: Units, form: str) -> list[Charge]:
    """Turn so many float32 sums into outputs of a float format: one addition each, for bias or rounding."""
    return [_operation("requantiser", count, units, f"{form}_add")]


def _scaling(count: int, units: Units, layer: Layer) -> list[Charge]:
    """Scale, round and clamp so many elements in the arithmetic of the layer's requantiser; raw sums take none."""
    operator = part_of(layer) or layer.operator
    epilogue = getattr(operator, "epilogue", None)
    if isinstance(epilogue, Raw):
        return []
    mode = "to_float" if isinstance(epilogue, Rescale) else "q31" if is_fixed(layer.operator) else "f32"
    blocked = isinstance(operator, ProductPart) and operator.block  # scaled already, block by block
    events = () if blocked else requantisation_events(mode)
    charges = [_operation("requantiser", amount * count, units, name) for name, amount in events]
    if not isinstance(epilogue, Rescale):
        return charges
    steps = {"clip": epilogue.bounds is not None, "half": epilogue.half, "quantise": epilogue.quantise is not None}
    behind = [part for step, done in steps.items() if done for part in requantisation_events(step)]
    charges += [_operation("requantiser", amount * count, units, name) for name, amount in behind]
    return [*charges, _operation("requantiser", count * (epilogue.bias is not None), units, "fp32_add")]


def _operation(component: str, count: int, units: Units, name: str) -> Charge:
    """So many operations of the requantiser or the vector unit, by the name of one."""
    kind = name.rpartition("_")[2]
    return Charge(component, count, units.arithmetic(name), kind if kind in ("add", "multiply", "read") else "compute")


def _comparisons(count: int, search: ThresholdSearch, units: Units) -> list[Charge]:
    """Each step of the search reads one threshold of its column's memory and compares: a subtraction of that width."""
    held = max(search.memory_bytes, 1)
    threshold = units.table.sram(f"threshold_{search.bits}_bit_of_{held}_byte", held, search.bits)
    return [
        Charge("requantiser", count * search.comparisons, threshold, "read"),
        Charge("requantiser", count * search.comparisons, units.table.adder(search.bits), "add"),
    ]


def _operands(timing: LayerTiming, units: Units, layer: Layer, work: ContractionWork) -> list[Charge]:
    """What happens to codes between their scratchpads and the array: unpacked, and zero points subtracted."""
    activations, weights = timing.event("activation_reads"), timing.event("weight_reads")
    subtracted = units.arch.zp_mode == "subtract" or work.dynamic_second
    charges = [Charge("mac", activations if subtracted else 0, units.table.adder(8 * work.input_bytes + 1), "add")]
    if work.first_bits < 8:
        charges.append(Charge("activation_sram", activations, units.unpacking(work.first_bits)))
    if work.packed.second is not None:
        charges.append(Charge("weight_sram", weights, units.unpacking(work.second_bits)))
    if work.dynamic_second:
        return [*charges, Charge("mac", weights, units.table.adder(8 * work.input_bytes + 1), "add")]
    part = part_of(layer)
    if (is_asymmetric(constant_weights(layer.operator)) and not work.row_sums) or (part and part.subtracts):
        charges.append(Charge("mac", weights, units.table.adder(work.weight_bits + 1), "add"))
    if work.weight_bits < units.arch.weight_bits:
        charges.append(Charge("weight_sram", weights, units.unpacking(work.weight_bits)))
    return charges


def _row_sums(units: Units, layer: Layer, work: ContractionWork, elements: int) -> list[Charge]:
    """What the requantiser adds where raw codes were multiplied: read S, multiply it by z_w, subtract the product.

    One zero point for all outputs is multiplied once per sum, several ones once per output element.
    """
    weights, plan = constant_weights(layer.operator), layer.plan
    if not work.row_sums or weights is None or not isinstance(plan, ContractionPlan):
        return []
    sums = work.m * work.groups * -(-work.n // plan.block_n)
    products = sums if weights.zero_points.size == 1 else elements
    bits = units.arch.acc_bits
    return [
        Charge("accumulator_sram", sums, units.accumulator("read"), "read"),
        Charge("requantiser", products, units.table.multiplier(work.weight_bits, bits), "multiply"),
        Charge("requantiser", elements, units.table.adder(bits), "add"),
    ]


def part_of(layer: Layer) -> ProductPart | None:
    """Return the product inside of a node that a layer is, if it is one."""
    operator = layer.operator.part if isinstance(layer.operator, HostOperator) else layer.operator
    return operator if isinstance(operator, ProductPart) else None


def block_sums(units: Units, layer: Layer) -> list[Charge]:
    """Return what is added where both operands have a scale per block of the depth: each integer sum becomes a float.

    It is multiplied by the product of the two scales, which is formed first, and added to the sum of the other blocks.

    Args:
        units: of the machine.
        layer: the layer.
    """
    part = part_of(layer)
    sums = part.block_sums if part is not None else 0
    return [
        _operation("requantiser", 2 * sums, units, "fp32_multiply"),
        _operation("requantiser", sums, units, "fp32_add"),
    ]


def billed_macs(layer: Layer, timing: LayerTiming) -> int:
    """Return the multiply-accumulates of a layer that cost energy: all but those with zeros inserted between pixels.

    Row sums meet the same zeros as every output feature does.
    """
    work, plan = layer.work, layer.plan
    if not isinstance(work, ContractionWork) or not isinstance(plan, ContractionPlan):
        return 0
    sums = work.row_sums * -(-work.n // plan.block_n)
    return timing.event("macs") - work.inserted_zero_macs // max(work.n, 1) * (work.n + sums)


def _array(
    timing: LayerTiming, units: Units, layer: Layer, work: ContractionWork, busy_macs: int | None
) -> list[Charge]:
    """Array, its memories and the requantiser (contract, section 6)."""
    event, arch = timing.event, units.arch
    macs = billed_macs(layer, timing) if busy_macs is None else busy_macs
    activation_bits = 8 * work.input_bytes
    weight_bits = work.second_bits if work.dynamic_second else work.weight_bits
    operand_bits = weight_operand_bits(layer.operator, work, arch)
    elements = event("requant_elements")
    folded = work.n * work.groups if work.folds_at_run_time and arch.zp_mode == "fold" else 0
    return [
        Charge("requantiser", folded, units.table.multiplier(32, activation_bits), "multiply"),
        Charge("requantiser", folded, units.table.operation("int32_add"), "add"),
        Charge("mac", macs, units.array_multiplier(activation_bits + 1, operand_bits), "multiply"),
        Charge("mac", macs, units.array_adder(), "add"),
        *_operands(timing, units, layer, work),
        *_memories(timing, units, work, weight_bits),
        *words_moved("accumulator_sram", units.accumulator, event("acc_reads") + elements, event("acc_writes")),
        *register_writes(timing, units, activation_bits, operand_bits, arch.acc_bits),
        *requantisation(elements, units, layer),
        *_row_sums(units, layer, work, elements),
        *block_sums(units, layer),
    ]


def _memories(timing: LayerTiming, units: Units, work: ContractionWork, weight_bits: int) -> list[Charge]:
    """Both scratchpads: words to the array, bytes from the load channel, outputs in and out again."""
    event = timing.event
    written = -(-event("requant_elements") * work.output_bits // 8)
    stored = written if event("dram_write_bytes") else 0  # what stays on chip has no store that reads it (5.8)
    filled = event("activation_fill_bytes")
    return [
        Charge("activation_sram", event("activation_reads"), units.activation(work.first_bits), "read"),
        *words_moved("activation_sram", partial(units.activation, 8), stored, filled + written),
        Charge("weight_sram", event("weight_reads"), units.weight(weight_bits), "read"),
        *words_moved("weight_sram", partial(units.weight, 8), 4 * event("bias_reads"), event("weight_fill_bytes")),
    ]


def register_writes(
    timing: LayerTiming, units: Units, first_bits: int, second_bits: int, sum_bits: int
) -> list[Charge]:
    """What the array's registers take in."""
    widths = (("operand", first_bits), ("weight", second_bits), ("sum", sum_bits))
    return [
        Charge("registers", timing.event(f"{name}_register_writes"), units.register(bits), "write")
        for name, bits in widths
    ]


_FLOAT_BITS = {"float32": 32, "float16": 16}


def _float_array(timing: LayerTiming, units: Units, layer: Layer, work: ContractionWork) -> list[Charge]:
    """Price a product of floats on an array of the same shape with float multipliers and float32 accumulators.

    Each code that enters the array is dequantised first: zero point subtracted, multiplied by its block's scale.
    """
    event, bits, table = timing.event, _FLOAT_BITS[work.arithmetic], units.table
    second_bits = work.second_bits if work.dynamic_second else work.weight_bits
    decoded = event("weight_reads") if second_bits < bits else 0
    multiply, add = (table.operation(f"fp{bits}_{name}") for name in ("multiply", "add"))
    accumulator = table.sram("accumulator_sram_32_bit", units.arch.acc_rows * 4, 32)
    elements = event("requant_elements")
    return [
        Charge("mac", event("macs"), multiply, "multiply"),
        Charge("mac", event("macs"), table.operation("fp32_add"), "add"),
        Charge("mac", decoded, table.adder(max(second_bits, 8)), "add"),
        Charge("mac", decoded, multiply, "multiply"),
        *_memories(timing, units, work, second_bits),
        Charge("accumulator_sram", event("acc_reads") + elements, accumulator, "read"),
        Charge("accumulator_sram", event("acc_writes"), accumulator, "write"),
        *register_writes(timing, units, bits, bits, 32),
        Charge("requantiser", elements, add, "add"),
    ]


def _vector(timing: LayerTiming, units: Units, layer: Layer) -> list[Charge]:
    """Vector unit: arithmetic, and every byte in the scratchpad once from each side; kept ones have no side to DRAM."""
    read = timing.event("useful_read_bytes") + timing.event("kept_read_bytes")
    written = timing.event("useful_write_bytes") + timing.event("kept_write_bytes")
    loaded, stored = timing.event("useful_read_bytes"), timing.event("useful_write_bytes")
    charges = words_moved("activation_sram", partial(units.activation, 8), read + stored, written + loaded)
    return charges + vector_arithmetic(timing, units, layer)


def vector_arithmetic(timing: LayerTiming, units: Units, layer: Layer, form: str | None = None) -> list[Charge]:
    """Return the arithmetic of a layer without the array, host operators included.

    Args:
        timing: its event counts.
        units: of the machine.
        layer: the layer.
        form: a float format whose outputs need no requantisation, None for codes.
    """
    charges: list[Charge] = []
    for name, count in timing.events:
        if name == "requantisation":
            charges += float_conversion(count, units, form) if form else _scaling(count, units, layer)
        elif not name.endswith(("_bytes", "_misses")):
            charges.append(_operation("vector", count, units, name))
    return charges + (_host(units, layer.work) if isinstance(layer.work, StreamWork) else [])


def _host(units: Units, work: StreamWork) -> list[Charge]:
    """What leaves the machine is not free: its multiply-accumulates as float32, else one operation per element.

    The second is a lower bound for operators whose arithmetic depends on their data, or whose multiply-accumulates
    nobody has counted; their bytes are priced as DMA.
    """
    macs = work.off_array_macs or 0
    if work.placement != "host" or macs:
        return [_operation("host", macs, units, name) for name in ("fp32_multiply", "fp32_add")]
    return [Charge("host", work.units, units.elementwise())]
