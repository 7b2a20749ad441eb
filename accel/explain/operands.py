"""Explains the operands of a contraction: widths, packing, zero points, and what the alternatives would cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from accelsim import operators as ops
from accelsim.energy import Charge, EnergyTable, Units, price_layer
from accelsim.machine.arch import Arch
from accelsim.mapping.planner import Planner
from accelsim.operators.fixed_point import FixedRequantise
from accelsim.operators.zero_points import constant_weights, is_asymmetric, uses_row_sums
from accelsim.program.layers import Layer
from accelsim.program.machine_work import machine_work, weight_operand_bits
from accelsim.program.work import ContractionWork, describe_work
from accelsim.timing.layer_timing import LayerTiming
from accelsim.timing.recurrence import time_layer
from accelsim.values.ranges import StaticRange, static_range

WEIGHT_MODES = ("wide-operand", "row-sum")
ACTIVATION_MODES = ("fold", "subtract")


@dataclass(frozen=True)
class ZeroPointCost:
    """What a layer costs with one treatment of zero points, and the range of its sums (None without constants)."""

    zp_mode: str
    weight_zero_point: str
    cycles: int
    energy_pj: float
    sums: StaticRange | None


def variant(layer: Layer, arch: Arch, prices: EnergyTable) -> tuple[Layer, LayerTiming]:
    """Return a contraction as another machine does it, and its timing."""
    work = machine_work(describe_work(layer.operator, layer.input_types, layer.output_types), layer.operator, arch)
    planned = Planner(arch, prices).planned(replace(layer, work=work), layer.kept)
    return planned, time_layer(planned.work, planned.plan, arch)


def zero_point_costs(layer: Layer, arch: Arch, prices: EnergyTable) -> list[ZeroPointCost]:
    """Return what a contraction costs with every treatment of zero points that matters to it, this machine's first.

    Args:
        layer: a contraction.
        arch: the machine.
        prices: what energy costs.
    """
    weights = constant_weights(layer.operator)
    matters = weights is not None and uses_row_sums(weights, "row-sum")
    chosen = (arch.zp_mode, arch.weight_zero_point)
    modes = [*product(ACTIVATION_MODES, WEIGHT_MODES if matters else (arch.weight_zero_point,))]
    costs = []
    for zp_mode, weight_zero_point in sorted(modes, key=lambda mode: mode != chosen):
        machine = arch.evolve(zp_mode=zp_mode, weight_zero_point=weight_zero_point)
        planned, timing = variant(layer, machine, prices)
        energy = price_layer(planned, timing, machine, prices).total_pj
        sums = _widest(layer.operator, zp_mode, weight_zero_point)
        costs.append(ZeroPointCost(zp_mode, weight_zero_point, timing.cycles, energy, sums))
    return costs


def _widest(operator: ops.Operator, zp_mode: str, weight_zero_point: str) -> StaticRange | None:
    """Return the range of the sums; a zero point that is known at run time only may be any code."""
    weights, code = constant_weights(operator), getattr(operator, "input", None)
    if weights is None or not isinstance(code, ops.CodeFormat):
        return None
    codes = [code]
    if _known_late(operator):
        codes = [replace(code, zero_point=end) for end in (code.lowest, code.highest)]
    ranges = [static_range(weights, each, zp_mode, weight_zero_point) for each in codes]
    return StaticRange(min(part.lowest for part in ranges), max(part.highest for part in ranges))


def _known_late(operator: ops.Operator) -> bool:
    """Tell whether the zero point of the activations is known at run time only."""
    runtime = getattr(operator, "runtime", None)
    return isinstance(runtime, ops.RuntimeParameters) and runtime.zero_point is not None


def operand_lines(layer: Layer, arch: Arch, prices: EnergyTable) -> list[str]:
    """Return the lines on operands, unpacking, zero points and requantiser of a contraction.

    Args:
        layer: the layer, planned for the machine.
        arch: the machine.
        prices: what energy costs.
    """
    work = layer.work
    if not isinstance(work, ContractionWork) or work.arithmetic != "integer":
        return []
    lines = [f"    operands  {_activations(layer, work, arch)}; {_weights(layer, work, arch)}"]
    if not work.dynamic_second and work.weight_bits < arch.weight_bits:
        lines.append(f"    packed    {_packed(layer, work, arch, prices)}")
    lines += _zero_points(layer, arch, prices)
    epilogue = getattr(layer.operator, "epilogue", None)
    if isinstance(epilogue, FixedRequantise):
        shifts = epilogue.fixed.shift
        lines.append(
            f"    requant   q31: int32 multipliers, shifts {shifts.min()} to {shifts.max()}, "
            f"{work.parameter_bytes} B of parameters per output"
        )
    return lines


def _activations(layer: Layer, work: ContractionWork, arch: Arch) -> str:
    """Describe the first operand."""
    code = getattr(layer.operator, "input", None)
    kind = f"x {8 * work.input_bytes + 1} bits"
    if not isinstance(code, ops.CodeFormat):
        return kind
    zero_point = "z_x of each run" if _known_late(layer.operator) else f"z_x {code.zero_point}"
    if work.dynamic_second or arch.zp_mode == "subtract":
        return f"{kind} ({code.dtype.name}, {zero_point} subtracted)"
    return f"{kind} ({code.dtype.name}, {zero_point} folded into the bias)"


def _weights(layer: Layer, work: ContractionWork, arch: Arch) -> str:
    """Describe the second operand."""
    weights, bits = constant_weights(layer.operator), weight_operand_bits(layer.operator, work, arch)
    if weights is None and not work.dynamic_second:
        return f"w {bits} bits ({work.weight_bits}-bit codes)"
    if weights is None:
        return f"second operand {bits} bits (no constant, its zero point subtracted)"
    largest = int(np.abs(weights.values.astype(np.int64)).max(initial=0))
    if not is_asymmetric(weights):
        return f"w {bits} bits ({weights.bits}-bit codes, |w - z_w| up to {largest} stored: zero points are free)"
    if work.row_sums:
        return f"w {bits} bits (raw {weights.bits}-bit codes; |w - z_w| up to {largest} is left to a row sum)"
    return f"w {bits} bits ({weights.bits}-bit codes, |w - z_w| up to {largest}: z_w subtracted on the way)"


def _packed(layer: Layer, work: ContractionWork, arch: Arch, prices: EnergyTable) -> str:
    """Say what packing costs: unpacking every code that is read, and bits of the multipliers that do nothing."""
    units, bits = Units(prices, arch), work.weight_bits
    _, timing = variant(layer, arch, prices)
    unpacking = Charge("weight_sram", timing.event("weight_reads"), units.unpacking(bits))
    wide, narrow = (
        units.table.multiplier(8 * work.input_bytes + 1, width).value_pj
        for width in (weight_operand_bits(layer.operator, work, arch), bits)
    )
    return (
        f"weights packed at {bits} bits, {unpacking.count:,} unpacked to {arch.weight_bits} bits for "
        f"{unpacking.energy_pj:,.1f} pJ ({unpacking.unit.value_pj:g} pJ each, assumed as one {arch.weight_bits}-bit "
        f"addition); the array's multipliers take {wide:.3f} pJ where {bits} bits need {narrow:.3f} pJ: "
        f"{1 - narrow / wide:.0%} wasted"
    )


def _zero_points(layer: Layer, arch: Arch, prices: EnergyTable) -> list[str]:
    """Return one line per treatment of zero points."""
    weights = constant_weights(layer.operator)
    if weights is None:  # both zero points are always subtracted
        return []
    apart = "; all without open rows and prefetch" if arch.dram_row_bytes or arch.prefetch_weights else ""
    lines = []
    for index, cost in enumerate(zero_point_costs(layer, arch, prices)):
        name = cost.zp_mode if not uses_row_sums(weights, "row-sum") else f"{cost.zp_mode} + {cost.weight_zero_point}"
        name += f" (this machine{apart})" if index == 0 else ""
        width = "" if cost.sums is None else f", sums of {cost.sums.bits} bits always safe"
        head = "    zero pts  " if index == 0 else "              "
        lines.append(f"{head}{name}: {cost.cycles:,} cycles, {cost.energy_pj / 1e3:,.3f} nJ{width}")
    return lines
