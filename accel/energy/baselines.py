"""What the same network would cost in other number formats on the same array.

Assumed for every format: the same mapping and cycles, so the same counts of operations and words; the scratchpads hold
as many elements, so their capacity grows with the width; operands, multipliers and registers have the width of the
format; bytes of tensors of codes, on chip and in DRAM, grow with it (other tensors keep theirs). Floats accumulate in
float32 and convert each output with one addition; they need no quantisation, so layers that only quantise or dequantise
are left out. Integers keep the requantiser, take activations one bit wider for their zero point, and accumulators as
much wider as their products. Products that are float already take the format too; arithmetic of the vector unit and
operators of the host stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from accelsim import operators as ops
from accelsim.energy.bills import (
    billed_macs,
    block_sums,
    float_conversion,
    leakage,
    register_writes,
    requantisation,
    vector_arithmetic,
)
from accelsim.energy.charges import Charge, LayerEnergy, words_moved
from accelsim.energy.rows import FORMAT_BITS
from accelsim.energy.table import EnergyTable, UnitEnergy
from accelsim.energy.units import Units
from accelsim.machine.arch import Arch
from accelsim.operators.tensors import TensorType
from accelsim.operators.thresholds import DequantiseUniform, QuantiseUniform
from accelsim.program.layers import Layer
from accelsim.program.work import ContractionWork
from accelsim.timing.layer_timing import LayerTiming

_CONVERSIONS = (ops.Quantise, ops.Dequantise, ops.DynamicQuantise, QuantiseUniform, DequantiseUniform)
_ARITHMETIC = ("multiplier", "adder")


@dataclass(frozen=True)
class NumberFormat:
    """A format that operands could have; is_float: or integer."""

    name: str
    bits: int
    is_float: bool

    def accumulator_bits(self, arch: Arch) -> int:
        """Return the width of accumulators: float32, or the machine's headroom above the products of this width."""
        return 32 if self.is_float else min(max(arch.acc_bits + 2 * (self.bits - 8), 8), 64)


FORMATS = (
    *(NumberFormat(name, FORMAT_BITS[name], True) for name in ("fp32", "fp16", "bf16")),
    *(NumberFormat(f"int{bits}", bits, False) for bits in (16, 8, 4)),
)


@dataclass(frozen=True)
class _Machine:
    """A format on a machine: unit energies at its widths."""

    form: NumberFormat
    units: Units
    accumulator_bits: int

    @classmethod
    def of(cls, form: NumberFormat, arch: Arch, table: EnergyTable) -> _Machine:
        """Widen the machine's memories; imported energies of its own arithmetic say nothing about other formats.

        The wider memories are not validated: limits hold for what a user describes, not for what it is compared with.
        """
        width = form.accumulator_bits(arch)
        held = {name: max(-(-getattr(arch, name) * form.bits // 8), 1) for name in ("spm_act", "spm_weight")}
        kept = tuple(row for row in table.imported if row.role not in _ARITHMETIC)
        others = table if kept == table.imported else replace(table, imported=kept)
        return cls(form, Units(others, arch.model_copy(update={"acc_bits": width, **held})), width)

    @property
    def multiplier(self) -> UnitEnergy:
        """One multiplication of two operands."""
        if self.form.is_float:
            return self.units.table.operation(f"{self.form.name}_multiply")
        return self.units.table.multiplier(self.form.bits + 1, self.form.bits)

    @property
    def adder(self) -> UnitEnergy:
        """One addition into an accumulator."""
        if self.form.is_float:
            return self.units.table.operation("fp32_add")
        return self.units.table.adder(self.accumulator_bits)


def price_formats(
    layers: Sequence[Layer], timings: Sequence[LayerTiming], arch: Arch, table: EnergyTable
) -> list[tuple[NumberFormat, list[LayerEnergy]]]:
    """Return the bills of a program in every format of FORMATS.

    Args:
        layers: layers of a program.
        timings: their event counts.
        arch: the machine that they are planned for.
        table: unit energies.
    """
    machines = [(form, _Machine.of(form, arch, table)) for form in FORMATS]
    pairs = list(zip(layers, timings, strict=True))
    return [(form, [_price(*pair, machine) for pair in pairs]) for form, machine in machines]


def _price(layer: Layer, timing: LayerTiming, machine: _Machine) -> LayerEnergy:
    """Return the bill of one layer in one format."""
    work = layer.work
    only_codes = isinstance(layer.operator, ops.VectorPart) and layer.operator.quantises
    if machine.form.is_float and (isinstance(layer.operator, _CONVERSIONS) or only_codes):
        return LayerEnergy(())
    if isinstance(work, ContractionWork):
        charges = _array(layer, timing, work, machine)
    else:
        charges = _stream(layer, timing, machine)
    charges += leakage(timing, machine.units)
    return LayerEnergy(tuple(charge for charge in charges if charge.count))


def _element_bits(kind: TensorType, form: NumberFormat) -> int:
    """Return the bits of an element of a tensor in a format: its own unless it holds codes."""
    return form.bits if kind.dtype.kind in "iu" and kind.dtype.itemsize <= 2 else kind.element_bits


def _grown(count: int, before: int, after: int) -> int:
    """Return bytes that grow from one width to another, rounded up."""
    return -(-count * after // before) if before else count


def _array(layer: Layer, timing: LayerTiming, work: ContractionWork, machine: _Machine) -> list[Charge]:
    """Array, memories, requantiser and DRAM with other widths."""
    event, units, form = timing.event, machine.units, machine.form
    macs, elements = billed_macs(layer, timing), event("requant_elements")
    weight_bits = work.second_bits if work.dynamic_second else work.weight_bits
    integer = work.arithmetic == "integer"
    output_bits = _element_bits(layer.output_types[0], form) if integer else form.bits
    written = -(-elements * output_bits // 8)
    stored = written if event("dram_write_bytes") else 0  # as on the machine itself
    activations = _grown(event("activation_fill_bytes"), work.first_bits, form.bits)
    weights = _grown(event("weight_fill_bytes"), weight_bits, form.bits)
    filled = event("activation_fill_bytes") + event("weight_fill_bytes")
    reads, writes = event("dram_read_bytes"), event("dram_write_bytes")
    return [
        Charge("mac", macs, machine.multiplier, "multiply"),
        Charge("mac", macs, machine.adder, "add"),
        Charge("activation_sram", event("activation_reads"), units.activation(form.bits), "read"),
        *words_moved("activation_sram", partial(units.activation, 8), stored, activations + written),
        Charge("weight_sram", event("weight_reads"), units.weight(form.bits), "read"),
        *words_moved("weight_sram", partial(units.weight, 8), 4 * event("bias_reads"), weights),
        *words_moved("accumulator_sram", units.accumulator, event("acc_reads") + elements, event("acc_writes")),
        *register_writes(timing, units, form.bits, form.bits, machine.accumulator_bits),
        *(float_conversion(elements, units, form.name) if form.is_float else requantisation(elements, units, layer)),
        *([] if form.is_float else block_sums(units, layer)),
        *words_moved("dram", units.dram, _grown(reads, filled, activations + weights),
                     _grown(writes, work.output_bits, output_bits)),
    ]  # fmt: skip


def _stream(layer: Layer, timing: LayerTiming, machine: _Machine) -> list[Charge]:
    """A layer without the array: its bytes grow with the tensors of codes, its arithmetic stays."""
    units, form = machine.units, machine.form

    def grown(name: str, kinds: Sequence[TensorType]) -> int:
        before = sum(kind.elements * kind.element_bits for kind in kinds)
        after = sum(kind.elements * _element_bits(kind, form) for kind in kinds)
        return _grown(timing.event(name), before, after)

    loaded, stored = grown("useful_read_bytes", layer.input_types), grown("useful_write_bytes", layer.output_types)
    read = loaded + grown("kept_read_bytes", layer.input_types)
    written = stored + grown("kept_write_bytes", layer.output_types)
    reads, writes = grown("dram_read_bytes", layer.input_types), grown("dram_write_bytes", layer.output_types)
    return [
        *words_moved("activation_sram", partial(units.activation, 8), read + stored, written + loaded),
        *vector_arithmetic(timing, units, layer, form.name if form.is_float else None),
        *words_moved("dram", units.dram, reads, writes),
    ]
