"""Energy: counts of events times the table of unit energies, every unit with its source."""

from __future__ import annotations

import math
import tomllib
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import pairwise

from accelsim.arch import Arch
from accelsim.fixed_point import is_fixed
from accelsim.narrow import ThresholdSearch, threshold_search
from accelsim.operators import Raw, Rescale
from accelsim.plan import ContractionPlan
from accelsim.program import Layer
from accelsim.requantiser_table import requantisation_events
from accelsim.timing import LayerTiming
from accelsim.work import ContractionWork
from accelsim.zero_points import constant_weights, is_asymmetric, weight_operand_bits

COMPONENTS = (
    "mac", "activation_sram", "weight_sram", "accumulator_sram", "registers", "requantiser", "vector", "dram",
)  # fmt: skip

_TABLE_BYTES = 256


@dataclass(frozen=True)
class UnitEnergy:
    """Energy of one event in pJ, and its source; basis: measured, midpoint, interpolated, extrapolated or assumed."""

    name: str
    value_pj: float
    basis: str
    source: str


def _basis(inside: bool) -> str:
    """Name how a value that is not in the table was found: between two of its points, or beyond them."""
    return "interpolated" if inside else "extrapolated"


@dataclass(frozen=True)
class EnergyTable:
    """Unit energies of one technology; see data/energy/horowitz45.toml."""

    name: str
    source: str
    arithmetic_pj: Mapping[str, float]
    sram_points: tuple[tuple[int, float], ...]
    dram_64_bit_pj: float

    def operation(self, name: str) -> UnitEnergy:
        """Return the energy of an arithmetic operation that the table lists."""
        return UnitEnergy(name, self.arithmetic_pj[name], "measured", self.source)

    def adder(self, bits: int) -> UnitEnergy:
        """Return the energy of an integer addition: linear between the table's widths, last slope beyond them.

        Args:
            bits: width of the adder.
        """
        points = [(8, "int8_add"), (16, "int16_add"), (32, "int32_add")]
        for width, name in points:
            if width == bits:
                return self.operation(name)
        pairs = list(pairwise(points))
        (x0, name0), (x1, name1) = next((pair for pair in pairs if bits < pair[1][0]), pairs[-1])
        y0, y1 = self.arithmetic_pj[name0], self.arithmetic_pj[name1]
        value = y0 + (y1 - y0) * (bits - x0) / (x1 - x0)
        return UnitEnergy(f"int{bits}_add", value, _basis(8 <= bits <= 32), f"linear in bits through {self.source}")

    def multiplier(self, first_bits: int, second_bits: int) -> UnitEnergy:
        """Return the energy of an integer multiplication, bilinear in the two widths.

        E = a * w1 * w2 + b * (w1 + w2) / 2 through int8 (0.2 pJ) and int32 (3.1 pJ), the two-width form of the
        quadratic of QKeras (qtools, config_public.py).

        Args:
            first_bits: width of one operand.
            second_bits: width of the other.
        """
        if first_bits == second_bits in (8, 32):
            return self.operation(f"int{first_bits}_multiply")
        low, high = self.arithmetic_pj["int8_multiply"], self.arithmetic_pj["int32_multiply"]
        quadratic = (high - 4 * low) / (1024 - 4 * 64)
        linear = (low - 64 * quadratic) / 8
        value = quadratic * first_bits * second_bits + linear * (first_bits + second_bits) / 2
        name = f"int{first_bits}x{second_bits}_multiply"
        basis = _basis(min(first_bits, second_bits) >= 8 and max(first_bits, second_bits) <= 32)
        return UnitEnergy(name, value, basis, f"bilinear in bits through {self.source}")

    def sram(self, name: str, capacity_bytes: float, bits: float) -> UnitEnergy:
        """Return the energy of one access of `bits` to a memory of a capacity.

        Args:
            name: what the memory is.
            capacity_bytes: size of the bank that is accessed.
            bits: width of the word.
        """
        points = self.sram_points
        sizes = [size for size, _ in points]
        if capacity_bytes in sizes:
            value = dict(points)[int(capacity_bytes)] * (bits / 64)
            return UnitEnergy(
                name, value, "measured" if bits == 64 else "interpolated", f"linear in width, {self.source}"
            )
        index = min(max(bisect_left(sizes, capacity_bytes), 1), len(points) - 1)
        (x0, y0), (x1, y1) = points[index - 1], points[index]
        exponent = math.log(y1 / y0) / math.log(x1 / x0)
        value = y0 * (capacity_bytes / x0) ** exponent * bits / 64
        basis = _basis(sizes[0] <= capacity_bytes <= sizes[-1])
        law = f"power law in capacity ({capacity_bytes:,.0f} B), linear in width, through {self.source}"
        return UnitEnergy(name, value, basis, law)

    def dram(self) -> UnitEnergy:
        """Return the energy of one byte to or from DRAM."""
        return UnitEnergy(
            "dram_byte",
            self.dram_64_bit_pj / 8,
            "measured",
            f"middle of 1300..2600 pJ per 64 bits, {self.source}",
        )


@dataclass(frozen=True)
class Charge:
    """One line of the bill: so many events of one kind at one unit energy, for one component."""

    component: str
    count: int
    unit: UnitEnergy

    @property
    def energy_pj(self) -> float:
        """Count times unit."""
        return self.count * self.unit.value_pj


@dataclass(frozen=True)
class LayerEnergy:
    """The bill of one layer."""

    charges: tuple[Charge, ...]

    def component(self, name: str) -> float:
        """Return the energy of one component, in pJ."""
        return math.fsum(charge.energy_pj for charge in self.charges if charge.component == name)

    @property
    def total_pj(self) -> float:
        """Sum over all charges."""
        return math.fsum(charge.energy_pj for charge in self.charges)


@cache
def load_table(name: str = "horowitz45") -> EnergyTable:
    """Read a packaged energy table."""
    data = tomllib.loads((resources.files("accelsim") / "data" / "energy" / f"{name}.toml").read_text("utf-8"))
    points = tuple(sorted((int(size), float(value)) for size, value in data["sram_64_bit_access_pj"].items()))
    return EnergyTable(
        data["name"],
        data["source"],
        data["arithmetic_pj"],
        points,
        float(data["dram_64_bit_access_pj"]["mid"]),
    )


@dataclass(frozen=True)
class Units:
    """Unit energies of one machine."""

    table: EnergyTable
    arch: Arch

    def activation(self, bits: int) -> UnitEnergy:
        """One word of the activation scratchpad, from one of its R banks (contract 5.4)."""
        return self.table.sram(f"activation_sram_{bits}_bit", self.arch.spm_act / self.arch.rows, bits)

    def weight(self, bits: int) -> UnitEnergy:
        """One word's share of the weight scratchpad, read in lines of C words from one bank."""
        return self.table.sram(f"weight_sram_{bits}_bit", float(self.arch.spm_weight), bits)

    def accumulator(self) -> UnitEnergy:
        """One accumulator of its column's bank."""
        bits = self.arch.acc_bits
        return self.table.sram(f"accumulator_sram_{bits}_bit", self.arch.acc_rows * bits / 8, bits)

    def register(self, bits: int) -> UnitEnergy:
        """One register write, as the smallest memory of the same law."""
        return self.table.sram(f"register_{bits}_bit", bits / 8, bits)

    def assumed(self, name: str, like: UnitEnergy) -> UnitEnergy:
        """What the table does not list, taken as something that it lists."""
        return UnitEnergy(name, like.value_pj, "assumed", f"taken as {like.name}, {like.source}")

    def unpacking(self, bits: int) -> UnitEnergy:
        """Selecting one packed code of a byte and extending its sign to the width of the array's operands."""
        return self.assumed(f"unpack_{bits}_bit", self.table.adder(self.arch.weight_bits))

    def arithmetic(self, name: str) -> UnitEnergy:
        """One operation of the requantiser or the vector unit."""
        if name == "table_read":
            return self.table.sram("table_read", _TABLE_BYTES, 8)
        if name == "exponential_read":
            return self.table.sram("exponential_read", 4 * _TABLE_BYTES, 32)
        if name == "int16_multiply":
            return self.table.multiplier(16, 16)
        if name == "int64_add":
            return self.table.adder(64)
        if name == "int32_shift":
            return self.assumed(name, self.table.adder(32))
        return self.table.operation(name)


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


def _output_accesses(layer: Layer) -> int:
    """How often a result's byte passes the scratchpad: written, and read by its store unless it is kept (5.8)."""
    return 1 if isinstance(layer.plan, ContractionPlan) and layer.plan.kept_output else 2


def _array(timing: LayerTiming, units: Units, layer: Layer, work: ContractionWork) -> list[Charge]:
    """Array, its memories and the requantiser (contract, section 6)."""
    event, arch = timing.event, units.arch
    macs = event("macs") - work.inserted_zero_macs
    activation_bits = 8 * work.input_bytes
    weight_bits = work.second_bits if work.dynamic_second else work.weight_bits
    operand_bits = weight_operand_bits(layer.operator, work, arch)
    byte, weight_byte, accumulator = units.activation(8), units.weight(8), units.accumulator()
    elements = event("requant_elements")
    written = _output_accesses(layer) * -(-elements * work.output_bits // 8)
    search = threshold_search(layer.operator)
    folded = work.n * work.groups if work.folds_at_run_time and arch.zp_mode == "fold" else 0
    return [
        Charge("requantiser", folded, units.table.multiplier(32, activation_bits)),
        Charge("requantiser", folded, units.table.operation("int32_add")),
        Charge("mac", macs, units.table.multiplier(activation_bits + 1, operand_bits)),
        Charge("mac", macs, units.table.adder(arch.acc_bits)),
        *_operands(timing, units, layer, work),
        Charge("activation_sram", event("activation_reads"), units.activation(work.first_bits)),
        Charge("activation_sram", event("activation_fill_bytes") + written, byte),
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
        Charge(
            "activation_sram",
            event("activation_fill_bytes") + _output_accesses(layer) * elements * work.output_bytes,
            byte,
        ),
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
    moved += timing.event("kept_read_bytes") + timing.event("kept_write_bytes")  # no DMA on their other side
    charges = [Charge("activation_sram", moved, units.activation(8))]
    for name, count in timing.events:
        if name == "requantisation":
            charges += _requantisation(count, units, layer)
        elif not name.endswith(("_bytes", "_misses")):
            charges.append(Charge("vector", count, units.arithmetic(name)))
    return charges


def components(bills: Sequence[LayerEnergy]) -> dict[str, float]:
    """Return the energy of each component over several bills, in pJ."""
    return {
        name: math.fsum(charge.energy_pj for bill in bills for charge in bill.charges if charge.component == name)
        for name in COMPONENTS
    }


def units_used(bills: Sequence[LayerEnergy]) -> list[UnitEnergy]:
    """Return every unit energy that appears in the bills, once, by name."""
    return sorted(
        {charge.unit for bill in bills for charge in bill.charges},
        key=lambda unit: (unit.name, unit.value_pj),
    )
