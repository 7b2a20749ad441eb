"""Plans of a whole network: `best` against every dataflow alone, and the mapper with open rows against brute force."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings, strategies as st

import accelsim
from accelsim.energy import load_table, price_layer
from accelsim.errors import UsageError
from accelsim.explain.layers import explain_model
from accelsim.graph.ir import Graph
from accelsim.machine.arch import Arch
from accelsim.mapping.bounds import Floor, least_value
from accelsim.mapping.search import choose_plan
from accelsim.mapping.space import fitting_plans
from accelsim.program.addresses import Addresses
from accelsim.program.layers import Program
from accelsim.program.plan import ContractionPlan, Kept
from accelsim.program.work import ContractionWork
from accelsim.timing.boundary import Surroundings
from accelsim.timing.event.run import time_program_by_events
from accelsim.timing.recurrence import time_layer, time_program
from tests.conftest import ROOT
from tests.planning import planned
from tests.tiers import drawn, few, few_rows
from tests.timing.plans import KEPT, every_plan, machines, score, works

DIGITS = str(ROOT / "models" / "digits_int8.onnx")
FLOWS = ("ws", "os", "is")


@cache
def network(name: str) -> Graph:
    """Read a network once."""
    return accelsim.load(name).bind().graph


def measure(program: Program, arch: Arch) -> float:
    """Return what the machine minimises, of a whole network."""
    timings = time_program(program, arch)
    cycles, table = sum(timing.cycles for timing in timings), load_table()
    energy = sum(
        price_layer(layer, timing, arch, table).total_pj for layer, timing in zip(program.layers, timings, strict=True)
    )
    return {"cycles": float(cycles), "energy": energy, "edp": cycles * energy}[arch.objective]


def measured(name: str, arch: Arch) -> dict[str, float]:
    """Return the measure with each dataflow that has a plan for every layer, and with the best."""
    found = {}
    for dataflow in (*FLOWS, "best"):
        machine = arch.evolve(dataflow=dataflow)
        try:
            program = planned(network(name), machine)
        except UsageError:
            continue
        found[dataflow] = measure(program, machine)
    return found


# ------------------------------------------------------------------------------------------------- best <= any dataflow

# Machines on which the best of every layer, planned by itself without open rows, was slower than one dataflow alone.
SLOWER: tuple[tuple[str, dict[str, Any]], ...] = (
    ("models:autoencoder", {"array": (8, 8), "prefetch_weights": True, "keep_activations": False, "dram_latency": 0,
                            "spm_weight": 4096, "acc_rows": 64, "operand_buffers": 1}),
    ("models:autoencoder", {"array": (2, 2), "dram_row_bytes": 1000, "dram_burst": 1000, "dram_row_miss": 500,
                            "dram_banks": 1, "keep_activations": False}),
    ("models:autoencoder", {"array": (16, 16), "dram_row_bytes": 256, "dram_row_miss": 500, "prefetch_weights": True,
                            "dram_bytes_per_cycle": 4, "dram_latency": 0, "acc_rows": 64, "operand_buffers": 1}),
    (DIGITS, {"array": (4, 16), "dram_row_bytes": 512, "dram_burst": 8, "dram_row_miss": 500, "dram_banks": 1,
              "prefetch_weights": True, "keep_activations": False, "dram_bytes_per_cycle": 1, "spm_act": 4096,
              "acc_rows": 16, "operand_buffers": 3}),
    ("models:ds-cnn", {"array": (4, 16), "dram_row_bytes": 256, "dram_banks": 1, "keep_activations": False,
                       "dram_channel": "private", "dram_bytes_per_cycle": 1, "spm_weight": 4096, "acc_rows": 16}),
    # no rows and no prefetch, but what stays on chip is not the same with every dataflow
    ("models:ds-cnn", {"array": (16, 16), "dram_burst": 8, "dram_bytes_per_cycle": 1, "spm_act": 8192,
                       "spm_weight": 512, "acc_rows": 64, "operand_buffers": 1}),
)  # fmt: skip


@pytest.mark.parametrize(("name", "parameters"), few_rows(SLOWER, 1), ids=[Path(name).stem for name, _ in SLOWER])
def test_best_is_not_slower_where_it_was(name: str, parameters: dict[str, Any]) -> None:
    """Cases that were slower, by up to 5.5 times."""
    found = measured(name, Arch(objective="cycles", **parameters))
    assert found["best"] <= min(found[dataflow] for dataflow in FLOWS if dataflow in found)


@st.composite
def networked_machines(draw: st.DrawFn) -> Arch:
    """Draw a machine with open rows, prefetched weights, or scratchpads so small that residency depends on dataflow."""
    burst = draw(st.sampled_from((8, 64)))
    tight = draw(st.booleans())
    return Arch(
        array=draw(st.sampled_from(((16, 16), (8, 8), (4, 16), (16, 4)))),
        objective=draw(st.sampled_from(("cycles", "cycles", "energy", "edp"))),
        dram_burst=burst,
        dram_row_bytes=burst * draw(st.sampled_from((4, 16, 64) if not tight else (0, 16))),
        dram_row_miss=draw(st.sampled_from((0, 30, 500))),
        dram_banks=draw(st.sampled_from((1, 8))),
        prefetch_weights=draw(st.booleans()),
        keep_activations=draw(st.booleans()) or tight,
        dram_channel=draw(st.sampled_from(("shared", "private"))),
        dram_bytes_per_cycle=draw(st.sampled_from((1, 4, 16))),
        dram_latency=draw(st.sampled_from((0, 100))),
        spm_act=draw(st.sampled_from((2048, 4096, 8192) if tight else (16384, 196608))),
        spm_weight=draw(st.sampled_from((512, 1024, 4096) if tight else (4096, 65536))),
        acc_rows=draw(st.sampled_from((64, 512))),
        operand_buffers=draw(st.integers(1, 3)),
    )


@pytest.mark.parametrize(
    "name", few([DIGITS, "models:ds-cnn", "models:autoencoder"], 1), ids=["digits", "ds-cnn", "auto"]
)
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(arch=networked_machines())
def test_best_is_never_worse_than_a_dataflow_alone(name: str, arch: Arch) -> None:
    """Cycles, energy or their product of the whole network, wherever the network is timed as a whole."""
    coupled = arch.dram_row_bytes or arch.prefetch_weights
    assume(coupled or arch.objective == "cycles")
    found = measured(name, arch)
    assume(len(found) > 1)
    assert found["best"] <= min(found[dataflow] for dataflow in FLOWS if dataflow in found)


@pytest.mark.parametrize("dataflow", [*FLOWS, "best"])
def test_plans_made_with_open_rows_are_faster_with_them(dataflow: str) -> None:
    """The network is faster than with the plans that were made without rows."""
    closed = Arch(array=(8, 8), dataflow=dataflow, objective="cycles", keep_activations=False)
    opened = closed.evolve(dram_row_bytes=256, dram_row_miss=100, dram_banks=1)
    blind, aware = (planned(network("models:ds-cnn"), arch) for arch in (closed, opened))
    assert measure(aware, opened) < measure(blind, opened)


def test_the_event_model_agrees_on_plans_made_with_open_rows() -> None:
    """Recurrence and SimPy time the chosen network alike."""
    arch = Arch(
        array=(8, 8), dataflow="best", objective="cycles", dram_row_bytes=256, dram_banks=2, prefetch_weights=True
    )
    program = planned(network(DIGITS), arch)
    assert program.choice is not None
    events = time_program_by_events(program, arch)
    assert [timing.cycles for timing in time_program(program, arch)] == [timing.cycles for timing in events]


# -------------------------------------------------------------------------------------------- one layer, with open rows


def rowed(arch: Arch) -> Arch:
    """The machine with rows of two bursts in two banks."""
    return arch.evolve(dram_row_bytes=2 * arch.dram_burst, dram_row_miss=7, dram_banks=2)


SOMEWHERE = Surroundings(None, Addresses((4096, 0), (8192,)))


@drawn(30, 200, works(), machines(), KEPT, unchecked=HealthCheck)
def test_with_open_rows_the_mapper_finds_what_brute_force_finds(work: ContractionWork, arch: Arch, kept: Kept) -> None:
    """On small layers the choice is the best of every plan that fits, at the same addresses; the bound holds."""
    assume(not (kept.first and work.dynamic_second))
    arch = rowed(arch)
    plans = every_plan(work, arch, kept)
    assume(plans)
    chosen = choose_plan("layer", work, arch, kept, around=SOMEWHERE).plan
    assert isinstance(chosen, ContractionPlan)
    best = min(score(arch, time_layer(work, plan, arch, SOMEWHERE)) for plan in plans)
    assert score(arch, time_layer(work, chosen, arch, SOMEWHERE)) == best
    for plan in fitting_plans("layer", work, arch, kept):
        assert least_value(work, plan, arch, Floor()) <= score(arch, time_layer(work, plan, arch, SOMEWHERE)), plan


# ------------------------------------------------------------------------------------------------------- what it says


def test_without_coupled_layers_the_network_is_not_timed_whole() -> None:
    """Neither rows, nor prefetch, and the same on chip with every dataflow: nothing is chosen between."""
    for dataflow in (*FLOWS, "best"):
        assert planned(network(DIGITS), Arch(dataflow=dataflow)).choice is None
    assert planned(network(DIGITS), Arch(prefetch_weights=True)).choice is None


def test_the_plans_of_the_network_that_are_timed() -> None:
    """Best and each dataflow, with and without rows; with one dataflow only that one."""
    rows = {"dram_row_bytes": 1024, "objective": "cycles"}
    choices = [
        planned(network(DIGITS), Arch(**parameters)).choice
        for parameters in (rows, {**rows, "dataflow": "best"}, {"dataflow": "best", "prefetch_weights": True})
    ]
    assert [choice and choice.among for choice in choices] == [2, 8, 4]
    assert choices[0] is not None
    assert choices[0].dataflow == "ws"
    assert choices[2] is not None
    assert not choices[2].rows


def test_explain_says_which_plan_of_the_network_was_taken(digits: Path) -> None:
    """The dataflows are those of the plan that was taken, and rows are named where they were looked at."""
    arch = Arch(array=(8, 8), dataflow="best", objective="cycles", dram_row_bytes=256, dram_row_miss=500)
    choice = planned(network(DIGITS), arch).choice
    assert choice is not None
    text = "\n".join(explain_model(accelsim.load(digits), arch))
    named = "best of each layer" if choice.dataflow == "best" else f"{choice.dataflow} everywhere"
    assert f"timed {'with' if choice.rows else 'without'} open rows\n" in text
    assert f"              {named}: least cycles of 8 plans of the whole network\n" in text
    assert "plans of the whole network" not in "\n".join(explain_model(accelsim.load(digits), Arch()))
