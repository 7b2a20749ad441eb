"""Classes of cycles and components of energy as people see them: names, colours, and what a class waits for.

The colours are those of Okabe and Ito, which people with any kind of colour vision can tell apart, and darker or
lighter neighbours of them for classes of the same cause.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class CycleClass:
    """One class of cycles: key in the result, name, colour."""

    key: str
    name: str
    colour: str


@dataclass(frozen=True)
class Cause:
    """What a share of the cycles goes to.

    key: short name; verdict: what a run is called that mostly does this; happens: what the cycles do; classes: keys.
    """

    key: str
    verdict: str
    happens: str
    classes: tuple[CycleClass, ...]


CAUSES = (
    Cause(
        "array",
        "compute bound",
        "issue MAC steps of the array",
        (CycleClass("stream", "MAC steps", "#009E73"),),
    ),
    Cause(
        "vector",
        "bound by the vector unit",
        "are work of the vector unit",
        (CycleClass("vector", "vector unit works", "#F0E442"),),
    ),
    Cause(
        "DRAM",
        "memory bound",
        "wait for DRAM",
        (
            CycleClass("wait_w", "waits for the operand loaded first", "#0072B2"),
            CycleClass("wait_x_load", "waits for streamed operands", "#56B4E9"),
            CycleClass("wait_load", "waits for operands of the vector unit", "#A6D9F5"),
            CycleClass("wait_store", "waits for output buffers being stored", "#B2532D"),
            CycleClass("store", "last store, exposed", "#D55E00"),
        ),
    ),
    Cause(
        "requantiser",
        "bound by the requantiser",
        "wait for the requantiser",
        (
            CycleClass("wait_x_bank", "waits for an accumulator bank", "#E69F00"),
            CycleClass("requant", "last requantisation, exposed", "#F5C76B"),
        ),
    ),
    Cause(
        "fill and drain",
        "bound by filling and draining the array",
        "fill or drain the array",
        (
            CycleClass("push", "push of the stationary operand", "#CC79A7"),
            CycleClass("shift", "drain", "#AA6F9E"),
            CycleClass("flush", "flush", "#7A4E6D"),
            CycleClass("hazard", "accumulators not ready", "#882255"),
            CycleClass("tail", "tail through the array", "#999999"),
        ),
    ),
)

_OTHER = "#666666"
_STATIONARY = {"ws": "weights", "is": "activations", "os": "weights"}
_STREAMED = {"ws": "activations", "is": "weights", "os": "activations"}

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


def known_classes() -> dict[str, CycleClass]:
    """Return all known classes of cycles by key, in the order of charts."""
    return {kind.key: kind for cause in CAUSES for kind in cause.classes}


def cycle_class(key: str, dataflow: str = "") -> CycleClass:
    """Return how a class of cycles is shown; keys of later versions keep their own name and are grey.

    Args:
        key: of the class.
        dataflow: "ws", "os" or "is", where it is the same for all layers: says which operand a class waits for.
    """
    found = known_classes().get(key)
    if found is None:
        return CycleClass(key, key.replace("_", " "), _OTHER)
    if key == "wait_w" and dataflow in _STATIONARY:
        return CycleClass(key, f"waits for {_STATIONARY[dataflow]}", found.colour)
    if key == "wait_x_load" and dataflow in _STREAMED:
        return CycleClass(key, f"waits for {_STREAMED[dataflow]}", found.colour)
    return found


def ordered_classes(keys: Iterable[str]) -> list[str]:
    """Return keys of classes in the order of charts: what the array does, then what it waits for, then unknown ones."""
    present = set(keys)
    return [key for key in known_classes() if key in present] + sorted(present - set(known_classes()))


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
