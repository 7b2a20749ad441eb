"""Random layers and machines for the mapper, and every plan that it may choose from."""

from __future__ import annotations

from itertools import product

from hypothesis import strategies as st

from accelsim.machine.arch import Arch
from accelsim.operators.geometry import ConvolutionGeometry
from accelsim.program.plan import ContractionPlan, Kept
from accelsim.program.scratchpads import buffer_needs, fits, groups_packed
from accelsim.program.work import ContractionWork, ImageLayout
from accelsim.timing.layer_timing import LayerTiming


@st.composite
def works(draw: st.DrawFn) -> ContractionWork:
    """Draw a small product or convolution."""
    if draw(st.booleans()):
        side, taps = draw(st.integers(1, 3)), draw(st.integers(1, 2))
        window = ConvolutionGeometry((taps, taps))
        image = ImageLayout(1, side + taps - 1, side + taps - 1, side, side, window)
        groups = draw(st.sampled_from((1, 1, 3)))
        channels = draw(st.integers(1, 3))
        return ContractionWork(
            min(side * side, 8), taps * taps * channels, draw(st.integers(1, 5)), groups, image, False, 1, 8
        )
    dynamic = draw(st.booleans())
    return ContractionWork(
        draw(st.integers(1, 8)), draw(st.integers(1, 12)), draw(st.integers(1, 8)), 1, None, dynamic, 1, 8
    )


@st.composite
def machines(draw: st.DrawFn) -> Arch:
    """Draw a small machine whose scratchpads bind."""
    return Arch(
        array=(draw(st.integers(3, 5)), draw(st.integers(1, 5))),
        dataflow=draw(st.sampled_from(("best", "ws", "os", "is"))),
        objective=draw(st.sampled_from(("cycles", "energy", "edp"))),
        spm_act=draw(st.sampled_from((40, 80, 200, 4000))),
        spm_weight=draw(st.sampled_from((60, 120, 300, 4000))),
        acc_rows=draw(st.sampled_from((3, 8, 64))),
        dram_bytes_per_cycle=draw(st.sampled_from((1, 4, 16))),
        dram_latency=draw(st.sampled_from((0, 20))),
        dram_burst=draw(st.sampled_from((1, 16))),
        dram_channel=draw(st.sampled_from(("shared", "private"))),
    )


KEPT = st.sampled_from((Kept(), Kept((True,), (), 10), Kept((), (True,), 10), Kept((True,), (True,), 20)))


def score(arch: Arch, timing: LayerTiming) -> float:
    """What is minimised, with the energy of the traffic alone."""
    return {
        "cycles": timing.cycles,
        "energy": timing.dram_bytes,
        "edp": timing.cycles * timing.dram_bytes,
    }[arch.objective]


def every_plan(work: ContractionWork, arch: Arch, kept: Kept) -> list[ContractionPlan]:
    """Write out every plan of the machine: every size of the streamed block, every depth in whole folds, every flag."""
    found = []
    for dataflow in ("ws", "os", "is") if arch.dataflow == "best" else (arch.dataflow,):
        pack = groups_packed(work, arch, dataflow)
        depths = [work.k, *range(arch.rows, work.k, arch.rows)]
        streamed = work.n if dataflow == "is" else work.m
        for size, depth, outer, resident, preload in product(
            range(1, min(streamed, arch.acc_rows) + 1), depths, "nm", (False, True), (False, True)
        ):
            wide = work.n if pack > 1 else min(arch.cols, work.n)
            block = (min(arch.cols, work.m), size) if dataflow == "is" else (size, wide)
            if dataflow == "os" and (size > arch.rows and ((size % arch.rows and size < work.m) or depth < work.k)):
                continue
            if preload and (outer == "n" or kept.first):
                continue
            plan = ContractionPlan(*block, depth, pack, resident, preload, dataflow, outer, kept.first, kept.output)
            if fits(buffer_needs(work, plan, arch), arch, kept.reserved):
                found.append(plan)
    return found
