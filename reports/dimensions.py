"""What is said of the dimensions that a model leaves open."""

from __future__ import annotations

from collections.abc import Sequence

from accelsim.errors import printable
from accelsim.operators.dimensions import Dimension

_ORIGINS = {"input": "as the input", "bind": "bound", "default": "none given"}
_NAMED = 6

NONE_GIVEN = "none given (use --input or --bind)"


def chosen_dimensions(dimensions: Sequence[Dimension]) -> list[str]:
    """Return the dimensions that were chosen since nobody gave them, such as "batch = 1, seq = 1"; none or one text.

    Args:
        dimensions: those that the model's file leaves open.
    """
    chosen = [one for one in dimensions if one.origin == "default"]
    if not chosen:
        return []
    named = ", ".join(f"{printable(one.name, 30)} = {one.size:,}" for one in chosen[:_NAMED])
    return [named + ("" if len(chosen) <= _NAMED else f" and {len(chosen) - _NAMED} more")]


def dimensions_text(dimensions: Sequence[Dimension] | None) -> str:
    """Return the open dimensions with their sizes and who decided them."""
    if dimensions is None:
        return "not recorded"
    parts = (f"{printable(one.name, 60)} = {one.size:,} ({_ORIGINS.get(one.origin, one.origin)})" for one in dimensions)
    return ", ".join(parts) or "none is open"
