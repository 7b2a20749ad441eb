"""The pytest plugin in a pytest of its own: light when unused, strict-markers safe, failures that say what to do."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.command import command
from tests.hostile.builders import quantised
from tests.tiers import deep

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Outcomes:
    """What a pytest run printed and how its tests ended: "" or the failure's text by test name."""

    code: int
    output: str
    failures: dict[str, str]


def run_pytest(folder: Path, text: str, *options: str) -> Outcomes:
    """Run pytest on one file in a folder that becomes its root."""
    (folder / "test_it.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\n")
    arguments = ["-m", "pytest", "-p", "no:cacheprovider", "--strict-markers", "--junitxml=report.xml", *options]
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    failures = {}
    for case in ElementTree.parse(folder / "report.xml").iter("testcase"):
        found = [element.text or "" for kind in ("failure", "error") for element in case.iter(kind)]
        failures[case.attrib["name"]] = "\n".join(found)
    return Outcomes(done.returncode, done.stdout + done.stderr, failures)


def test_the_entry_point_is_installed() -> None:
    """The plugin is found by pytest without any configuration."""
    names = {entry.name: entry.value for entry in metadata.entry_points(group="pytest11")}
    assert names.get("accelsim") == "accelsim.regression.pytest_plugin", (
        "install the package again: pip install -e '.[test]'"
    )


def test_a_pytest_without_models_is_left_alone(tmp_path: Path) -> None:
    """Nothing of weight is imported, no option is added, and warnings as errors stay quiet."""
    text = (
        "import sys\n"
        "def test_light():\n"
        "    heavy = {'numpy', 'numba', 'onnx', 'onnxruntime', 'pydantic', 'rich', 'typer'}\n"
        "    assert 'accelsim.regression.pytest_plugin' in sys.modules\n"
        "    assert not heavy & set(sys.modules)\n"
    )
    outcomes = run_pytest(tmp_path, text, "-W", "error", "-p", "no:hypothesispytest")
    assert outcomes.code == 0, outcomes.output
    listing = run_pytest(tmp_path, text, "--markers")
    assert "@pytest.mark.accel_sim(model, *, exact=True" in listing.output


def test_without_the_plugin_nothing_else_changes(tmp_path: Path) -> None:
    """It can be switched off by name."""
    outcomes = run_pytest(tmp_path, "def test_it(accel_sim):\n    pass\n", "-p", "no:accelsim")
    assert outcomes.code == 1
    assert "fixture 'accel_sim' not found" in outcomes.output


PASSING = """
import unittest
import numpy as np
import pytest

MODEL = "models/digits_int8.onnx"

def test_three_lines(accel_sim):
    result = accel_sim(MODEL, array="16x16")
    result.assert_exact()
    result.assert_cycles(at_most=20_000)
    result.assert_energy_uj(at_most=30)

def test_runs_are_kept(accel_sim):
    first = accel_sim(MODEL, array="16x16")
    assert accel_sim(MODEL, array="16x16") is first
    assert accel_sim(MODEL, array=(8, 8)) is not first
    assert first.cycles == first.result.cycles
    assert first.energy_uj == pytest.approx(first.result.energy_pj / 1e6)
    assert first.outputs["logits"].shape == (1, 10)

def test_all_options(accel_sim):
    image = np.zeros((2, 1, 16, 16), np.float32)
    result = accel_sim(
        MODEL, array="8x8", dataflow="os", acc_bits=24, overflow="saturate", arch="edge",
        settings=["dram.latency=9"], inputs={"image": image}, reference="ort-default", external_data=False,
    ).result
    assert (result.arch["array"]["rows"], result.arch["dram"]["latency"]) == (8, 9)
    assert result.outputs["logits"].shape == (2, 10)

def test_tolerances(accel_sim):
    result = accel_sim(MODEL)
    result.assert_cycles(at_most=result.cycles)
    result.assert_cycles(at_most=result.cycles / 1.05, tolerance=0.06)

@pytest.mark.accel_sim(model=MODEL, array="16x16", cycles=20_000, energy_uj=30, no_overflow=True)
@pytest.mark.accel_sim(MODEL, array="8x8")
def test_markers():
    pass

@pytest.mark.accel_sim(MODEL, acc_bits=12, exact=False, overflow="wrap")
def test_marker_of_a_machine_that_is_too_narrow():
    pass

@pytest.mark.skip
@pytest.mark.accel_sim("none.onnx")
def test_skipped():
    pass

@pytest.mark.xfail(strict=True)
@pytest.mark.accel_sim(MODEL, acc_bits=12)
def test_expected_failure():
    pass

class TestUnit(unittest.TestCase):
    @pytest.mark.accel_sim(MODEL, array="16x16")
    def test_unit(self):
        pass

def test_golden(accel_sim):
    assert accel_sim.verify("golden").equal
    accel_sim.verify("golden", model=MODEL, ignore=["versions"])
"""

FAILING = """
import pytest

MODEL = "models/digits_int8.onnx"

def test_exact(accel_sim):
    accel_sim(MODEL, acc_bits=12).assert_exact()

def test_cycles(accel_sim):
    accel_sim(MODEL).assert_cycles(at_most=10_000)

def test_cycles_beyond_tolerance(accel_sim):
    accel_sim(MODEL).assert_cycles(at_most=10_000, tolerance=0.4)

def test_energy(accel_sim):
    accel_sim(MODEL).assert_energy_uj(at_most=3)

def test_overflow(accel_sim):
    accel_sim(MODEL, acc_bits=12).assert_no_overflow()

def test_verify(accel_sim):
    accel_sim.verify("golden", model="other.onnx")

def test_no_model(accel_sim):
    accel_sim("none.onnx")

def test_no_golden(accel_sim):
    accel_sim.verify("silver")

def test_unknown_option(accel_sim):
    accel_sim(MODEL, arry="16x16")

def test_unknown_verify_option(accel_sim):
    accel_sim.verify("golden", tolerance=1)

def test_bad_machine(accel_sim):
    accel_sim(MODEL, array="0x16")

def test_a_budget_of_nan_is_refused(accel_sim):
    accel_sim(MODEL).assert_cycles(at_most=float("nan"))

@pytest.mark.accel_sim(MODEL, cycles=10_000)
def test_marker_cycles():
    raise SystemError("the body ran although the budget is broken")

@pytest.mark.accel_sim(MODEL, acc_bits=12)
def test_marker_exact(): pass

@pytest.mark.accel_sim(MODEL, energy_uj="3")
def test_marker_bad_budget(): pass

@pytest.mark.accel_sim(array="16x16")
def test_marker_without_a_model(): pass

@pytest.mark.accel_sim(MODEL, cycels=3)
def test_marker_unknown_option(): pass
"""

EXPECTED = {
    "test_exact": ["digits_int8.onnx is not bit-exact:", "first difference at [0, 0, 0, 1]", "accumulators: ours"],
    "test_cycles": [
        "digits_int8.onnx on 16x16 ws takes",
        "more than the 10,000 allowed (+",
        "most of them in:",
        "depthwise2",
    ],
    "test_cycles_beyond_tolerance": ["40.00% tolerated"],
    "test_energy": ["more than the 3 uJ allowed", "most of it by component:", "dram", "most of it by layer:"],
    "test_overflow": [
        "overflow events in 12-bit accumulators",
        "19 needed by the sums of this input",
        "bits needed: 1",
        "stem",
    ],
    "test_verify": ["verify   different: model", "values", "tensors differ"],
    "test_no_model": ["accel-sim: cannot read none.onnx: No such file or directory"],
    "test_no_golden": ["accel-sim: silver is not a folder", "accel-sim record MODEL -o FOLDER"],
    "test_unknown_option": [
        "accel-sim: there is no option 'arry' (did you mean 'array'?)",
        "valid are array, dataflow, acc_bits, overflow, arch, settings, inputs, seed, reference, external_data",
    ],
    "test_unknown_verify_option": [
        "accel-sim: there is no option 'tolerance'",
        "valid are model, cycles_tolerance, energy_tolerance, ignore, external_data",
    ],
    "test_bad_machine": ["accel-sim: array 0x16 is outside"],
    "test_a_budget_of_nan_is_refused": ["the budget of cycles is nan"],
    "test_marker_cycles": ["more than the 10,000 allowed", "most of them in:"],
    "test_marker_exact": ["is not bit-exact", "cause: accumulator-overflow"],
    "test_marker_bad_budget": ["accel-sim: the budget of energy_uj is '3'"],
    "test_marker_without_a_model": ["exactly one model"],
    "test_marker_unknown_option": [
        "there is no option 'cycels' (did you mean 'cycles'?)",
        "valid are exact, max_lsb, max_ulp, cycles, energy_uj, no_overflow, tolerance, array, dataflow, acc_bits, "
        "overflow, arch",
    ],
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and a record of it, as a team would have."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "models").mkdir()
    shutil.copy(ROOT / "models" / "digits_int8.onnx", folder / "models")
    (folder / "other.onnx").write_bytes(quantised().SerializeToString())
    assert command("record", folder / "models" / "digits_int8.onnx", "-o", folder / "golden", "-q").code == 0
    return folder


def test_what_holds_passes(project: Path) -> None:
    """Fixture, markers, kept runs, options, tolerances, skips, expected failures, unittest classes and records."""
    outcomes = run_pytest(project, PASSING, "-W", "error")
    assert outcomes.code == 0, outcomes.output
    assert "8 passed, 1 skipped, 1 xfailed" in outcomes.output


@pytest.fixture(scope="module")
def failing(project: Path) -> Outcomes:
    """The outcomes of tests whose demands do not hold."""
    return run_pytest(project, FAILING)


def test_failures_are_failures(failing: Outcomes) -> None:
    """Every test fails, in its call and not in its setup, and the body behind a broken budget never runs."""
    assert failing.code == 1
    assert set(failing.failures) == set(EXPECTED)
    assert f"{len(EXPECTED)} failed" in failing.output
    assert " error" not in failing.output.splitlines()[-1]
    assert "During handling" not in failing.output
    assert "SystemError" not in failing.failures["test_marker_cycles"]


@pytest.mark.parametrize("name", EXPECTED)
def test_failures_say_what_to_do(failing: Outcomes, name: str) -> None:
    """Readable messages; the inside of the plugin and of the simulator is not shown."""
    text = failing.failures[name]
    for words in EXPECTED[name]:
        assert words in text, text
    for inside in ("pytest_plugin.py", "expectations.py", "simulation/run.py", "regression/record.py:"):
        assert inside not in text, text


@deep
def test_arrays_are_compared_by_value(project: Path) -> None:
    """Runs on arrays that were given are not taken for each other."""
    text = (
        "import numpy as np\n"
        "def test_it(accel_sim):\n"
        "    runs = [accel_sim('models/digits_int8.onnx', inputs={'image': np.full((1, 1, 16, 16), v, np.float32)})\n"
        "            for v in (0.0, 1.0)]\n"
        "    assert not np.array_equal(runs[0].outputs['logits'], runs[1].outputs['logits'])\n"
    )
    outcomes = run_pytest(project, text)
    assert outcomes.code == 0, outcomes.output
