"""Plans: whatever is drawn, nothing overflows a scratchpad, and a refusal names what would be enough."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from hypothesis import assume, strategies as st

from accelsim import Arch, UsageError, load_arch
from accelsim.kernels.cycles import recurrence
from accelsim.mapping.search import choose_plan
from accelsim.operators.geometry import ConvolutionGeometry
from accelsim.program.plan import ContractionPlan, StreamPlan
from accelsim.program.work import ContractionWork, ImageLayout, StreamWork
from accelsim.timing.recurrence import loop_spec, time_layer
from tests.oracles import contract
from tests.tiers import drawn, few

# ------------------------------------------------------------------------------------------------------------- drawing


@st.composite
def arches(draw: st.DrawFn) -> Arch:
    """Draw a machine with scratchpads from a few bytes to some kilobytes."""
    few = st.integers(1, 3)
    return Arch(
        rows=draw(st.integers(1, 12)),
        cols=draw(st.integers(1, 12)),
        dataflow=draw(st.sampled_from(("ws", "os", "is"))),
        acc_rows=draw(st.integers(12, 80)),
        operand_buffers=draw(few),
        output_buffers=draw(few),
        spm_act=2 ** draw(st.integers(4, 13)) + draw(st.integers(0, 40)),
        spm_weight=2 ** draw(st.integers(4, 13)) + draw(st.integers(0, 40)),
    )


@st.composite
def products(draw: st.DrawFn) -> ContractionWork:
    """Draw a product with constant weights, or one of two activations in several matrices."""
    dynamic = draw(st.booleans())
    return ContractionWork(
        draw(st.integers(1, 60)),
        draw(st.integers(1, 60)),
        draw(st.integers(1, 40)),
        draw(st.integers(1, 3)) if dynamic else 1,
        None,
        dynamic,
        draw(st.sampled_from((1, 4))),
        draw(st.sampled_from((4, 8))),
    )


@st.composite
def convolutions(draw: st.DrawFn) -> ContractionWork:
    """Draw a convolution, grouped or not, of one or two images."""
    height, width = draw(st.integers(3, 9)), draw(st.integers(3, 9))
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    strides = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    pad = draw(st.integers(0, 1))
    out = [(size + 2 * pad - k) // s + 1 for size, k, s in zip((height, width), kernel, strides, strict=True)]
    images, groups = draw(st.integers(1, 2)), draw(st.sampled_from((1, 1, 2, 4)))
    geometry = ConvolutionGeometry(kernel, strides, (1, 1), (pad,) * 4)
    depth = math.prod(kernel) * draw(st.integers(1, 8 if groups == 1 else 3))
    layout = ImageLayout(images, height, width, out[0], out[1], geometry)
    return ContractionWork(images * math.prod(out), depth, draw(st.integers(1, 12)), groups, layout, False, 1, 8)


works = st.one_of(products(), convolutions())


@st.composite
def streams(draw: st.DrawFn) -> StreamWork:
    """Draw a vector layer of units that all have the same inputs and outputs."""
    units, inputs = draw(st.integers(1, 300)), draw(st.lists(st.integers(1, 40), min_size=1, max_size=3))
    reads = tuple((1, units * length) for length in inputs)
    writes = ((1, units * draw(st.integers(1, 40))),)
    return StreamWork("vector", reads, writes, draw(st.integers(0, 4)) * units, (), units)


# ----------------------------------------------------------------------------- what is in the scratchpads, and when


@dataclass(frozen=True)
class Portion:
    """Bytes that chunk `loaded` brings in and chunk `last` is the last to use; `shared` portions may overlap."""

    loaded: int
    last: int
    shared: tuple[str, int] | None
    segments: tuple[contract.Segment, ...]


def oracle_layer(work: ContractionWork, plan: ContractionPlan) -> contract.Layer:
    """Translate work and plan for the oracle."""
    image = work.image
    picture = None
    if image is not None:
        shape = image.geometry
        sizes = (image.height, image.width, image.out_height, image.out_width)
        picture = contract.Image(*sizes, shape.kernel, shape.strides, shape.dilations, shape.pads[:2])
    return contract.Layer(
        work.m,
        work.k,
        work.n,
        plan.block_m,
        plan.block_n,
        plan.chunk_k,
        work.groups,
        plan.pack,
        plan.resident,
        picture,
        work.dynamic_second,
        work.output_bytes,
        work.parameter_bytes,
        outer=plan.outer,
    )


def portions(work: ContractionWork, plan: ContractionPlan, arch: Arch) -> dict[str, list[Portion]]:
    """List what is loaded into each scratchpad, chunk by chunk in the order of the contract (4.4, 5.7)."""
    machine, layer = contract.Machine(arch.rows, arch.cols, arch.dataflow), oracle_layer(work, plan)
    loop = loop_spec(work, plan)
    visits = [
        (block, chunk) for block in contract.blocks(machine, layer) for chunk in contract.cut(work.k, plan.chunk_k)
    ]
    found: dict[str, list[Portion]] = {"activation": [], "weight": []}
    for number, (block, chunk) in enumerate(visits):
        operands = {
            "activation": contract.first_operand(
                layer, block, *chunk, lambda *ends: recurrence.image_span(loop, *ends)
            ),
            "weight": contract.second_operand(layer, block, *chunk),
        }
        for buffer, segments in operands.items():
            if plan.preload and buffer == "activation":
                if block.new_outer and block.first_pass and chunk[0] == 0:
                    whole = replace(block, m0=0, m1=work.m)
                    span = contract.first_operand(
                        layer, whole, 0, work.k, lambda *ends: recurrence.image_span(loop, *ends)
                    )
                    found[buffer].append(Portion(number, last_use(visits, number, False), None, tuple(span)))
                continue
            outer = (buffer == "activation") == (plan.outer == "m")
            kept = plan.chunk_k >= work.k if outer else plan.resident
            fresh = not kept or (block.new_outer if outer else block.first_pass)
            if fresh:
                last = last_use(visits, number, outer) if kept else number
                shared = (buffer, block.group) if kept and not outer else None
                found[buffer].append(Portion(number, last, shared, tuple(segments)))
    return found


def last_use(visits: list[tuple[contract.Block, contract.Segment]], number: int, outer: bool) -> int:
    """Return the last chunk of the same column block (outer operand), or of the same group (resident operand)."""
    for later in range(number + 1, len(visits)):
        block = visits[later][0]
        if block.group != visits[number][0].group or (outer and block.new_outer):
            return later - 1
    return len(visits) - 1


def held_bytes(live: list[Portion]) -> int:
    """Bytes that some portions occupy together: a resident operand is stored once, all else by itself."""
    total = sum(length for portion in live if portion.shared is None for _, length in portion.segments)
    for key in {portion.shared for portion in live if portion.shared is not None}:
        segments = [segment for portion in live if portion.shared == key for segment in portion.segments]
        if key[0] == "activation":
            total += len({byte for start, length in segments for byte in range(start, start + length)})
        else:
            total += sum(length for _, length in segments)
    return total


def peaks(work: ContractionWork, plan: ContractionPlan, arch: Arch) -> dict[str, int]:
    """Return the most bytes that each scratchpad ever holds: LOAD runs operand_buffers - 1 chunks ahead (5.1).

    What is held can only grow until something is used for the last time, so it is counted at those chunks.
    """
    highest = {}
    for buffer, found in portions(work, plan, arch).items():
        live: list[Portion] = []
        waiting, amounts = iter([*found, None]), []
        coming = next(waiting)
        for chunk in sorted({portion.last for portion in found}):
            live = [portion for portion in live if portion.last >= chunk]
            while coming is not None and coming.loaded < chunk + arch.operand_buffers:
                live.append(coming)
                coming = next(waiting)
            amounts.append(held_bytes(live))
        highest[buffer] = max(amounts)
    highest["activation"] += arch.output_buffers * plan.block_m * plan.block_n * plan.pack * work.output_bytes
    return highest


def planned(work: ContractionWork, arch: Arch) -> ContractionPlan | None:
    """Return the plan, None when the machine is too small."""
    try:
        plan = choose_plan("layer", work, arch).plan
    except UsageError:
        return None
    assert isinstance(plan, ContractionPlan)
    return plan


# --------------------------------------------------------------------------------------------------------------- plans


@drawn(80, 400, works, arches())
def test_plans_respect_the_scratchpads(work: ContractionWork, arch: Arch) -> None:
    """At no chunk do loaded operands, operands loaded ahead and output buffers exceed a scratchpad."""
    plan = planned(work, arch)
    assume(plan is not None)
    highest = peaks(work, plan, arch)
    assert highest["activation"] <= arch.spm_act
    assert highest["weight"] <= arch.spm_weight


@drawn(80, 400, works, arches())
def test_plans_respect_the_array(work: ContractionWork, arch: Arch) -> None:
    """Blocks are as wide as the columns and no longer than the accumulators; chunks and packs are whole (4.4, 4.6)."""
    plan = planned(work, arch)
    assume(plan is not None)
    streamed, held, width = (
        (plan.block_n, plan.block_m, work.m) if arch.dataflow == "is" else (plan.block_m, plan.block_n, work.n)
    )
    assert 1 <= streamed <= arch.acc_rows
    assert held == min(arch.cols, width)
    assert plan.chunk_k == work.k or plan.chunk_k % arch.rows == 0
    assert 1 <= plan.pack <= work.groups
    if plan.pack > 1:
        assert (plan.block_n, plan.chunk_k) == (work.n, work.k)
        assert plan.pack * work.k <= arch.rows
        assert plan.pack * work.n <= arch.cols


@drawn(80, 400, works, arches())
def test_output_stationary_blocks_are_whole_tiles(work: ContractionWork, arch: Arch) -> None:
    """OS takes ceil(M / R) * ceil(N / C) tiles per group (4.2): a block of more than R rows is a multiple of R."""
    arch = arch.evolve(dataflow="os")
    plan = planned(work, arch)
    assume(plan is not None)
    assert plan.block_m >= work.m or plan.block_m <= arch.rows or plan.block_m % arch.rows == 0
    assert plan.chunk_k == work.k or plan.block_m <= arch.rows


def test_a_block_of_output_tiles_has_no_ragged_rows() -> None:
    """OS on 5 rows: 1000 pixels are 200 tiles, although 512 accumulator rows are not a multiple of 5 (4.2)."""
    work, arch = ContractionWork(1000, 8, 3, 1, None, False, 1, 8), Arch(array=(5, 3), dataflow="os")
    assert time_layer(work, choose_plan("layer", work, arch).plan, arch).event("tiles") == 200


def test_the_next_group_is_loaded_beside_the_resident_one() -> None:
    """While a group is computed the next one is loaded (5.1): a resident operand of one group needs room for two."""
    geometry = ConvolutionGeometry((3, 3), (1, 1), (1, 1), (1, 1, 1, 1))
    image = ImageLayout(1, 8, 8, 8, 8, geometry)
    work = ContractionWork(64, 9 * 4, 4, 2, image, False, 1, 8)
    arch = Arch(array=(16, 16), spm_act=4 * 64 + 2 * 64 * 4 + 10, output_buffers=2, operand_buffers=2)
    plan = choose_plan("layer", work, arch).plan
    assert peaks(work, plan, arch)["activation"] <= arch.spm_act


def unpadded(images: int, height: int, width: int, channels: int, columns: int) -> ContractionWork:
    """Describe a 3x3 convolution without padding."""
    layout = ImageLayout(images, height, width, height - 2, width - 2, ConvolutionGeometry((3, 3)))
    pixels = images * (height - 2) * (width - 2)
    return ContractionWork(pixels, 9 * channels, columns, 1, layout, False, 1, 8)


SWEPT = {
    "chunks that cut channels": (unpadded(1, 7, 7, 4, 4), Arch(array=(8, 4), output_buffers=1), range(60, 330)),
    "blocks across two images": (unpadded(2, 30, 5, 1, 1), Arch(array=(16, 4), output_buffers=1), range(60, 420)),
    "input-stationary": (unpadded(1, 6, 6, 4, 40), Arch(array=(8, 4), dataflow="is"), range(100, 420)),
    "output-stationary": (unpadded(1, 8, 8, 2, 6), Arch(array=(5, 3), dataflow="os"), range(60, 400)),
}


@pytest.mark.parametrize("name", few(SWEPT, ["output-stationary"]))
def test_plans_fit_at_every_size(name: str) -> None:
    """From too small to large enough for everything, byte by byte: what is planned fits, and more is never refused."""
    work, arch, sizes = SWEPT[name]
    answers = []
    for capacity in sizes:
        machine = arch.evolve(spm_act=capacity)
        plan = planned(work, machine)
        answers.append(plan is not None)
        assert plan is None or peaks(work, plan, machine)["activation"] <= capacity
    assert answers == sorted(answers)
    assert not answers[0]
    assert answers[-1]


# ------------------------------------------------------------------------------------------------------------ refusals

MESSAGE = re.compile(
    r"the (?P<buffer>activation|weight) scratchpad is too small for one tile of layer '(?P<layer>[^']*)': "
    r"it needs (?P<needed>[\d,]+) bytes and has (?P<has>[\d,]+): raise it with --set (?P<setting>buffers\.\w+=\d+KiB)"
)
FIELDS = {"activation": "spm_act", "weight": "spm_weight"}


def refusal(name: str, work: ContractionWork | StreamWork, arch: Arch) -> dict[str, str] | None:
    """Return the parts of the refusal, None when there is a plan."""
    try:
        choose_plan(name, work, arch)
    except UsageError as error:
        message = str(error)
    else:
        return None
    match = MESSAGE.fullmatch(message)
    assert match is not None, message
    return match.groupdict()


def size(text: str) -> int:
    """Read a number with thousands separators."""
    return int(text.replace(",", ""))


def raised(name: str, work: ContractionWork | StreamWork, arch: Arch) -> Iterator[tuple[Arch, dict[str, str]]]:
    """Raise what refusals name until there is a plan; yields each machine that was refused with its refusal."""
    seen: set[str] = set()
    while (parts := refusal(name, work, arch)) is not None:
        assert parts["buffer"] not in seen, "what a buffer was said to need was not enough"
        seen.add(parts["buffer"])
        yield arch, parts
        arch = arch.evolve(**{FIELDS[parts["buffer"]]: size(parts["needed"])})


@drawn(80, 400, st.one_of(works, streams()), arches())
def test_refusals_name_what_is_enough(work: ContractionWork | StreamWork, arch: Arch) -> None:
    """A refusal names buffer, layer and bytes; a buffer of that many bytes is never refused again."""
    for machine, parts in raised("block1/conv", work, arch):
        assert parts["layer"] == "block1/conv"
        assert size(parts["has"]) == getattr(machine, FIELDS[parts["buffer"]]) < size(parts["needed"])


@drawn(80, 400, st.one_of(works, streams()), arches())
def test_refusals_name_no_more_than_needed(work: ContractionWork | StreamWork, arch: Arch) -> None:
    """One byte less than a refusal asks for is refused as well: what it names is the minimum."""
    for machine, parts in raised("layer", work, arch):
        almost = machine.evolve(**{FIELDS[parts["buffer"]]: size(parts["needed"]) - 1})
        assert refusal("layer", work, almost) is not None


@drawn(80, 400, st.one_of(works, streams()), arches())
def test_refusals_suggest_a_setting_that_works(work: ContractionWork | StreamWork, arch: Arch) -> None:
    """The --set of the message, applied as written, raises the buffer it names to at least what is needed."""
    for _, parts in raised("layer", work, arch):
        suggested = load_arch(settings=(parts["setting"],))
        changed = {field: value for field, value in suggested.model_dump().items() if value != getattr(Arch(), field)}
        assert set(changed) <= {FIELDS[parts["buffer"]]}
        assert getattr(suggested, FIELDS[parts["buffer"]]) >= size(parts["needed"])


# ----------------------------------------------------------------------------------------------------- vector layers


@drawn(80, 400, streams(), arches())
def test_blocks_of_vector_layers_fit(work: StreamWork, arch: Arch) -> None:
    """All input and output buffers of the largest block fit together, and no unit is cut (5.7)."""
    assume(refusal("layer", work, arch) is None)
    plan = choose_plan("layer", work, arch).plan
    assert isinstance(plan, StreamPlan)
    assert 1 <= plan.blocks <= work.units
    units = -(-work.units // plan.blocks)
    read, written = (sum(count * length for count, length in part) for part in (work.reads, work.writes))
    largest = arch.operand_buffers * read * units + arch.output_buffers * written * units
    assert largest <= arch.spm_act * work.units
