"""What scaling costs with either requantiser, so that one run shows the energy before and after."""

from __future__ import annotations

import math
from collections.abc import Sequence

from accelsim.energy import EnergyTable, Units, requantisation_events
from accelsim.machine.arch import Arch
from accelsim.machine.vector_costs import vector_costs
from accelsim.operators import ElementwiseAdd, ElementwiseMultiply, GlobalAveragePool, Requantise
from accelsim.operators.fixed_point import FixedAdd, FixedMultiply
from accelsim.program.layers import Layer
from accelsim.timing.layer_timing import LayerTiming

MODES = ("f32", "q31")


def scaling_energy(
    layers: Sequence[Layer], timings: Sequence[LayerTiming], arch: Arch, table: EnergyTable
) -> dict[str, float]:
    """Return the energy in pJ, by mode, of all arithmetic that the requantiser's mode changes.

    That is the requantisation of contractions and global averages, and the element-wise additions and products of
    codes; the mode that the program was lowered for makes no difference.

    Args:
        layers: layers of a program.
        timings: their event counts.
        arch: the machine.
        table: unit energies.
    """
    units = Units(table, arch)
    return {
        mode: math.fsum(
            amount * units.arithmetic(name).value_pj
            for layer, timing in zip(layers, timings, strict=True)
            for name, amount in _operations(layer, timing, mode)
        )
        for mode in MODES
    }


def _operations(layer: Layer, timing: LayerTiming, mode: str) -> list[tuple[str, int]]:
    """Return the operations of one layer that depend on the mode, with their counts."""
    operator = layer.operator
    if isinstance(operator, ElementwiseAdd | ElementwiseMultiply):
        float_row, fixed_row = (
            (ElementwiseAdd, FixedAdd) if isinstance(operator, ElementwiseAdd) else (ElementwiseMultiply, FixedMultiply)
        )
        cost = vector_costs()[0][(fixed_row if mode == "q31" else float_row).__name__]
        return [(name, amount * layer.output_types[0].elements) for name, amount in cost.events]
    count = timing.event("requantisation") if isinstance(operator, GlobalAveragePool) else 0
    if isinstance(getattr(operator, "epilogue", None), Requantise):
        count = timing.event("requant_elements")
    return [(name, amount * count) for name, amount in requantisation_events(mode)]
