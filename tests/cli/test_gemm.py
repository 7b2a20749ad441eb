"""`accel-sim gemm`: its formulas are its cycles, and bad input is one sentence."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from accelsim.cli.gemm import formula
from accelsim.machine.arch import Arch
from accelsim.timing.gemm import TIMINGS, gemm_timing
from tests.cli.command import assert_refused, command
from tests.tiers import deep, few

MODES = [
    {},
    {"weight_load": "full"},
    {"weight_double_buffer": False},
    {"flush_between_tiles": True},
    {"drain_overlap": False},
    {"x_gather_words_per_cycle": 3},
]
SHAPES = [(40, 5, 5), (3, 24, 5), (1, 8, 5), (16, 64, 10), (7, 3, 1), (30, 17, 14), (1, 1, 1)]


@pytest.mark.parametrize("timing", TIMINGS)
@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_formulas_give_the_cycles(
    timing: str, dataflow: str, mode: dict[str, object], shape: tuple[int, int, int]
) -> None:
    """What stands left of the last = evaluates to what stands right of it."""
    machine = Arch(array=(8, 5), dataflow=dataflow, acc_rows=16, **mode)
    result = gemm_timing(*shape, machine, timing=timing)
    written = formula(result, machine).partition("; between")[0].replace(",", "")
    numbers, total = (
        written.split(" = ")[-2:] if " - 2 = " not in written else written.split(" = ", 1)[1].rsplit(" = ", 1)
    )
    sum_of = re.sub(r"= \d+", "", re.sub(r"\b[a-z]+ (?=\d)", "", numbers))
    sum_of = re.sub(r"max\(([^()]*)\)", lambda found: _largest(found[1]), sum_of)
    assert eval(sum_of) == result.cycles == int(total), written


def _largest(parts: str) -> str:
    """Evaluate max(a b c), whose commas are gone."""
    return str(max(eval(part) for part in re.split(r"(?<=\d) (?=\d)", parts)))


def test_the_output_is_for_people() -> None:
    """Formula, classes and utilisation."""
    outcome = command("gemm", "49", "100", "30", "--array", "8x4")
    assert outcome.code == 0
    assert (
        "Kt + (tiles - 1) max(Mt, Kt, R+2) + Mt + R + C = 8 + 103 * max(49, 8, 10) + 49 + 8 + 4 = 5,116"
        in outcome.stdout
    )
    assert "utilisation  89.8% of 32 MACs per cycle" in outcome.stdout
    assert all(len(line) <= 120 for line in outcome.stdout.splitlines())


def test_json_holds_the_numbers_of_the_python_interface() -> None:
    """The numbers of the Python interface."""
    outcome = command(
        "gemm", "9", "20", "7", "--array", "4x3", "--dataflow", "is", "--set", "accumulator.rows=5", "--json"
    )
    table = json.loads(outcome.stdout)
    result = gemm_timing(9, 20, 7, Arch(array=(4, 3), dataflow="is", acc_rows=5))
    assert (table["cycles"], table["tiles"], table["utilisation"]) == (result.cycles, result.tiles, result.utilisation)
    assert table["cycle_classes"] == dict(result.classes)
    assert table["events"] == dict(result.events)
    assert (table["array"], table["dataflow"], table["timing"]) == ([4, 3], "is", "native")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("0", "1", "1"), ("M is 0", "2^31")),
        (("1", "1", "9" * 40), ("N is", "2^31")),
        (("1", "x", "1"), ("K",)),
        (("1", "-2", "1"), ("-2",)),
        (("1", "2"), ("N",)),
        (("1", "2", "3", "--timing", "native2"), ("did you mean 'native'",)),
        (("1", "2", "3", "--dataflow", "rs"), ("dataflow",)),
        (("1", "2", "3", "--engine", "steper"), ("did you mean 'stepper'",)),
        (("1", "2", "3", "--engine", "stepper", "--timing", "scalesim"), ("--engine stepper", "scalesim")),
        (("1", "2", "3", "--array", "0x4"), ("0x4",)),
    ],
)
def test_bad_input_is_one_sentence(arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    """Exit code 2 and what to do."""
    assert_refused(command("gemm", *arguments), 2, *words)


@deep
@pytest.mark.parametrize(
    "options", few([(), ("--dataflow", "os"), ("--set", "accumulator.bits=9", "--set", "array.rows=3")], 1)
)
def test_the_stepper_says_that_it_agrees(options: tuple[str, ...]) -> None:
    """Every PE in every cycle, beside the recurrence and the datapath."""
    outcome = command("gemm", "9", "20", "7", "--engine", "stepper", "--seed", "3", *options)
    assert outcome.code == 0
    assert "equal in accumulators, cycles, classes and events" in outcome.stdout


def test_a_stepper_that_differs_is_a_mismatch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 3, and what differs."""
    monkeypatch.setattr("accelsim.timing.registers._accumulated", lambda operands, arch: operands[2])
    outcome = command("gemm", "9", "20", "7", "--engine", "stepper")
    assert outcome.code == 3
    assert "differs in accumulators" in outcome.stdout
    assert json.loads(command("gemm", "9", "20", "7", "--engine", "stepper", "--json").stdout)["differences"]


@pytest.mark.parametrize("shape", [("4000", "4000", "4000"), ("1", "1", "16000000"), ("400", "4000", "4000")])
def test_products_too_large_for_the_stepper_are_refused(shape: tuple[str, ...]) -> None:
    """Exit code 6."""
    assert_refused(command("gemm", *shape, "--engine", "stepper"), 6, "step a smaller product")


@pytest.mark.parametrize("verb", ["run", "explain"])
@pytest.mark.parametrize("timing", ["scalesim", "scalesim-paper", "other"])
def test_models_have_native_timing_only(digits: Path, verb: str, timing: str) -> None:
    """The sentence says what SCALE-Sim's timings are for."""
    assert_refused(command(verb, digits, "--timing", timing), 2, timing, "accel-sim gemm M K N")
