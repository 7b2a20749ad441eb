"""500 drawn graphs: every tensor of every graph equals onnxruntime, teacher-forced and free-running.

The seed is fixed, and printed; ACCEL_SIM_GRAPH_SEED and ACCEL_SIM_GRAPHS set others. Any number of graphs, with
shrinking of what fails: `python -m tests.generator --count 10000 --seed 1 --jobs 2`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import pytest

from tests.generator.series import Item, run_series
from tests.generator.totals import Totals
from tests.tiers import few

SEED = int(os.environ.get("ACCEL_SIM_GRAPH_SEED", "20260"))
GRAPHS = int(os.environ.get("ACCEL_SIM_GRAPHS", "500"))

# What the series must reach, whatever its seed; the summary names everything else.
KERNELS = {
    f"{kernel} ({placement})"
    for placement, kernels in {
        "array": ("QLinearConv", "QLinearMatMul", "QGemm", "MatMulIntegerToFloat", "Conv", "MatMul", "Gemm"),
        "vector": (
            "QLinearAdd", "QLinearMul", "QLinearAveragePool", "QLinearGlobalAveragePool", "MaxPool", "QLinearSoftmax",
            "QLinearSigmoid", "QLinearLeakyRelu", "QLinearConcat", "Transpose", "QuantizeLinear", "DequantizeLinear",
            "Add", "Mul", "Sub", "Div", "Relu", "Clip", "Tanh", "Sqrt",
        ),
        "dma": ("Slice", "Split", "Gather", "Pad", "QLinearConcat"),
        "none": ("Reshape", "Flatten", "Squeeze", "Unsqueeze"),
    }.items()
    for kernel in kernels
}  # fmt: skip


@dataclass
class Series:
    """All outcomes of the series."""

    graphs: int
    totals: Totals = field(default_factory=Totals)
    failed: list[Item] = field(default_factory=list)

    def take(self, item: Item) -> None:
        """Take in one graph."""
        self.totals.add(item.outcome, item.rows)
        if item.outcome.failed:
            self.failed.append(item)


@pytest.fixture(scope="module", params=few([GRAPHS // 4, GRAPHS], 1), ids=["the first quarter", "all"])
def series(request: pytest.FixtureRequest) -> Series:
    """The checked series."""
    series = Series(request.param)
    run_series(SEED, series.graphs, series.take)
    return series


def test_no_generated_graph_fails(series: Series) -> None:
    """No element differs, nothing crashes, float-reference tensors are one step away at most."""
    print(f"seed {SEED}")
    print("\n".join(series.totals.lines()))
    reproduce = f"python -m tests.generator --seed {SEED} --count 1 --first"
    assert not series.failed, [f"{reproduce} {item.index}: {item.outcome.detail}" for item in series.failed[:10]]
    assert series.totals.mismatched == 0


def test_few_generated_graphs_are_refused(series: Series) -> None:
    """At most one graph in fifty, all of them because onnxruntime does not run them either."""
    assert series.totals.passed
    assert all("onnxruntime" in reason for reason in series.totals.refusals)


def test_generated_graphs_exercise_the_machine(series: Series) -> None:
    """The series reaches all kernels that it should, and compares more than a million elements."""
    assert set(series.totals.kernels) >= KERNELS
    assert series.totals.elements > 1200 * series.graphs
