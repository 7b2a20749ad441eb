"""The mapper against brute force, its bound against what it bounds, and residency between layers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume

import accelsim
from accelsim.energy import price_layer
from accelsim.errors import UsageError
from accelsim.explain.layers import explain_model
from accelsim.machine.arch import Arch
from accelsim.mapping.bounds import Floor, least_value
from accelsim.mapping.search import choose_plan
from accelsim.mapping.space import fitting_plans
from accelsim.program.layers import Layer, Program
from accelsim.program.plan import ContractionPlan, Kept
from accelsim.program.scratchpads import buffer_needs, fits
from accelsim.program.work import ContractionWork
from accelsim.timing.layer_timing import LayerTiming
from accelsim.timing.recurrence import time_layer, time_program
from tests.planning import planned
from tests.tiers import drawn, few
from tests.timing.plans import KEPT, every_plan, machines, score, works


@drawn(60, 400, works(), machines(), KEPT, unchecked=HealthCheck)
def test_the_mapper_finds_what_brute_force_finds(work: ContractionWork, arch: Arch, kept: Kept) -> None:
    """On small layers the choice is as good as the best of every plan that fits."""
    assume(not (kept.first and work.dynamic_second))
    plans = every_plan(work, arch, kept)
    try:
        chosen = choose_plan("layer", work, arch, kept).plan
    except UsageError:
        assert not plans
        return
    assert isinstance(chosen, ContractionPlan)
    best = min(score(arch, time_layer(work, plan, arch)) for plan in plans)
    rivals = [plan for plan in plans if score(arch, time_layer(work, plan, arch)) == best]
    assert score(arch, time_layer(work, chosen, arch)) == best, (chosen, rivals)


@drawn(60, 400, works(), machines(), KEPT, unchecked=HealthCheck)
def test_the_bound_is_never_above_what_it_bounds(work: ContractionWork, arch: Arch, kept: Kept) -> None:
    """Pruning by the bound cannot lose the best plan."""
    try:
        plans = list(fitting_plans("layer", work, arch, kept))
    except UsageError:
        return
    for plan in plans:
        assert least_value(work, plan, arch, Floor()) <= score(arch, time_layer(work, plan, arch)), plan


@pytest.mark.parametrize("dataflow", ["ws", "os", "is", "best"])
@pytest.mark.parametrize("objective", ["cycles", "energy", "edp"])
def test_best_is_no_worse_than_any_dataflow(digits: Path, objective: str, dataflow: str) -> None:
    """With `best` no layer is worse than with the dataflow given, by the objective."""
    graph = accelsim.load(digits).bind().graph
    fixed = Arch(dataflow=dataflow, objective=objective, keep_activations=False)
    free = fixed.evolve(dataflow="best")
    for mine, theirs in zip(planned(graph, free).layers, planned(graph, fixed).layers, strict=True):
        if not isinstance(mine.plan, ContractionPlan):
            continue
        ours, other = (time_layer(layer.work, layer.plan, fixed) for layer in (mine, theirs))
        if objective == "cycles":
            assert ours.cycles <= other.cycles


# ------------------------------------------------------------------------------------------------------ whole networks

NETWORKS = ("resnet8_cifar10_int8", "mobilenetv1_025_vww_int8", "mobilenetv2_100_224_int8", "textgen_transformer_int8")


def totals(path: Path, arch: Arch) -> tuple[int, int]:
    """Return cycles and DRAM bytes of a network."""
    program = planned(accelsim.load(path).bind().graph, arch)
    timings = time_program(program, arch)
    return sum(timing.cycles for timing in timings), sum(timing.dram_bytes for timing in timings)


@pytest.mark.parametrize("name", few(NETWORKS, 2))
def test_what_stays_on_chip_is_not_moved(shared_models: Path, name: str) -> None:
    """Keeping activations never moves more; prefetching weights moves the same and takes no longer."""
    path = shared_models / f"{name}.onnx"
    apart, kept, early = (
        totals(path, Arch(keep_activations=keep, prefetch_weights=prefetch))
        for keep, prefetch in ((False, False), (True, False), (True, True))
    )
    assert kept[1] < apart[1]
    assert kept[0] <= apart[0]
    assert early[1] == kept[1]
    assert early[0] <= kept[0]


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("prefetch", [False, True])
def test_bounds_of_a_whole_run(digits: Path, keep: bool, prefetch: bool) -> None:
    """DRAM moves at least inputs, weights and outputs; cycles are at least MACs by PEs, and bytes by bandwidth."""
    arch = Arch(keep_activations=keep, prefetch_weights=prefetch)
    program = planned(accelsim.load(digits).bind().graph, arch)
    timings = time_program(program, arch)
    cycles, moved = (sum(values) for values in zip(*((t.cycles, t.dram_bytes) for t in timings), strict=True))
    works = [layer.work for layer in program.layers if isinstance(layer.work, ContractionWork)]
    weights = sum(work.groups * work.k * work.n * work.weight_bits // 8 for work in works if not work.dynamic_second)
    ends = sum(kind.size_bytes for kind in program.inputs.values())
    ends += sum(
        kind.size_bytes
        for layer in program.layers
        for name, kind in zip(layer.outputs, layer.output_types, strict=True)
        if name in program.outputs
    )
    assert moved >= weights + ends
    assert cycles >= sum(work.macs for work in works) / (arch.rows * arch.cols)
    assert cycles >= moved / arch.dram_bytes_per_cycle


def test_a_tensor_is_kept_up_to_its_last_reader(digits: Path) -> None:
    """Every activation of a small network fits beside the buffers: nothing but inputs, weights and outputs moves."""
    program = planned(accelsim.load(digits).bind().graph, Arch())
    written = {layer.name for layer, timing in _timed(program) if timing.event("dram_write_bytes")}
    assert written == {program.layers[-1].name}


def test_a_scratchpad_without_room_keeps_nothing(digits: Path) -> None:
    """With an activation scratchpad that only just holds the tiles everything goes through DRAM, and still fits."""
    program = planned(accelsim.load(digits).bind().graph, Arch(spm_act=2048))
    for layer in program.layers:
        if isinstance(layer.plan, ContractionPlan) and isinstance(layer.work, ContractionWork):
            needs = buffer_needs(layer.work, layer.plan, Arch(spm_act=2048))
            assert fits(needs, Arch(spm_act=2048))


def test_energy_is_minimised_at_the_prices_that_are_billed() -> None:
    """With leakage that outweighs everything else the shortest plans are the cheapest: what explain shows, too."""
    arch, energy = Arch(objective="energy"), accelsim.EnergyOptions(static="500mW")
    bound, prices = accelsim.load("models:ds-cnn").bind(), energy.load()
    spent = []
    for program in (bound.planned(arch, prices), bound.planned(arch)):
        timings = time_program(program, arch)
        spent.append(
            sum(price_layer(*pair, arch, prices).total_pj for pair in zip(program.layers, timings, strict=True))
        )
    assert spent[0] < spent[1]
    result = accelsim.run("models:ds-cnn", arch, values=False, check=False, energy=energy)
    assert result.energy_pj == pytest.approx(spent[0], rel=1e-9)
    told = (
        text.partition(" cycles (")[0] for text in explain_model(accelsim.load("models:ds-cnn"), arch, energy=energy)
    )
    cycles = [int(head.split()[-1].replace(",", "")) for head in told if not head.startswith("input")]
    assert sum(cycles) == result.cycles


def _timed(program: Program) -> list[tuple[Layer, LayerTiming]]:
    return list(zip(program.layers, time_program(program, Arch()), strict=True))
