"""The cache of built models, the command `models`, and the prefix models: wherever a model is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import accelsim
from accelsim.models import store
from tests.cli.command import assert_refused, command


@pytest.fixture
def private_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache folder of this test alone."""
    monkeypatch.setenv("ACCEL_SIM_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def kept(folder: Path) -> list[Path]:
    """Return the models that a cache holds."""
    return sorted(folder.glob("accelsim/models-*/*.onnx"))


def test_a_model_is_built_once(private_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time it is read: the same bytes, and the builder is not asked; nobody else may look in."""
    first = store.model_bytes("ds-cnn")
    monkeypatch.setattr(store, "build", None)
    assert store.model_bytes("ds-cnn") == first
    (path,) = kept(private_cache)
    assert path.read_bytes() == first
    assert path.parent.stat().st_mode & 0o077 == 0
    assert [entry.suffix for entry in sorted(path.parent.iterdir())] == [".onnx", ".sha256"]


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_a_damaged_cache_is_built_again(private_cache: Path, damage: bytes | None) -> None:
    """A file that is not what was written, or whose digest is gone, is replaced."""
    first = store.model_bytes("ds-cnn")
    (path,) = kept(private_cache)
    if damage is None:
        path.with_suffix(".sha256").unlink()
    else:
        path.write_bytes(damage)
    assert store.model_bytes("ds-cnn") == first
    assert path.read_bytes() == first


def test_the_cache_is_keyed_by_the_builders(private_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other sources or packages have another folder."""
    store.model_bytes("ds-cnn")
    monkeypatch.setattr(store, "_makers_digest", lambda: "of other sources")
    store.model_bytes("ds-cnn")
    assert len({path.parent for path in kept(private_cache)}) == 2


def test_a_cache_that_cannot_be_written_is_done_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the folder's place is a file, the model is built every time."""
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("ACCEL_SIM_CACHE_DIR", str(tmp_path / "file"))
    assert accelsim.run("models:autoencoder").check.verdict == "exact"


def test_a_full_disk_only_costs_time(private_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be kept is returned all the same, and nothing is left behind."""

    def fail(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("accelsim.files.writing.write_through", fail)
    assert len(store.model_bytes("ds-cnn")) > 20_000
    assert kept(private_cache) == []


def test_the_list_names_every_model() -> None:
    """One line per model with its figures; as JSON the same and more."""
    text, data = command("models"), json.loads(command("models", "--json").stdout)
    assert text.code == 0
    assert len(data["models"]) >= 12
    for entry in data["models"]:
        assert entry["name"] in text.stdout
        assert f"{entry['macs']:,}" in text.stdout
        assert entry["parameters_unfolded"] >= entry["parameters"] > 0
        assert entry["inputs"]
        assert entry["outputs"]
        assert entry["source"]
    (one,) = json.loads(command("models", "mobilenetv2", "--json").stdout)["models"]
    assert one == next(entry for entry in data["models"] if entry["name"] == "mobilenetv2")


def test_one_model_is_described() -> None:
    """NAME alone says what it is and where its figures come from."""
    outcome = command("models", "resnet18")
    assert outcome.code == 0
    assert "11,689,512 before batch normalisation was folded" in outcome.stdout


def test_a_model_is_written(tmp_path: Path) -> None:
    """The file written is the model that the prefix runs."""
    path = tmp_path / "net.onnx"
    assert command("models", "ds-cnn", "-o", path).code == 0
    assert path.read_bytes() == store.model_bytes("ds-cnn")
    by_file, by_name = command("run", path, "--json"), command("run", "models:ds-cnn", "--json")
    assert by_file.code == by_name.code == 0
    first, second = json.loads(by_file.stdout), json.loads(by_name.stdout)
    assert first["model"].pop("name") == "net.onnx"
    assert second["model"].pop("name") == "ds-cnn"
    assert first == second


@pytest.mark.parametrize("arguments", [("check",), ("explain", "--layer", "stem"), ("run", "--no-check")])
def test_every_command_knows_the_prefix(arguments: tuple[str, ...]) -> None:
    """What takes a model's path takes models:NAME."""
    name, *options = arguments
    outcome = command(name, "models:ds-cnn", *options)
    assert outcome.code == 0, outcome
    assert outcome.stdout


def test_a_trace_of_one(tmp_path: Path) -> None:
    """trace, too."""
    assert command("trace", "models:ds-cnn", "-o", tmp_path / "picture.svg").code == 0


@pytest.mark.parametrize("options", [(), ("--copy-model",)])
def test_golden_folders_remember_the_name(tmp_path: Path, options: tuple[str, ...]) -> None:
    """A record of models:NAME is verified from anywhere; a copy of the model can be stored."""
    golden = tmp_path / "golden"
    assert command("record", "models:ds-cnn", "-o", golden, *options).code == 0
    assert (golden / "model.onnx").exists() == bool(options)
    assert command("verify", golden).code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "models:mobilnetv2"), ("did you mean 'mobilenetv2'?", "accel-sim models")),
        (("run", "models:"), ("(empty name)",)),
        (("run", "models:../../x\x1b[31m"), ("there is no model",)),
        (("models", "nothing-like-it"), ("valid: resnet18",)),
        (("models", "-o", "x.onnx"), ("name it",)),
        (("models", "ds-cnn", "-o", "/nowhere/x.onnx"), ("cannot write", "choose another file")),
        (("models", "nothing-like-it", "-o", "x.onnx"), ("there is no model",)),
    ],
)
def test_unknown_names_and_places_are_one_sentence_and_code_2(
    arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    """Unknown names and places: one sentence, exit code 2."""
    assert_refused(command(*arguments), 2, *words)


def test_float_forms_cannot_run() -> None:
    """A float model is refused as any other, with the way to quantise it."""
    assert_refused(command("run", "models:ds-cnn-float"), 4, "float model", "accel-sim quantize models:ds-cnn-float -o")


def test_a_file_of_that_name_can_still_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """./models:ds-cnn is a path."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models:autoencoder").write_bytes(store.model_bytes("ds-cnn"))
    answer = json.loads(command("run", "./models:autoencoder", "--json", "--no-check").stdout)
    assert answer["model"]["macs"] == 2_656_768
