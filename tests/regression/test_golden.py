"""`record` and `verify`: equal runs are equal to the byte, and whatever changes is named and counted."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

import accelsim
from accelsim.kernels.values.elementwise import requantise_rows
from accelsim.regression import folder as golden_folder
from accelsim.results.manifest import Manifest
from tests.cli.command import Outcome, assert_refused, command, process
from tests.hostile.builders import WIDTH, floats, quantised, replace_constant
from tests.tiers import few, few_rows


@pytest.fixture
def golden(digits: Path, tmp_path: Path) -> Path:
    """A record of the digits network."""
    folder = tmp_path / "golden"
    assert command("record", digits, "-o", folder, "-q").code == 0
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def groups(outcome: Outcome) -> dict[str, str]:
    """Return the status of each group of `verify --json`, as far as it is not equal."""
    data = json.loads(outcome.stdout)
    assert data["equal"] == (outcome.code == 0)
    found = {name: group["status"] for name, group in data["groups"].items() if group["status"] != "equal"}
    assert sorted(data["failed"]) == [name for name, status in found.items() if status == "changed"]
    for name, group in data["groups"].items():
        assert bool(group["rows"]) == (name in found)
    return found


def with_machine(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Let `verify` run on another machine than the recorded one, as a change of the simulator would."""
    real = Manifest.arch
    monkeypatch.setattr(Manifest, "arch", lambda manifest: real(manifest).evolve(**changes))


def break_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every requantised code of row 0 one too high."""

    def broken(acc: Any, multiplier: Any, zero: int, lowest: int, highest: int, out: Any) -> None:
        requantise_rows(acc, multiplier, zero, lowest, highest, out)
        out[0] += 1

    monkeypatch.setattr("accelsim.values.epilogue.requantise_rows", broken)


def with_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that numpy has another version."""
    real = accelsim.run

    def run(*arguments: Any, **options: Any) -> accelsim.Result:
        result = real(*arguments, **options)
        return replace(result, versions={**result.versions, "numpy": "99.0"})

    monkeypatch.setattr("accelsim.regression.record.run", run)


# ---- recording


def test_what_a_record_holds(golden: Path, digits: Path) -> None:
    """The manifest has model, machine, seed, digests of all tensors, cycles, energy, overflow, verdict, versions."""
    data = json.loads((golden / "manifest.json").read_text())
    assert sorted(contents(golden)) == ["manifest.json", "outputs.npz"]
    assert (data["kind"], data["schema_version"], data["seed"]) == ("accel-sim golden", 1, 0)
    result = accelsim.run(digits)
    assert data["model"]["sha256"] == result.model.sha256
    assert (golden / data["model"]["path"]).samefile(digits)
    observed = data["observed"]
    assert (observed["cycles"], observed["energy_pj"]) == (result.cycles, result.energy_pj)
    assert observed["versions"] == {**result.versions, "reference": result.check.reference}
    assert observed["check"]["verdict"] == "exact"
    for entry, layer in zip(observed["layers"], result.layers, strict=True):
        assert (entry["name"], entry["cycles"], entry["energy_pj"]) == (layer.name, layer.cycles, layer.energy_pj)
        assert entry["cycle_classes"] == layer.cycle_classes
        assert entry["acc"] == (None if layer.acc is None else vars(layer.acc))
        assert len(entry["outputs"]) == 1
    with np.load(golden / "outputs.npz") as archive:
        assert np.array_equal(archive["logits"], result.outputs["logits"])


def test_recording_twice_gives_equal_bytes(digits: Path, tmp_path: Path, golden: Path) -> None:
    """In another process with another hash seed, and over an older record: the same bytes."""
    again = tmp_path / "again"
    assert process("record", digits, "-o", again, PYTHONHASHSEED="1").code == 0
    assert contents(again) == contents(golden)
    assert command("record", digits, "-o", again, "--seed", "7").code == 0
    assert contents(again) != contents(golden)
    assert command("record", digits, "-o", again).code == 0
    assert contents(again) == contents(golden)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "golden"]


def test_inputs_and_machine_are_recorded(digits: Path, tmp_path: Path) -> None:
    """With --input the arrays are stored; every option of the machine comes back when it is verified."""
    folder = tmp_path / "golden"
    sample = digits.with_name("digits_sample.npz")
    options = ["--array", "8x4", "--dataflow", "os", "--acc-bits", "20", "--set", "dram.latency=7", "--input", sample]
    recorded = command("record", digits, "-o", folder, "--json", *options)
    assert recorded.code == 0, recorded
    assert recorded.stdout == (folder / "manifest.json").read_text()
    data = json.loads(recorded.stdout)
    assert data["seed"] is None
    assert data["machine"]["array"]["cols"] == 4
    assert data["machine"]["dram"]["latency"] == 7
    assert sorted(contents(folder)) == ["inputs.npz", "manifest.json", "outputs.npz"]
    assert command("verify", folder).code == 0
    assert command("run", digits, *options, "--json").stdout.count(f'"cycles": {data["observed"]["cycles"]},') == 1


def test_a_mismatch_is_recorded_too(digits: Path, tmp_path: Path) -> None:
    """A machine that is too narrow on purpose: exit code 3 as from `run`, and the record verifies as it is."""
    recorded = command("record", digits, "-o", tmp_path / "golden", "--acc-bits", "12")
    assert recorded.code == 3
    assert "cause: accumulator-overflow" in recorded.stdout
    verified = command("verify", tmp_path / "golden")
    assert verified.code == 0, verified
    assert "the verdict against onnxruntime is mismatch" in verified.stdout


@pytest.mark.parametrize("present", ["notes.txt", "manifest.json", "outputs.npz", "folder"])
def test_other_files_are_not_overwritten(digits: Path, tmp_path: Path, present: str) -> None:
    """A folder that is no golden folder is refused before any work, and left as it is."""
    path = tmp_path / present
    path.mkdir() if present == "folder" else path.write_text('{"kind": "mine"}')
    refused = command("record", digits, "-o", tmp_path)
    assert_refused(refused, 2, present, "no part of a golden folder")
    assert [entry.name for entry in tmp_path.iterdir()] == [present]


def test_a_record_with_a_foreign_file_is_not_replaced(digits: Path, golden: Path) -> None:
    """Somebody's notes beside the record would be lost, so that it is refused."""
    (golden / "README.md").write_text("mine")
    before = contents(golden)
    assert_refused(command("record", digits, "-o", golden), 2, "README.md")
    assert contents(golden) == before


def test_targets_that_are_no_folders(digits: Path, tmp_path: Path) -> None:
    """A file, and a folder that cannot be created, are refused before any work."""
    (tmp_path / "file").write_text("x")
    assert_refused(command("record", digits, "-o", tmp_path / "file"), 2, "cannot write into")
    assert_refused(command("record", digits, "-o", tmp_path / "file" / "below"), 2, "cannot write into")
    assert_refused(command("record", digits), 2, "--output")


def test_an_empty_folder_is_taken(digits: Path, tmp_path: Path) -> None:
    """A folder that exists and is empty becomes the record; a link to one is followed."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert command("record", digits, "-o", tmp_path / "link").code == 0
    assert (tmp_path / "link").is_symlink()
    assert sorted(contents(tmp_path / "real")) == ["manifest.json", "outputs.npz"]


# ---- whole or not there

_KILLER = """
import os, signal, sys
from accelsim.regression import folder as golden_folder
from accelsim.cli.app import main

def kill(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

step, count = sys.argv[1], int(sys.argv[2])
real = getattr(golden_folder, step)
calls = []

def counting(*arguments):
    calls.append(arguments)
    return kill() if len(calls) == count else real(*arguments)

setattr(golden_folder, step, counting)
main(sys.argv[3:])
"""


@pytest.mark.parametrize(
    ("step", "count"),
    few_rows([("write_through", 2), ("_put_in_place", 1), ("write_through", 1), ("sync_folder", 2)], 1),
)
@pytest.mark.parametrize("existing", few([False, True], [True]), ids=["new", "over an older record"])
def test_a_kill_while_writing_leaves_the_old_record_or_the_new(
    digits: Path, tmp_path: Path, step: str, count: int, existing: bool
) -> None:
    """After kill -9 at any step the folder is the old record or the new one, whole, and can be written again."""
    folder = tmp_path / "golden"
    before = {}
    if existing:
        assert command("record", digits, "-o", folder, "-q").code == 0
        before = contents(folder)
    arguments = ["record", digits, "-o", folder, "--seed", "9"]
    done = subprocess.run([sys.executable, "-c", _KILLER, step, str(count), *map(str, arguments)], check=False)
    assert done.returncode == -signal.SIGKILL
    if step == "sync_folder":
        assert command("verify", folder).code == 0
        assert contents(folder) != before
    else:
        assert (contents(folder) if folder.exists() else {}) == before
    assert command(*arguments).code == 0
    assert command("verify", folder).code == 0


@pytest.mark.parametrize("name", ["fsync", "rename"])
def test_a_full_disk_leaves_the_old_record(
    digits: Path, golden: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """An error while writing is one sentence; the old record stays, and nothing else is left behind."""

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = contents(golden)
    with monkeypatch.context() as patch:
        patch.setattr(os, name, fail)
        patch.setattr(golden_folder, "_exchange", lambda *names: False)
        patch.setattr(golden_folder, "write_together", fail)
        outcome = command("record", digits, "-o", golden, "--seed", "3")
    assert_refused(outcome, 6, "cannot write", "No space left")
    assert contents(golden) == before
    assert [path.name for path in golden.parent.iterdir()] == ["golden"]


def test_systems_that_cannot_exchange_names(digits: Path, golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the files are replaced one by one, the manifest last, and files of the old record only are removed."""
    (sample,) = [digits.with_name("digits_sample.npz")]
    monkeypatch.setattr(golden_folder, "_exchange", lambda *names: False)
    assert command("record", digits, "-o", golden, "--input", sample, "--copy-model").code == 0
    assert sorted(contents(golden)) == ["inputs.npz", "manifest.json", "model.onnx", "outputs.npz"]
    assert command("verify", golden).code == 0
    assert command("record", digits, "-o", golden).code == 0
    assert sorted(contents(golden)) == ["manifest.json", "outputs.npz"]


# ---- verifying


def test_an_unchanged_run_verifies_with_code_0_and_two_lines(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 0 and two lines; from another folder too; -q prints nothing; --json says equal."""
    outcome = command("verify", golden)
    assert outcome.code == 0, outcome
    assert outcome.stdout.startswith("verify   equal (digits_int8.onnx in ")
    assert len(outcome.stdout.splitlines()) == 2
    monkeypatch.chdir(golden)
    assert command("verify", ".", "-q") == Outcome(0, "", "")
    assert groups(command("verify", ".", "--json")) == {}


def test_where_the_model_is(digits: Path, tmp_path: Path) -> None:
    """A copy in the folder, the recorded relative path, or --model; else a sentence that asks for it."""
    model = tmp_path / "a" / "m.onnx"
    model.parent.mkdir()
    shutil.copy(digits, model)
    assert command("record", model, "-o", tmp_path / "a" / "golden").code == 0
    assert command("record", model, "-o", tmp_path / "copied", "--copy-model").code == 0
    shutil.move(tmp_path / "a", tmp_path / "b")
    moved = tmp_path / "b" / "golden"
    assert command("verify", moved).code == 0
    (tmp_path / "b" / "m.onnx").unlink()
    assert_refused(command("verify", moved), 2, "'../m.onnx' is not there", "--model")
    assert command("verify", moved, "--model", digits).code == 0
    assert command("verify", tmp_path / "copied").code == 0
    assert_refused(command("verify", moved, "--model", tmp_path / "none.onnx"), 2, "No such file")


def test_a_changed_weight_is_told_from_its_layer_to_the_outputs(tmp_path: Path) -> None:
    """One weight changed: the model, the values from its layer on, and the outputs with their distance."""

    def weights(change: int) -> ModelProto:
        values = np.arange(-32, 32, dtype=np.int8).reshape(WIDTH, WIDTH)
        values[0, 0] += change
        return quantised(replace_constant("weights", values), replace_constant("out_scale", np.float32(0.001)))

    path = tmp_path / "model.onnx"
    path.write_bytes(weights(0).SerializeToString())
    np.savez(tmp_path / "x.npz", x=np.full((1, WIDTH), 0.5, np.float32))
    assert command("record", path, "-o", tmp_path / "golden", "--input", tmp_path / "x.npz").code == 0
    path.write_bytes(weights(50).SerializeToString())
    outcome = command("verify", tmp_path / "golden")
    assert outcome.code == 3
    assert "different: model, values" in outcome.stdout
    assert "2 tensors differ, the first of them in topological order:" in outcome.stdout
    assert "'out_codes' of layer 'product' (QLinearMatMul)" in outcome.stdout
    assert "y: output: 1 of 8 elements differ, by at most" in outcome.stdout
    assert groups(command("verify", tmp_path / "golden", "--json"))["model"] == "changed"


def test_a_fault_in_our_kernels_names_the_first_layer(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in our kernels: the first layer is named, and the verdict against onnxruntime changed as well."""
    break_values(monkeypatch)
    outcome = command("verify", golden)
    assert outcome.code == 3
    assert "different: values, verdict" in outcome.stdout
    assert "of layer 'stem' (QLinearConv)" in outcome.stdout
    assert "exact -> mismatch" in outcome.stdout
    assert "cause: kernel" in outcome.stdout
    assert "versions" not in outcome.stdout
    assert groups(command("verify", golden, "--json", "--ignore", "verdict"))["verdict"] == "ignored"
    assert command("verify", golden, "--ignore", "verdict", "--ignore", "values", "--ignore", "overflow").code == 0


def test_cycles_and_energy_that_changed(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another DRAM latency: old and new cycles in total and by layer; tolerances apply to the totals."""
    with_machine(monkeypatch, dram_latency=101)
    outcome = command("verify", golden)
    assert outcome.code == 3
    assert "different: cycles" in outcome.stdout
    assert re.search(r"total +14,986 -> 15,0", outcome.stdout)
    assert "stem" in outcome.stdout
    assert "most of it wait_" in outcome.stdout
    assert groups(command("verify", golden, "--json", "--cycles-tolerance", "0.01")) == {"cycles": "tolerated"}
    assert command("verify", golden, "--cycles-tolerance", "0.00001").code == 3
    with_machine(monkeypatch, acc_bits=31)
    changed = command("verify", golden, "--json", "--cycles-tolerance", "0.01")
    assert groups(changed)["energy"] == "changed"
    assert {row["label"] for row in json.loads(changed.stdout)["groups"]["energy"]["rows"]} >= {"total", "layers"}
    lenient = ["--cycles-tolerance", "0.01", "--energy-tolerance", "0.05", "--ignore", "overflow"]
    assert command("verify", golden, *lenient).code == 0
    text = command("verify", golden).stdout
    assert "µJ -> " in text
    assert "first 'stem'" in text


def test_new_overflow_events_are_a_change(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that appear in a narrower accumulator are a change, even where values stay."""
    assert command("record", digits, "-o", tmp_path / "golden").code == 0
    with_machine(monkeypatch, acc_bits=16)
    changed = command("verify", tmp_path / "golden", "--json")
    assert groups(changed)["overflow"] == "changed"
    rows = json.loads(changed.stdout)["groups"]["overflow"]["rows"]
    assert any(row["remark"] == "overflows" and row["old"] == 0 and row["new"] > 0 for row in rows)


def test_other_versions_are_reported_and_are_no_failure(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another numpy is no failure; when values changed as well, the versions are where to look first."""
    with_versions(monkeypatch)
    outcome = command("verify", golden)
    assert outcome.code == 0
    assert "versions changed, which is no failure by itself" in outcome.stdout
    assert f"{np.__version__} -> 99.0" in outcome.stdout
    assert groups(command("verify", golden, "--json", "--ignore", "versions")) == {"versions": "ignored"}
    break_values(monkeypatch)
    assert "versions changed, and so did values: look here first" in command("verify", golden).stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--ignore", "cycle"], ["'cycle'", "did you mean 'cycles'?"]),
        (["--cycles-tolerance", "-1"], ["tolerance of cycles", "0.01"]),
        (["--energy-tolerance", "nan"], ["tolerance of energy"]),
        (["--energy-tolerance", "inf"], ["tolerance of energy"]),
    ],
)
def test_arguments_out_of_range(golden: Path, arguments: list[str], words: list[str]) -> None:
    """Mistakes on the command line are usage errors."""
    assert_refused(command("verify", golden, *arguments), 2, *words)


def test_record_and_verify_work_from_python(digits: Path, tmp_path: Path) -> None:
    """accelsim.record and accelsim.verify; a model from bytes has no path, so that it has to be given again."""
    model = accelsim.load(digits.read_bytes())
    result = accelsim.record(model, tmp_path / "golden", accelsim.Arch(array=(8, 8)), seed=3)
    assert result.check.verdict == "exact"
    with pytest.raises(accelsim.UsageError, match="is not there"):
        accelsim.verify(tmp_path / "golden")
    with pytest.raises(accelsim.UsageError, match="cannot be copied"):
        accelsim.record(model, tmp_path / "other", copy_model=True)
    comparison = accelsim.verify(tmp_path / "golden", model)
    assert comparison.equal
    assert comparison.cycles == result.cycles
    with pytest.raises(accelsim.UsageError, match="another reference"):
        accelsim.verify(tmp_path / "golden", accelsim.load(digits, reference="ort-default"))


def test_recorded_inputs_bind_a_dynamic_batch_again(tmp_path: Path) -> None:
    """Recorded inputs of a batch of 3 bind a dynamic dimension again."""
    model = quantised(lambda proto: proto.graph.input[0].CopyFrom(floats("x", ["batch", WIDTH])))
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    np.savez(tmp_path / "x.npz", x=np.ones((3, WIDTH), np.float32))
    assert command("record", path, "-o", tmp_path / "golden", "--input", tmp_path / "x.npz").code == 0
    assert command("verify", tmp_path / "golden").code == 0
    record = json.loads((tmp_path / "golden" / "manifest.json").read_text())
    assert record["observed"]["outputs"][0]["shape"] == [3, WIDTH]


# ---- again


@pytest.mark.parametrize("inputs", ["seed", "file"])
@pytest.mark.parametrize("copied", [False, True])
def test_again_records_what_the_folder_says(inputs: str, copied: bool, digits: Path, tmp_path: Path) -> None:
    """Equal bytes when nothing changed: model, machine, options and inputs come from the folder."""
    folder = tmp_path / "golden"
    np.savez(tmp_path / "x.npz", image=np.full((2, 1, 16, 16), 0.5, np.float32))
    options = ["--seed", "7"] if inputs == "seed" else ["--input", tmp_path / "x.npz"]
    options += ["--array", "8x4", "--acc-bits", "24", "--overflow", "saturate", "--reference", "ort-default"]
    options += ["--copy-model"] if copied else []
    assert command("record", digits, "-o", folder, *options).code == 0
    before = contents(folder)
    assert command("record", "--again", folder).code == 0
    assert contents(folder) == before


def test_again_takes_what_changed(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version of the machine is recorded in the place of the old one, and then verifies."""
    with_machine(monkeypatch, dram_latency=101)
    assert command("verify", golden).code == 3
    assert "recorded" in command("record", "--again", golden).stdout
    assert command("verify", golden).code == 0


def test_again_finds_a_model_that_moved(digits: Path, tmp_path: Path) -> None:
    """The model's place is the one thing that may be given; without it the old record stays as it is."""
    golden, model, moved = tmp_path / "golden", tmp_path / "m.onnx", tmp_path / "moved.onnx"
    shutil.copy(digits, model)
    assert command("record", model, "-o", golden).code == 0
    model.rename(moved)
    before = contents(golden)
    assert "is not there" in command("record", "--again", golden).stderr
    assert contents(golden) == before
    assert command("record", moved, "--again", golden).code == 0
    assert command("verify", golden).code == 0


@pytest.mark.parametrize(
    "option",
    [
        ("--array", "8x8"), ("-o", "x"), ("--seed", "3"), ("--seed", "0"), ("--copy-model",), ("--bind", "batch=4"),
        ("--reference", "ort"),
    ],
)  # fmt: skip
def test_again_takes_no_options_of_its_own(golden: Path, option: tuple[str, ...]) -> None:
    """The folder says them."""
    before = contents(golden)
    outcome = command("record", "--again", golden, *option)
    assert outcome.code == 2
    assert option[0] in outcome.stderr
    assert contents(golden) == before


def test_again_of_what_is_no_golden_folder(digits: Path, tmp_path: Path) -> None:
    """A missing folder names the command that makes one; so does a command without model or folder."""
    outcome = command("record", "--again", tmp_path / "none")
    assert outcome.code == 2
    assert "accel-sim record MODEL -o FOLDER" in outcome.stderr
    assert command("verify", tmp_path / "none").stderr.count("accel-sim record MODEL -o FOLDER") == 1
    for arguments in ((), (digits,), ("-o", tmp_path / "new")):
        outcome = command("record", *arguments)
        assert (outcome.code, "--again FOLDER" in outcome.stderr) == (2, True)
