"""The table in use, as `accel-sim energy` shows it: rows, laws, and the unit energies of one machine."""

from __future__ import annotations

from accelsim.energy.notes import notes, scaling_dict, unit_dict
from accelsim.energy.table import EnergyTable, UnitEnergy
from accelsim.energy.units import Units
from accelsim.machine.arch import Arch
from accelsim.results.energy import EnergyDetail, GateCount, TableDescription

# Widths that designs ask for; which of them the table measured is for the basis to say.
_ADDERS = (4, 8, 16, 20, 24, 32, 48, 64)
_MULTIPLIERS = ((4, 4), (8, 4), (8, 8), (9, 8), (9, 9), (16, 8), (16, 16), (32, 32))
_FLOATS = ("bf16", "fp16", "fp32")


def describe(table: EnergyTable, arch: Arch, area: tuple[GateCount, ...] = (), source: str = "") -> TableDescription:
    """Return what there is to say about a table on a machine.

    Args:
        table: unit energies.
        arch: the machine.
        area: sizes of processing elements, where they are asked for.
        source: where those come from.
    """
    operations = [
        *(table.adder(bits) for bits in _ADDERS),
        *(table.multiplier(*widths) for widths in _MULTIPLIERS),
        *(table.operation(f"{name}_{operation}") for operation in ("add", "multiply") for name in _FLOATS),
    ]
    detail = EnergyDetail(
        tuple(row.to_dict() for row in table.rows),
        tuple(law.to_dict() for law in table.laws),
        scaling_dict(table),
        notes(table, arch),
    )
    words = f"{arch.rows}x{arch.cols} {arch.dataflow}, {arch.acc_bits}-bit accumulators"
    return TableDescription(
        table.name,
        table.source,
        table.file,
        words,
        detail,
        tuple(unit_dict(unit) for unit in operations),
        tuple(unit_dict(unit) for unit in _machine(table, arch)),
        area,
        source,
    )


def _machine(table: EnergyTable, arch: Arch) -> list[UnitEnergy]:
    """Return the unit energies of 8-bit codes on a machine, each once."""
    units = Units(table, arch)
    found = [units.array_multiplier(arch.act_bits + 1, arch.weight_bits), units.array_adder()]
    for action in ("read", "write"):
        found += [units.activation(8, action), units.weight(8, action), units.accumulator(action), units.dram(action)]
    found += [units.register(bits) for bits in dict.fromkeys((arch.act_bits, arch.acc_bits))]
    found += [units.arithmetic(name) for name in ("table_read", "int32_shift", "int64_add")]
    leaking = units.static()
    return list(dict.fromkeys([*found, *([] if leaking is None else [leaking])]))
