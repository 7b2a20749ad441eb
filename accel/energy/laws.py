"""Laws through the rows of a table: every law equals a row at that row, and rises with width and capacity.

A law is fitted here from the rows it is given; nothing but the form is fixed. Between two rows a value is
"interpolated", beyond them "extrapolated".
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """A row as a law sees it: at x (bits, significand, bytes) it costs y pJ."""

    x: float
    y: float
    name: str
    basis: str = "measured"


@dataclass(frozen=True)
class Fitted:
    """A value in pJ with its basis, the law that gave it (parameters filled in, "" for a row), and the rows used."""

    value_pj: float
    basis: str
    law: str
    rows: tuple[str, ...]


def basis_of(inside: bool) -> str:
    """Name how a value that is not in the table was found: between two of its rows, or beyond them."""
    return "interpolated" if inside else "extrapolated"


def exact(points: Sequence[Point], x: float) -> Fitted | None:
    """Return the row at x itself, if there is one."""
    found = next((point for point in points if point.x == x), None)
    return None if found is None else Fitted(found.y, found.basis, "", (found.name,))


def _neighbours(points: Sequence[Point], x: float) -> tuple[Point, Point]:
    """Return the two rows around x, or the outermost two where x is beyond them."""
    index = min(max(bisect_left([point.x for point in points], x), 1), len(points) - 1)
    return points[index - 1], points[index]


def _line(points: Sequence[Point], x: float) -> tuple[float, float, tuple[str, ...]]:
    """Return intercept and slope of the line that serves x, and the rows it passes through.

    Through the two rows around x, else through the outermost two; below the first row in proportion to it where that
    line would be negative at 0, and everywhere in proportion to a single row.
    """
    first = points[0]
    if len(points) == 1:
        return 0.0, first.y / first.x, (first.name,)
    low, high = _neighbours(points, x)
    slope = (high.y - low.y) / (high.x - low.x)
    if x < first.x and low.y - slope * low.x < 0:
        return 0.0, first.y / first.x, (first.name,)
    return low.y - slope * low.x, slope, (low.name, high.name)


def _at(points: Sequence[Point], x: float) -> float:
    """Evaluate the line that serves x, from its lower row, so that rows are met exactly."""
    for point in points:
        if point.x == x:
            return point.y
    _, slope, names = _line(points, x)
    if len(names) == 1:
        return slope * x
    low, _ = _neighbours(points, x)
    return low.y + slope * (x - low.x)


def linear(points: Sequence[Point], x: float, quantity: str) -> Fitted:
    """Return the value at x, linear between neighbouring rows, the outer slopes beyond them.

    Args:
        points: rows in rising order of x.
        x: where.
        quantity: what x is, for the text of the law.
    """
    row = exact(points, x)
    if row is not None:
        return row
    intercept, slope, names = _line(points, x)
    text = f"E = {f'{intercept:.9g} + ' if intercept else ''}{slope:.9g} {quantity}, {quantity} = {x:g}"
    return Fitted(_at(points, x), basis_of(points[0].x <= x <= points[-1].x), text, names)


def bilinear(points: Sequence[Point], first: float, second: float) -> Fitted:
    """Return the value of a product of two widths, from rows of equal widths.

    E(w1, w2) = (w2 h(w1) + w1 h(w2)) / 2 with the energy per bit h(w) = E(w, w) / w, linear between neighbouring rows:
    a w1 w2 + b (w1 + w2) / 2 where both widths lie on one line h = a w + b, as they do with two rows.

    Args:
        points: rows of square multipliers in rising order of width.
        first: width of one operand.
        second: width of the other.
    """
    if first == second:
        row = exact(points, first)
        if row is not None:
            return row
    per_bit = [Point(point.x, point.y / point.x, point.name) for point in points]
    value = (second * _at(per_bit, first) + first * _at(per_bit, second)) / 2
    lines = {_line(per_bit, width) for width in (first, second)}
    if len(lines) == 1:
        intercept, slope, names = lines.pop()
        form = f"E = {slope:.9g} w1 w2 + {intercept:.9g} (w1 + w2) / 2"
    else:
        form = f"E = (w2 h(w1) + w1 h(w2)) / 2, h = {_at(per_bit, first):.9g} and {_at(per_bit, second):.9g} pJ/bit"
        names = tuple(point.name for point in points if any(point.name in line[2] for line in lines))
    inside = min(first, second) >= points[0].x and max(first, second) <= points[-1].x
    return Fitted(value, basis_of(inside), f"{form}, w1 = {first:g}, w2 = {second:g}", names)


def power(points: Sequence[Point], x: float) -> Fitted:
    """Return the value at x, a power of x between neighbouring rows, the outer exponents beyond them.

    Args:
        points: at least two rows in rising order of x.
        x: where.
    """
    row = exact(points, x)
    if row is not None:
        return row
    low, high = _neighbours(points, x)
    exponent = math.log(high.y / low.y) / math.log(high.x / low.x)
    text = f"E = {low.y:.9g} (c / {low.x:g})^{exponent:.9g}, c = {x:.9g} B"
    inside = points[0].x <= x <= points[-1].x
    return Fitted(low.y * (x / low.x) ** exponent, basis_of(inside), text, (low.name, high.name))
