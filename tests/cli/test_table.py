"""The table of `accel-sim run`: it fits, cuts nothing but names, and its names can be told apart."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

import accelsim
from accelsim.reports.terminal.run_table import run_table, short_names
from accelsim.results.result import Result
from tests.tiers import few

MODELS = ["deeplabv3_mnv2_dm05_uint8", "mobilenetv2_100_224_int8", "textgen_transformer_int8"]


def _lines(result: Result, width: int = 100) -> list[str]:
    """Print the table as on a terminal of some columns."""
    stream = io.StringIO()
    Console(file=stream, width=width, highlight=False).print(run_table(result, width))
    return stream.getvalue().splitlines()


def _assert_whole(result: Result, width: int = 100) -> None:
    """Demand a line of full cells for every layer, none wider than the terminal."""
    lines = _lines(result, width)
    assert len(lines) == len(result.layers) + 4
    assert max(map(len, lines)) <= width
    for line, layer in zip(lines[2:], result.layers, strict=False):
        cells = line.split()
        if layer.cycles < 10_000_000:
            assert f"{layer.cycles:,}" in cells, line
        if layer.utilisation is not None:
            assert f"{layer.utilisation:.1%}" in cells or "100%" in cells, line
        assert any(f"{cells[index]} {cells[index + 1]}".endswith(("J", "B")) for index in range(len(cells) - 1)), line
        assert cells[-1] in ("-", "exact", "mismatch", "float-ref", "drifted", "skipped"), line
    limit = lines[0].index("M x K x N" if "M x K x N" in lines[0] else "cycles")
    assert not any("…" in line[limit:] for line in lines)


@pytest.mark.parametrize("name", few(MODELS, 1))
def test_real_models_fit(shared_models: Path, name: str) -> None:
    """100 columns hold every number of a large model, and no two layers look the same."""
    path = shared_models / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"{name} is not among the real models here")
    result = accelsim.run(accelsim.load(path), values=False)
    _assert_whole(result)
    limit = _lines(result)[0].index("operator")
    names = [line[:limit] for line in _lines(result)[2:-2]]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("width", [60, 80, 100])
def test_digits_fit(digits: Path, width: int) -> None:
    """Narrow terminals lose whole columns, never digits."""
    _assert_whole(accelsim.run(accelsim.load(digits), values=False), width)


def test_many_cycles_are_a_quantity(digits: Path) -> None:
    """Cycles above 9,999,999 are shown with three digits and a prefix, in rows and in the total."""
    result = accelsim.run(accelsim.load(digits), values=False)
    layers = (replace(result.layers[1], cycles=17_536_672), replace(result.layers[2], cycles=9_999_999))
    lines = _lines(replace(result, layers=layers))
    assert " 17.5 M " in lines[2]
    assert " 9,999,999 " in lines[3]
    assert " 27.5 M " in lines[-1]


def test_names_keep_what_tells_them_apart() -> None:
    """The parts of a path that no other layer has are shown, cut where they repeat."""
    names = [f"net/block_{block}/{part}/relu" for block in range(12) for part in ("expand", "depthwise")]
    short = short_names([*names, "net/head/relu", "net/pool"], 20)
    assert short[2:4] == ["block_1/expand/relu", "block_1/depthwise"]
    assert short[-2:] == ["head/relu", "net/pool"]
    assert len(set(short)) == len(short)


def test_the_cut_moves_to_where_names_agree() -> None:
    """Numbers at the front, in the middle or at the end survive, if only one of them differs."""
    for form in ("{}_a_very_long_name_of_a_layer", "a_very_{}_long_name_of_a_layer", "a_very_long_name_of_a_layer_{}"):
        short = short_names([form.format(number) for number in range(10)], 14)
        assert len(set(short)) == 10
        assert all(len(name) <= 14 for name in short)
        assert not any("#" in name for name in short), short


def test_equal_names_get_row_numbers() -> None:
    """Layers with one and the same name are told apart by the number of their row."""
    assert short_names(["a/b", "c", "a/b"], 12) == ["a/b#1", "c", "a/b#3"]
    assert short_names(["x" * 40, "x" * 40], 12) == ["xxxx…xxxxx#1", "xxxx…xxxxx#2"]


@pytest.mark.parametrize("name", ["", "/", ";", "///;;", "\x1b[31m/\n\t", "[bold]x[/bold]", "/" * 4000, "名前" * 300])
def test_hostile_names_stay_short_and_inert(name: str) -> None:
    """Whatever a model calls its layers, labels are printable, short and different."""
    short = short_names([name, name, name + "/a", "a"], 12)
    assert all(label.isprintable() and 0 < len(label) <= 12 for label in short), short
    assert len(set(short)) == 4
