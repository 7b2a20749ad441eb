"""One GEMM on the machine: what is asked of the RTL, and what it answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.rtl import tools

Integers = NDArray[np.int64]
CLASSES = ("stream", "push", "shift", "flush", "wait_w", "hazard", "wait_x")
EVENTS = ("macs", "streamed_reads", "stationary_reads", "bias_reads", "accumulator_reads", "accumulator_writes")
NEVER = -(2**63)


@dataclass(frozen=True)
class Requantiser:
    """How sums become outputs: multiplier (float32 bits, or q31 with shifts) per channel n, zero point and clamp."""

    multiplier: NDArray[np.uint32]
    shift: NDArray[np.int32]
    zero_point: int
    lowest: int
    highest: int
    lanes: int
    fixed_point: bool = False


@dataclass(frozen=True)
class Transfers:
    """LOAD and STORE around the array (section 5.1), in cycles of their channels per output block.

    Args:
        stationary: loads of the stationary operand (OS: of the weights), -1 where it is there already.
        streamed: loads of the other operand, which follow those of the same block.
        stores: stores of the outputs.
        operand_buffers: NB.
        output_buffers: NO.
        latency: cycles from the end of a transfer to its completion.
    """

    stationary: Sequence[int]
    streamed: Sequence[int]
    stores: Sequence[int]
    operand_buffers: int
    output_buffers: int
    latency: int = 0


@dataclass(frozen=True)
class FeatureMap:
    """Activations as they lie in memory, with what the address generator needs to know (section 4.5).

    Args:
        values: int64[images, channels, height, width].
        pad_value: what a lane outside of the map reads.
        first_channel: the channel of depth 0.
    """

    values: Integers
    pad_value: int
    first_channel: int
    out_size: tuple[int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int]

    def words(self) -> list[int]:
        """Return the numbers of `geometry`, from its highest field to its lowest."""
        _, channels, height, width = self.values.shape
        pixels, taps = self.out_size[0] * self.out_size[1], self.kernel[0] * self.kernel[1]
        sizes = [channels, self.first_channel, height, width, pixels, self.out_size[1], taps, self.kernel[1]]
        return [*sizes, *self.strides, *self.dilations, *self.pads]


@dataclass(frozen=True)
class Case:
    """A GEMM y[m, n] = bias[n] + sum_k w[n, k] * x[m, k] with the machine's options.

    Args:
        x: int64[M, K].
        w: int64[N, K].
        bias: int64[N], values of 32 bits.
        weights_at: cycle from which the weights of each tile are available (WS/IS).
        operands_at: cycle from which the streamed operand of each tile is available.
        feature_map: what the RTL reads instead of x, which is then only what it amounts to.
    """

    dataflow: str
    x: Integers
    w: Integers
    bias: Integers
    acc_bits: int = 32
    saturate: bool = False
    acc_rows: int = 64
    double_buffer: bool = True
    drain_overlap: bool = True
    flush: bool = False
    full_load: bool = False
    gather_words: int = 0
    weights_at: Sequence[int] = ()
    operands_at: Sequence[int] = ()
    acc_banks: int = 2
    requantiser: Requantiser | None = None
    transfers: Transfers | None = None
    feature_map: FeatureMap | None = None
    trace: bool = False
    seed: int = 1

    @property
    def streamed(self) -> Integers:
        """Return the matrix that streams through the rows, [T, K]; for OS the one whose rows are the array's rows."""
        return self.w if self.dataflow == "is" else self.x

    @property
    def stationary(self) -> Integers:
        """Return the other matrix, [K, columns]."""
        return (self.x if self.dataflow == "is" else self.w).T

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return M, K, N."""
        return self.x.shape[0], self.x.shape[1], self.w.shape[0]


@dataclass(frozen=True)
class Tile:
    """One tile in issue order: rows, depth and columns inside of it, its output block and place in the depth."""

    rows: int
    depth: int
    columns: int
    block: int
    first: bool
    last: bool


def tiles(case: Case, build: tools.Build) -> list[Tile]:
    """Return the tiles of a case in the loop order of section 4.4."""
    (total_rows, depth), columns = case.streamed.shape, case.stationary.shape[1]
    found: list[Tile] = []
    block = 0
    for n in range(0, columns, build.columns):
        width = min(build.columns, columns - n)
        for t in range(0, total_rows, case.acc_rows):
            height = min(case.acc_rows, total_rows - t)
            if case.dataflow == "os":
                for m in range(0, height, build.rows):
                    last = m + build.rows >= height
                    found.append(Tile(min(build.rows, height - m), depth, width, block, m == 0, last))
            else:
                for k in range(0, depth, build.rows):
                    fold = min(build.rows, depth - k)
                    found.append(Tile(height, fold, width, block, k == 0, k + fold == depth))
            block += 1
    return found


@dataclass(frozen=True)
class Answer:
    """What the RTL did: cycles, counters, the cycle of every event by tile or block, and all values it wrote."""

    total: int
    classes: dict[str, int]
    events: dict[str, int]
    faults: dict[str, int]
    stream_starts: list[int]
    push_starts: list[int]
    block_ready: list[int]
    requantised: list[int]
    loaded: list[int]
    stored: list[int]
    sums: Integers
    outputs: Integers
    trace: Integers = field(default_factory=lambda: np.zeros((0, 4), np.int64))


def encode(case: Case, build: tools.Build) -> bytes:
    """Return the int32 words of a case for bench.cpp."""
    all_tiles = tiles(case, build)
    blocks, by_row = all_tiles[-1].block + 1, case.dataflow == "is"
    requant, transfers, image = case.requantiser, case.transfers, case.feature_map
    rows, depth = case.streamed.shape
    columns = case.stationary.shape[1]
    header = [
        case.dataflow == "os", by_row, case.double_buffer, case.drain_overlap, case.flush, case.full_load,
        case.saturate, case.acc_bits, case.acc_rows, rows, depth, columns, case.acc_banks, requant is not None,
        requant is not None and requant.fixed_point, requant.lanes if requant else 1,
        *((requant.zero_point, requant.lowest, requant.highest) if requant else (0, 0, 0)),
        by_row, case.gather_words, len(all_tiles), blocks,
        *((transfers.operand_buffers, transfers.output_buffers, transfers.latency) if transfers else (0, 0, 0)),
        case.trace, case.seed, limit(case, all_tiles), image.values.size if image else 0,
        image.pad_value if image else 0, *(image.words() if image else [1] * 14), 0,
    ]  # fmt: skip
    activations = [image.values.ravel() if image else (case.x if case.dataflow != "is" else case.x.T).ravel()]
    weights = [(case.w if by_row else case.w.T).ravel()]
    parts = [header, *(weights + activations if by_row else activations + weights), case.bias]
    if requant:
        parts += [requant.multiplier.view(np.int32), requant.shift]
    parts += [list(case.weights_at) or [0] * len(all_tiles), list(case.operands_at) or [0] * len(all_tiles)]
    if transfers:
        parts += [transfers.stationary, transfers.streamed, transfers.stores]
    return b"".join(np.asarray(part, np.int64).astype("<i4").tobytes() for part in parts)


def limit(case: Case, all_tiles: Sequence[Tile]) -> int:
    """Return a number of cycles that no correct machine exceeds, so that a broken one stops."""
    slots = 1 if not case.gather_words else 64
    work = sum(slots * 2 * (tile.rows + tile.depth) + 200 for tile in all_tiles)
    work += 2 * max([0, *case.weights_at]) + 2 * max([0, *case.operands_at])
    if case.requantiser:
        work += 8 * sum(tile.rows * tile.columns + 20 for tile in all_tiles)
    if case.transfers:
        moves = (*case.transfers.stationary, *case.transfers.streamed, *case.transfers.stores)
        work += sum(abs(cycles) + case.transfers.latency for cycles in moves)
    return work


def decode(words: Integers, case: Case, build: tools.Build) -> tuple[Answer, int]:
    """Return the answer at the start of the words, and how many words it took."""
    all_tiles = tiles(case, build)
    count, blocks = len(all_tiles), all_tiles[-1].block + 1
    rows, columns = case.streamed.shape[0], case.stationary.shape[1]
    at = 18

    def take(length: int) -> Integers:
        nonlocal at
        at += length
        return words[at - length : at]

    per_tile = [take(count).tolist() for _ in range(2)]
    per_block = [take(blocks).tolist() for _ in range(4)]
    values = [take(rows * columns).reshape(rows, columns) for _ in range(2)]
    if case.dataflow == "is":
        values = [value.T for value in values]
    answer = Answer(
        int(words[0]),
        dict(zip(CLASSES, words[1:8].tolist(), strict=True)),
        dict(zip(EVENTS, words[8:14].tolist(), strict=True)),
        dict(zip(("conflict", "repeated", "timeout"), words[14:17].tolist(), strict=True)),
        *per_tile,
        *per_block,
        *values,
        take(int(words[17]) * 4).reshape(-1, 4),
    )
    return answer, at


def simulate(program: Path, build: tools.Build, cases: Iterable[Case]) -> list[Answer]:
    """Run cases through one built machine, all in one process."""
    cases = list(cases)
    words = np.frombuffer(tools.run(program, b"".join(encode(case, build) for case in cases)), "<i8")
    answers = []
    for case in cases:
        answer, used = decode(words, case, build)
        answers.append(answer)
        words = words[used:]
    assert words.size == 0
    return answers
