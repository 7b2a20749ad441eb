"""The command `trace`, and `run --engine`."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

import accelsim
from accelsim.traces import write as tracing
from tests.cli.command import assert_refused, command, process
from tests.tiers import deep, few

FORMATS = {"pftrace": b"\x0a", "vcd": b"$comment", "svg": b"<?xml", "png": b"\x89PNG", "dram": b"LD 0x0\n"}


@pytest.mark.parametrize("dataflow", few(["ws", "os", "is"], 1))
def test_both_engines_give_the_same_result(digits: Path, dataflow: str) -> None:
    """Cycles, classes, energy and everything else in the JSON, byte for byte; and the table."""
    options = ("--array", "8x8", "--dataflow", dataflow, "--no-check")
    for more in (("--json",), ("-v",)):
        event = command("run", digits, *options, *more, "--engine", "event")
        assert event.code == 0, event
        assert event.stdout == command("run", digits, *options, *more).stdout
        assert event.stdout == command("run", digits, *options, *more, "--engine", "RECURRENCE").stdout


def test_the_engine_is_a_choice_of_the_api(digits: Path) -> None:
    """Same result; the event model reports its progress layer by layer."""
    seen: list[tuple[str, int, int]] = []
    found = accelsim.run(digits, values=False, engine="event", progress=lambda *step: seen.append(step))
    assert found.to_json() == accelsim.run(digits, values=False).to_json()
    assert [step[1:] for step in seen] == [(number, len(found.layers)) for number in range(1, len(found.layers) + 1)]
    with pytest.raises(accelsim.UsageError, match="no timing engine 'rtl'"):
        accelsim.run(digits, engine="rtl")


def test_an_unknown_engine_is_refused(digits: Path, tmp_path: Path) -> None:
    assert_refused(command("run", digits, "--engine", "evnt"), 2, "no timing engine 'evnt'", "did you mean 'event'?")
    assert_refused(command("run", digits, "--engine", "", "-o", tmp_path / "x"), 2, "no timing engine")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("suffix", few(FORMATS, ["svg", "dram"]))
def test_the_name_of_the_file_says_what_it_is(digits: Path, tmp_path: Path, suffix: str) -> None:
    """One line on stdout says what was written; -q says nothing; nothing else is left in the folder."""
    path = tmp_path / f"trace.{suffix}"
    outcome = command("trace", digits, "-o", path)
    assert (outcome.code, outcome.stderr) == (0, ""), outcome
    last = outcome.stdout.splitlines()[-1]
    assert f"of 13 layers, cycles 0 to 14,986 of 14,986, {path.stat().st_size:,} bytes" in last
    assert path.read_bytes().startswith(FORMATS[suffix])
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    quiet = command("trace", digits, "-o", path, "-q", "--layer", "stem")
    assert (quiet.code, quiet.stdout, quiet.stderr) == (0, "", "")


def test_the_format_can_be_named(digits: Path, tmp_path: Path) -> None:
    """--format wins over the file's name; without both it is Perfetto."""
    assert command("trace", digits, "-o", tmp_path / "a.svg", "--format", "DRAM").code == 0
    assert (tmp_path / "a.svg").read_bytes().startswith(b"LD 0x0\n")
    assert command("trace", digits, "-o", tmp_path / "b").code == 0
    assert (tmp_path / "b").read_bytes().startswith(b"\x0a")
    outcome = command("trace", digits, "-o", tmp_path / "c", "--format", "json")
    assert_refused(outcome, 2, "no trace format 'json'", "perfetto, vcd, svg, png, dram")


def test_the_map_of_addresses_is_printed(digits: Path, tmp_path: Path) -> None:
    """A DRAM trace comes with the region of each tensor."""
    lines = command("trace", digits, "-o", tmp_path / "a.dram").stdout.splitlines()
    assert lines[0] == "0x00000000        1,024 B  image"
    assert "0x00002000          320 B  weights of layer 1 stem" in lines


@pytest.mark.parametrize(("package", "name"), [("perfetto", "a.pftrace"), ("vcd", "a.vcd")])
def test_a_missing_package_is_named(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, name: str
) -> None:
    """One sentence with what to install, before any work; the other formats do not need it."""
    found = tracing.find_spec
    monkeypatch.setattr(tracing, "find_spec", lambda wanted: None if wanted == package else found(wanted))
    assert_refused(command("trace", digits, "-o", tmp_path / name), 2, "pip install '.[trace]'")
    assert_refused(
        command("trace", digits, "-o", tmp_path / "k.foo"), 2, "cannot tell from k.foo", ".pftrace", "--format"
    )
    assert command("trace", digits, "-o", tmp_path / "a.dram", "-q").code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--layer", "nowhere"], ("no layer of digits_int8.onnx has 'nowhere'", "--layer")),
        (["--from", "14986"], ("from cycle 14,986 until 14,986 is empty", "14,986 cycles")),
        (["--from", "-5"], ("--from -5 is before the first cycle, which is 0",)),
        (["--until", "-5"], ("--until -5 is before the first cycle",)),
        (["--from", "70", "--until", "7"], ("from cycle 70 until 7 is empty",)),
        (["--layer", "stem", "--from", "9000"], ("nothing happens", "take cycles 184 to 709")),
        (["--from", "x"], ("--from",)),
        (["--array", "0x4"], ("array 0x4",)),
    ],
)
def test_views_of_nothing_are_refused(
    digits: Path, tmp_path: Path, arguments: list[str], words: tuple[str, ...]
) -> None:
    assert_refused(command("trace", digits, "-o", tmp_path / "a.vcd", *arguments), 2, *words)
    assert list(tmp_path.iterdir()) == []


def test_the_file_must_be_named(digits: Path) -> None:
    assert_refused(command("trace", digits), 2, "output")


@pytest.mark.parametrize("kind", tracing.FORMATS)
@pytest.mark.parametrize("limit", [5, 170])
def test_too_many_events_are_refused_with_how_to_narrow(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, limit: int
) -> None:
    """Too many events, found at once or on the way: one sentence that says how to narrow, exit code 6, no file."""
    path = tmp_path / "trace"
    path.write_bytes(b"old")
    small = {name: dataclasses.replace(known, limit=limit) for name, known in tracing.FORMATS.items()}
    monkeypatch.setattr(tracing, "FORMATS", small)
    words = (f"more than {limit:,} ", "cycles 0 to 14,986 of 14,986", "--layer TEXT", "--from and --until")
    assert_refused(command("trace", digits, "-o", path, "--format", kind), 6, *words)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["trace"]


def test_files_that_cannot_be_written(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder, a missing folder, no permission: refused before the model runs."""
    (tmp_path / "file").write_text("x")
    for target, words in (
        (tmp_path, "Is a directory"), (tmp_path / "no" / "a.vcd", "No such file"),
        (tmp_path / "file" / "a.vcd", "Not a directory"), ("", "Is a directory"), ("a\0.vcd", "null"),
    ):  # fmt: skip
        assert_refused(command("trace", digits, "-o", target), 2, "cannot write", words)
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: False)
        assert_refused(command("trace", digits, "-o", tmp_path / "a.vcd"), 2, "Permission denied")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_the_old_trace(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails while writing, the file under the name is the old one and no other is left."""
    path = tmp_path / "a.dram"
    path.write_text("old")
    for function in ("fsync", "replace"):
        with monkeypatch.context() as patch:

            def fail(*arguments: object, **options: object) -> None:
                raise OSError(28, "No space left on device")

            patch.setattr(os, function, fail)
            assert_refused(command("trace", digits, "-o", path), 6, "cannot write", "No space left on device")
        assert path.read_text() == "old"
        assert [entry.name for entry in tmp_path.iterdir()] == ["a.dram"]


def test_dynamic_sizes_come_from_the_inputs(digits: Path, tmp_path: Path) -> None:
    """--input gives the batch, as for explain."""
    sample = digits.parent / "digits_sample.npz"
    outcome = command("trace", digits, "-o", tmp_path / "a.dram", "--input", sample)
    cycles = json.loads(command("run", digits, "--input", sample, "--json", "--no-check").stdout)["totals"]["cycles"]
    assert f"of {cycles:,}, " in outcome.stdout.splitlines()[-1]


@deep
def test_a_process_of_its_own_writes_the_same(digits: Path, tmp_path: Path) -> None:
    """Other hash seeds, same bytes."""
    for suffix in ("pftrace", "svg"):
        first, second = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
        assert command("trace", digits, "-o", first, "--layer", "reduce").code == 0
        assert process("trace", digits, "-o", second, "--layer", "reduce", PYTHONHASHSEED="7").code == 0
        assert first.read_bytes() == second.read_bytes()


def test_one_layer_is_one(digits: Path, tmp_path: Path) -> None:
    """One layer is no layers."""
    assert " of 1 layer, cycles " in command("trace", digits, "-o", tmp_path / "a.svg", "--layer", "stem").stdout
