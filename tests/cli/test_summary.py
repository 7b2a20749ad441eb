"""A run ends with the facts a person wants: latency, energy, verdict, and what binds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import accelsim
from accelsim.kernels.cycles.specs import CLASSES
from accelsim.reports.classes import CAUSES, component_colours, ordered_classes
from accelsim.reports.facts import binding, binding_of, facts
from accelsim.results.cycle_classes import CYCLE_CLASSES, cycle_class
from accelsim.results.result import Result
from tests.cli.command import command


@pytest.fixture(scope="module")
def result() -> Result:
    root = Path(__file__).resolve().parent.parent.parent
    return accelsim.run(root / "models" / "digits_int8.onnx", values=False)


def test_a_run_ends_with_the_facts(digits: Path) -> None:
    """The last four lines are latency, energy with its largest component, verdict and what binds."""
    lines = command("run", digits).stdout.splitlines()[-4:]
    assert [line.split()[0] for line in lines] == ["latency", "energy", "verdict", "binds"]
    assert " at 1 GHz: 14,986 cycles on 16x16 ws" in lines[0]
    assert "per inference, 81% of it DRAM" in lines[1]
    assert lines[2] == (
        "verdict  exact: 27,604 elements in 14 tensors equal onnxruntime on the file as it is, bit for bit"
    )
    assert "% of the cycles " in lines[3]
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--acc-bits", "12"], "verdict  mismatch: "),
        (["--no-check"], "verdict  skipped: nothing was compared"),
        (["--set", "requant.mode=q31"], "verdict  q31: sums are equal"),
        (["--set", "dram.latency=5000"], "binds    memory bound: "),
        (["--array", "2x2"], "binds    compute bound: "),
        (["--set", "requant.lanes=1"], "binds    bound by the requantiser: "),
    ],
)
def test_the_facts_follow_the_run(digits: Path, arguments: list[str], words: str) -> None:
    """Every verdict and every cause has its words; long facts wrap within 100 columns."""
    outcome = command("run", digits, *arguments)
    assert words in outcome.stdout
    assert max(map(len, outcome.stdout.splitlines())) <= 100


def test_verbose_still_ends_with_the_facts(digits: Path) -> None:
    """-v adds in the middle."""
    lines = command("run", digits, "-v").stdout.splitlines()
    assert lines[-1].startswith("binds    ")
    assert any(line.startswith("unit energies") for line in lines[:-4])


def test_every_class_of_the_kernels_has_one_cause() -> None:
    """No class is missing, and none counts twice."""
    keys = [kind.key for cause in CAUSES for kind in cause.classes]
    assert sorted(keys) == sorted(CLASSES)
    assert len({kind.colour for kind in CYCLE_CLASSES.values()}) == len(keys)


@pytest.mark.parametrize("key", CLASSES)
def test_what_binds_is_the_largest_cause(key: str) -> None:
    """A layer that spends all its cycles in one class is bound by the cause of that class."""
    found = binding_of({key: 90, "tail": 10})
    (cause,) = (cause for cause in CAUSES if key in [kind.key for kind in cause.classes])
    assert (found.key, found.verdict) == (cause.key, cause.verdict)
    assert found.share == pytest.approx(1.0 if key == "tail" or cause.key == "fill and drain" else 0.9)
    assert found.sentence.startswith(f"{found.share:.0%} of the cycles {cause.happens}")


def test_small_classes_of_one_cause_outweigh_a_large_one() -> None:
    """Three waits for DRAM of 20 % each beat 40 % MAC steps, and are named with their shares."""
    found = binding_of({"stream": 40, "wait_w": 20, "wait_x_load": 22, "store": 18}, "ws")
    assert found.verdict == "memory bound"
    assert found.sentence == "60% of the cycles wait for DRAM (22% activations, 20% weights, 18% last store, exposed)"


def test_the_array_says_how_much_of_it_works(result: Result) -> None:
    """MAC steps of a column use one PE in sixteen or all of them: compute bound does not mean well used."""
    text = binding(result).sentence
    steps = sum(layer.cycle_classes.get("stream", 0) for layer in result.layers)
    assert text.endswith(f"with {result.model.macs / (256 * steps):.0%} of its PEs in use")


def test_classes_and_components_of_later_versions_are_shown() -> None:
    """What this version does not know keeps its name and gets a colour of its own."""
    assert cycle_class("wait_moon").name == "wait moon"
    assert ordered_classes(["wait_moon", "tail", "stream"]) == ["stream", "tail", "wait_moon"]
    colours = component_colours(["static", "dram", "ghost"])
    assert list(colours) == ["dram", "ghost", "static"]
    assert len(set(colours.values())) == 3
    assert binding_of({"wait_moon": 9, "tail": 1}).verdict == "bound by other causes"


def test_a_run_without_time_binds_nothing(result: Result) -> None:
    """No layers: no division by zero."""
    empty = replace(result, layers=())
    assert facts(empty)[3].value == "takes no time"
