"""Dimensions that a model's file leaves open."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dimension:
    """A dimension that the model's file leaves open: its name, its size in this run, and who decided it.

    origin: "input" where an array that was given has this size, "bind" where the user bound it, "default" where nothing
    said anything and it was taken as 1.
    """

    name: str
    size: int
    origin: str
