"""Random machines, layers and surroundings for the event model, and how a trace of them is run."""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import Any

from hypothesis import HealthCheck, settings, strategies as st

import accelsim
from accelsim.graph.shapes import pooled_size
from accelsim.operators.geometry import ConvolutionGeometry
from accelsim.program.addresses import Addresses
from accelsim.program.plan import ContractionPlan, Plan, StreamPlan
from accelsim.program.work import ContractionWork, ImageLayout, PackedBits, StreamWork, Work
from accelsim.timing.boundary import Boundary, Prefetch, Surroundings
from accelsim.timing.event.recorder import Interval
from accelsim.timing.event.run import LayerTrace, trace_layer

DATAFLOWS = ("ws", "os", "is")
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


def assert_busy_once(intervals: tuple[Interval, ...]) -> None:
    """No engine does two things at once."""
    by_engine: dict[str, list[Interval]] = defaultdict(list)
    for interval in intervals:
        by_engine[interval.engine].append(interval)
    for engine, parts in by_engine.items():
        ordered = sorted(parts, key=lambda part: part.start)
        assert all(a.end <= b.start for a, b in itertools.pairwise(ordered)), engine


def run(case: Surrounded, **options: bool) -> LayerTrace:
    """Run a layer on the event model."""
    arch, work, plan, around, found = case
    return trace_layer(work, plan, arch, around, found, **options)
