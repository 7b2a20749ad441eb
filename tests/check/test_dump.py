"""`--dump`: both sides of every tensor in files, an index of them, and nothing else touched."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

from accelsim.check.oracle import ReferenceTensors
from accelsim.graph.load.loader import load_model
from accelsim.graph.normalise.normalise import normalise
from accelsim.simulation.inputs import draw_inputs
from tests.cli.command import assert_refused, command, run_model
from tests.hostile.builders import quantised


def rows(folder: Path) -> list[dict[str, Any]]:
    """Return the entries of a dump's index, which lists exactly the files that are there."""
    index = json.loads((folder / "index.json").read_text())
    assert (index["kind"], index["schema_version"]) == ("accel-sim dump", 1)
    listed = {row["file"] for row in index["tensors"]}
    assert {path.name for path in folder.iterdir()} == listed | {"index.json"}
    return list(index["tensors"])


@pytest.mark.parametrize("subcommand", ["check", "run"])
def test_every_tensor_with_both_sides(digits: Path, tmp_path: Path, subcommand: str) -> None:
    """Narrow accumulators: the reference's side is onnxruntime's, and counts are those of the arrays."""
    folder = tmp_path / "a" / "dump"
    outcome = command(subcommand, digits, "--acc-bits", "12", "--dump", folder)
    assert outcome.code == 3, outcome
    model = normalise(load_model(digits))
    reference = ReferenceTensors(model, draw_inputs(model.inputs))
    entries = rows(folder)
    assert [row["tensor"] for row in entries] == list(model.types)
    for row in entries:
        with np.load(folder / row["file"]) as arrays:
            assert arrays.files == row["arrays"]
            (theirs,) = reference.fetch([row["tensor"]])
            assert np.array_equal(arrays["reference"], theirs)
            assert (list(theirs.shape), theirs.dtype.name) == (row["shape"], row["dtype"])
            assert int((arrays["ours"] != theirs).sum()) == row["drifted"]
            forced = int((arrays["forced"] != theirs).sum()) if "forced" in arrays.files else 0
            assert forced == row["mismatched"]
    assert entries[0]["drifted"] == 0
    assert entries[1]["mismatched"] > 0
    assert any(row["drifted"] and not row["mismatched"] for row in entries)


def test_dump_tensors_keeps_those_whose_name_contains_the_text(digits: Path, tmp_path: Path) -> None:
    """--dump-tensor keeps tensors whose name contains the text; a text that fits none is refused, as is no folder."""
    assert command("check", digits, "--dump", tmp_path, "--dump-tensor", "depthwise").code == 0
    entries = rows(tmp_path)
    assert [row["layer"] for row in entries] == ["depthwise1", "depthwise2"]
    assert all(row["arrays"] == ["ours", "reference"] for row in entries)
    refused = command("check", digits, "--dump", tmp_path / "new", "--dump-tensor", "zz\x1b")
    assert_refused(refused, 2, "'zz?'", "--dump-tensor")
    assert not (tmp_path / "new").exists()
    assert_refused(command("check", digits, "--dump-tensor", "stem"), 2, "--dump")


def test_a_second_dump_replaces_the_first(digits: Path, tmp_path: Path) -> None:
    """Files of an earlier dump go, also those that a killed one left without an index."""
    assert command("check", digits, "--dump", tmp_path).code == 0
    (tmp_path / "index.json").unlink()
    (tmp_path / "0003-x.npz.tmp-17").write_bytes(b"half")
    assert command("check", digits, "--dump", tmp_path, "--dump-tensor", "stem").code == 0
    assert len(rows(tmp_path)) == 1


@pytest.mark.parametrize("name", ["notes.txt", "outputs.npz", "index.json"])
def test_a_folder_with_other_files_is_refused(digits: Path, tmp_path: Path, name: str) -> None:
    """Nobody's files are removed or mixed with a dump."""
    (tmp_path / name).write_text('{"kind": "something else"}')
    assert_refused(command("check", digits, "--dump", tmp_path), 2, name, "no part of a dump")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(("text", "code"), [("[]", 5), ("{", 5), ("[" * 100_000, 5), ('{"kind": NaN}', 5)])
def test_an_index_that_is_damaged(digits: Path, tmp_path: Path, text: str, code: int) -> None:
    """An index that is no JSON object is not taken for a dump's."""
    (tmp_path / "index.json").write_text(text)
    assert_refused(command("check", digits, "--dump", tmp_path), code, "the index of a dump")


def test_an_index_that_is_a_pipe(digits: Path, tmp_path: Path) -> None:
    """A pipe is refused at once; opening it would wait for a writer."""
    os.mkfifo(tmp_path / "index.json")
    assert_refused(command("check", digits, "--dump", tmp_path), 5, "not a regular file")


def test_nothing_to_compare_with(digits: Path, tmp_path: Path) -> None:
    """A dump is of comparisons, so that --no-check contradicts it."""
    assert_refused(command("run", digits, "--no-check", "--dump", tmp_path), 2, "--no-check")
    assert list(tmp_path.iterdir()) == []


def test_names_that_are_no_file_names(tmp_path: Path) -> None:
    """Tensors called ../../x, or 300 characters long, are written inside of the folder and named in the index."""
    evil = {"codes": "../../../etc/x", "out_codes": "n" * 300}

    def rename(model: ModelProto) -> None:
        for node in model.graph.node:
            for names in (node.input, node.output):
                for position, name in enumerate(names):
                    names[position] = evil.get(name, name)

    folder = tmp_path / "dump"
    assert run_model(tmp_path, quantised(rename), "--dump", str(folder)).code == 0
    entries = rows(folder)
    assert {row["tensor"] for row in entries} == {"../../../etc/x", "n" * 300, "y"}
    assert all(len(row["file"]) < 80 and "/" not in row["file"] for row in entries)


def test_an_interrupted_dump_has_no_index(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index comes last, so that its presence means that all is there."""

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    assert command("check", digits, "--dump", tmp_path).code == 0
    monkeypatch.setattr("accelsim.check.checker.Checker.verdict", interrupted)
    assert command("check", digits, "--dump", tmp_path).code == 130
    assert "index.json" not in {path.name for path in tmp_path.iterdir()}


def test_equal_runs_give_equal_dumps(digits: Path, tmp_path: Path) -> None:
    """Two dumps are the same bytes."""
    for name in ("first", "second"):
        assert command("check", digits, "--dump", tmp_path / name).code == 0
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()
