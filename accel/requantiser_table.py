"""What requantising one element takes, from data/requantiser.toml."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources


@cache
def requantisation_events(mode: str) -> tuple[tuple[str, int], ...]:
    """Return the operations that requantising one element takes, from data/requantiser.toml.

    Args:
        mode: "f32" or "q31" to codes, "to_float" to floats.
    """
    text = (resources.files("accelsim") / "data" / "requantiser.toml").read_text("utf-8")
    return tuple(tomllib.loads(text)[mode].items())
