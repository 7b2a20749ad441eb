"""What a layer costs: every event of its timing at the unit energy of this machine."""

from __future__ import annotations

from accelsim.arch import Arch
from accelsim.energy.charges import Charge, LayerEnergy
from accelsim.energy.table import EnergyTable
from accelsim.energy.units import Units, requantisation_events
from accelsim.fixed_point import is_fixed
from accelsim.narrow import ThresholdSearch, threshold_search
from accelsim.operators import Raw, Rescale
from accelsim.plan import ContractionPlan
from accelsim.program import Layer
from accelsim.timing import LayerTiming
from accelsim.work import ContractionWork
from accelsim.zero_points import constant_weights, is_asymmetric, weight_operand_bits


def price_layer(layer: Layer, timing: LayerTiming, arch: Arch, table: EnergyTable) -> LayerEnergy:
    """Return the bill of a layer.

    Args:
        layer: the layer, for operand widths.
        timing: its event counts.
        arch: the machine.
        table: unit energies.
    """
    units = Units(table, arch)
    charges = _traffic(timing, units)
    if isinstance(layer.work, ContractionWork):
        part = _array if layer.work.arithmetic == "integer" else _float_array
        charges += part(timing, units, layer, layer.work)
    else:
        charges += _vector(timing, units, layer)
    return LayerEnergy(tuple(charge for charge in charges if charge.count))


def _traffic(timing: LayerTiming, units: Units) -> list[Charge]:
    """DRAM in both directions."""
    return [Charge("dram", timing.dram_bytes, units.table.dram())]


def _requantisation(count: int, units: Units, layer: Layer) -> list[Charge]:
    """Scale, round and clamp so many elements in the arithmetic of the layer's requantiser; raw sums take none."""
    epilogue = getattr(layer.operator, "epilogue", None)
    if isinstance(epilogue, Raw):
        return []
    mode = "to_float" if isinstance(epilogue, Rescale) else "q31" if is_fixed(layer.operator) else "f32"
    charges = [
        Charge("requantiser", amount * count, units.arithmetic(name)) for name, amount in requantisation_events(mode)
    ]
    biased = isinstance(epilogue, Rescale) and epilogue.bias is not None
    return [*charges, Charge("requantiser", count * biased, units.arithmetic("fp32_add"))]


def _comparisons(count: int, search: ThresholdSearch, units: Units) -> list[Charge]:
    """Each step of the search reads one threshold of its column's memory and compares: a subtraction of that width."""
    threshold = units.table.sram(f"threshold_{search.bits}_bit", max(search.memory_bytes, 1), search.bits)
    return [
        Charge("requantiser", count * search.comparisons, threshold),
        Charge("requantiser", count * search.comparisons, units.table.adder(search.bits)),
    ]


def _operands(timing: LayerTiming, units: Units, layer: Layer, work: ContractionWork) -> list[Charge]:
    """What happens to codes between their scratchpads and the array: unpacked, and zero points subtracted."""
    activations, weights = timing.event("activation_reads"), timing.event("weight_reads")
    subtracted = units.arch.zp_mode == "subtract" or work.dynamic_second
    charges = [Charge("mac", activations if subtracted else 0, units.table.adder(8 * work.input_bytes + 1))]
    if work.packed.first is not None:
        charges.append(Charge("activation_sram", activations, units.unpacking(work.first_bits)))
    if work.packed.second is not None:
        charges.append(Charge("weight_sram", weights, units.unpacking(work.second_bits)))
    if work.dynamic_second:
        return [*charges, Charge("mac", weights, units.table.adder(8 * work.input_bytes + 1))]
    if is_asymmetric(constant_weights(layer.operator)) and not work.row_sums:
        charges.append(Charge("mac", weights, units.table.adder(work.weight_bits + 1)))
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
        Charge("accumulator_sram", sums, units.accumulator()),
        Charge("requantiser", products, units.table.multiplier(work.weight_bits, bits)),
        Charge("requantiser", elements, units.table.adder(bits)),
    ]


def _array(timing: LayerTiming, units: Units, layer: Layer, work: ContractionWork) -> list[Charge]:
    """Array, its memories and the requantiser (contract, section 6)."""
    event, arch = timing.event, units.arch
    macs = event("macs") - work.inserted_zero_macs
    activation_bits = 8 * work.input_bytes
    weight_bits = work.second_bits if work.dynamic_second else work.weight_bits
    operand_bits = weight_operand_bits(layer.operator, work, arch)
    byte, weight_byte, accumulator = units.activation(8), units.weight(8), units.accumulator()
    elements = event("requant_elements")
    written = -(-elements * work.output_bits // 8)
    search = threshold_search(layer.operator)
    folded = work.n * work.groups if work.folds_at_run_time and arch.zp_mode == "fold" else 0
    return [
        Charge("requantiser", folded, units.table.multiplier(32, activation_bits)),
        Charge("requantiser", folded, units.table.operation("int32_add")),
        Charge("mac", macs, units.table.multiplier(activation_bits + 1, operand_bits)),
        Charge("mac", macs, units.table.adder(arch.acc_bits)),
        *_operands(timing, units, layer, work),
        Charge("activation_sram", event("activation_reads"), units.activation(work.first_bits)),
        Charge("activation_sram", event("activation_fill_bytes") + 2 * written, byte),
        Charge("weight_sram", event("weight_reads"), units.weight(weight_bits)),
        Charge("weight_sram", event("weight_fill_bytes") + 4 * event("bias_reads"), weight_byte),
        Charge("accumulator_sram", event("acc_reads") + event("acc_writes") + elements, accumulator),
        Charge("registers", event("operand_register_writes"), units.register(activation_bits)),
        Charge("registers", event("weight_register_writes"), units.register(operand_bits)),
        Charge("registers", event("sum_register_writes"), units.register(arch.acc_bits)),
        *(_requantisation(elements, units, layer) if search is None else _comparisons(elements, search, units)),
        *_row_sums(units, layer, work, elements),
    ]


_FLOAT_BITS = {"float32": 32, "float16": 16}


def _float_array(timing: LayerTiming, units: Units, layer: Layer, work: ContractionWork) -> list[Charge]:
    """Price a product of floats on an array of the same shape with float multipliers and float32 accumulators.

    Each weight that enters the array is dequantised first: zero point subtracted, multiplied by its block's scale.
    """
    event, bits = timing.event, _FLOAT_BITS[work.arithmetic]
    multiply, add = (units.table.operation(f"fp{bits}_{name}") for name in ("multiply", "add"))
    accumulator = units.table.sram("accumulator_sram_32_bit", units.arch.acc_rows * 4, 32)
    elements, byte = event("requant_elements"), units.activation(8)
    return [
        Charge("mac", event("macs"), multiply),
        Charge("mac", event("macs"), units.table.operation("fp32_add")),
        Charge("mac", event("weight_reads"), units.table.adder(max(work.weight_bits, 8))),
        Charge("mac", event("weight_reads"), multiply if bits == 32 else units.table.operation("fp16_multiply")),
        Charge("activation_sram", event("activation_reads"), units.activation(8 * work.input_bytes)),
        Charge("activation_sram", event("activation_fill_bytes") + 2 * elements * work.output_bytes, byte),
        Charge("weight_sram", event("weight_reads"), units.weight(work.weight_bits)),
        Charge("weight_sram", event("weight_fill_bytes") + 4 * event("bias_reads"), units.weight(8)),
        Charge("accumulator_sram", event("acc_reads") + event("acc_writes") + elements, accumulator),
        Charge("registers", event("operand_register_writes"), units.register(bits)),
        Charge("registers", event("weight_register_writes"), units.register(bits)),
        Charge("registers", event("sum_register_writes"), units.register(32)),
        Charge("requantiser", elements, add),
    ]


def _vector(timing: LayerTiming, units: Units, layer: Layer) -> list[Charge]:
    """Vector unit: arithmetic, and every byte into and out of the scratchpad once on each side."""
    moved = 2 * (timing.event("useful_read_bytes") + timing.event("useful_write_bytes"))
    charges = [Charge("activation_sram", moved, units.activation(8))]
    for name, count in timing.events:
        if name == "requantisation":
            charges += _requantisation(count, units, layer)
        elif not name.endswith("_bytes"):
            charges.append(Charge("vector", count, units.arithmetic(name)))
    return charges
