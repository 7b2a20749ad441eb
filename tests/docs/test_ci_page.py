"""docs/in_your_ci.md does what it says: recipes are YAML, their commands succeed in order and fail on a difference."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.command import command
from tests.tiers import deep

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "in_your_ci.md").read_text("utf-8")
RECIPES: list[dict[str, Any]] = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
(RECORD,) = re.findall(r"```bash\n(.*?)\n```", PAGE, re.DOTALL)


def steps_of(recipe: dict[str, Any]) -> list[str]:
    """Return the lines that a recipe runs, in order."""
    if "jobs" in recipe:
        steps = recipe["jobs"]["check"]["steps"]
        return [line for step in steps if "run" in step for line in step["run"].splitlines()]
    job = recipe["accelerator"]
    return [*job["before_script"], *job["script"]]


def checks_of(recipe: dict[str, Any]) -> list[list[str]]:
    """Return the commands that hold the model, without the installation."""
    lines = [shlex.split(line) for line in steps_of(recipe) if line.startswith(("accel-sim ", "python -m pytest"))]
    assert len(lines) == 3
    return lines


def run(words: list[str], folder: Path) -> int:
    """Run one command of a recipe and return its exit code."""
    if words[0] == "accel-sim":
        return command(*words[1:]).code
    arguments = [sys.executable, *words[1:], "-p", "no:cacheprovider"]
    return subprocess.run(arguments, cwd=folder, capture_output=True, check=False).returncode


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository as the page takes it, with the golden folder that the page writes."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "models" / "digits_int8.onnx", "model.onnx")
    shutil.copy(ROOT / "models" / "digits_sample.npz", "inputs.npz")
    Path("tests").mkdir()
    budget = 'def test_budget(accel_sim):\n    accel_sim("model.onnx", array="16x16").assert_cycles(at_most=20_000)\n'
    Path("tests", "test_model.py").write_text(budget, "utf-8")
    program, *arguments = shlex.split(RECORD)
    assert program == "accel-sim"
    assert command(*arguments).code == 0
    return tmp_path


def test_there_is_a_recipe_for_each() -> None:
    """Two recipes, which install accel-sim and cache the folder of the kernels."""
    assert len(RECIPES) == 2
    for recipe in RECIPES:
        text = "\n".join(steps_of(recipe))
        assert "pip install" in text
    github, gitlab = RECIPES[0]["jobs"]["check"], RECIPES[1]["accelerator"]
    (cached,) = [step["with"]["path"] for step in github["steps"] if "cache" in step.get("uses", "")]
    assert github["env"]["ACCEL_SIM_CACHE_DIR"].endswith(cached)
    assert (
        gitlab["variables"]["ACCEL_SIM_CACHE_DIR"]
        .removeprefix("$CI_PROJECT_DIR/")
        .startswith(gitlab["cache"]["paths"][0])
    )


@deep
def test_the_commands_succeed_on_what_was_recorded_and_fail_on_another_model(repository: Path) -> None:
    """Both recipes run the same commands: 0 on the recorded model; 3, 3 and 1 on another one with a smaller budget."""
    check, verify, budget = commands = checks_of(RECIPES[0])
    assert checks_of(RECIPES[1]) == commands
    assert [run(words, repository) for words in commands] == [0, 0, 0]
    shutil.copy(ROOT / "models" / "digits_w4_ptq.onnx", repository / "model.onnx")
    test = repository / "tests" / "test_model.py"
    test.write_text(test.read_text("utf-8").replace("20_000", "1_000"), "utf-8")
    assert [run(check, repository), run(verify, repository), run(budget, repository)] == [3, 3, 1]


def test_the_page_is_linked() -> None:
    """The README leads to it."""
    assert "(docs/in_your_ci.md)" in (ROOT / "README.md").read_text("utf-8")
