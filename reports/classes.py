"""Causes that classes of cycles share, and components of energy as people see them: names and colours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from accelsim.results.cycle_classes import CYCLE_CLASSES, CycleClass


@dataclass(frozen=True)
class Cause:
    """What a share of the cycles goes to."""

    key: str
    """Short name."""
    verdict: str
    """What a run is called that mostly does this."""
    happens: str
    """What the cycles do."""
    classes: tuple[CycleClass, ...]
    """Keys."""


CAUSES = (
    Cause(
        "array",
        "compute bound",
        "issue MAC steps of the array",
        (CYCLE_CLASSES["stream"],),
    ),
    Cause(
        "vector",
        "bound by the vector unit",
        "are work of the vector unit",
        (CYCLE_CLASSES["vector"],),
    ),
    Cause(
        "DRAM",
        "memory bound",
        "wait for DRAM",
        (
            CYCLE_CLASSES["wait_w"],
            CYCLE_CLASSES["wait_x_load"],
            CYCLE_CLASSES["wait_load"],
            CYCLE_CLASSES["wait_store"],
            CYCLE_CLASSES["store"],
        ),
    ),
    Cause(
        "requantiser",
        "bound by the requantiser",
        "wait for the requantiser",
        (
            CYCLE_CLASSES["wait_x_bank"],
            CYCLE_CLASSES["requant"],
        ),
    ),
    Cause(
        "fill and drain",
        "bound by filling and draining the array",
        "fill or drain the array",
        (
            CYCLE_CLASSES["push"],
            CYCLE_CLASSES["shift"],
            CYCLE_CLASSES["flush"],
            CYCLE_CLASSES["hazard"],
            CYCLE_CLASSES["tail"],
        ),
    ),
)

# Names of energy components, in the order of charts; others follow under their own names.
COMPONENTS = {
    "dram": ("DRAM", "#0072B2"),
    "activation_sram": ("activation scratchpad", "#56B4E9"),
    "weight_sram": ("weight scratchpad", "#A6D9F5"),
    "accumulator_sram": ("accumulators", "#E69F00"),
    "registers": ("registers of the array", "#CC79A7"),
    "mac": ("MACs", "#009E73"),
    "requantiser": ("requantiser", "#D55E00"),
    "vector": ("vector unit", "#F0E442"),
}
_SPARE = ("#882255", "#999999", "#44AA99", "#AA4499", "#666633", "#332288")


def ordered_classes(keys: Iterable[str]) -> list[str]:
    """Return keys of classes in the order of charts: what the array does, then what it waits for, then unknown ones."""
    present = set(keys)
    return [key for key in CYCLE_CLASSES if key in present] + sorted(present - set(CYCLE_CLASSES))


def ordered_components(keys: Iterable[str]) -> list[str]:
    """Return keys of energy components in the order of charts."""
    present = set(keys)
    return [key for key in COMPONENTS if key in present] + sorted(present - set(COMPONENTS))


def component_name(key: str) -> str:
    """Return what a component is called."""
    return COMPONENTS[key][0] if key in COMPONENTS else key.replace("_", " ")


def component_colours(keys: Iterable[str]) -> dict[str, str]:
    """Return a colour for every component, also for those that this version does not know."""
    ordered = ordered_components(keys)
    unknown = [key for key in ordered if key not in COMPONENTS]
    spare = {key: _SPARE[index % len(_SPARE)] for index, key in enumerate(unknown)}
    return {key: COMPONENTS[key][1] if key in COMPONENTS else spare[key] for key in ordered}
