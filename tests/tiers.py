"""Two tiers: a few of each kind by default, the rest of it under `pytest -m deep`. No test is in neither."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

deep = pytest.mark.deep


def few(values: Iterable[Any], kept: int | Collection[Any]) -> list[Any]:
    """Mark as deep what is not among the values kept, or not among the first so many; kept values must exist."""
    every = list(values)
    chosen = every[:kept] if isinstance(kept, int) else list(kept)
    assert all(value in every for value in chosen), chosen
    return [value if value in chosen else pytest.param(value, marks=deep) for value in every]


def few_rows(rows: Iterable[Any], kept: int) -> list[Any]:
    """Mark as deep what is not among the first so many rows of several parameters, with or without names."""
    named = [row if hasattr(row, "marks") else pytest.param(*row) for row in rows]
    return [
        row if at < kept else pytest.param(*row.values, marks=(*row.marks, deep), id=row.id)
        for at, row in enumerate(named)
    ]


def examples(shallow: int, thorough: int) -> pytest.MarkDecorator:
    """Give a test the number of examples that it draws: few by default, many in the deep tier."""
    return pytest.mark.parametrize("count", [shallow, pytest.param(thorough, marks=deep)])


def drawn(
    shallow: int,
    thorough: int,
    *strategies: st.SearchStrategy[Any],
    derandomize: bool = True,
    unchecked: Collection[HealthCheck] = (HealthCheck.too_slow,),
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a property on drawn examples: few of them by default, many in the deep tier."""

    def decorate(check: Callable[..., None]) -> Callable[..., None]:
        @examples(shallow, thorough)
        def test(count: int) -> None:
            options = settings(
                max_examples=count, deadline=None, derandomize=derandomize,
                suppress_health_check=list(unchecked),
            )  # fmt: skip
            options(given(*strategies)(check))()

        test.__name__, test.__qualname__, test.__doc__ = check.__name__, check.__qualname__, check.__doc__
        test.__module__ = check.__module__
        return test

    return decorate
