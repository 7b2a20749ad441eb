"""The commands `report` and `compare`: files, figures, tables, and what they refuse."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import accelsim
from accelsim.reports.changes import changes_between
from accelsim.reports.page.page import report_html
from accelsim.results.reader import read_result
from accelsim.results.result import Result
from tests.cli.command import assert_refused, command, process
from tests.reports.results import HOSTILE, consistent, digits_result, named_badly
from tests.tiers import deep, few


def saved(folder: Path, name: str, result: Result) -> Path:
    """Write a result as `run -o` does."""
    (folder / name).mkdir()
    (folder / name / "result.json").write_text(result.to_json(), "utf-8")
    return folder / name


@pytest.fixture
def before(tmp_path: Path) -> Path:
    return saved(tmp_path, "before", digits_result())


@pytest.fixture
def after(tmp_path: Path) -> Path:
    return saved(tmp_path, "after", digits_result("os"))


def test_a_report_of_a_folder_has_the_timeline_of_the_slowest_layer(digits: Path, tmp_path: Path) -> None:
    """The way of the documentation: run with a folder, report from it; the timeline of the slowest layer is there."""
    assert command("run", digits, "-o", tmp_path / "run", "-q").code == 0
    outcome = command("report", tmp_path / "run", "-o", tmp_path / "report.html")
    size = (tmp_path / "report.html").stat().st_size
    assert outcome.stdout == f"wrote {tmp_path / 'report.html'}: {size:,} bytes\n"
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "Layer 6, depthwise2: 5,832 cycles." in text
    assert command("report", tmp_path / "run", "-o", tmp_path / "report.html", "-q").stdout == ""


@deep
def test_figures_are_written_as_svg_pdf_and_png(before: Path, after: Path, tmp_path: Path) -> None:
    """Each chart as SVG, PDF and PNG; charts of several results carry the number of theirs."""
    figures = tmp_path / "deep" / "figures"
    outcome = command("report", before, after, "--figures", figures)
    assert outcome.code == 0, outcome
    names = sorted(path.name for path in figures.iterdir())
    assert {"1-cycles.svg", "2-cycles.pdf", "2-graph.png", "total-energy.svg", "changes-B.svg"} <= set(names)
    assert len(names) == outcome.stdout.count("wrote ") == 3 * 19
    for name in names:
        if name.endswith(".svg"):
            ElementTree.parse(figures / name)


def test_report_needs_somewhere_to_write(before: Path, tmp_path: Path) -> None:
    """No target, a folder that is missing, a folder as target, a file as folder: refused before anything is read."""
    assert_refused(command("report", before), 2, "-o FILE.html or --figures DIR")
    assert_refused(command("report", before, "-o", tmp_path / "no" / "x.html"), 2, "No such file or directory")
    assert_refused(command("report", before, "-o", before), 2, "Is a directory")
    assert_refused(command("report", before, "-o", ""), 2, "cannot write")
    (tmp_path / "file").write_text("x")
    assert_refused(command("report", before, "--figures", tmp_path / "file"), 2, "Not a directory")
    assert_refused(command("report", before, "-o", tmp_path / "a\0b.html"), 2, "cannot write")
    assert_refused(command("report", before, "-o", tmp_path / "page.txt"), 2, "must end in .html, .htm")
    assert command("report", before, "-o", tmp_path / "PAGE.HTM", "-q").code == 0


def test_a_folder_without_permission(before: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that cannot be written is refused before any work."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert_refused(command("report", before, "-o", tmp_path / "x.html"), 2, "Permission denied")
    assert_refused(command("report", before, "--figures", tmp_path / "new"), 2, "Permission denied")


def test_an_older_page_survives_a_failure(before: Path, tmp_path: Path) -> None:
    """A result that cannot be read leaves the page of yesterday alone."""
    (tmp_path / "page.html").write_text("old")
    (before / "result.json").write_text("{")
    assert_refused(command("report", before, "-o", tmp_path / "page.html"), 5, "not valid JSON")
    assert (tmp_path / "page.html").read_text() == "old"


def test_nine_results_are_too_many_for_one_page(before: Path, tmp_path: Path) -> None:
    """Nine results do not fit beside each other."""
    assert_refused(command("report", *[before] * 9, "-o", tmp_path / "x.html"), 2, "at most 8")


@pytest.mark.parametrize("backend", few(["TkAgg", "nonsense", "module://no.such.module"], 1))
def test_no_display_and_odd_backends(before: Path, tmp_path: Path, backend: str) -> None:
    """Whatever backend the environment asks for, and without a display, a report is drawn."""
    outcome = process("report", before, "-o", tmp_path / "x.html", MPLBACKEND=backend, DISPLAY="")
    assert (outcome.code, outcome.stderr) == (0, ""), outcome
    assert "<svg" in (tmp_path / "x.html").read_text("utf-8")


def test_other_inputs_are_told(digits: Path, before: Path, tmp_path: Path) -> None:
    """A batch of four beside a batch of one: the shapes are in the result, in the comparison and on the page."""
    batch = accelsim.run(digits, None, {"image": np.zeros((4, 1, 16, 16), np.float32)}, values=False)
    four = saved(tmp_path, "four", batch)
    assert json.loads(batch.to_json())["model"]["inputs"] == [
        {"name": "image", "dtype": "float32", "shape": [4, 1, 16, 16]}
    ]
    lines = command("compare", four, before).stdout.splitlines()
    assert "input    image: 4x1x16x16 float32 -> 1x1x16x16 float32" in lines
    assert "input    equal" in command("compare", four, four).stdout.splitlines()
    page = report_html([batch, digits_result()])
    assert "inputs that differ" in page
    assert "image: 4x1x16x16 float32" in page


def test_inputs_of_older_results(before: Path, tmp_path: Path) -> None:
    """Results of versions that did not write their inputs are read, and said to be without."""
    old = json.loads(digits_result().to_json())
    del old["model"]["inputs"]
    (tmp_path / "old.json").write_text(json.dumps(old))
    lines = command("compare", tmp_path / "old.json", before).stdout.splitlines()
    assert "input    all: not recorded -> image: 1x1x16x16 float32" in lines
    assert "not recorded" in report_html([read_result(tmp_path / "old.json")])


def test_compare_prints_what_changed(before: Path, after: Path) -> None:
    """Totals with their change, layers that differ, parameters; the numbers are those of the results."""
    old, new = digits_result(), digits_result("os")
    outcome = command("compare", before, after)
    assert outcome.code == 0, outcome
    lines = outcome.stdout.splitlines()
    cycles = next(line for line in lines if line.startswith("cycles"))
    change = (new.cycles - old.cycles) / old.cycles
    assert cycles.split() == ["cycles", f"{old.cycles:,}", f"{new.cycles:,}", f"{change:+.2%}"]
    assert next(line for line in lines if line.startswith("MACs")).split()[-1] == "="
    for name in ("stem", "depthwise2"):
        pair = [next(layer for layer in result.layers if layer.name == name).cycles for result in (old, new)]
        line = next(line for line in lines if line.startswith(name))
        assert line.split()[1:3] == [f"{pair[1]:,}", f"{(pair[1] - pair[0]) / pair[0]:+.1%}"]
    assert not any(line.startswith("pool ") for line in lines)
    assert "machine  array.dataflow: ws -> os" in lines
    assert "versions equal" in lines
    assert max(map(len, lines)) <= 100


def test_a_comparison_with_itself_says_that_nothing_differs(before: Path, tmp_path: Path) -> None:
    """Nothing differs, and that is said, and drawn."""
    outcome = command("compare", before, before / "result.json", "-o", tmp_path / "x.svg")
    assert outcome.code == 0
    assert "all 14 equal in cycles, energy, DRAM traffic and verdict" in outcome.stdout
    assert "machine  equal" in outcome.stdout
    assert (tmp_path / "x.svg").exists()


def test_compare_sees_verdicts_and_overflows(before: Path, tmp_path: Path) -> None:
    """A narrower accumulator: equal cycles, other verdicts, overflow events; some layers differ by verdict only."""
    outcome = command("compare", before, saved(tmp_path, "narrow", digits_result("ws", 12)))
    assert "exact > mismatch!" in outcome.stdout
    assert "exact > drifted" in outcome.stdout
    assert "accumulator.bits: 32 -> 12" in outcome.stdout
    overflows = next(line for line in outcome.stdout.splitlines() if line.startswith("overflow events"))
    assert int(overflows.split()[3].replace(",", "")) > 0


@pytest.mark.parametrize("name", few(["x.svg", "x.pdf", "x.PNG", "x.html"], 1))
def test_the_suffix_says_what_compare_draws(before: Path, after: Path, tmp_path: Path, name: str) -> None:
    """The suffix says what: a figure, or the report of both."""
    outcome = command("compare", before, after, "-o", tmp_path / name, "-q")
    assert (outcome.code, outcome.stdout) == (0, "")
    data = (tmp_path / name).read_bytes()
    magic = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG", "html": b"<!DOCTYPE html>"}
    assert data.startswith(magic[name[2:].lower()])
    assert_refused(command("compare", before, after, "-o", tmp_path / "x.doc"), 2, ".html, .svg, .pdf, .png")


def test_terminal_codes_in_names_do_not_reach_the_terminal(tmp_path: Path, before: Path) -> None:
    """Terminal codes and markup in names and versions reach neither the terminal nor rich."""
    outcome = command("compare", before, saved(tmp_path, "bad", named_badly(digits_result())), "--all")
    assert outcome.code == 0, outcome
    assert "\x1b" not in outcome.stdout
    assert "\u202e" not in outcome.stdout
    assert "<script>" in outcome.stdout


def test_layers_are_matched_by_name() -> None:
    """Layers that moved are matched, those of one name in order, and what came or went is said."""
    old = digits_result()
    twin = replace(old.layers[1], cycles=5)
    before = replace(old, layers=(*old.layers[:3], twin))
    after = replace(old, layers=(old.layers[2], old.layers[1], replace(old.layers[4], name="fresh")))
    pairs = changes_between(before, after).layers
    named = [
        tuple(None if layer is None else (layer.name, layer.cycles) for layer in (pair.old, pair.new)) for pair in pairs
    ]
    assert named == [
        (("reduce", 1424), ("reduce", 1424)),
        (("stem", 525), ("stem", 525)),
        (None, ("fresh", old.layers[4].cycles)),
        (("image_QuantizeLinear", 184), None),
        (("stem", 5), None),
    ]
    assert len({pair.label for pair in pairs}) == 5


def test_many_changed_layers_are_cut_with_a_word(tmp_path: Path) -> None:
    """Twenty rows and a sentence; all of them with --all."""
    base = digits_result()
    layers = tuple(replace(base.layers[1], name=f"layer{number}") for number in range(50))
    slower = tuple(
        replace(
            layer, cycles=layer.cycles + 1 + number, cycle_classes=dict(layer.cycle_classes) | {"flush": 1 + number}
        )
        for number, layer in enumerate(layers)
    )
    paths = [
        saved(tmp_path, name, consistent(replace(base, layers=part))) for name, part in (("a", layers), ("b", slower))
    ]
    short, whole = command("compare", *paths).stdout, command("compare", *paths, "--all").stdout
    assert "and 30 more of 50 layers differ: --all shows them" in short
    assert "layer49" in short
    assert "layer0 " not in short
    assert "layer0 " in whole


def test_hostile_text_is_what_it_is() -> None:
    """The hostile name of these tests has all that could do harm."""
    assert {"<script>", "\x1b[", "$x^2$", "{{", "</svg>", "\u202e", "&"} <= {part for part in (
        "<script>", "\x1b[", "$x^2$", "{{", "</svg>", "\u202e", "&") if part in HOSTILE}  # fmt: skip
    assert json.loads(json.dumps(HOSTILE)) == HOSTILE
