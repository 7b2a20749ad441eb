"""Reads JSON that nobody vouches for: a regular file, of bounded size, an object, without NaN and absurd numbers."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

from accelsim.errors import AccelSimError, InvalidFileError, ResourceLimitError, UsageError, printable, reason_of


def read_regular(path: Path, limit: int, what: str) -> bytes:
    """Read a regular file; pipes and devices are refused before they can block.

    Args:
        path: the file; a link is followed.
        limit: largest size in bytes.
        what: what the file is, for messages.

    Raises:
        UsageError: there is no such file, or it cannot be read.
        InvalidFileError: it is no regular file.
        ResourceLimitError: it is larger than the limit.
    """
    shown = printable(str(path))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:  # ValueError: a zero character in the path
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read {what}, {shown}: {reason}: check the path") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InvalidFileError(f"{shown}, {what}, is not a regular file: replace it by one")
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ResourceLimitError(f"{shown}, {what}, is larger than the limit of {limit:,} bytes: it is not one of ours")
    return data


def read_object(path: Path, limit: int, what: str) -> dict[str, Any]:
    """Read a JSON object; errors as for `read_regular` and `parse_object`."""
    return parse_object(read_regular(path, limit, what), f"{printable(str(path))}, {what},")


def parse_object(data: bytes, label: str) -> dict[str, Any]:
    """Parse a JSON object.

    Args:
        data: its text, UTF-8.
        label: subject of the error messages.

    Raises:
        InvalidFileError: not JSON, not an object, names a key twice, or holds NaN, infinity or absurd numbers.
    """
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_refuse, object_pairs_hook=_unique)
    except AccelSimError:
        raise
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise InvalidFileError(f"{label} is not valid JSON ({reason_of(error, 80)}): it is damaged") from None
    if not isinstance(value, dict):
        raise InvalidFileError(f"{label} is not a JSON object: it is damaged")
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number of JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object, refusing a key that comes twice, which two readers could take differently."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key comes twice")
    return result
