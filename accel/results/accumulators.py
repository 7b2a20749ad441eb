"""How wide accumulators have to be: one figure, and one sentence about it, wherever either is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from accelsim.errors import counted, printable

UNKNOWN = "unknown, inputs overflowed"
WIDEST_BITS = 64  # of an accumulator; no sum of codes needs more


class Accumulator(Protocol):
    """What is told of the accumulators of a layer."""

    @property
    def bits(self) -> int:
        """Their width."""

    @property
    def overflows(self) -> int:
        """How often narrowing changed a sum."""

    @property
    def min_safe_bits(self) -> int:
        """The smallest width that holds every partial sum."""


class Accumulated(Protocol):
    """A layer of a result, as far as its accumulators go."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def acc(self) -> Accumulator | None:
        """Its accumulators, None without them."""

    @property
    def sums_unknown(self) -> bool:
        """Whether an overflow in front of it hides what its sums would be."""

    @property
    def behind_overflow(self) -> bool | None:
        """Whether it reads what an overflow may have changed."""


Layer = TypeVar("Layer", bound=Accumulated)


def first_overflow(layers: Sequence[Layer]) -> Layer | None:
    """Return the first layer whose accumulators overflowed: all in front of it are as they would be without.

    Args:
        layers: of a run, in order.
    """
    return next((layer for layer in layers if layer.acc is not None and layer.acc.overflows), None)


def bits_needed(layers: Sequence[Accumulated]) -> int | None:
    """Return the smallest width in which no layer overflows on this input; None without accumulators, or if unknown.

    Args:
        layers: of a run, in order.
    """
    widths = [layer_bits_needed(layer) for layer in layers if layer.acc is not None]
    known = [width for width in widths if width is not None]
    return max(known) if widths and len(known) == len(widths) else None


def layer_bits_needed(layer: Accumulated) -> int | None:
    """Return the width that one layer needs where nothing overflows in front of it; None if that is not known.

    Args:
        layer: of a run.
    """
    return None if layer.acc is None or layer.sums_unknown else layer.acc.min_safe_bits


def bits_text(layer: Accumulated) -> str:
    """Return the width that one layer needs as text.

    Args:
        layer: of a run.
    """
    needed = layer_bits_needed(layer)
    return UNKNOWN if needed is None else str(needed)


def needed_text(layers: Sequence[Accumulated]) -> str:
    """Return how many bits the sums of a run need, as part of a sentence.

    Args:
        layers: of the run, in order; some have accumulators.
    """
    needed = bits_needed(layers)
    if needed is not None:
        return f"{needed} needed by the sums of this input"
    return f"how many are needed is not known behind an overflow: run with --acc-bits {WIDEST_BITS}"


def overflow_events(layers: Sequence[Accumulated]) -> int:
    """Return how often narrowing changed a sum.

    Args:
        layers: of a run.
    """
    return sum(layer.acc.overflows for layer in layers if layer.acc is not None)


def width_lines(layers: Sequence[Accumulated]) -> list[str]:
    """Return what a run says about its accumulators: bits given and needed, events, and where they begin.

    Args:
        layers: of the run, in order.
    """
    used = [layer.acc for layer in layers if layer.acc is not None]
    if not used:
        return []
    wrong = sum(acc.overflows > 0 for acc in used)
    where = f" in {wrong:,} of {len(used):,} layers" if wrong else ""
    given = max(acc.bits for acc in used)
    count = counted(overflow_events(layers), "overflow event")
    lines = [f"{given} bits given, {needed_text(layers)}, {count}{where}"]
    first = first_overflow(layers)
    if first is not None:
        behind = sum(bool(layer.behind_overflow) for layer in layers)
        verb = "reads" if behind == 1 else "read"
        read = f"; {counted(behind, 'layer')} {verb} what overflows have changed" if behind else ""
        lines.append(f"the first overflow is in layer '{printable(first.name, 40)}'{read}")
    return lines
