"""Figures about a quantised model that are worth having and not worth failing for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from accelsim.errors import AccelSimError

_Figure = TypeVar("_Figure")


def attempt(compute: Callable[[], _Figure]) -> tuple[_Figure | None, str | None]:
    """Return a figure and None, or None and why there is none: a figure that fails costs its cell, never the run.

    Args:
        compute: gives the figure. Anything but an error that is meant for users is a bug, and goes on.
    """
    try:
        return compute(), None
    except AccelSimError as error:
        return None, " ".join(str(error).split())
