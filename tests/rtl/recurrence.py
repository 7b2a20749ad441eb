"""The project's recurrence, asked about one GEMM on the bare array and about one layer: the only door to the model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accelsim.kernels.cycles import recurrence
from accelsim.kernels.cycles.array import issue_chunk
from accelsim.kernels.cycles.transfers import block_store, closed_rows, first_operand_load, second_operand_load
from tests.rtl.cases import CLASSES, EVENTS, Case, Transfers, tiles
from tests.rtl.tools import Build
from tests.timing.harness import run_alone

DATAFLOWS = {"ws": recurrence.WS, "os": recurrence.OS, "is": recurrence.IS}


@dataclass(frozen=True)
class Timing:
    """Cycles of the bare array: total, classes with wait_x undivided, events of section 6, first step of each tile."""

    total: int
    classes: dict[str, int]
    events: dict[str, int]
    stream_starts: list[int]


@dataclass(frozen=True)
class Memory:
    """The DMA of a layer: bytes per cycle, latency and burst, and whether the inner operand stays on chip."""

    bytes_per_cycle: int
    latency: int
    burst: int
    resident: bool


def array_spec(case: Case, build: Build, buffers: tuple[int, int] = (2, 2), memory: Memory | None = None) -> object:
    """Return the machine of a case as the kernels read it."""
    memory = memory or Memory(1, 0, 1, True)
    return recurrence.ArraySpec(
        rows=build.rows,
        cols=build.columns,
        dataflow=DATAFLOWS[case.dataflow],
        double_buffer=int(case.double_buffer),
        drain_overlap=int(case.drain_overlap),
        flush=int(case.flush),
        full_load=int(case.full_load),
        gather_words=case.gather_words,
        acc_banks=case.acc_banks,
        operand_buffers=buffers[0],
        output_buffers=buffers[1],
        requant_lanes=case.requantiser.lanes if case.requantiser else build.columns,
        requant_latency=4,
        bytes_per_cycle=memory.bytes_per_cycle,
        dram_latency=memory.latency,
        burst=memory.burst,
    )


def loop_spec(case: Case, build: Build, resident: bool = True) -> recurrence.LoopSpec:
    """Return the GEMM of a case, all of its depth in one chunk, as the kernels read it."""
    m, k, n = case.shape
    block_m, block_n = (build.columns, case.acc_rows) if case.dataflow == "is" else (case.acc_rows, build.columns)
    return recurrence.LoopSpec(
        m=m, k=k, n=n, groups=1, pack=1, block_m=block_m, block_n=block_n, chunk_k=k, resident=int(resident), image=0,
        height=1, width=1, out_height=1, out_width=1, kernel_h=1, kernel_w=1, stride_h=1, stride_w=1, dilation_h=1,
        dilation_w=1, pad_top=0, pad_left=0, dynamic_second=0, output_bytes=1, parameter_bytes=8,
        outer_n=int(case.dataflow != "is"),
    )  # fmt: skip


def blocks(case: Case, build: Build) -> list[tuple[int, int, int, int]]:
    """Return m0, m1, n0, n1 of every output block in issue order (section 4.4)."""
    (m, _, n), spec, swap = case.shape, loop_spec(case, build), case.dataflow == "is"
    extents, sizes = ((m, n), (spec.block_m, spec.block_n)) if swap else ((n, m), (spec.block_n, spec.block_m))
    found = []
    for outer in range(0, extents[0], sizes[0]):
        for inner in range(0, extents[1], sizes[1]):
            first = (outer, min(outer + sizes[0], extents[0]))
            second = (inner, min(inner + sizes[1], extents[1]))
            found.append((*first, *second) if swap else (*second, *first))
    return found


def bare_array(case: Case, build: Build) -> Timing:
    """Return what the recurrence says about a case with readiness times of its own and nothing behind the array."""
    spec, all_tiles = array_spec(case, build), tiles(case, build)
    state, classes = np.zeros(4, np.int64), np.zeros(len(recurrence.CLASSES), np.int64)
    weights_at = list(case.weights_at) or [0] * len(all_tiles)
    operands_at = list(case.operands_at) or [0] * len(all_tiles)
    starts = []
    for tile, weights, operands in zip(all_tiles, weights_at, operands_at, strict=True):
        if case.dataflow == "os":
            steps = tile.depth * _slots(tile.rows, case)
            starts.append(int(recurrence.output_step(spec, state, steps, operands, 0, 1, steps, classes)))
        else:
            steps = tile.rows * (_slots(tile.depth, case) if case.dataflow == "ws" else 1)
            arguments = (tile.depth, tile.columns, steps, weights, operands, 0, int(not tile.first), classes)
            starts.append(int(recurrence.stationary_step(spec, state, *arguments)))
    drain = build.rows if case.dataflow == "os" else 0
    classes[recurrence.CLASSES.index("shift")] += drain
    total = int(state[0] + state[1]) + drain + build.rows + build.columns
    return Timing(total, undivided(classes), events(case, build), starts)


@dataclass(frozen=True)
class GroupTimes:
    """L, Q and St of every output block, and the first step of every tile (section 5.1)."""

    loaded: list[int]
    requantised: list[int]
    stored: list[int]
    stream_starts: list[int]


def groups(case: Case, build: Build, work: list[int]) -> GroupTimes:
    """Return the max-plus recurrence of section 5.1 for WS and IS, one load per block, E from the array's recurrence.

    Args:
        case: with transfers whose stationary loads are all -1 and whose latency is 0.
        build: the machine.
        work: rq of every block, in cycles.
    """
    transfers, spec = case.transfers, array_spec(case, build)
    assert transfers is not None
    state, classes = np.zeros(4, np.int64), np.zeros(len(recurrence.CLASSES), np.int64)
    times = GroupTimes([], [], [], [])
    ends: list[int] = []

    def before(values: list[int], distance: int) -> int:
        return values[-distance] if len(values) >= distance else 0

    for block, cycles in enumerate(work):
        load, store = transfers.streamed[block], transfers.stores[block]
        times.loaded.append(max(before(times.loaded, 1), before(ends, transfers.operand_buffers)) + load)
        bank = before(times.requantised, case.acc_banks)
        for tile in (tile for tile in tiles(case, build) if tile.block == block):
            steps = tile.rows * (_slots(tile.depth, case) if case.dataflow == "ws" else 1)
            arguments = (tile.depth, tile.columns, steps, 0, times.loaded[-1], bank, int(not tile.first), classes)
            times.stream_starts.append(int(recurrence.stationary_step(spec, state, *arguments)))
        ends.append(int(state[0] + state[1]))
        ready = max(before(times.requantised, 1), ends[-1] + build.rows + build.columns)
        times.requantised.append(max(ready, before(times.stored, transfers.output_buffers)) + cycles)
        times.stored.append(max(before(times.stored, 1), times.requantised[-1]) + store)
    return times


def _slots(lanes: int, case: Case) -> int:
    """Issue slots of a step (section 4.5)."""
    return -(-lanes // case.gather_words) if case.gather_words else 1


def undivided(classes: np.typing.NDArray[np.int64]) -> dict[str, int]:
    """Return the classes that the RTL books, wait_x as a whole."""
    named = dict(zip(recurrence.CLASSES, classes.tolist(), strict=True))
    named["wait_x"] = named["wait_x_load"] + named["wait_x_bank"]
    return {name: named[name] for name in CLASSES}


def events(case: Case, build: Build) -> dict[str, int]:
    """Return rows 1 to 6 of section 6 as the kernels count them, block by block."""
    spec, loop = array_spec(case, build), loop_spec(case, build)
    counts = np.zeros(len(recurrence.EVENTS), np.int64)
    for m0, m1, n0, n1 in blocks(case, build):
        state, classes = np.zeros(4, np.int64), np.zeros(len(recurrence.CLASSES), np.int64)
        issue_chunk(spec, loop, state, 1, m1 - m0, n1 - n0, 0, loop.k, 0, 0, 0, classes, counts)
    named = dict(zip(recurrence.EVENTS, counts.tolist(), strict=True))
    names = ["macs", "activation_reads", "weight_reads", "bias_reads", "acc_reads", "acc_writes"]
    if case.dataflow == "is":
        names[1:3] = names[2:0:-1]
    return dict(zip(EVENTS, (named[name] for name in names), strict=True))


def layer_transfers(case: Case, build: Build, buffers: tuple[int, int], memory: Memory) -> Transfers:
    """Return the channel cycles of every load and store of a layer, from the bytes that the kernels move."""
    loop = loop_spec(case, build, memory.resident)
    outer_is_n = case.dataflow != "is"
    held, streamed, stores = [], [], []
    rows = closed_rows(0, 1)

    def beats(moved: int) -> int:
        return -(-moved // memory.bytes_per_cycle)

    for m0, m1, n0, n1 in blocks(case, build):
        first = beats(first_operand_load(loop, 0, 0, 1, m0, m1, 0, loop.k, memory.burst, rows)[0])
        second = beats(second_operand_load(loop, 0, 0, 1, n0, n1, 0, loop.k, memory.burst, rows)[0])
        outer, inner, outer_cycles, inner_cycles = (n0, m0, second, first) if outer_is_n else (m0, n0, first, second)
        held.append(outer_cycles if inner == 0 else -1)
        streamed.append(inner_cycles if outer == 0 or not memory.resident else -1)
        stores.append(beats(block_store(loop, 0, 0, 1, m0, m1, n0, n1, memory.burst, rows)[0]))
    return Transfers(held, streamed, stores, *buffers, memory.latency)


def layer(case: Case, build: Build, buffers: tuple[int, int], memory: Memory) -> tuple[int, dict[str, int]]:
    """Return cycles and classes (wait_x as a whole) of a layer with LOAD, REQUANT and STORE around the array."""
    classes, counts = np.zeros(len(recurrence.CLASSES), np.int64), np.zeros(len(recurrence.EVENTS), np.int64)
    spec, loop = array_spec(case, build, buffers, memory), loop_spec(case, build, memory.resident)
    cycles = run_alone(spec, loop, classes, counts)
    named = dict(zip(recurrence.CLASSES, classes.tolist(), strict=True))
    return cycles, {**undivided(classes), **{name: named[name] for name in ("tail", "requant", "store")}}
