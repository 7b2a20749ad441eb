"""The command `energy`, and the options of energy that it shares with `run`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from accelsim.cli.groups import takes_groups
from accelsim.cli.options import Debug, MachineOfCosts, printing

if TYPE_CHECKING:
    from accelsim.energy.options import EnergyOptions
    from accelsim.results.result import Result

TableFile = Annotated[
    str | None, typer.Option("--energy-table", metavar="FILE.toml", help="Unit energies of your own (docs/energy.md).")
]
Node = Annotated[
    float | None, typer.Option("--node", metavar="NM", help="Scale energies to a node of 7 to 130 nm; not DRAM's.")
]
Supply = Annotated[
    float | None, typer.Option("--vdd", metavar="V", help="Scale energies to a supply of 0.6 to 1.1 V; not DRAM's.")
]
Static = Annotated[
    str | None, typer.Option("--static", metavar="POWER", help="Leakage, such as 50mW or 12pJ/cycle; else none.")
]
ErtFile = Annotated[str | None, typer.Option("--ert", metavar="ERT.yaml", help="Energies from Accelergy.")]
ErtMap = Annotated[
    list[str] | None,
    typer.Option("--ert-map", metavar="ROLE=COMPONENT[:BITS]", help="Which component of the ERT is which of ours."),
]
ZeroGating = Annotated[
    bool, typer.Option("--zero-gating", help="Multiplier and adder stand still where an operand is 0.")
]
ActionCounts = Annotated[
    str | None, typer.Option("--action-counts", metavar="FILE.yaml", help="Write action counts for Accelergy.")
]


@dataclass(frozen=True)
class PriceOptions:
    """How energy is priced."""

    table: TableFile = None
    node: Node = None
    vdd: Supply = None
    static: Static = None
    ert: ErtFile = None
    ert_map: ErtMap = None

    def energy(self, *, zero_gating: bool = False) -> EnergyOptions:
        """Return them as the package takes them.

        Args:
            zero_gating: multiplier and adder stand still where an operand is 0.
        """
        from accelsim.energy.options import EnergyOptions

        return EnergyOptions(
            table=self.table,
            node_nm=self.node,
            vdd=self.vdd,
            static=self.static,
            zero_gating=zero_gating,
            ert=self.ert,
            ert_map=tuple(self.ert_map or ()),
        )


def check_action_counts(file: str | None) -> None:
    """Refuse a file that cannot be written, before any work is done."""
    from accelsim.files.writing import check_target

    if file is not None:
        check_target(file, "--action-counts")


def write_action_counts(result: Result, file: str) -> None:
    """Write the counts of a run for Accelergy; the file is whole or not there."""
    from pathlib import Path

    from accelsim.energy.accelergy import action_counts
    from accelsim.files.writing import written_atomically

    text = action_counts([layer.charges for layer in result.layers])
    with written_atomically(Path(file)) as target:
        target.write(text.encode())


@takes_groups
def energy(
    *,
    machine: MachineOfCosts,
    prices: PriceOptions,
    area: Annotated[bool, typer.Option("--area", help="Also relative sizes of a processing element.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the table as JSON on stdout.")] = False,
    debug: Debug = False,
) -> None:
    """Show the table of unit energies in use: rows with sources, laws, and the units of this machine."""
    from accelsim.energy.area import AREA_SOURCE, gate_counts
    from accelsim.energy.description import describe
    from accelsim.files.json_writing import to_json

    arch, chosen = machine.build(), prices.energy().load()
    description = describe(chosen, arch, gate_counts() if area else (), AREA_SOURCE if area else "")
    with printing():
        if json_output:
            sys.stdout.write(to_json(description.to_dict()))
            return
        from accelsim.reports.terminal.energy import print_table
        from accelsim.reports.terminal.run_table import make_console

        print_table(description, make_console())
