"""Results: on stdout and in files, complete, reproducible, and whole or not there."""

from __future__ import annotations

import errno
import json
import os
import warnings
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from accelsim.errors import ResourceLimitError
from accelsim.files.writing import write_atomically, write_together
from tests.cli.command import assert_refused, command, process
from tests.tiers import deep

# The keys that result.json promises, by path; later versions may add keys.
SCHEMA = {
    "": "schema_version model arch totals layers energy check versions",
    "model": "name sha256 macs parameters_bytes",
    "arch": "array accumulator buffers requant vector dram clock",
    "totals": "cycles macs utilisation energy_pj dram_bytes time_s",
    "energy": "components table sources",
    "check": "reference verdict tensors elements mismatched_elements first_mismatch float_reference literal_qdq",
    "versions": "accelsim numpy numba onnx onnxruntime",
}
LAYER = "name op placement m k n groups tiles cycles cycle_classes utilisation energy_pj dram_bytes acc"


def test_an_output_folder_is_made_and_holds_both_files_only(digits: Path, tmp_path: Path) -> None:
    """-o creates the folder with its parents, and writes both files and nothing else."""
    folder = tmp_path / "a" / "b"
    outcome = command("run", digits, "-o", folder)
    assert outcome.code == 0, outcome
    assert sorted(path.name for path in folder.iterdir()) == ["outputs.npz", "result.json"]
    with np.load(folder / "outputs.npz") as archive:
        assert archive.files == ["logits"]
        assert archive["logits"].shape == (1, 10)


def test_result_has_every_promised_key(digits: Path) -> None:
    """The JSON has all keys of the schema; layers partition cycles and energy."""
    result = json.loads(command("run", digits, "--json").stdout)
    assert result["schema_version"] == 1
    for path, keys in SCHEMA.items():
        part = result[path] if path else result
        assert set(keys.split()) <= set(part), path
    for layer in result["layers"]:
        assert set(LAYER.split()) <= set(layer)
        assert layer["placement"] in ("array", "vector", "dma", "host", "none")
        assert sum(layer["cycle_classes"].values()) == layer["cycles"]
    assert {"bits", "peak", "overflows", "min_safe_bits"} <= set(result["layers"][1]["acc"])
    assert {"max_lsb", "share"} <= set(result["check"]["literal_qdq"])
    assert result["totals"]["cycles"] == sum(layer["cycles"] for layer in result["layers"])
    assert result["totals"]["energy_pj"] == pytest.approx(sum(result["energy"]["components"].values()))
    assert result["check"]["verdict"] == "exact"


@deep
def test_equal_runs_give_equal_bytes(digits: Path, tmp_path: Path) -> None:
    """Two runs, in two processes with different hash seeds, write the same bytes; --json prints what -o writes."""
    first = command("run", digits, "-o", tmp_path / "first", "--json")
    second = process("run", digits, "-o", tmp_path / "second", "--json", PYTHONHASHSEED="1")
    assert (first.code, second.code) == (0, 0), second
    assert first.stdout == second.stdout
    for name in ("result.json", "outputs.npz"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    assert first.stdout == (tmp_path / "first" / "result.json").read_text()


def test_json_alone_on_stdout(digits: Path) -> None:
    """--json prints one JSON document and nothing else, also for `check` and also when the verdict is bad."""
    for arguments in (["run"], ["check"], ["run", "-q"], ["run", "-v"]):
        outcome = command(*arguments, digits, "--json")
        assert outcome.code == 0, outcome
        assert isinstance(json.loads(outcome.stdout), dict)
        assert outcome.stderr == ""
    wrong = command("run", digits, "--json", "--acc-bits", "12")
    assert wrong.code == 3
    assert json.loads(wrong.stdout)["check"]["verdict"] == "mismatch"


def test_quiet_prints_nothing_and_keeps_code_and_files(digits: Path, tmp_path: Path) -> None:
    """-q prints nothing at all; the exit code and the files still tell."""
    for arguments in (["run", "-o", tmp_path], ["check"]):
        outcome = command(*arguments, digits, "-q")
        assert (outcome.code, outcome.stdout, outcome.stderr) == (0, "", "")
    assert (tmp_path / "result.json").exists()
    assert command("check", digits, "-q", "--acc-bits", "12").code == 3


@pytest.mark.parametrize("arguments", [["run"], ["check"], ["run", "--overflow", "saturate"]])
def test_narrow_accumulators_are_a_mismatch(digits: Path, arguments: list[str]) -> None:
    """12 bits change the answer: exit code 3, and the first difference is named on stdout."""
    outcome = command(*arguments, digits, "--acc-bits", "12")
    assert outcome.code == 3
    assert "mismatch" in outcome.stdout
    assert "'stem_relu_out_QuantizeLinear_Output'" in outcome.stdout
    assert outcome.stderr == ""


def test_no_check_skips_the_verdict(digits: Path) -> None:
    """Without the comparison there is no verdict, so narrow accumulators do not fail."""
    outcome = command("run", digits, "--acc-bits", "12", "--no-check")
    assert outcome.code == 0
    assert "check    skipped" in outcome.stdout


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_folder_that_cannot_be_one(digits: Path, tmp_path: Path, below: str) -> None:
    """A path at or below a regular file cannot take results; this is noticed before any work."""
    (tmp_path / "file").write_text("x")
    assert_refused(command("run", digits, "-o", tmp_path / "file" / below), 2, "cannot write into", "Not a directory")
    assert (tmp_path / "file").read_text() == "x"


def test_folder_without_a_name(digits: Path) -> None:
    """An empty name does not mean the current folder."""
    assert_refused(command("run", digits, "-o", ""), 2, "output folder is empty")


def test_folder_that_is_not_writable(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without permission is refused before any work."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert_refused(command("run", digits, "-o", tmp_path / "new"), 2, "Permission denied", "-o")


@pytest.mark.parametrize("model", ["missing.onnx", "broken"])
def test_failed_runs_leave_nothing_behind(tmp_path: Path, model: str) -> None:
    """An error before the results exist creates no folder."""
    (tmp_path / "broken").write_bytes(b"nonsense")
    assert command("run", tmp_path / model, "-o", tmp_path / "results").code in (2, 5)
    assert not (tmp_path / "results").exists()


def _fail(error: BaseException) -> Any:
    """Return a function that always raises."""

    def function(*arguments: object, **options: object) -> NoReturn:
        raise error

    return function


FAULTS = {
    "disk full while syncing": ("fsync", OSError(errno.ENOSPC, "No space left on device")),
    "input/output error while renaming": ("replace", OSError(errno.EIO, "Input/output error")),
    "interrupted while syncing": ("fsync", KeyboardInterrupt()),
    "interrupted while renaming": ("replace", KeyboardInterrupt()),
}


@pytest.mark.parametrize(("function", "error"), FAULTS.values(), ids=FAULTS)
def test_failure_while_writing_leaves_the_old_results(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, error: BaseException
) -> None:
    """Whatever step of writing fails, both old files are intact, no temporary file is left, and the exit code tells."""
    for name in ("result.json", "outputs.npz"):
        (tmp_path / name).write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(os, function, _fail(error))
        outcome = command("run", digits, "-o", tmp_path)
    if isinstance(error, OSError):
        assert_refused(outcome, 6, "cannot write", str(error.strerror))
    else:
        assert_refused(outcome, 130, "interrupted")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"result.json": "old", "outputs.npz": "old"}
    assert command("run", digits, "-o", tmp_path).code == 0
    assert json.loads((tmp_path / "result.json").read_text())["schema_version"] == 1


def test_second_file_failing_keeps_both_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk fills up at the second file, the first one is not replaced either."""
    calls = []

    def fill_up(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "a").write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fill_up)
        with pytest.raises(ResourceLimitError, match="No space left"):
            write_together(tmp_path, {"a": b"new", "b": b"new"})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old"}


def test_target_that_is_a_directory(digits: Path, tmp_path: Path) -> None:
    """A folder where result.json should be is reported, and outputs.npz is not written alone."""
    (tmp_path / "result.json").mkdir()
    assert_refused(command("run", digits, "-o", tmp_path), 6, "result.json", "Is a directory")
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_leftover_of_a_killed_run(tmp_path: Path) -> None:
    """A temporary file, or a planted link, of the same name does not stop the writer and is not written through."""
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / f"new.tmp-{os.getpid()}").symlink_to(victim)
    write_atomically(tmp_path / "new", b"content")
    assert (tmp_path / "new").read_bytes() == b"content"
    assert not (tmp_path / "new").is_symlink()
    assert victim.read_text() == "untouched"


def test_internal_errors_are_one_sentence(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug of ours ends in one sentence with exit code 1; running out of memory and disk have their own code."""
    for error, code, words in (
        (RuntimeError("two\nlines \x1b[31m"), 1, "internal error: RuntimeError: two lines ?[31m"),
        (MemoryError(), 6, "out of memory"),
        (OSError(errno.ENOSPC, "No space left on device"), 6, "No space left on device"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ):
        monkeypatch.setattr("accelsim.simulation.run.run", _fail(error))
        assert_refused(command("run", digits), code, words)


def test_remarks_of_libraries_are_not_shown(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Warnings that numpy and others print with their source lines stay away from users, except with --debug."""

    def warn(*arguments: object, **options: object) -> NoReturn:
        warnings.warn("overflow encountered", RuntimeWarning, stacklevel=1)
        raise MemoryError

    monkeypatch.setattr("accelsim.simulation.run.run", warn)
    assert_refused(command("run", digits), 6, "out of memory")
    with pytest.warns(RuntimeWarning, match="overflow"):
        command("run", digits, "--debug")


def test_the_reference_can_be_onnxruntime_with_its_default_options(digits: Path) -> None:
    outcome = command("check", digits, "--reference", "ort-default", "--json")
    assert outcome.code == 0
    verdict = json.loads(outcome.stdout)
    assert "default options" in verdict["reference"]
    assert verdict["verdict"] == "exact"


def test_an_unknown_reference_is_refused(digits: Path) -> None:
    assert_refused(command("check", digits, "--reference", "tflite"), 2, "reference 'tflite'", "ort-default")
