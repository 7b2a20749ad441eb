"""Names come from strangers: on a terminal, in JSON and in HTML they must do nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from onnx import ModelProto

import accelsim
from tests.cli.command import Outcome, assert_refused, command, run_model
from tests.hostile.builders import quantised
from tests.tiers import few

HOSTILE = {
    "escape codes": "\x1b[31mred\x1b]0;title\x07",
    "new lines": "one\ntwo\rthree\x0b",
    "script": "<script>alert(1)</script>",
    "markup": "[bold red]x[/bold red]",
    "direction": "abc\u202egnp.exe\u200b",
    "unicode": "名前 é 😀",
    "C1 control": "\x9b31m",
    "500 characters": "n" * 500,
    "private use": "\U0010ffff\ue000",
}


def _prefix(model: ModelProto, prefix: str) -> None:
    """Put a prefix before every name in a model."""
    for node in model.graph.node:
        node.name = prefix + node.name
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = prefix + name
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        value.name = prefix + value.name


def _assert_inert(outcome: Outcome) -> None:
    """Demand that everything printed consists of printable characters and line ends."""
    for text in (outcome.stdout, outcome.stderr):
        assert all(line.isprintable() for line in text.split("\n")), outcome


@pytest.mark.parametrize("prefix", few(HOSTILE.values(), 4), ids=HOSTILE)
def test_hostile_names_are_inert(tmp_path: Path, prefix: str) -> None:
    """Models with hostile names run, and table, mismatch report, explanation and JSON contain no control characters."""
    path = tmp_path / "model.onnx"
    path.write_bytes(quantised(lambda model: _prefix(model, prefix)).SerializeToString())
    good = command("run", path, "-v")
    assert good.code == 0, good
    wrong = command("run", path, "--acc-bits", "8")
    assert wrong.code == 3, wrong
    assert "first difference" in wrong.stdout
    explained = command("explain", path)
    assert explained.code == 0, explained
    for outcome in (good, wrong, explained, command("explain", path, "--layer", prefix + "nothing")):
        _assert_inert(outcome)
    printed = command("run", path, "--json")
    assert printed.stdout.isascii()
    names = [layer["name"] for layer in json.loads(printed.stdout)["layers"]]
    assert all(name.startswith(prefix) for name in names), names


@pytest.mark.parametrize("prefix", [HOSTILE["script"], '"><img src=x onerror=alert(1)>', "&lt;b&gt;"])
def test_names_are_escaped_in_html(prefix: str) -> None:
    """The table for notebooks shows names as text."""
    model = quantised(lambda model: _prefix(model, prefix))
    html = accelsim.run(accelsim.load(model.SerializeToString()))._repr_html_()
    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;b&gt;" not in html or "&amp;lt;" in html


@pytest.mark.parametrize("prefix", ["\x1b[31m", "a\nb", "\u202e"])
def test_error_messages_are_inert(tmp_path: Path, prefix: str) -> None:
    """A hostile name in an error message is shown with question marks."""

    def edit(model: ModelProto) -> None:
        model.graph.initializer.pop()
        _prefix(model, prefix)

    assert_refused(run_model(tmp_path, quantised(edit)), 5, "which nothing writes", "?")


def test_a_long_name_is_refused_and_not_printed_in_full(tmp_path: Path) -> None:
    """A name of 10 kB is refused and not printed in full."""
    outcome = run_model(tmp_path, quantised(lambda model: _prefix(model, "n" * 10_000)))
    assert_refused(outcome, 6, "10,00", "the limit is 4,096")
    assert len(outcome.stderr) < 300


def test_a_zero_character_in_a_name_is_refused(tmp_path: Path) -> None:
    """A zero character, at which other programs cut names, is refused."""
    assert_refused(run_model(tmp_path, quantised(lambda model: _prefix(model, "a\0b"))), 5, "zero character")


@pytest.mark.parametrize("text", [b"quantise_out", b"weights_scale", b"MatMul"])
def test_text_that_is_not_utf8(tmp_path: Path, text: bytes) -> None:
    """Bytes that are no UTF-8 in a node's name, a tensor's name or an operator are refused, not handed on."""
    data = quantised().SerializeToString()
    broken = text[:-3] + b"\xff\xfe" + text[-1:]
    assert text in data
    assert_refused(run_model(tmp_path, data.replace(text, broken)), 5, "is not UTF-8")


def test_layer_filter_is_inert(tmp_path: Path) -> None:
    """Text typed by the user comes back inert, too."""
    (tmp_path / "model.onnx").write_bytes(quantised().SerializeToString())
    assert_refused(command("explain", tmp_path / "model.onnx", "--layer", "\x1b[31m"), 2, "?[31m")
