"""The recurrence of the kernels against the contract in plain Python: every cycle, every class, every count."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from accelsim import operators as ops
from accelsim.kernels.cycles import recurrence
from accelsim.machine.arch import Arch
from accelsim.operators.tensors import TensorType
from accelsim.program.plan import StreamPlan
from accelsim.program.work import describe_work
from accelsim.timing.recurrence import DATAFLOWS, time_layer
from tests.oracles import contract
from tests.tiers import deep, few
from tests.timing.harness import run_alone


def checked(cases: int) -> settings:
    """Draw the same cases on every machine, as many as asked."""
    return settings(max_examples=cases, deadline=None, derandomize=True)


# ------------------------------------------------------------------------------------------------- device under test


def array_spec(machine: contract.Machine) -> recurrence.ArraySpec:
    """Translate the oracle's machine."""
    fields = asdict(machine) | {"dataflow": DATAFLOWS[machine.dataflow]}
    return recurrence.ArraySpec(**{name: int(value) for name, value in fields.items()})


def loop_spec(layer: contract.Layer) -> recurrence.LoopSpec:
    """Translate the oracle's layer."""
    image = layer.image or contract.Image(1, 1, 1, 1)
    (kernel_h, kernel_w), (stride_h, stride_w) = image.kernel, image.strides
    (dilation_h, dilation_w), (pad_top, pad_left) = image.dilations, image.pads
    return recurrence.LoopSpec(
        m=layer.m,
        k=layer.k,
        n=layer.n,
        groups=layer.groups,
        pack=layer.pack,
        block_m=layer.block_m,
        block_n=layer.block_n,
        chunk_k=layer.chunk_k,
        resident=int(layer.resident),
        image=int(layer.image is not None),
        height=image.height,
        width=image.width,
        out_height=image.out_height,
        out_width=image.out_width,
        kernel_h=kernel_h,
        kernel_w=kernel_w,
        stride_h=stride_h,
        stride_w=stride_w,
        dilation_h=dilation_h,
        dilation_w=dilation_w,
        pad_top=pad_top,
        pad_left=pad_left,
        dynamic_second=int(layer.dynamic_second),
        output_bytes=layer.output_bytes,
        parameter_bytes=layer.parameter_bytes,
        insert_h=image.insertion[0],
        insert_w=image.insertion[1],
        row_sums=layer.row_sums,
        outer_n=int(layer.outer == "n"),
    )


def named(names: tuple[str, ...], values: np.ndarray) -> dict[str, int]:
    """Pair names with the values that are not zero."""
    return {name: int(value) for name, value in zip(names, values, strict=True) if value}


def run_kernel(machine: contract.Machine, layer: contract.Layer) -> contract.Outcome:
    """Run the compiled recurrence."""
    classes, events = np.zeros(len(recurrence.CLASSES), np.int64), np.zeros(len(recurrence.EVENTS), np.int64)
    cycles = run_alone(array_spec(machine), loop_spec(layer), classes, events)
    return contract.Outcome(
        int(cycles), Counter(named(recurrence.CLASSES, classes)), Counter(named(recurrence.EVENTS, events))
    )


def issue_output(spec: recurrence.ArraySpec, state: np.ndarray, tile: contract.Tile, classes: np.ndarray) -> int:
    """Issue one OS tile, or a part of one, on the kernel; returns its start."""
    return int(
        recurrence.output_step(spec, state, tile.steps, tile.loaded, tile.banked, tile.opens, tile.depth, classes)
    )


def span_of(layer: contract.Layer) -> contract.Span:
    """Return the kernel's choice of what to load of a plane, which is tested by itself."""
    loop = loop_spec(layer)
    return lambda first, last: tuple(int(edge) for edge in recurrence.image_span(loop, first, last))


def assert_same(machine: contract.Machine, layer: contract.Layer) -> None:
    """Compare cycles, classes and counts of kernel and oracle, and the sum of the classes."""
    expected = contract.simulate(machine, layer, span_of(layer))
    found = run_kernel(machine, layer)
    assert found.cycles == expected.cycles
    assert found.classes == +expected.classes
    assert found.events == +expected.events
    assert sum(found.classes.values()) == found.cycles


# ----------------------------------------------------------------------------------------------------------- drawing


@st.composite
def machines(draw: st.DrawFn, dataflow: str) -> contract.Machine:
    """Draw a small machine with any mix of options."""
    flag, few = st.booleans(), st.integers(1, 3)
    return contract.Machine(
        rows=draw(st.integers(1, 8)),
        cols=draw(st.integers(1, 8)),
        dataflow=dataflow,
        double_buffer=draw(flag),
        drain_overlap=draw(st.sampled_from((True, True, False))),
        flush=draw(st.sampled_from((False, False, True))),
        full_load=draw(flag),
        gather_words=draw(st.sampled_from((0, 0, 1, 2, 3))),
        acc_banks=draw(few),
        operand_buffers=draw(few),
        output_buffers=draw(few),
        requant_lanes=draw(st.sampled_from((1, 2, 3, 8, 16))),
        requant_latency=draw(st.integers(0, 9)),
        bytes_per_cycle=draw(st.sampled_from((1, 3, 16, 64))),
        dram_latency=draw(st.sampled_from((0, 1, 7, 60))),
        burst=draw(st.sampled_from((1, 4, 12, 32, 64))),
    )


@st.composite
def depths(draw: st.DrawFn, machine: contract.Machine, k: int) -> int:
    """Draw the depth of a chunk: everything, or some whole folds."""
    folds = contract.ceiling(k, machine.rows)
    return min(k, machine.rows * draw(st.integers(1, folds))) if draw(st.booleans()) else k


@st.composite
def blockings(draw: st.DrawFn, machine: contract.Machine, m: int, k: int, n: int) -> dict[str, int]:
    """Draw an output block as wide as the columns, and the depth of its chunks (contract, sections 4.4 and 5.7)."""
    chunk = draw(depths(machine, k))
    if machine.dataflow == "is":
        return {"block_m": min(machine.cols, m), "block_n": draw(st.integers(1, n)), "chunk_k": chunk}
    high = min(m, machine.rows) if machine.dataflow == "os" and chunk < k else m
    return {"block_m": draw(st.integers(1, high)), "block_n": min(machine.cols, n), "chunk_k": chunk}


@st.composite
def products(draw: st.DrawFn, dataflow: str) -> tuple[contract.Machine, contract.Layer]:
    """Draw a machine and a product, of an activation with weights or of two activations."""
    machine = draw(machines(dataflow))
    m, k, n = draw(st.integers(1, 24)), draw(st.integers(1, 20)), draw(st.integers(1, 14))
    dynamic = draw(st.booleans())
    layer = contract.Layer(
        m,
        k,
        n,
        **draw(blockings(machine, m, k, n)),
        groups=draw(st.integers(1, 3)) if dynamic else 1,
        resident=draw(st.booleans()),
        dynamic_second=dynamic,
        output_bytes=draw(st.sampled_from((1, 4))),
        parameter_bytes=draw(st.sampled_from((4, 8))),
        row_sums=0 if dynamic else draw(st.sampled_from((0, 1))),
        outer=draw(st.sampled_from("mn")),
    )
    return machine, layer


@st.composite
def windows(draw: st.DrawFn) -> contract.Image:
    """Draw a feature map and a window that fits into it with its pads."""
    pair = st.tuples
    kernel, strides = draw(pair(st.integers(1, 3), st.integers(1, 3))), draw(pair(st.integers(1, 3), st.integers(1, 2)))
    dilations, before = (
        draw(pair(st.integers(1, 2), st.integers(1, 2))),
        draw(pair(st.integers(0, 2), st.integers(0, 2))),
    )
    after = draw(pair(st.integers(0, 2), st.integers(0, 2)))
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    least = [max(1, r - b - a) for r, b, a in zip(reach, before, after, strict=True)]
    sizes = [draw(st.integers(low, low + 6)) for low in least]
    insertion = draw(st.sampled_from(((1, 1), (1, 1), (2, 2), (1, 3), (2, 1))))
    out = [
        ((size - 1) * step + 1 + b + a - r) // s + 1
        for size, step, b, a, r, s in zip(sizes, insertion, before, after, reach, strides, strict=True)
    ]  # fmt: skip
    return contract.Image(sizes[0], sizes[1], out[0], out[1], kernel, strides, dilations, before, insertion)


@st.composite
def convolutions(draw: st.DrawFn, dataflow: str) -> tuple[contract.Machine, contract.Layer]:
    """Draw a machine and a convolution: dense, grouped, or depthwise with packed groups."""
    machine, image = draw(machines(dataflow)), draw(windows())
    groups = draw(st.sampled_from((1, 1, 2, 3, 5)))
    k = image.taps * draw(st.integers(1, 3 if groups == 1 else 2))
    n = draw(st.integers(1, 9 if groups == 1 else 3))
    m = image.pixels * draw(st.integers(1, 2))
    most = 1 if dataflow == "is" else max(1, min(machine.rows // k, machine.cols // n, groups))
    pack = draw(st.integers(1, most))
    blocking = draw(blockings(machine, m, k, n))
    if pack > 1:
        blocking |= {"chunk_k": k, "block_n": n, "block_m": draw(st.integers(1, m))}
    sums = draw(st.sampled_from((0, 0, 1)))
    layer = contract.Layer(
        m,
        k,
        n,
        **blocking,
        groups=groups,
        pack=pack,
        resident=draw(st.booleans()),
        image=image,
        row_sums=sums,
        outer=draw(st.sampled_from("mn")),
    )
    return machine, layer


# ---------------------------------------------------------------------------------------------- the sequence of tiles


READY = st.one_of(st.just(0), st.integers(0, 400))


@st.composite
def stationary_tiles(draw: st.DrawFn) -> tuple[contract.Machine, list[tuple[int, int, contract.Tile]]]:
    """Draw WS or IS tiles as (depth, held columns, tile) with readiness times in any order."""
    machine = draw(machines(draw(st.sampled_from(("ws", "is")))))
    tiles = []
    for _ in range(draw(st.integers(1, 10))):
        depth, held, steps = draw(st.integers(1, machine.rows)), draw(st.integers(1, 8)), draw(st.integers(1, 20))
        push = machine.push_steps(depth) * (machine.gather(held) if machine.dataflow == "is" else 1)
        tile = contract.Tile(steps, push, draw(READY), draw(READY), draw(READY), draw(st.booleans()))
        tiles.append((depth, held, tile))
    return machine, tiles


@deep
@checked(1200)
@given(stationary_tiles())
def test_stationary_tiles_follow_the_contract(case: tuple[contract.Machine, list]) -> None:
    """Any sequence of WS or IS tiles with any readiness starts and is classified as sections 4.1 and 4.3 say."""
    machine, tiles = case
    spec, state, classes = array_spec(machine), np.zeros(4, np.int64), np.zeros(len(recurrence.CLASSES), np.int64)
    array = contract.StationaryArray(machine)
    for depth, held, tile in tiles:
        start = recurrence.stationary_step(
            spec, state, depth, held, tile.steps, tile.ready_w, tile.loaded, tile.banked, tile.accumulates, classes
        )
        assert start == array.issue(tile).start
    expected = array.classes()
    expected["tail"] = 0
    assert named(recurrence.CLASSES, classes) == dict(+expected)


@st.composite
def output_tiles(draw: st.DrawFn) -> tuple[contract.Machine, list[contract.Tile]]:
    """Draw OS tiles, some shallower than the array, some of an uneven depth, some in chunks of at least R steps."""
    machine = draw(machines("os"))
    tiles = []
    for _ in range(draw(st.integers(1, 8))):
        parts = [draw(st.integers(1, 20))]
        if draw(st.booleans()):
            parts = [machine.rows * draw(st.integers(1, 3)) for _ in range(draw(st.integers(1, 3)))] + parts
        for number, steps in enumerate(parts):
            banked = draw(READY) if number == 0 else 0
            tiles.append(contract.Tile(steps, loaded=draw(READY), banked=banked, opens=number == 0, depth=sum(parts)))
    return machine, tiles


@deep
@checked(1200)
@given(output_tiles())
def test_output_tiles_follow_the_contract(case: tuple[contract.Machine, list[contract.Tile]]) -> None:
    """Any sequence of OS tiles with any readiness starts and is classified as sections 3, 4.2 and 4.3 say."""
    machine, tiles = case
    spec, state, classes = array_spec(machine), np.zeros(4, np.int64), np.zeros(len(recurrence.CLASSES), np.int64)
    array = contract.OutputArray(machine)
    for tile in tiles:
        assert issue_output(spec, state, tile, classes) == array.issue(tile).start
    expected = array.classes()
    expected["tail"] = 0
    expected["shift"] -= machine.rows
    assert named(recurrence.CLASSES, classes) == dict(+expected)


# ------------------------------------------------------------------------------------------------------ whole layers


@pytest.mark.parametrize("dataflow", few(["ws", "os", "is"], ["os"]))
def test_products_follow_the_contract(dataflow: str) -> None:
    """Products of any shape, blocking and machine: cycles, classes, counts and bytes equal the oracle's."""

    @checked(500)
    @given(products(dataflow))
    def compare(case: tuple[contract.Machine, contract.Layer]) -> None:
        assert_same(*case)

    compare()


@pytest.mark.parametrize("dataflow", few(["ws", "os", "is"], 1))
def test_convolutions_follow_the_contract(dataflow: str) -> None:
    """Convolutions, grouped and packed ones too: cycles, classes, counts and bytes equal the oracle's."""

    @checked(500)
    @given(convolutions(dataflow))
    def compare(case: tuple[contract.Machine, contract.Layer]) -> None:
        assert_same(*case)

    compare()


# ----------------------------------------------------------------------------------------------------- single clauses

QUICK = {"bytes_per_cycle": 64, "dram_latency": 0, "requant_latency": 0}


def test_the_last_drain_is_not_interrupted() -> None:
    """OS: without a next tile the block is complete at S + K + 2R + C (4.2); the requantiser starts there (5.7)."""
    machine = contract.Machine(2, 2, "os", requant_lanes=2, **QUICK)
    layer = contract.Layer(2, 3, 2, block_m=2, block_n=2, chunk_k=3)
    loaded, array, requantised, stored = 2, 3 + 2 * 2 + 2, 2, 1
    assert run_kernel(machine, layer).cycles == loaded + array + requantised + stored


def test_an_interrupted_drain_takes_one_cycle_more() -> None:
    """OS: the first step of the next tile takes a slot of the drain (3), so the requantiser starts one later (5.7)."""
    machine = contract.Machine(2, 2, "os", requant_lanes=1, acc_banks=8, operand_buffers=8, output_buffers=8, **QUICK)
    layer = contract.Layer(4, 9, 2, block_m=2, block_n=2, chunk_k=9)
    loaded, first_commit, requantised, stored = 2, 9 + 2 * 2 + 2 + 1, 2 * 2, 1
    second_commit = loaded + 2 * 9 + 2 * 2 + 2
    assert second_commit > loaded + first_commit + requantised
    assert run_kernel(machine, layer).cycles == second_commit + requantised + stored
    slow = contract.Machine(2, 2, "os", requant_lanes=1, **QUICK | {"requant_latency": 50})
    assert run_kernel(slow, layer).cycles == loaded + first_commit + 2 * (requantised + 50) + stored


def test_a_shallow_tile_waits_for_the_drain_of_a_deep_one() -> None:
    """OS: the gap depends on the K of the tile that waits: its last step overwrites the drain registers (3, 4.2)."""
    spec = array_spec(contract.Machine(4, 4, "os"))
    state, classes = np.zeros(4, np.int64), np.zeros(len(recurrence.CLASSES), np.int64)
    assert issue_output(spec, state, contract.Tile(8, depth=8), classes) == 0
    assert issue_output(spec, state, contract.Tile(1, depth=1), classes) == 8 + 4
    assert issue_output(spec, state, contract.Tile(8, depth=8), classes) == 8 + 4 + 1


def test_a_drain_that_outlasts_a_chunk_is_a_shift() -> None:
    """OS: a slot that shifts while the tile waits for its next chunk is a shift, not a wait (4.3)."""
    spec = array_spec(contract.Machine(2, 2, "os"))
    state, classes = np.zeros(4, np.int64), np.zeros(len(recurrence.CLASSES), np.int64)
    issue_output(spec, state, contract.Tile(3, depth=3), classes)
    issue_output(spec, state, contract.Tile(2, depth=4), classes)
    issue_output(spec, state, contract.Tile(2, loaded=100, opens=False, depth=4), classes)
    assert named(recurrence.CLASSES, classes) == {"stream": 7, "shift": 1, "wait_x_load": 94}


def test_the_requantiser_reads_rows_of_the_accumulator_bank() -> None:
    """IS exchanges the roles: the bank holds N rows of M columns, and a row takes ceil(columns / Q) cycles (5.2)."""
    machine = contract.Machine(4, 4, "is", requant_lanes=4, **QUICK)
    layer = contract.Layer(4, 4, 9, block_m=4, block_n=9, chunk_k=4)
    found = run_kernel(machine, layer)
    assert found.classes["requant"] == 9


def test_adjacent_planes_are_stored_as_one_segment() -> None:
    """Whole output planes of neighbouring channels are contiguous: one run of bursts, not one per channel (5.5)."""
    image = contract.Image(3, 3, 1, 1, kernel=(3, 3))
    layer = contract.Layer(1, 9, 16, block_m=1, block_n=16, chunk_k=9, image=image)
    assert run_kernel(contract.Machine(16, 16), layer).events["dram_write_bytes"] == 64


def test_whole_rows_of_a_second_activation_are_loaded_as_one_segment() -> None:
    """All columns of an activation that is the second operand are contiguous, like those of the first (5.5)."""
    layer = contract.Layer(1, 10, 10, block_m=1, block_n=10, chunk_k=10, dynamic_second=True)
    assert run_kernel(contract.Machine(16, 16, burst=64), layer).events["dram_read_bytes"] == 64 + 128


def test_global_average_pooling_requantises_its_sums() -> None:
    """ceil(elements / V) + ceil(channels / V) + lv (5.3)."""
    source, target = TensorType.of("uint8", (1, 32, 4, 4)), TensorType.of("uint8", (1, 32, 1, 1))
    code = ops.CodeFormat(np.dtype("uint8"), 0)
    work = describe_work(ops.GlobalAveragePool(code, np.float32(1), code), (source,), (target,))
    timing = time_layer(work, StreamPlan(1), Arch(vector_lanes=16, vector_latency=4))
    assert timing.cycle_class("vector") == 32 * 16 // 16 + 32 // 16 + 4


# ----------------------------------------------------------------------------------------------- layers without array


@st.composite
def streams(draw: st.DrawFn) -> tuple[contract.Machine, contract.Stream]:
    """Draw a vector or DMA layer; a part may be missing."""
    amount = st.one_of(st.just(0), st.integers(1, 300))
    stream = contract.Stream(
        blocks=draw(st.integers(1, 12)),
        read_bytes=draw(amount),
        write_bytes=draw(amount),
        lane_operations=draw(amount),
        lanes=draw(st.sampled_from((1, 3, 16))),
        latency=draw(st.integers(0, 6)),
    )
    return draw(machines("ws")), stream


@deep
@checked(1000)
@given(streams())
def test_streams_follow_the_contract(case: tuple[contract.Machine, contract.Stream]) -> None:
    """LOAD, VECTOR and STORE with tokens: cycles and classes equal the oracle's (5.1, 5.3, 5.7)."""
    machine, stream = case
    shared = ("operand_buffers", "output_buffers", "bytes_per_cycle", "dram_latency")
    spec = recurrence.StreamSpec(**asdict(stream), **{name: getattr(machine, name) for name in shared})
    classes, events = np.zeros(len(recurrence.CLASSES), np.int64), np.zeros(len(recurrence.EVENTS), np.int64)
    places, left = np.zeros((0, 2), np.int64), np.zeros(2, np.int64)
    cycles = recurrence.stream_timeline(spec, recurrence.BoundarySpec(), places, places, classes, events, left)
    expected = contract.simulate_stream(machine, stream)
    assert cycles == expected.cycles
    assert named(recurrence.CLASSES, classes) == dict(+expected.classes)
    assert classes.sum() == cycles


# ------------------------------------------------------------------------------------------------ addresses and spans


@deep
@checked(2000)
@given(st.integers(0, 500), st.integers(0, 90), st.integers(0, 300), st.integers(0, 200), st.integers(1, 100))
def test_bursts_equal_an_enumeration_of_segments(
    address: int, count: int, stride: int, length: int, burst: int
) -> None:
    """The periodic sum equals the sum over all segments, each rounded to whole bursts (5.5)."""
    segments = [(address + index * stride, length) for index in range(count)] if length else []
    touched = [{byte // burst for byte in range(start, start + size)} for start, size in segments]
    expected = sum(len(bursts) * burst for bursts in touched)
    assert recurrence.burst_bytes(address, count, stride, length, burst) == expected
    assert contract.moved_bytes(segments, burst) == expected


def fits_without_padding(image: contract.Image) -> bool:
    """Tell whether no window reads padding, or zeros inserted between pixels."""
    sizes, out = (image.height, image.width), (image.out_height, image.out_width)
    lasts = [
        (o - 1) * s + d * (k - 1)
        for o, s, d, k in zip(out, image.strides, image.dilations, image.kernel, strict=True)
    ]  # fmt: skip
    return (
        image.pads == (0, 0)
        and image.insertion == (1, 1)
        and all(last < size for last, size in zip(lasts, sizes, strict=True))
    )


@deep
@checked(1000)
@given(windows(), st.data())
def test_spans_cover_what_the_pixels_read(image: contract.Image, data: st.DataObject) -> None:
    """The span holds every element under the windows, found by trying every tap; without padding nothing else."""
    first = data.draw(st.integers(0, image.pixels - 1))
    last = data.draw(st.integers(first + 1, image.pixels))
    start, stop = span_of(contract.Layer(1, image.taps, 1, 1, 1, image.taps, image=image))(first, last)
    assert 0 <= start < stop <= image.plane
    touched = image.touched(first, last)
    assert touched <= set(range(start, stop))
    if fits_without_padding(image):
        assert (start, stop) == contract.hull(touched)


@deep
@checked(1000)
@given(st.tuples(st.integers(1, 9), st.integers(1, 9)), st.tuples(st.integers(1, 3), st.integers(1, 3)), st.data())
def test_spans_of_pointwise_windows_are_exact(
    out: tuple[int, int], strides: tuple[int, int], data: st.DataObject
) -> None:
    """A 1x1 window loads from its first to its last element and nothing else."""
    spare = data.draw(st.tuples(st.integers(0, strides[0] - 1), st.integers(0, strides[1] - 1)))
    height, width = ((o - 1) * s + 1 + more for o, s, more in zip(out, strides, spare, strict=True))
    image = contract.Image(height, width, *out, strides=strides)
    first = data.draw(st.integers(0, image.pixels - 1))
    last = data.draw(st.integers(first + 1, image.pixels))
    found = span_of(contract.Layer(1, 1, 1, 1, 1, 1, image=image))(first, last)
    assert found == contract.hull(image.touched(first, last))
