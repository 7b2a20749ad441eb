"""Tables of quantisers on narrow terminals: no figure is cut, no column is dropped, names are whole when read down."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from accelsim.quantise.measure.schemes import SchemeCost, SchemeTable
from accelsim.quantise.terminal import print_comparison, print_errors, print_schemes
from accelsim.results.quantisation import (
    ErrorAnalysis,
    Execution,
    LayerError,
    QuantisationReport,
    Sensitivity,
    ThreeWay,
)

SMALL = SchemeCost(
    "int8-symmetric-per-channel", 0.986, 0.99, 32.4, "p1", 20.0, 25345, 8.64, 14986, 8.26e6, 27584, 32, 20
)
LONG = SchemeCost("w4a8+granularity=tensor+equalise+bias_correction", remarks=("it does not fit, " * 9,))
LARGE = SchemeCost(
    "int8-affine",
    0.761,
    0.9,
    -2.5,
    "layer4.1/conv2",
    9.0,
    109_253_451,
    8.01,
    1_149_861_123,
    123456.7e6,
    11_127_584,
    32,
    40,
)


def _console(width: int) -> Console:
    return Console(file=io.StringIO(), width=width, highlight=False, markup=False)


def _printed(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= console.width
    return lines


@pytest.mark.parametrize("width", [60, 80, 100])
@pytest.mark.parametrize("rows", [(SMALL, LONG), (SMALL, LONG, LARGE)], ids=["small", "large"])
def test_tables_of_schemes_are_whole_at_any_width(width: int, rows: tuple[SchemeCost, ...]) -> None:
    """Every head and every figure is there in full, at any width that a console has."""
    console = _console(width)
    print_schemes(console, SchemeTable("m.onnx", "16x16 ws", "c", "t", 360, True, rows))
    lines = _printed(console)
    words = [word for line in lines for word in line.split()]
    for head in ("scheme", "accuracy", "SQNR", "worst", "bytes", "bits", "cycles", "uJ", "DRAM", "acc"):
        assert head in words
    figures = ["98.6%", "32.4", "p1", "25,345", "8.64", "14,986", "8.26", "27,584", "20"]
    if LARGE in rows:
        figures += ["76.1%", "-2.5", "109,253,451", "8.01", "1,149,861,123", "123,456.70", "11,127,584", "40"]
    assert not [figure for figure in figures if figure not in words]
    table = lines[: next(place for place, line in enumerate(lines) if line.startswith("m.onnx"))]
    names = "".join(match[1] for line in table if (match := re.match(r" ([\w+=-]+)", line)))
    assert all(row.scheme in names for row in rows)
    cut = [word for line in table for word in line.split() if "…" in word]
    assert cut == (["…er4.1/conv2"] if LARGE in rows else [])  # a name that is cut says so


def test_wide_terminals_get_one_table() -> None:
    """Two tables are for where one does not fit."""
    heads = []
    for width in (80, 100, 60):
        console = _console(width)
        print_schemes(console, SchemeTable("m.onnx", "16x16 ws", "c", "t", 360, True, (SMALL, LONG)))
        heads.append(sum("scheme " in line for line in _printed(console)))
    assert heads == [1, 1, 2]


@pytest.mark.parametrize("width", [60, 100])
def test_names_of_layers_are_broken_and_decibels_are_not(width: int) -> None:
    """Names of layers are broken where there is no room, decibels are not."""
    name = "backbone_stage_4_block_17/depthwise_conv"
    errors = ErrorAnalysis((), (), (LayerError(name, "Conv", 8, -12.25, "y", 101.55),), 30.0)
    console = _console(width)
    machine = Execution("fake quantisation", 33.45, 0.5, 0.25)
    compared = ThreeWay(9, Execution("float", None, 0.5, 1.0), machine, machine, ())
    ranking = (Sensitivity(name, "Conv", 44.75),)
    report = QuantisationReport("m", "", "", {}, "c.npz", 64, "t.npz", 32, 4, 1, 8.0, (), errors, ranking, compared)
    print_errors(console, report)
    print_comparison(console, report)
    text = "\n".join(_printed(console))
    assert all(figure in text for figure in ("-12.2 dB", "101.5 dB", "44.8 dB", "33.5 dB", "25.0%"))
    assert name in "".join(match[1] for line in text.splitlines() if (match := re.match(r" ([\w/]+)", line)))
    assert "…" not in text
    flat = " ".join(text.split())
    for words in ("on the 64 calibration samples", "on the first 32 of them", "measured on the 9 test samples (t.npz)"):
        assert words in flat
