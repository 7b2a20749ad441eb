"""Seeded random cases for one build: shapes around the array's edges, operands that overflow, every option."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.rtl.cases import Case, Requantiser, tiles
from tests.rtl.tools import Build

DATAFLOWS = ("ws", "os", "is")


def operand_bits(build: Build, dataflow: str) -> tuple[int, int]:
    """Return the widths of x and w: IS streams w, the others x."""
    streamed, stationary = build.streamed_bits, build.stationary_bits
    return (stationary, streamed) if dataflow == "is" else (streamed, stationary)


def extent(random: np.random.Generator, lanes: int) -> int:
    """Draw an extent: below, at, just above or several times the lanes."""
    edges = (1, max(1, lanes - 1), lanes, lanes + 1, lanes + 2)
    return int(random.choice(edges)) if random.random() < 0.4 else int(random.integers(1, 3 * lanes + 4))


def operands(random: np.random.Generator, shape: tuple[int, int], bits: int) -> np.ndarray:
    """Draw operands: anything, only the extremes, or a few nonzero ones."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1)
    kind = random.random()
    if kind < 0.2:
        return random.choice(np.array([low, high - 1]), shape)
    values = random.integers(low, high, shape)
    return values * (random.random(shape) < 0.3) if kind < 0.3 else values


def biases(random: np.random.Generator, count: int) -> np.ndarray:
    """Draw biases of 32 bits, often small, sometimes the extremes."""
    if random.random() < 0.2:
        return random.choice(np.array([-(2**31), 2**31 - 1]), count)
    return random.integers(-(2**31), 2**31, count) >> int(random.integers(0, 31))


def readiness(random: np.random.Generator, count: int) -> list[int]:
    """Draw the cycles from which tiles are ready: all at once, ascending, or in any order."""
    kind = random.random()
    if kind < 0.4:
        return [0] * count
    if kind < 0.6:
        return random.integers(0, 20 * count + 2, count).tolist()
    return np.cumsum(random.integers(0, 40, count) * (random.random(count) < 0.5)).tolist()


def gemm(random: np.random.Generator, build: Build, dataflow: str, gather: bool = False) -> Case:
    """Draw a GEMM with options and readiness."""
    rows, columns = build.rows, build.columns
    streams = {"ws": (5, rows, columns), "os": (rows, 5, columns), "is": (columns, rows, 5)}[dataflow]
    m, k, n = (extent(random, lanes) for lanes in streams)
    bits = operand_bits(build, dataflow)
    rows_per_block = (1, 2, 7, 64) if dataflow != "os" else (rows, 2 * rows, 64 // rows * rows)
    case = Case(
        dataflow,
        operands(random, (m, k), bits[0]),
        operands(random, (n, k), bits[1]),
        biases(random, n),
        acc_bits=int(random.integers(8, build.wire_bits + 1)),
        saturate=bool(random.integers(2)),
        acc_rows=int(random.choice(rows_per_block)),
        double_buffer=bool(random.integers(2)),
        drain_overlap=bool(random.integers(2)),
        flush=random.random() < 0.2,
        full_load=bool(random.integers(2)),
        gather_words=int(random.integers(1, rows + columns)) if gather else 0,
        acc_banks=int(random.integers(1, 4)),
        seed=int(random.integers(1, 2**31)),
    )
    count = len(tiles(case, build))
    return replace(case, weights_at=readiness(random, count), operands_at=readiness(random, count))


def requantiser(random: np.random.Generator, build: Build, channels: int, fixed_point: bool) -> Requantiser:
    """Draw scales that bring sums of the drawn operands to about the range of the outputs, ties included."""
    scales = np.float32(2.0) ** random.integers(-16, -4, channels).astype(np.float32)
    if random.random() < 0.7:
        scales = (scales * random.uniform(0.5, 2.0, channels)).astype(np.float32)
    signed = bool(random.integers(2))
    zero_point = int(random.integers(-128, 128)) + (0 if signed else 128)
    bounds = (-128, 127) if signed else (0, 255)
    lanes = int(random.integers(1, build.columns + 1))
    if not fixed_point:
        return Requantiser(scales.view(np.uint32), np.zeros(channels, np.int32), zero_point, *bounds, lanes)
    multiplier = random.integers(2**30, 2**31, channels).astype(np.uint32)
    shift = random.integers(-15, 3, channels).astype(np.int32)
    return Requantiser(multiplier, shift, zero_point, *bounds, lanes, fixed_point=True)
