"""Options that describe the machine: what they accept, and how they refuse the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import accelsim
from accelsim import Arch, UsageError, load_arch
from tests.cli.command import assert_refused, command
from tests.tiers import few


@pytest.mark.parametrize("shape", few(["16x16", "16X16", "16", "1x1", "4x32"], ["16X16", "16"]))
def test_all_documented_spellings_of_an_array_are_accepted(digits: Path, shape: str) -> None:
    """All documented spellings of an array are accepted."""
    outcome = command("explain", digits, "--array", shape)
    assert outcome.code == 0, outcome


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ("0x16", "outside 1x1..1024x1024"),
        ("-1x4", "outside 1x1..1024x1024"),
        ("100000x100000", "outside 1x1..1024x1024"),
        ("16x", "'16x' is not an array shape"),
        ("axb", "'axb' is not an array shape"),
        ("16x16x16", "'16x16x16' is not an array shape"),
        ("1e3x4", "'1e3x4' is not an array shape"),
        ("x", "'x' is not an array shape"),
        ("", "'' is not an array shape"),
        ("\x1b[31m", "is not an array shape"),
    ],
)
def test_array_shapes_that_are_none_or_too_large_are_refused(digits: Path, shape: str, words: str) -> None:
    """Shapes that are none, or too large, are refused with what to write."""
    assert_refused(command("run", digits, "--array", shape), 2, words)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--acc-bits", "7", "greater than or equal to 8, got 7"),
        ("--acc-bits", "65", "less than or equal to 64, got 65"),
        ("--acc-bits", "12.5", "--acc-bits"),
        ("--acc-bits", "many", "--acc-bits"),
        ("--dataflow", "foo", "'ws', 'os', 'is' or 'best', got 'foo'"),
        ("--overflow", "foo", "'wrap' or 'saturate', got 'foo'"),
        ("--seed", "-1", "--seed"),
        ("--seed", "x", "--seed"),
        ("--arch", "missing.toml", "neither a file nor a preset (cloud, default, edge)"),
        ("--arch", ".", "a directory, neither a file nor a preset"),
        ("--set", "dram.latency", "'dram.latency' has no value"),
        ("--set", "dram.latncy=5", "unknown key 'dram.latncy' (did you mean 'dram.latency'?)"),
        ("--set", "latncy=5", "did you mean"),
        ("--set", "zzz.qqq=1", "unknown key 'zzz.qqq' (valid: "),
        ("--set", "dram.latency=soon", "got 'soon'"),
        ("--set", "dram.latency=-1", "greater than or equal to 0, got -1"),
        ("--set", "dram.latency=", "dram.latency"),
        ("--set", "buffers.weight=64XiB", "such as 65536 or 64KiB, got '64XiB'"),
        ("--set", "clock.ghz=inf", "finite"),
        ("--set", "buffers.weight=64", "weight scratchpad is too small for one tile of layer 'stem'"),
        ("--set", "buffers.activation=16", "activation scratchpad is too small for one tile of layer 'stem'"),
    ],
    ids=lambda text: text if len(text) < 40 else "",
)
def test_a_bad_option_names_the_key_and_what_it_accepts(digits: Path, option: str, value: str, words: str) -> None:
    """A bad option is a usage error that names the key and what it accepts."""
    assert_refused(command("run", digits, option, value), 2, words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("garbage = [", "is not valid TOML"),
        ("[arry]\nrows = 3", "unknown section [arry] (did you mean 'array'?)"),
        ("[array]\nrow = 3", "unknown key 'array.row' (did you mean 'array.rows'?)"),
        ("rows = 3", "unknown section [rows]"),
        ('[array]\nrows = "many"', "rows (array.rows): input should be a valid integer"),
        ("[array]\nrows = 0", "greater than or equal to 1, got 0"),
        ("[array]\nrows = {a = 1}", "valid integer"),
        ("[clock]\nghz = nan", "finite"),
        ("[array]\nrows = 0\n[clock]\nghz = -1", "clock.ghz"),
    ],
    ids=lambda text: text.splitlines()[0] if len(text) < 40 else "",
)
def test_a_broken_machine_file_names_the_file_or_the_key(digits: Path, tmp_path: Path, text: str, words: str) -> None:
    """A broken machine description names the file or the key, and the nearest valid key."""
    path = tmp_path / "machine.toml"
    path.write_text(text)
    assert_refused(command("run", digits, "--arch", path), 2, words)


def test_machine_file_that_is_not_text(digits: Path, tmp_path: Path) -> None:
    """Binary data given as a machine description is refused by name."""
    path = tmp_path / "machine.toml"
    path.write_bytes(b"\xff\xfe\x00")
    assert_refused(command("run", digits, "--arch", path), 2, "machine.toml")


def test_options_win_over_settings_over_the_file(digits: Path, tmp_path: Path) -> None:
    """The order of precedence is: named option, --set, file."""
    path = tmp_path / "machine.toml"
    path.write_text("[array]\nrows = 4\ncols = 4\n[dram]\nlatency = 7\n")
    outcome = command("run", digits, "--arch", path, "--set", "dram.latency=9", "--array", "8", "--no-check", "--json")
    assert '"latency": 9' in outcome.stdout
    assert '"rows": 8' in outcome.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["foo"], "No such command 'foo'"),
        (["run"], "Missing argument 'MODEL.onnx'"),
        (["run", "a.onnx", "b.onnx"], "unexpected extra argument"),
        (["run", "a.onnx", "--bogus"], "No such option: --bogus"),
        (["run", "a.onnx", "--acc-bits"], "requires an argument"),
        (["\x1b[31m"], "No such command"),
        (["ops", "--foo"], "No such option"),
        (["gemm", "-1", "1", "1"], "no argument is negative"),
        (["gemm", "1", "-12", "1"], "no argument is negative"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_on_the_command_line_point_to_the_help(arguments: list[str], words: str) -> None:
    """Mistakes on the command line point to the help, in one sentence."""
    assert_refused(command(*arguments), 2, words, "(see accel-sim --help)")


def test_no_arguments_show_the_help() -> None:
    """Without arguments the help goes to stderr, since no result was asked for, and the exit code is that of usage."""
    outcome = command()
    assert outcome.code == 2
    assert outcome.stdout == ""
    assert outcome.stderr.startswith("Usage: accel-sim")


def test_explaining_an_unknown_layer_is_a_usage_error(digits: Path) -> None:
    """Explaining a layer that does not exist is a usage error."""
    assert_refused(command("explain", digits, "--layer", "nope"), 2, "no layer of digits_int8.onnx has 'nope'")


def test_debug_shows_the_traceback(digits: Path) -> None:
    """Only --debug shows a traceback; message and exit code stay."""
    outcome = command("run", digits, "--array", "x", "--debug")
    assert outcome.code == 2
    assert "Traceback (most recent call last)" in outcome.stderr
    assert outcome.stderr.splitlines()[-1].startswith("accel-sim: 'x' is not an array shape")


def test_machines_by_name_in_python(digits: Path, tmp_path: Path) -> None:
    """Python takes what --arch takes."""
    own = tmp_path / "own.toml"
    own.write_text("[array]\nrows = 4\n")
    for name, arch in (("edge", load_arch("edge")), (own, Arch(rows=4)), (str(own), Arch(rows=4)), (None, Arch())):
        assert accelsim.run(digits, name, values=False).arch == arch.to_sections()


@pytest.mark.parametrize(
    ("wrong", "words"), [("egde", "neither a file nor a preset"), (16, "not int"), (0, "not int"), ({}, "not dict")]
)
def test_machines_that_are_none_in_python(digits: Path, wrong: Any, words: str) -> None:
    """Anything else is refused in a sentence, whatever it is true or false for."""
    with pytest.raises(UsageError, match=words):
        accelsim.run(digits, wrong, values=False)


@pytest.mark.parametrize("value", ["-5", "foo", "64QB", "[1]"])
def test_sizes_are_explained(digits: Path, value: str) -> None:
    """What is no size is answered with what a size looks like."""
    outcome = command("explain", digits, "--set", f"buffers.activation={value}")
    assert_refused(outcome, 2, "buffers.activation", "write a number of bytes, at least 1, such as 65536 or 64KiB")


@pytest.mark.parametrize("key", ["clock.ghz", "buffers.activation", "array.rows", "array.sram_read_latency"])
def test_true_is_no_number(digits: Path, key: str) -> None:
    """Python takes true for 1, a machine description does not."""
    assert_refused(command("explain", digits, "--set", f"{key}=true"), 2, key, "true is no value of it")
    assert command("explain", digits, "--set", "buffers.keep_activations=true").code == 0
