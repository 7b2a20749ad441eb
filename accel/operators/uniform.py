"""Uniform quantisers of 1 to 8 bits (QONNX): scale, zero point before rounding, clip, one of seven roundings.

Every step is one float32 operation in the order of the definition (ONNX Runtime semantics, section 12), so that the
codes are those of the same float32 operators executed one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]
Floats = NDArray[np.float32]

ROUNDINGS: dict[str, Callable[[Any], Any]] = {
    "ROUND": np.rint,
    "HALF_EVEN": np.rint,
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "UP": lambda x: np.sign(x) * np.ceil(np.abs(x)),
    "DOWN": lambda x: np.sign(x) * np.floor(np.abs(x)),
    "HALF_UP": lambda x: np.sign(x) * np.floor(np.abs(x) + np.float32(0.5)),
    "HALF_DOWN": lambda x: np.sign(x) * np.ceil(np.abs(x) - np.float32(0.5)),
}
ROUNDING_MODES = tuple(ROUNDINGS)


@dataclass(frozen=True, eq=False)
class Quantiser:
    """Real number to code and back: y = out_scale * (code - out_zero_point).

    code = round(clip(x / scale + zero_point, lowest, highest)); a shift (Trunc) rounds to the nearest integer first and
    divides by it before the clip; bipolar codes are -1 and 1, by the sign of x / scale + zero_point, or of x itself
    where divide is not set.
    """

    scale: Floats
    zero_point: Floats
    """scale and zero_point: float32, broadcast against x."""
    bits: int
    lowest: int | None
    highest: int | None
    """lowest and highest: None without a clip."""
    rounding: str = "ROUND"
    shift: float | None = None
    bipolar: bool = False
    divide: bool = True
    out_scale: Floats | None = None
    out_zero_point: Floats | None = None

    @property
    def step(self) -> Floats:
        """The scale of the codes."""
        return self.scale if self.out_scale is None else self.out_scale

    @property
    def zero(self) -> Floats:
        """The zero point of the codes."""
        return self.zero_point if self.out_zero_point is None else self.out_zero_point

    @property
    def clips(self) -> bool:
        """Tell whether the codes are bounded whatever is quantised."""
        return self.lowest is not None and self.highest is not None

    @property
    def code_dtype(self) -> np.dtype[np.generic]:
        """The narrowest integer type of numpy that holds a code; codes without a clip take 32 bits."""
        if self.lowest is None or self.highest is None:
            return np.dtype(np.int32)
        for name in ("uint8", "int8", "int16"):
            if np.iinfo(name).min <= self.lowest and self.highest <= np.iinfo(name).max:
                return np.dtype(name)
        return np.dtype(np.int64)

    def codes(self, values: Array) -> Array:
        """Quantise float32 values of any shape that the scale broadcasts to; NaN gives the lowest code."""
        with np.errstate(all="ignore"):
            scaled: NDArray[Any] = values.astype(np.float32, copy=False)
            if self.divide:
                scaled = scaled / self.scale + self.zero_point
            if self.bipolar:
                return np.where(scaled >= np.float32(0), 1, -1).astype(self.code_dtype)
            if self.shift is not None:
                scaled = np.rint(scaled) / np.float32(self.shift)
            if self.lowest is not None and self.highest is not None:
                scaled = np.clip(scaled, np.float32(self.lowest), np.float32(self.highest))
                scaled = np.where(np.isnan(scaled), np.float32(self.lowest), scaled)
            return np.asarray(ROUNDINGS[self.rounding](scaled)).astype(self.code_dtype)

    def values(self, codes: Array) -> Floats:
        """Return the float32 values of codes."""
        return decode(codes, self.step, self.zero)


def decode(codes: Array, scale: Floats, zero_point: Floats) -> Floats:
    """Return fl32(scale * (code - zero point)); the difference is exact for whole zero points.

    Args:
        codes: integers of any shape.
        scale: float32 that broadcasts to it.
        zero_point: float32, likewise.
    """
    return np.asarray((codes.astype(np.float32) - zero_point) * scale, np.float32)


@dataclass(frozen=True, eq=False)
class Decoding:
    """How a tensor of codes stands for a float tensor of the reference."""

    tensor: str
    """The reference's tensor."""
    scale: Floats
    zero_point: Floats
    """scale and zero_point: float32 that broadcast to it."""
    dtype: np.dtype[np.generic]
    """Of the codes."""
    stride: int = 1
    """Distance of neighbouring codes, 2 for bipolar ones."""

    def encode(self, values: Array) -> NDArray[np.int32]:
        """Return the codes of float32 values; a value that is no code's value gives one outside of the dtype.

        The sign of a zero is lost: a code has none.
        """
        outside = np.iinfo(self.dtype.name).max + 1
        with np.errstate(all="ignore"):
            nearest = np.rint(values.astype(np.float32) / self.scale + self.zero_point)
            inside = np.isfinite(nearest) & (np.abs(nearest) < np.float32(2**24))
            codes = np.where(inside, nearest, 0).astype(np.int32)
            exact = inside & (decode(codes, self.scale, self.zero_point) == values)
        return np.where(exact, codes, np.int32(min(outside, 2**31 - 1))).astype(np.int32)


@dataclass(frozen=True, eq=False)
class Permuted:
    """A tensor that is one of the reference with its axes in another order."""

    tensor: str
    """The reference's tensor."""
    permutation: tuple[int, ...]
    """Where each axis comes from."""
    dtype: np.dtype[np.generic]
    """Of both."""
    stride: int = 1
    """Distance of neighbouring codes."""

    def encode(self, values: Array) -> Array:
        """Return the reference's values in our order."""
        return values.transpose(self.permutation)
