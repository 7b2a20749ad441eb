"""The suite is not vacuous: every fault put into the RTL is found, and the RTL without one passes the same cases."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.rtl import convolutions, drawing, recurrence, tools, words
from tests.rtl.cases import Case, simulate
from tests.rtl.comparison import differences, layer_differences, value_differences
from tests.rtl.mutants import LANE_MUTANTS, MUTANTS, Mutant
from tests.rtl.recurrence import Memory
from tests.rtl.tools import Build
from tests.rtl.words import Words
from tests.tiers import deep, few

BUILD = Build(3, 2)
BUFFERS, MEMORY = (2, 2), Memory(4, 3, 4, resident=False)


@cache
def bare_cases() -> list[Case]:
    """Return GEMMs on the bare array."""
    random = np.random.default_rng(12)
    drawn = [drawing.gemm(random, BUILD, drawing.DATAFLOWS[i % 3]) for i in range(150)]
    narrow = [drawing.gemm(random, BUILD, "ws", gather=True) for _ in range(50)]
    return drawn + [replace(case, gather_words=1, flush=False, double_buffer=True) for case in narrow]


@cache
def layers() -> list[Case]:
    """Return GEMMs with requantiser and transfers."""
    random = np.random.default_rng(13)
    found = []
    for index in range(120):
        case = drawing.gemm(random, BUILD, drawing.DATAFLOWS[index % 3])
        columns = drawing.requantiser(random, BUILD, case.w.shape[0], fixed_point=index % 2 == 0)
        case = replace(case, weights_at=(), operands_at=(), acc_rows=6, acc_bits=32, requantiser=columns)
        found.append(replace(case, transfers=recurrence.layer_transfers(case, BUILD, BUFFERS, MEMORY)))
    return found


@cache
def maps() -> list[Case]:
    """Return convolutions whose activations the RTL gathers itself."""
    random = np.random.default_rng(14)
    drawn = [convolutions.draw(random, depthwise=index % 2 == 0) for index in range(6)]
    return [
        convolutions.implicit(convolution, part).case
        for index, convolution in enumerate(drawn)
        for part in convolutions.parts(convolution, BUILD, drawing.DATAFLOWS[index % 3], 2)
    ]


@cache
def lane_words() -> list[Words]:
    """Return words around every rounding of the requantiser."""
    drawn = words.random_floats(32, 3, (-128, 127), 5000), words.fixed_points(20_000)
    return [*drawn, words.exact_ties(), words.double_roundings(1), words.double_roundings(3)]


@pytest.fixture(scope="module")
def built(request: pytest.FixtureRequest) -> dict[str, Future[Path]]:
    """The controls and every mutant that a selected test wants, built two at a time."""
    tools.require("verilator")
    machine = ("machine", "bench.cpp", BUILD.parameters)
    jobs = {"machine": (*machine, tools.sources()), "lane": (*words.LANE, tools.sources())}
    calls = (getattr(item, "callspec", None) for item in request.session.items)
    wanted = {call.params["mutant"].name for call in calls if call and "mutant" in call.params}
    jobs |= {mutant.name: (*machine, mutant.texts()) for mutant in MUTANTS if mutant.name in wanted}
    jobs |= {mutant.name: (*words.LANE, mutant.texts()) for mutant in LANE_MUTANTS if mutant.name in wanted}
    with ThreadPoolExecutor(2) as pool:
        return {name: pool.submit(tools.build, *job, fast=False) for name, job in jobs.items()}


def found_in_machine(program: Path) -> int:
    """Return in how many cases a machine differs."""
    found = [
        bool(differences(case, BUILD, answer))
        for case, answer in zip(bare_cases(), simulate(program, BUILD, bare_cases()), strict=True)
    ]
    found += [
        bool(layer_differences(case, BUILD, BUFFERS, MEMORY, answer))
        for case, answer in zip(layers(), simulate(program, BUILD, layers()), strict=True)
    ]
    found += [
        bool(value_differences(case, answer))
        for case, answer in zip(maps(), simulate(program, BUILD, maps()), strict=True)
    ]
    return sum(found)


def found_in_lane(program: Path) -> int:
    """Return how many words a requantiser lane gets wrong."""
    return sum(int((drawn.through(program) != drawn.expected()).sum()) for drawn in lane_words())


@deep
def test_the_rtl_without_a_fault_passes(built: dict[str, Future[Path]]) -> None:
    """The cases and words that find the faults find nothing in the RTL itself."""
    assert found_in_machine(built["machine"].result()) == 0
    assert found_in_lane(built["lane"].result()) == 0


@pytest.mark.parametrize("mutant", few(MUTANTS, 2), ids=lambda mutant: mutant.name)
def test_a_fault_in_the_machine_is_found(built: dict[str, Future[Path]], mutant: Mutant) -> None:
    """Values, cycles, classes, events or a conflict at a memory give it away."""
    assert found_in_machine(built[mutant.name].result()) > 0


@pytest.mark.parametrize("mutant", few(LANE_MUTANTS, 1), ids=lambda mutant: mutant.name)
def test_a_fault_in_the_requantiser_is_found(built: dict[str, Future[Path]], mutant: Mutant) -> None:
    """At least one output differs."""
    assert found_in_lane(built[mutant.name].result()) > 0
