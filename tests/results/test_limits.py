"""The one description of results: what a file can set has limits and is not converted; a layer says what it holds."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from pydantic import Field
from pydantic.fields import FieldInfo

from accelsim.results.limits import ELSEWHERE, Count, Rows, Text
from accelsim.results.plain import from_plain, plain
from accelsim.results.quantisation import QuantisationReport
from accelsim.results.result import LayerResult, Result

# As many as the file has bytes for: sections of a machine, and what is nobody's field (Mapping to Any).
UNLIMITED = {("Result", "arch")}


def leaves(hint: Any, limits: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Yield the types that a hint consists of, each with its limits."""
    if get_origin(hint) is Annotated:
        inner, *found = get_args(hint)
        yield from leaves(inner, (*limits, *found))
    elif get_origin(hint) in (Union, UnionType):
        for one in get_args(hint):
            yield from leaves(one, limits)
    else:
        yield hint, limits
        if get_origin(hint) in (tuple, Mapping):
            for one in get_args(hint):
                yield from leaves(one)


def records(kind: type) -> Iterator[type]:
    """Yield a dataclass and all that its fields hold."""
    yield kind
    for hint in get_type_hints(kind, include_extras=True).values():
        for leaf, _ in leaves(hint):
            if is_dataclass(leaf) or hasattr(leaf, "_fields"):
                yield from records(leaf)


RECORDS = sorted({*records(Result), *records(QuantisationReport)}, key=lambda kind: f"{kind.__module__}{kind.__name__}")


def described(kind: type) -> dict[str, Any]:
    """Return the hints of what a file can set."""
    names = [field.name for field in fields(kind)] if is_dataclass(kind) else kind._fields  # type: ignore[attr-defined]
    hints = get_type_hints(kind, include_extras=True)
    return {name: hints[name] for name in names if ELSEWHERE not in getattr(hints[name], "__metadata__", ())}


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
def test_every_field_has_limits_and_converts_nothing(kind: type) -> None:
    """Numbers and texts are strict; texts, tuples and mappings are bounded."""
    for name, hint in described(kind).items():
        for leaf, limits in leaves(hint):
            said = [part for limit in limits if isinstance(limit, FieldInfo) for part in (limit, *limit.metadata)]
            bounded = any(hasattr(part, "max_length") for part in said)
            if leaf in (int, float, str, bool):
                assert any(getattr(part, "strict", False) for part in said), f"{name} converts"
            if leaf is str or (get_origin(leaf) in (tuple, Mapping) and get_args(leaf)[1] is not Any):
                assert bounded or (kind.__name__, name) in UNLIMITED, f"{name} has no bound"
            known = leaf in (int, float, str, bool, Any, NoneType, Ellipsis)
            known = known or get_origin(leaf) in (tuple, Mapping, Literal)
            assert known or leaf in RECORDS, f"{name} is a {leaf}"


def test_the_fields_of_a_layer_say_what_they_are() -> None:
    """A docstring under each, but for those whose name says it all."""
    body = ast.parse(inspect.getsource(LayerResult)).body[0].body  # type: ignore[attr-defined]
    silent = {
        part.target.id
        for part, after in zip(body, [*body[1:], None], strict=True)
        if isinstance(part, ast.AnnAssign)
        and isinstance(part.target, ast.Name)
        and not (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant))
    }
    assert silent == {"name", "tiles", "cycles"}


@dataclass(frozen=True)
class Small:
    """A description with everything that the reader and the writer know."""

    COMPUTED = ("twice",)

    count: Count
    rows: Annotated[Rows, Field(alias="sources")]
    note: Text = "none"

    @property
    def twice(self) -> int:
        """A property that is written."""
        return 2 * self.count


def test_written_and_read_by_one_description() -> None:
    """Keys are aliases; properties are written and passed over; what is missing takes its default."""
    small = Small(3, ({"a": 1, "b": [2, "c"]},))
    data = plain(small)
    assert data == {"count": 3, "sources": [{"a": 1, "b": [2, "c"]}], "note": "none", "twice": 6}
    assert from_plain(Small, data) == small
    assert from_plain(Small, {"count": 3, "sources": []}) == Small(3, ())


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"count": "3"}, "count: "),
        ({"count": 3.0}, "count: "),
        ({"count": True}, "count: "),
        ({"count": -1}, "count: "),
        ({"sources": {}}, "sources: "),
        ({"sources": [[]]}, "sources.0: "),
        ({"note": "x" * 20_000}, "note: "),
    ],
)
def test_what_is_no_such_data_is_told_with_its_place(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=f"^{words}"):
        from_plain(Small, plain(Small(3, ())) | changed)
