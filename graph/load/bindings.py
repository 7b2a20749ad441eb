"""Sizes of dynamic dimensions as a user writes them: "batch=1,seq=128", or a mapping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from accelsim.errors import UsageError, printable


def parse_bindings(texts: str | Sequence[str] | Mapping[str, int] | None) -> dict[str, int]:
    """Return sizes by name of a dimension.

    Args:
        texts: such as "batch=1,seq=128", or several of these, or a mapping that is taken as it is.

    Raises:
        UsageError: a part is no NAME=SIZE, a size is no whole number from 1, or a name comes twice.
    """
    if texts is None:
        return {}
    if isinstance(texts, Mapping):
        return dict(texts)
    sizes: dict[str, int] = {}
    for part in (part for text in ([texts] if isinstance(texts, str) else texts) for part in text.split(",")):
        name, equals, size = (piece.strip() for piece in part.rpartition("="))
        label = f"dimension '{printable(name, 60)}'"
        if not equals or not name:
            raise UsageError(f"'{printable(part, 60)}' binds no dimension: write NAME=SIZE, as in batch=1,seq=128")
        if not (size.isascii() and size.isdigit() and len(size) < 10 and int(size)):
            raise UsageError(f"{label} cannot be bound to '{printable(size, 30)}': give a whole number from 1")
        if name in sizes:
            raise UsageError(f"{label} is bound twice: name it once")
        sizes[name] = int(size)
    return sizes
