"""What the fields of a result may hold: types with limits, for files that nobody vouches for.

They are checked where a file is read, converting nothing, and cost nothing where a result is made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

_LONGEST_LIST = 100
_LONGEST_TEXT = 1 << 14


def _not_a_number(value: object) -> object:
    """Return the NaN that null stands for, which JSON lacks."""
    return math.nan if value is None else value


def _plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the values and plain lists of a row, whatever columns it has."""
    return {key: value for key, value in row.items() if _is_plain(value)}


def _is_plain(value: object) -> bool:
    """Tell whether a value is none, a number or a text of bounded size, or a list of such."""
    if isinstance(value, list):
        return len(value) <= _LONGEST_LIST and not any(isinstance(part, list) or not _is_plain(part) for part in value)
    if value is None:
        return True
    return isinstance(value, int | float | str) and (
        not isinstance(value, int | str) or len(str(value)) < _LONGEST_TEXT
    )


class _Elsewhere:
    """A field that files of results leave out: it is not written, and whoever reads a file puts something in."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Take anything, of whatever type."""
        return core_schema.any_schema()


ELSEWHERE = _Elsewhere()


Flag = Annotated[bool, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=0, lt=1 << 62)]
Signed = Annotated[int, Field(strict=True, gt=-(1 << 130), lt=1 << 130)]
Magnitude = Annotated[int, Field(strict=True, ge=0, lt=1 << 130)]
Real = Annotated[float, Field(strict=True, ge=-1e30, le=1e30, allow_inf_nan=False)]
Amount = Annotated[float, Field(strict=True, ge=0, le=1e30, allow_inf_nan=False)]
Share = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
Float = Annotated[float, Field(strict=True)]
FloatOrNan = Annotated[float, Field(strict=True), BeforeValidator(_not_a_number)]
Name = Annotated[str, Field(strict=True, max_length=1 << 16)]
Text = Annotated[str, Field(strict=True, max_length=_LONGEST_TEXT)]
Scalar = Flag | Annotated[int, Field(strict=True, gt=-(1 << 62), lt=1 << 62)] | Real | Text | None
Names = Annotated[tuple[Name, ...], Field(max_length=10_000)]
Texts = Annotated[tuple[Text, ...], Field(max_length=1_000)]
Counts = Annotated[Mapping[Text, Count], Field(max_length=100)]
Amounts = Annotated[Mapping[Text, Amount], Field(max_length=100)]
Row = Annotated[Mapping[Text, Any], AfterValidator(_plain_row)]
Rows = Annotated[tuple[Row, ...], Field(max_length=10_000)]
