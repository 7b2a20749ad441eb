"""What a result file holds, where, and what may become of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from tests.reports.results import digits_result

Path_ = tuple[str | int, ...]


def plain() -> dict[str, Any]:
    """Return a fresh copy of what a result file holds."""
    data: dict[str, Any] = json.loads(digits_result("ws", 12).to_json())
    return data


def altered(data: dict[str, Any], place: Path_, value: object) -> dict[str, Any]:
    """Replace one value of the data of a file."""
    part: Any = data
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    return data


# What is made of the text of a file: no run when the tests are collected.
DAMAGED: dict[str, Callable[[str], bytes]] = {
    "empty": lambda _: b"",
    "truncated": lambda text: text.encode()[:-500],
    "not JSON": lambda _: b"<html>",
    "a list": lambda _: b"[]",
    "NaN": lambda text: text.replace("14986", "NaN").encode(),
    "infinity": lambda text: text.replace("14986", "1e999").encode(),
    "a number of 5,000 digits": lambda text: text.replace("14986", "9" * 5000).encode(),
    "not UTF-8": lambda _: b'{"schema_version": 1, "model": "\xff"}',
    "deep": lambda _: b"[" * 200_000,
    "a key twice": lambda _: b'{"schema_version": 1, "schema_version": 1}',
}


def places(part: object, here: Path_ = ()) -> list[Path_]:
    """Return where every value of the data is, intervals aside."""
    if isinstance(part, dict):
        inner = [(*here, key) for key in part if key != "intervals"]
        return [*inner, *(place for key in inner for place in places(part[key[-1]], key))]
    if isinstance(part, list):
        inner = [(*here, index) for index in range(len(part))]
        return [*inner, *(place for key in inner for place in places(part[key[-1]], key))]
    return []


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(-(1 << 70), 1 << 70), st.floats(), st.text(max_size=8),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)  # fmt: skip
