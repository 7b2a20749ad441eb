"""Runs the command line: inside this process (fast), or as the process that a user starts."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from onnx import ModelProto

from accelsim.cli.app import main


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it printed."""

    code: int
    stdout: str
    stderr: str


def command(*arguments: str | Path) -> Outcome:
    """Run `accel-sim ARGUMENTS` inside this process."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with redirect_stdout(stdout), redirect_stderr(stderr):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as leaving:
            code = leaving.code
    assert isinstance(code, int)
    return Outcome(code, stdout.getvalue(), stderr.getvalue())


def run_model(folder: Path, model: ModelProto | bytes, *arguments: str) -> Outcome:
    """Write a model into a folder and run `accel-sim run` on it."""
    path = folder / "model.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return command("run", path, *arguments)


def process_arguments(*arguments: str | Path) -> list[str]:
    """Return the arguments that start the command as a process of its own."""
    return [sys.executable, "-m", "accelsim", *map(str, arguments)]


def process_environment(changes: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without what decides about colours and encodings, plus some changes."""
    hidden = ("NO_COLOR", "FORCE_COLOR", "PYTHONIOENCODING", "PYTHONUTF8", "LC_ALL", "TERM", "COLUMNS")
    return {key: value for key, value in os.environ.items() if key not in hidden} | dict(changes)


def process(*arguments: str | Path, **environment: str) -> Outcome:
    """Run `accel-sim ARGUMENTS` as a process, its output captured by pipes."""
    done = subprocess.run(
        process_arguments(*arguments), capture_output=True, env=process_environment(environment), timeout=120
    )
    return Outcome(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


def assert_refused(outcome: Outcome, code: int, *words: str) -> None:
    """Demand an exit code, an empty stdout, and a message on stderr that is short, inert and has these words.

    Only a list of unsupported operators (exit code 4) may take more than one line.
    """
    assert outcome.code == code, outcome
    assert outcome.stdout == "", outcome
    assert outcome.stderr.startswith("accel-sim: "), outcome
    assert outcome.stderr.endswith("\n"), outcome
    lines = outcome.stderr[:-1].split("\n")
    assert len(lines) == 1 or code == 4, outcome
    assert all(line.isprintable() for line in lines), outcome
    assert all(len(line) < 1000 for line in lines), outcome
    assert "Traceback" not in outcome.stderr, outcome
    missing = [word for word in words if word not in outcome.stderr]
    assert not missing, (missing, outcome)
