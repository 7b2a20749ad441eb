"""Dimensions that a model's file leaves open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

Origin = Literal["input", "bind", "default"]


@dataclass(frozen=True)
class Dimension:
    """A dimension that the model's file leaves open; the limits are those of a result file, which holds it, too."""

    name: Annotated[str, Field(strict=True, max_length=1 << 16)]
    size: Annotated[int, Field(strict=True, ge=0, lt=1 << 62)]
    """In this run."""
    origin: Origin
    """Who decided the size: "input" where an array that was given has it, "bind" where the user bound it, "default"
    where nothing said anything and it was taken as 1."""
