"""What long work reports: (what is done, how far, of how many); the command line draws it."""

from __future__ import annotations

from collections.abc import Callable

Steps = Callable[[str, int, int], None]
