"""The classes of cycles (timing contract, section 5): what each is called, what it waits for, and its colour.

The colours are those of Okabe and Ito, which people with any kind of colour vision can tell apart, and darker or
lighter neighbours of them for classes of the same cause. An engine has the colour of the class that waits for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class CycleClass:
    """One class of cycles."""

    key: str
    """In results."""
    name: str
    """In charts and tables."""
    short: str
    """In narrow columns."""
    waits_for: str
    """What its cycles wait for, or do."""
    colour: str
    """In charts, traces and pictures."""


CYCLE_CLASSES = {
    kind.key: kind
    for kind in (
        CycleClass("stream", "MAC steps", "MAC steps", "the array, which issues MAC steps", "#009E73"),
        CycleClass("vector", "vector unit works", "vector unit", "the vector unit", "#F0E442"),
        CycleClass(
            "wait_w",
            "waits for the operand loaded first",
            "weight load",
            "loading the stationary operand from DRAM",
            "#0072B2",
        ),
        CycleClass("wait_x_load", "waits for streamed operands", "input load", "loading operands from DRAM", "#56B4E9"),
        CycleClass(
            "wait_load", "waits for operands of the vector unit", "input load", "loading operands from DRAM", "#A6D9F5"
        ),
        CycleClass(
            "wait_store",
            "waits for output buffers being stored",
            "output busy",
            "output buffers that are still being stored",
            "#B2532D",
        ),
        CycleClass("store", "last store, exposed", "store", "storing to DRAM, after the last result", "#D55E00"),
        CycleClass(
            "wait_x_bank",
            "waits for an accumulator bank",
            "bank busy",
            "an accumulator bank that the requantiser still reads",
            "#E69F00",
        ),
        CycleClass(
            "requant",
            "last requantisation, exposed",
            "requantise",
            "the requantiser, after the last tile",
            "#F5C76B",
        ),
        CycleClass(
            "push",
            "push of the stationary operand",
            "weight push",
            "pushing the stationary operand into the array",
            "#CC79A7",
        ),
        CycleClass("shift", "drain", "drain", "draining the sums out of the array", "#AA6F9E"),
        CycleClass("flush", "flush", "flush", "flushing the array between tiles", "#7A4E6D"),
        CycleClass(
            "hazard",
            "accumulators not ready",
            "accumulator",
            "accumulators that the k-fold before is still producing",
            "#882255",
        ),
        CycleClass("tail", "tail through the array", "tail", "the way through the array, R+C", "#999999"),
    )
}

_UNKNOWN = "#666666"
_STATIONARY = {"ws": "weights", "is": "activations", "os": "weights"}
_STREAMED = {"ws": "activations", "is": "weights", "os": "activations"}


def cycle_class(key: str, dataflow: str = "") -> CycleClass:
    """Return how a class of cycles is shown; keys of later versions keep their own name and are grey.

    Args:
        key: of the class.
        dataflow: "ws", "os" or "is", where it is the same for all layers: says which operand a class waits for.
    """
    found = CYCLE_CLASSES.get(key)
    if found is None:
        return CycleClass(key, key.replace("_", " "), key, key.replace("_", " "), _UNKNOWN)
    operand = {"wait_w": _STATIONARY, "wait_x_load": _STREAMED}.get(key, {}).get(dataflow)
    return found if operand is None else replace(found, name=f"waits for {operand}")
