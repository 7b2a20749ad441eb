"""Golden folders that were tampered with, cut, or never were any: one sentence, the right exit code, nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accelsim.files.writing import pack_npz
from accelsim.results.manifest import _seal
from tests.cli.command import assert_refused, command
from tests.tiers import deep

Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record of the digits network with its inputs and model."""
    models = Path(__file__).resolve().parent.parent.parent / "models"
    folder = tmp_path_factory.mktemp("recorded") / "golden"
    sample = models / "digits_sample.npz"
    done = command("record", models / "digits_int8.onnx", "-o", folder, "--input", sample, "--copy-model", "-q")
    assert done.code == 0
    return folder


@pytest.fixture
def golden(recorded: Path, tmp_path: Path) -> Path:
    """A copy of the record that a test may spoil."""
    return Path(shutil.copytree(recorded, tmp_path / "golden"))


def edit(golden: Path, change: Callable[[Manifest], object], *, seal: bool = True) -> None:
    """Change the manifest, and seal it again unless the tampering is to be clumsy."""
    path = golden / "manifest.json"
    data = json.loads(path.read_text())
    change(data)
    if seal:
        data["seal"] = _seal({key: value for key, value in data.items() if key != "seal"})
    path.write_text(json.dumps(data, indent=1, sort_keys=True))


def replace_file(golden: Path, name: str, content: bytes) -> None:
    """Replace a file of the folder so that every digest is right."""
    (golden / name).write_bytes(content)
    entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    edit(golden, lambda data: data["files"].update({name: entry}))


def test_the_copy_is_intact(golden: Path) -> None:
    """The fixture itself verifies, also when it is sealed again by the tests' hand."""
    edit(golden, lambda data: None)
    assert command("verify", golden).code == 0


# ---- not a golden folder


def test_a_path_that_is_no_folder_is_a_usage_error(tmp_path: Path) -> None:
    """A path that is missing, empty, a file, or has a zero character is a usage error."""
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "none", tmp_path / "file", "", "a\0b", "x" * 5000):
        assert_refused(command("verify", path), 2, "is not a folder")
    assert_refused(command("verify", tmp_path), 2, "has no manifest.json")


@pytest.mark.parametrize("text", ["{}", '{"kind": "accel-sim dump"}', '{"kind": ["accel-sim golden"]}'])
def test_another_kind_of_folder(tmp_path: Path, text: str) -> None:
    """JSON that is not ours."""
    (tmp_path / "manifest.json").write_text(text)
    assert_refused(command("verify", tmp_path), 2, "not the manifest of a golden folder")


@pytest.mark.parametrize("version", [0, 2, 10**30, -1, "1", None, True, 1.5, [1], "\x1b[31m"])
def test_another_schema_version_is_refused_naming_both(golden: Path, version: object) -> None:
    """Other versions are refused in one sentence that names both."""
    edit(golden, lambda data: data.update(schema_version=version))
    assert_refused(command("verify", golden), 2, "has the schema version", "reads version 1", "record the model again")


# ---- damaged


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"kind": NaN}',
        b'{"kind": 1, "kind": 2}',
        b"[" * 200_000,
        b'{"a": ' * 200_000,
        b'{"kind": "accel-sim golden", "schema_version": 1, "seal": ' + b"9" * 5000 + b"}",
        b'{"kind": "accel-sim golden", "schema_version": 1, "cycles": 1e999}',
        b'{"kind": "accel-sim golden", "schema_version": 1}',
    ],
    ids=lambda content: repr(content[:24]),
)
def test_manifests_that_are_damaged(golden: Path, content: bytes) -> None:
    """Cut, not JSON, NaN, infinite, absurdly long or deep: exit code 5."""
    (golden / "manifest.json").write_bytes(content)
    assert_refused(command("verify", golden), 5, "manifest.json")


@deep
def test_every_truncation_of_the_manifest(golden: Path) -> None:
    """Cut anywhere, the manifest is never accepted."""
    path = golden / "manifest.json"
    whole = path.read_bytes()
    for size in range(0, len(whole) - 2, max(len(whole) // 60, 1)):
        path.write_bytes(whole[:size])
        assert_refused(command("verify", golden), 5, "manifest.json")


@pytest.mark.parametrize("name", ["outputs.npz", "inputs.npz", "model.onnx"])
@pytest.mark.parametrize("damage", ["cut", "longer", "empty", "a byte", "gone", "folder", "other"])
def test_files_that_were_tampered_with(golden: Path, name: str, damage: str) -> None:
    """Cut, extended, changed in one bit or removed: exit code 5 and the file's name."""
    path = golden / name
    content = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "gone":
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        changed = {"cut": content[:-1], "longer": content + b"x", "empty": b"", "a byte": flipped, "other": b"PK"}
        path.write_bytes(changed[damage])
    assert_refused(command("verify", golden), 5, name)


TAMPERING: dict[str, Callable[[Manifest], object]] = {
    "fewer cycles": lambda data: data["observed"].update(cycles=1),
    "another digest": lambda data: data["observed"]["layers"][0]["outputs"][0].update(sha256="0" * 64),
    "another machine": lambda data: data["machine"]["array"].update(rows=1),
    "another model": lambda data: data["model"].update(sha256="0" * 64),
    "another file": lambda data: data["files"]["outputs.npz"].update(sha256="0" * 64),
    "no seal": lambda data: data.pop("seal"),
    "a seal that is no text": lambda data: data.update(seal=[]),
    "a new key": lambda data: data.update(extra=1),
}


@pytest.mark.parametrize("change", TAMPERING.values(), ids=TAMPERING)
def test_manifests_that_were_edited(golden: Path, change: Callable[[Manifest], object]) -> None:
    """Any number edited by hand breaks the seal."""
    edit(golden, change, seal=False)
    assert_refused(command("verify", golden), 5, "altered or damaged")


FORGERIES: dict[str, Callable[[Manifest], object]] = {
    "a path as a file name": lambda data: data["files"].update({"../outputs.npz": data["files"]["outputs.npz"]}),
    "an absolute file name": lambda data: data["files"].update({"/etc/passwd": data["files"]["outputs.npz"]}),
    "no outputs": lambda data: data["files"].pop("outputs.npz"),
    "no inputs": lambda data: data["files"].pop("inputs.npz"),
    "a negative size": lambda data: data["files"]["outputs.npz"].update(bytes=-1),
    "an absurd size": lambda data: data["files"]["outputs.npz"].update(bytes=10**300),
    "negative cycles": lambda data: data["observed"].update(cycles=-1),
    "absurd cycles": lambda data: data["observed"].update(cycles=10**400),
    "cycles as text": lambda data: data["observed"].update(cycles="18624"),
    "cycles as a fraction": lambda data: data["observed"].update(cycles=1.5),
    "cycles as a truth": lambda data: data["observed"].update(cycles=True),
    "energy below zero": lambda data: data["observed"].update(energy_pj=-1.0),
    "no layers": lambda data: data["observed"].pop("layers"),
    "layers that are none": lambda data: data["observed"].update(layers={"a": 1}),
    "a shape of text": lambda data: data["observed"]["layers"][0]["outputs"][0].update(shape=["x"]),
    "a digest of other length": lambda data: data["observed"]["layers"][0]["outputs"][0].update(sha256="00"),
    "an endless name": lambda data: data["observed"]["layers"][0].update(name="x" * 70_000),
    "a seed below zero": lambda data: data.update(seed=-1),
    "an unknown reference": lambda data: data["model"].update(reference="tensorflow"),
    "an extra key": lambda data: data["model"].update(command="rm"),
    "a machine of lists": lambda data: data["machine"]["array"].update(rows=[16]),
}


@pytest.mark.parametrize("change", FORGERIES.values(), ids=FORGERIES)
def test_manifests_that_were_forged(golden: Path, change: Callable[[Manifest], object]) -> None:
    """Sealed again, but not what a manifest holds: exit code 5, the key is named, no number is printed whole."""
    edit(golden, change)
    assert_refused(command("verify", golden), 5, "manifest.json")


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("array", "rows", 0),
        ("array", "rows", 10**15),
        ("array", "wings", 2),
        ("hull", "rows", 2),
        ("clock", "ghz", 0.0),
    ],
)
def test_machines_that_cannot_be(golden: Path, section: str, key: str, value: object) -> None:
    """A machine outside of the limits, or with parameters of another version, is a usage error."""
    edit(golden, lambda data: data["machine"].setdefault(section, {}).update({key: value}))
    outcome = command("verify", golden)
    assert_refused(outcome, 2, key if key != "ghz" else "clock")


def test_archives_that_are_none(golden: Path) -> None:
    """Right digests around something that is no archive of arrays."""
    for content in (b"", b"hello", pack_npz({"a": np.zeros(3)})[:40]):
        replace_file(golden, "outputs.npz", content)
        assert_refused(command("verify", golden), 5, "outputs.npz")


def test_outputs_of_another_run(golden: Path) -> None:
    """Arrays of other names, types and shapes are a difference, and no crash."""
    other = {"logits": np.zeros((2, 2), np.int8), "surplus": np.full(3, np.nan, np.float32)}
    replace_file(golden, "outputs.npz", pack_npz(other))
    outcome = command("verify", golden)
    assert outcome.code == 3, outcome
    assert "logits: output: int8[2, 2] became float32[4, 10]" in outcome.stdout
    assert "surplus: output: only in the record" in outcome.stdout


def test_inputs_of_another_model(golden: Path) -> None:
    """Recorded inputs that do not fit the model are refused as inputs are."""
    replace_file(golden, "inputs.npz", pack_npz({"picture": np.zeros((1, 1, 16, 16), np.float32)}))
    assert_refused(command("verify", golden), 2, "the recorded inputs", "picture")


def test_a_model_that_is_none(golden: Path) -> None:
    """A copy that is no model, digests right, is what the loader says it is."""
    replace_file(golden, "model.onnx", b"nonsense")
    assert_refused(command("verify", golden), 5, "is not an ONNX model")


# ---- links, pipes and paths


@pytest.mark.parametrize("name", ["manifest.json", "outputs.npz", "model.onnx"])
def test_pipes_and_devices_are_refused_at_once(golden: Path, name: str) -> None:
    """A pipe would block and a device never end: both are refused at once, also behind a link."""
    (golden / name).unlink()
    os.mkfifo(golden / name)
    assert_refused(command("verify", golden), 5, name)
    (golden / name).unlink()
    (golden / name).symlink_to("/dev/zero")
    assert_refused(command("verify", golden), 5, name)


def test_a_link_is_as_good_as_the_bytes_it_leads_to(golden: Path, tmp_path: Path) -> None:
    """A link to the same bytes is as good as them; one to other bytes or nowhere is tampering."""
    (golden / "outputs.npz").rename(tmp_path / "elsewhere.npz")
    (golden / "outputs.npz").symlink_to(tmp_path / "elsewhere.npz")
    assert command("verify", golden).code == 0
    for target in ("/etc/hostname", tmp_path / "nowhere", "outputs.npz"):
        (golden / "outputs.npz").unlink()
        (golden / "outputs.npz").symlink_to(target)
        assert_refused(command("verify", golden), 5, "outputs.npz")
    (golden / "manifest.json").unlink()
    (golden / "manifest.json").symlink_to("manifest.json")
    assert_refused(command("verify", golden), 2, "manifest.json")


@pytest.mark.parametrize(
    "hint", ["/etc/hostname", "../../../dev/zero", "pipe", ".", "", "a\0b", "\x1b[31m", "x" * 5000]
)
def test_paths_to_a_model(golden: Path, hint: str) -> None:
    """A recorded path that is absolute, no file, or absurd leads nowhere; --model helps."""
    copy = golden.parent / "model.onnx"
    (golden / "model.onnx").rename(copy)
    os.mkfifo(golden / "pipe")
    edit(golden, lambda data: (data["files"].pop("model.onnx"), data["model"].update(path=hint)))
    assert_refused(command("verify", golden), 2, "is not there", "--model")
    assert command("verify", golden, "--model", copy).code == 0


def test_a_path_to_another_file(golden: Path, tmp_path: Path) -> None:
    """A recorded path that leads to some other file: the loader refuses it and shows nothing of it."""
    (tmp_path / "secret.txt").write_text("the secret")
    edit(golden, lambda data: (data["files"].pop("model.onnx"), data["model"].update(path="../secret.txt")))
    outcome = command("verify", golden)
    assert_refused(outcome, 5, "is not an ONNX model")
    assert "the secret" not in outcome.stderr


def test_recording_does_not_write_through_links(golden: Path, tmp_path: Path, digits: Path) -> None:
    """Links inside of an old record are replaced, never followed."""
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (golden / "outputs.npz").unlink()
    (golden / "outputs.npz").symlink_to(victim)
    assert command("record", digits, "-o", golden).code == 0
    assert victim.read_text() == "untouched"
    assert not (golden / "outputs.npz").is_symlink()


@deep
def test_random_edits_are_refused_or_change_nothing(golden: Path) -> None:
    """Two hundred random byte edits of the manifest: no traceback, and accepted only where the meaning is the same."""
    path = golden / "manifest.json"
    whole = path.read_bytes()
    draw = random.Random(41)
    for _ in range(200):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            place = draw.randrange(len(data))
            if draw.random() < 0.5:
                data[place] = draw.randrange(256)
            else:
                del data[place : place + draw.randint(1, 40)]
        path.write_bytes(bytes(data))
        outcome = command("verify", golden, "-q")
        try:
            same = json.loads(bytes(data)) == json.loads(whole)
        except ValueError:
            same = False
        if not same:
            assert outcome.code in (2, 5), (bytes(data), outcome)
            assert_refused(outcome, outcome.code)
