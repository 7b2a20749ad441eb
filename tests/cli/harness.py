"""A network with operators on the host, and what a run says about them."""

from __future__ import annotations

import io

import numpy as np
from rich.console import Console

import accelsim
from accelsim.reports.terminal.host import host_lines
from tests.strategies import Builder, Case, Draw, Quantisation


def lines_of(result: accelsim.Result) -> list[str]:
    """Return the lines as a terminal of 100 columns shows them."""
    stream = io.StringIO()
    console = Console(file=stream, width=100, highlight=False)
    for line in host_lines(result):
        console.print(line)
    return stream.getvalue().splitlines()


def mixed_case() -> Case:
    """Build a product on the array, a normalisation priced on the vector unit, and a float product on the host."""
    build = Builder(Draw((63_001,), ties=False))
    source = Quantisation(np.dtype(np.uint8), np.float32(0.02), 7)
    weights = Quantisation(np.dtype(np.int8), np.float32(0.01), 0)
    target = Quantisation(np.dtype(np.uint8), np.float32(0.3), 128)
    real = build.node("MatMul", [build.activation((6, 32), source), build.weight((32, 48), weights, 1)])
    real = build.dequantise(build.quantise(real, target), target)
    real = build.node("LayerNormalization", [real, build.constant(np.ones(48), np.float32)])
    real = build.dequantise(build.quantise(real, target), target)
    return build.finish(build.node("MatMul", [real, build.constant(np.ones((48, 4)), np.float32)]), target)
