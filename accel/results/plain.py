"""Frozen data as the plain data of a file, and back: each dataclass is the one description of both ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from accelsim.errors import printable
from accelsim.results.limits import ELSEWHERE

Record = TypeVar("Record")


def plain(record: Any) -> dict[str, Any]:
    """Return a dataclass as dicts and lists, with its properties that a file holds as well.

    Args:
        record: its fields are keys, by their alias if they have one; its COMPUTED names properties.
    """
    kind: Any = type(record)
    return {key: _plain(getattr(record, name)) for name, key in _keys(kind)}


def from_plain(kind: type[Record], data: object) -> Record:
    """Return plain data as a dataclass, within the limits of its fields; keys that it does not know are passed over.

    Args:
        kind: the dataclass.
        data: what `plain` gives, from a file that nobody vouches for.

    Raises:
        ValueError: it is no such data; says where and why.
    """
    described: Any = kind
    try:
        record: Record = _adapter(described).validate_python(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = printable(".".join(str(step) for step in first["loc"]) or "the file", 100)
        raise ValueError(f"{place}: {printable(first['msg'], 120)}") from None
    return record


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Return what reads a dataclass: it takes a while to build, so that only a reader does."""
    return TypeAdapter(kind)


def _plain(value: Any) -> Any:
    """Return a value as plain data."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return plain(value) if is_dataclass(value) else value


@cache
def _keys(kind: Any) -> tuple[tuple[str, str], ...]:
    """Return what is written of a dataclass: names of fields and properties, each with its key."""
    limits = {
        name: getattr(hint, "__metadata__", ()) for name, hint in get_type_hints(kind, include_extras=True).items()
    }
    names = [field.name for field in fields(kind) if ELSEWHERE not in limits[field.name]]
    aliases = {name: alias for name in names for limit in limits[name] if (alias := getattr(limit, "alias", None))}
    return tuple((name, aliases.get(name, name)) for name in (*names, *getattr(kind, "COMPUTED", ())))
