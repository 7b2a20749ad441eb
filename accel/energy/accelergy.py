"""Exchange with Accelergy: energy reference tables in, action counts out (both YAML, versions 0.3 and 0.4).

An energy reference table (ERT) lists components by their path, and for each the energy of its actions in pJ:

    ERT:
      version: 0.4
      tables:
      - name: chip.pe[0..255].mac
        actions:
        - {name: compute, arguments: {}, energy: 0.5}

The last part of a path, without its index, names the component: those called as in ROLES are ours, others can be named
with `role=component[:bits]`. Of several entries for one action the last is taken, which Accelergy gives to full
activity (address and data change). Words of other widths are priced in proportion to their bits.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from accelsim.energy.table import EnergyTable, Imported
from accelsim.errors import UsageError, nearest, printable
from accelsim.files.reading import read_input
from accelsim.results.energy import ChargeLine

_LARGEST_FILE = 1 << 20
_MOST_ACTIONS = 100_000
_VERSION = 0.4

# What stands for reading, writing, adding and multiplying in Accelergy's primitive components, best first.
_READ = ("read", "access")
_WRITE = ("write", "fill", "update", "access", "read")
_COMPUTE = ("compute", "mac_random", "mac", "process")


@dataclass(frozen=True)
class Role:
    """One of our components: its actions with their names in Accelergy, and the bits of its word (0: as it is)."""

    actions: Mapping[str, tuple[str, ...]]
    bits: int


ROLES = {
    "mac": Role({"multiply": _COMPUTE}, 0),
    "multiplier": Role({"multiply": ("multiply", "mult_random", *_COMPUTE)}, 0),
    "adder": Role({"add": ("add", *_COMPUTE)}, 0),
    "activation_sram": Role({"read": _READ, "write": _WRITE}, 8),
    "weight_sram": Role({"read": _READ, "write": _WRITE}, 8),
    "accumulator_sram": Role({"read": _READ, "write": _WRITE}, 32),
    "registers": Role({"write": ("write", "access", "process", "read")}, 8),
    "dram": Role({"read": _READ, "write": _WRITE}, 64),
}


@dataclass(frozen=True)
class _Entry:
    """Energy of one action of one component."""

    component: str
    action: str
    energy_pj: float


def import_ert(table: EnergyTable, file: str, names: Sequence[str]) -> EnergyTable:
    """Return a table whose energies are those of an energy reference table, as far as it has them.

    Args:
        table: what prices everything else.
        file: name of the YAML file.
        names: "role=component" or "role=component:bits", for components that are not called as we call them.

    Raises:
        UsageError: says which file and entry.
    """
    shown = printable(file)
    if table.scaling is not None:
        raise UsageError(f"{shown} states no technology, so that it cannot be scaled: leave --node and --vdd out")
    entries = _read(file, shown)
    components = dict.fromkeys(entry.component for entry in entries)
    wanted = _wanted(names, components, shown)
    imported: list[Imported] = []
    for role, (component, bits) in wanted.items():
        energies = {entry.action: entry.energy_pj for entry in entries if entry.component == component}
        imported += _imported(role, component, bits, energies, shown)
    used = {component for component, _ in wanted.values()}
    unused = tuple(sorted(printable(name, 60) for name in components if name not in used))
    return replace(table, imported=tuple(imported), unused=unused)


def _wanted(names: Sequence[str], components: Mapping[str, None], file: str) -> dict[str, tuple[str, int]]:
    """Return which component plays which role, and the bits of its word."""
    wanted: dict[str, tuple[str, int]] = {}
    for component in components:
        role = _last(component)
        if role in ROLES and not any(name.startswith(f"{role}=") for name in names):
            if role in wanted:
                raise UsageError(
                    f"{file}: both '{printable(wanted[role][0])}' and '{printable(component)}' are a {role}: "
                    f"choose one with --ert-map {role}=COMPONENT"
                )
            wanted[role] = (component, ROLES[role].bits)
    for name in names:
        match = re.fullmatch(r"([a-z_]+)=(.+?)(?::([0-9]{1,5}))?", name)
        if match is None or match.group(1) not in ROLES:
            raise UsageError(
                f"--ert-map '{printable(name)}' is not understood: write ROLE=COMPONENT or ROLE=COMPONENT:BITS with a "
                f"role of {', '.join(ROLES)}"
            )
        role, component, bits = match.groups()
        if component not in components:
            hint = nearest(component, list(components))
            raise UsageError(f"--ert-map {role}: {file} has no component '{printable(component)}' ({hint})")
        wanted[role] = (component, int(bits) if bits else ROLES[role].bits)
    if not wanted:
        raise UsageError(
            f"{file}: none of its components is called {', '.join(ROLES)}: name them with --ert-map ROLE=COMPONENT, "
            f"they are {', '.join(printable(name, 40) for name in list(components)[:8])}"
        )
    if "mac" in wanted and ("multiplier" in wanted or "adder" in wanted):
        raise UsageError(f"{file}: a mac contains multiplier and adder: map either the one or the other two")
    return wanted


def _imported(role: str, component: str, bits: int, energies: Mapping[str, float], file: str) -> Iterator[Imported]:
    """Yield the energies of one role; a mac's pays for the addition too, which then costs nothing by itself."""
    for action, candidates in ROLES[role].actions.items():
        name = next((name for name in candidates if name in energies), None)
        if name is None:
            raise UsageError(
                f"{file}: '{printable(component)}' has none of the actions {', '.join(candidates)}, which are the "
                f"{action} of a {role}: it has {', '.join(printable(known, 30) for known in energies) or 'none'}"
            )
        source = f"{file}: {printable(component)}, {printable(name, 30)}"
        if role == "mac":
            yield Imported("multiplier", "multiply", 0, energies[name], source)
            yield Imported("adder", "add", 0, 0.0, f"{source}, which contains the addition")
        else:
            yield Imported(role, action, bits, energies[name], source)


def _last(path: str) -> str:
    """Return the last part of a component's path, without its index."""
    return re.sub(r"\[[^\]]*\]", "", path.rpartition(".")[2])


def _read(file: str, shown: str) -> list[_Entry]:
    """Read and check every action of an energy reference table."""
    import yaml

    try:
        content = read_input(file, _LARGEST_FILE)
        if len(content) > _LARGEST_FILE:
            raise UsageError(f"{shown}: larger than {_LARGEST_FILE >> 20} MiB: no energy reference table is")
        text = content.decode("utf-8")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):  # a few could stand for billions
            raise UsageError(f"{shown}: has YAML aliases, which are not followed: write their values out")
        data = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{shown}: not valid YAML: {printable(reason, 160)}") from None
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, absurd numbers and dates, a null in the name
        reason = error.strerror or "" if isinstance(error, OSError) else " ".join(str(error).split())
        raise UsageError(f"{shown}: cannot be read: {printable(reason, 160)}: give Accelergy's ERT.yaml") from None
    ert = data.get("ERT") if isinstance(data, dict) else None
    tables = ert.get("tables") if isinstance(ert, dict) else None
    if not isinstance(tables, list) or not tables:
        raise UsageError(f"{shown}: no list ERT: tables: give the ERT.yaml of Accelergy 0.3 or 0.4")
    entries: list[_Entry] = []
    for number, table in enumerate(tables, 1):
        entries += _component(table, f"{shown}, table {number}")
        if len(entries) > _MOST_ACTIONS:
            raise UsageError(f"{shown}: more than {_MOST_ACTIONS} actions: no energy reference table has so many")
    names = [table["name"] for table in tables]
    twice = next((name for index, name in enumerate(names) if name in names[:index]), None)
    if twice is not None:
        raise UsageError(f"{shown}: component '{printable(twice)}' is listed twice: keep one of them")
    return entries


def _component(table: object, place: str) -> Iterator[_Entry]:
    """Yield the actions of one component."""

    def refuse(reason: str) -> NoReturn:
        raise UsageError(f"{place}: {reason}")

    if not isinstance(table, dict) or not isinstance(table.get("name"), str) or not table["name"]:
        refuse("a table has a name and actions")
    name, actions = table["name"], table.get("actions")
    place = f"{place} ({printable(name, 60)})"
    if not isinstance(actions, list):
        refuse("actions must be a list of name, arguments and energy")
    for action in actions[: _MOST_ACTIONS + 1]:
        if not isinstance(action, dict) or not isinstance(action.get("name"), str):
            refuse("every action has a name, arguments and an energy")
        label, energy = printable(action["name"], 30), _number(action.get("energy"))
        if isinstance(energy, bool) or not isinstance(energy, int | float):
            refuse(f"the energy of '{label}' must be a number in pJ, got {printable(repr(energy), 40)}")
        if not (math.isfinite(energy) and 0 <= energy <= 1e9):
            refuse(f"the energy of '{label}' must be from 0 to 1e9 pJ, got {energy:g}")
        yield _Entry(name, action["name"], float(energy))


def _number(value: object) -> object:
    """Return what YAML 1.2 takes for a number, such as 1e-05, as one; anything else as it is."""
    if isinstance(value, str) and re.fullmatch(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]{1,3}", value):
        return float(value)
    return value


def action_counts(layers: Sequence[Sequence[ChargeLine]], root: str = "accel_sim") -> str:
    """Return action counts of a run as Accelergy reads them: one component per unit of ours, totals over all layers.

    Args:
        layers: lines of the bill of every layer.
        root: first part of every component's path.
    """
    import yaml

    totals: dict[tuple[str, str], dict[str, int]] = {}
    for lines in layers:
        for line in lines:
            actions = totals.setdefault((line.component, line.unit), {})
            actions[line.action] = actions.get(line.action, 0) + line.count
    local: list[dict[str, Any]] = [
        {
            "name": f"{root}.{component}.{unit}",
            "action_counts": [{"name": action, "counts": count} for action, count in sorted(actions.items())],
        }
        for (component, unit), actions in sorted(totals.items())
    ]
    text: str = yaml.safe_dump({"action_counts": {"version": _VERSION, "local": local}}, sort_keys=False)
    return text
