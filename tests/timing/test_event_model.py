"""The SimPy model against the recurrence: cycles, classes and counts of random layers and of whole networks."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import accelsim
from accelsim.addresses import Addresses
from accelsim.boundary import Boundary, Prefetch, Surroundings
from accelsim.event.recorder import Interval
from accelsim.event.run import LayerTrace, time_program_by_events, trace_layer
from accelsim.event.traffic import needed_span
from accelsim.geometry import ConvolutionGeometry
from accelsim.graph.shapes import pooled_size
from accelsim.kernels.timeline import image_span
from accelsim.plan import ContractionPlan, Plan, StreamPlan
from accelsim.timing import LayerTiming, loop_spec, time_layer, time_program
from accelsim.work import ContractionWork, ImageLayout, PackedBits, StreamWork, Work
from tests.planning import planned

DATAFLOWS = ("ws", "os", "is")

CHANNELS = ("shared", "private")

Case = tuple[accelsim.Arch, ContractionWork, ContractionPlan]
Surrounded = tuple[accelsim.Arch, Work, Plan, Surroundings, Boundary]


def checked(examples: int) -> Any:
    """Return the settings of a property: the same examples in every run."""
    return settings(
        max_examples=examples, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
    )


@st.composite
def machines(draw: st.DrawFn, dataflow: str) -> accelsim.Arch:
    """Draw a small machine with any mix of options."""
    flag, few = st.booleans(), st.integers(1, 3)
    burst = draw(st.sampled_from((1, 4, 12, 64)))
    channel = draw(st.sampled_from(("shared", "private")))
    row_bytes = burst * draw(st.sampled_from((0, 0, 1, 2, 7)))
    return accelsim.Arch(
        array=(draw(st.integers(1, 8)), draw(st.integers(1, 8))),
        dataflow=dataflow,
        weight_double_buffer=draw(flag),
        drain_overlap=draw(flag),
        flush_between_tiles=draw(st.sampled_from((False, False, True))),
        weight_load=draw(st.sampled_from(("used", "full"))),
        x_gather_words_per_cycle=draw(st.sampled_from((None, None, 1, 3))),
        acc_banks=draw(few),
        operand_buffers=draw(few),
        output_buffers=draw(few),
        requant_lanes=draw(st.sampled_from((1, 2, 8, 16))),
        requant_latency=draw(st.integers(0, 9)),
        vector_lanes=draw(st.sampled_from((1, 3, 16))),
        vector_latency=draw(st.integers(0, 6)),
        dram_bytes_per_cycle=draw(st.sampled_from((1, 3, 16, 64))),
        dram_latency=draw(st.sampled_from((0, 1, 7, 60))),
        dram_burst=burst,
        dram_channel=channel,
        dram_row_bytes=row_bytes,
        dram_row_miss=draw(st.integers(0, 9)) if row_bytes else 30,
        dram_banks=draw(st.integers(1, 4)) if row_bytes else 8,
    )


@st.composite
def images(draw: st.DrawFn) -> tuple[ImageLayout, int]:
    """Draw feature maps with a window, and the number of output pixels of all images."""
    pair = st.tuples
    kernel, strides = draw(pair(st.integers(1, 3), st.integers(1, 3))), draw(pair(st.integers(1, 3), st.integers(1, 2)))
    dilations = draw(pair(st.integers(1, 2), st.integers(1, 2)))
    pads = draw(st.tuples(*[st.integers(0, 2)] * 4))
    insertion = draw(st.sampled_from(((1, 1), (1, 1), (2, 2), (1, 3))))
    geometry = ConvolutionGeometry(kernel, strides, dilations, pads, insertion)
    sizes, outputs = [], []
    for axis in range(2):
        reach = dilations[axis] * (kernel[axis] - 1) + 1
        least = max(1, reach - pads[axis] - pads[axis + 2])
        size = draw(st.integers(least, least + 6))
        spread = (size - 1) * insertion[axis] + 1
        sizes.append(size)
        outputs.append(
            pooled_size(spread, kernel[axis], strides[axis], dilations[axis], pads[axis], pads[axis + 2], ceil=False)
        )
    count = draw(st.integers(1, 2))
    return ImageLayout(count, sizes[0], sizes[1], outputs[0], outputs[1], geometry), count * outputs[0] * outputs[1]


@st.composite
def contractions(draw: st.DrawFn, dataflow: str) -> Case:
    """Draw a machine, a product or convolution, and any blocking that the contract allows."""
    arch = draw(machines(dataflow))
    return arch, *draw(products(arch))


@st.composite
def products(
    draw: st.DrawFn, arch: accelsim.Arch, *, constant: bool = False
) -> tuple[ContractionWork, ContractionPlan]:
    """Draw a product or convolution, and any blocking of it; constant: its second operand is."""
    dataflow = arch.dataflow
    image, m = draw(images()) if draw(st.booleans()) else (None, draw(st.integers(1, 24)))
    dynamic = not constant and image is None and draw(st.booleans())
    groups = draw(st.integers(1, 4)) if image is not None or dynamic else 1
    taps = image.geometry.kernel[0] * image.geometry.kernel[1] if image is not None else 1
    k, n = taps * draw(st.integers(1, 3 if image is not None else 20)), draw(st.integers(1, 14 if groups == 1 else 4))
    work = ContractionWork(
        m, k, n, groups, image, dynamic, draw(st.sampled_from((1, 4))), draw(st.sampled_from((4, 8, 12))),
        draw(st.sampled_from((1, 2))), draw(st.sampled_from((8, 4))),
        row_sums=int(not dynamic and arch.cols > 1 and draw(st.sampled_from((False, False, True)))),
        packed=PackedBits(*(draw(st.sampled_from((None, None, None, 1, 2, 3, 4))) for _ in range(3))),
    )  # fmt: skip
    features = n + work.row_sums
    most = 1 if dataflow == "is" or dynamic else max(1, min(arch.rows // k, arch.cols // features, groups))
    chunk = min(k, arch.rows * draw(st.integers(1, -(-k // arch.rows)))) if draw(st.booleans()) else k
    if dataflow == "is":
        block_m, block_n = min(arch.cols, m), draw(st.integers(1, n))
    else:
        high = min(m, arch.rows) if dataflow == "os" and chunk < k else m
        block_m, block_n = draw(st.integers(1, high)), min(arch.cols - work.row_sums, n)
    outer = draw(st.sampled_from(("n", "m")))
    preload = outer == "m" and draw(st.booleans())
    kept = (draw(st.booleans()), draw(st.booleans()))
    pack = draw(st.integers(1, most)) if chunk == k else 1
    plan = ContractionPlan(block_m, block_n, chunk, pack, draw(st.booleans()), preload, dataflow, outer, *kept)
    return work, plan


@st.composite
def surrounded_contractions(draw: st.DrawFn, dataflow: str) -> Surrounded:
    """Draw a contraction and where it stands among other layers."""
    arch, work, plan = draw(contractions(dataflow))
    around = draw(places(arch, 2, 1, waits=True))
    busy = draw(st.sampled_from((0, 1, 30, 200)))
    ready = None if work.dynamic_second or draw(st.booleans()) else busy + draw(st.integers(0, 60))
    return arch, work, plan, around, Boundary(busy, ready)


@st.composite
def surrounded_streams(draw: st.DrawFn) -> Surrounded:
    """Draw a layer without the array, and where it stands among other layers."""
    arch = draw(machines("ws"))
    entry = st.tuples(st.integers(1, 3), st.one_of(st.just(0), st.integers(1, 300)))
    reads, writes = (tuple(draw(st.lists(entry, max_size=3))) for _ in range(2))
    work = StreamWork("vector", reads, writes, draw(st.one_of(st.just(0), st.integers(1, 300))), (), 100)
    blocks = draw(st.integers(1, 12))
    kept = [draw(st.one_of(st.just(()), st.tuples(*[st.booleans()] * len(entries)))) for entries in (reads, writes)]
    around = draw(places(arch, len(reads), len(writes), waits=False))
    return arch, work, StreamPlan(blocks, *kept), around, Boundary(draw(st.sampled_from((0, 1, 30, 200))))


@st.composite
def places(draw: st.DrawFn, arch: accelsim.Arch, reads: int, writes: int, *, waits: bool) -> Surroundings:
    """Draw what a layer loads for another one, and where everything lies: in any order, tensors may overlap."""
    address = st.integers(0, 60).map(lambda number: number * arch.dram_burst)
    where = None
    if arch.dram_row_bytes:
        where = Addresses(*(tuple(draw(address) for _ in range(count)) for count in (reads, writes)))
    fetch = None
    if draw(st.booleans()):
        later = arch.with_dataflow(draw(st.sampled_from(DATAFLOWS)))
        fetch = Prefetch(*draw(products(later, constant=True)), waits and draw(st.booleans()), draw(address))
    return Surroundings(fetch, where)


def assert_equal(found: LayerTiming, expected: LayerTiming) -> None:
    """Compare cycles, classes and counts."""
    assert found.cycles == expected.cycles
    assert dict(found.classes) == dict(expected.classes)
    assert dict(found.events) == dict(expected.events)
    assert found.left == expected.left
    assert sum(dict(found.classes).values()) == found.cycles


def assert_busy_once(intervals: tuple[Interval, ...]) -> None:
    """No engine does two things at once."""
    by_engine: dict[str, list[Interval]] = defaultdict(list)
    for interval in intervals:
        by_engine[interval.engine].append(interval)
    for engine, parts in by_engine.items():
        ordered = sorted(parts, key=lambda part: part.start)
        assert all(a.end <= b.start for a, b in itertools.pairwise(ordered)), engine


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_random_contractions_take_equal_cycles(dataflow: str) -> None:
    """Two executions of the contract, neither of which calls the other, agree to the cycle."""

    @checked(500)
    @given(surrounded_contractions(dataflow))
    def compare(case: Surrounded) -> None:
        assert_equal(run(case).timing, by_recurrence(case))

    compare()


def run(case: Surrounded, **options: bool) -> LayerTrace:
    """Run a layer on the event model."""
    arch, work, plan, around, found = case
    return trace_layer(work, plan, arch, around, found, **options)


def by_recurrence(case: Surrounded) -> LayerTiming:
    """Time a layer by the recurrence."""
    arch, work, plan, *place = case
    return time_layer(work, plan, arch, *place)


@checked(300)
@given(st.sampled_from(DATAFLOWS).flatmap(contractions))
def test_a_shared_channel_never_gains(case: Case) -> None:
    """With one channel for both directions the bytes are the same and nothing is gained."""
    arch, work, plan = case
    arch = arch.evolve(dram_row_bytes=0)
    private, shared = (trace_layer(work, plan, arch.evolve(dram_channel=name)) for name in ("private", "shared"))
    assert dict(shared.timing.events) == dict(private.timing.events)
    assert shared.timing.cycles >= private.timing.cycles
    beats = sum(part.end - part.start for part in shared.intervals if part.engine in ("load", "store"))
    assert private.timing.cycles + beats >= shared.timing.cycles


@checked(400)
@given(surrounded_streams())
def test_random_streams_take_equal_cycles(case: Surrounded) -> None:
    """Layers without the array as well."""
    assert_equal(run(case).timing, by_recurrence(case))


@checked(300)
@given(
    st.one_of(surrounded_streams(), st.sampled_from(DATAFLOWS).flatmap(surrounded_contractions)),
    st.integers(2, 4),
    st.sampled_from((1, 64, 1 << 10)),
)
def test_what_is_repeated_takes_equal_cycles(case: Surrounded, repeats: int, kibibytes: int) -> None:
    """Layers that are done several times, whose weights stay or are loaded again, keys column by column."""
    arch, work, plan, *place = case
    work = replace(work, repeats=repeats)
    if isinstance(work, ContractionWork):
        work = replace(work, second_by_column=work.dynamic_second)
    case = (arch.evolve(spm_weight=kibibytes << 10), work, plan, *place)
    assert_equal(run(case).timing, by_recurrence(case))


@checked(500)
@given(images(), st.data())
def test_spans_are_those_of_the_recurrence(case: tuple[ImageLayout, int], data: st.DataObject) -> None:
    """What a range of output pixels loads of a plane, worked out twice."""
    image, _ = case
    pixels = image.out_height * image.out_width
    first = data.draw(st.integers(0, pixels - 1))
    last = data.draw(st.integers(first + 1, pixels))
    work = ContractionWork(pixels, 9, 1, 1, image, False, 1, 8)
    loop = loop_spec(work, ContractionPlan(pixels, 1, 9, 1, False))
    assert needed_span(image, first, last) == tuple(int(edge) for edge in image_span(loop, first, last))


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("side", [8, 16, 32])
def test_the_digits_network_takes_equal_cycles(digits: Path, dataflow: str, side: int, channel: str) -> None:
    """Every layer of our own network, finite buffers."""
    compare_network(digits, accelsim.Arch(array=(side, side), dataflow=dataflow, dram_channel=channel))


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_boundaries_and_rows_of_the_digits_network(digits: Path, dataflow: str, channel: str) -> None:
    """The same with what layers have to do with each other."""
    arch = accelsim.Arch(dataflow=dataflow, dram_channel=channel, prefetch_weights=True, dram_row_bytes=1024)
    compare_network(digits, arch)


def compare_network(path: Path, arch: accelsim.Arch) -> None:
    """Compare every layer of a network."""
    program = planned(accelsim.load(path).bind().graph, arch)
    for found, expected in zip(time_program_by_events(program, arch), time_program(program, arch), strict=True):
        assert_equal(found, expected)


NETWORKS = (
    "resnet8_cifar10_qdq_u8s8", "dscnn_kws_int8", "mobilenetv1_025_vww_int8", "mobilenetv1_025_128_uint8",
    "micro_speech_int8", "steel_cnn_qdq_u8s8", "yamnet256_int8", "resnet8_cifar10_w4a8_qdq", "textgen_transformer_int8",
)  # fmt: skip


LARGE = (
    "mobilenetv2_100_224_int8", "mobilenetv2_100_224_int8_nchw", "posenet_mobilenetv1_075_353x481_int8",
    "deeplabv3_mnv2_dm05_uint8", "resnet8_cifar10_int8", "resnet8_cifar10_qoperator_u8s8",
)  # fmt: skip


@pytest.mark.parametrize("dataflow", [*DATAFLOWS, "best"])
@pytest.mark.parametrize("name", NETWORKS)
def test_real_networks_take_equal_cycles(shared_models: Path, name: str, dataflow: str) -> None:
    """Every layer of the real networks at 16x16."""
    compare_network(shared_models / f"{name}.onnx", accelsim.Arch(dataflow=dataflow))


@pytest.mark.parametrize("side", [8, 16, 32])
@pytest.mark.parametrize("name", [*NETWORKS, *LARGE])
def test_real_networks_take_equal_cycles_at_every_size(shared_models: Path, name: str, side: int) -> None:
    """Every layer of every convolutional network, with finite buffers and one channel."""
    compare_network(shared_models / f"{name}.onnx", accelsim.Arch(array=(side, side)))


MEMORIES = {
    "prefetch": {"prefetch_weights": True},
    "rows": {"dram_row_bytes": 2048},
    "apart": {"keep_activations": False, "dram_channel": "private"},
    "all": {"prefetch_weights": True, "dram_row_bytes": 512, "dram_banks": 4, "dataflow": "best"},
}


@pytest.mark.parametrize("options", MEMORIES.values(), ids=MEMORIES)
@pytest.mark.parametrize("name", ["resnet8_cifar10_int8", "mobilenetv1_025_vww_int8", "textgen_transformer_int8"])
def test_real_networks_take_equal_cycles_with_every_memory(
    shared_models: Path, name: str, options: dict[str, Any]
) -> None:
    """Prefetching over the layer boundary, open rows, and everything through DRAM."""
    compare_network(shared_models / f"{name}.onnx", accelsim.Arch(**options))
