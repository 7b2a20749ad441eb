"""The generator itself: it repeats itself, its graphs are alive, and an injected fault is found, shrunk and saved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper

from accelsim.kernels.values import elementwise
from accelsim.reference.session import open_session
from accelsim.values import epilogue as epilogue_values
from tests.generator.__main__ import main
from tests.generator.graphs import MOST_NODES, OPERATORS, draw_graph
from tests.generator.series import check_one
from tests.generator.shrink import load_saved, save, shrink
from tests.generator.totals import Totals
from tests.generator.verify import Outcome, verify
from tests.tiers import deep, few

SEED = 70_001


def test_a_graph_depends_on_its_seed_alone() -> None:
    """The same seed and index give the same bytes and inputs; others give other ones."""
    first, again, other = draw_graph(SEED, 3), draw_graph(SEED, 3), draw_graph(SEED, 4)
    assert first.case.model == again.case.model
    assert first.case.model != other.case.model
    assert first.setup == again.setup
    assert all((first.case.inputs[name] == again.case.inputs[name]).all() for name in first.case.inputs)


def test_chosen_operators_are_drawn_alone() -> None:
    """A choice of operators is kept, also of those that occur in QOperator graphs only."""
    for wanted in (("Conv",), ("QLinearMul", "QGemm"), ("LayerNormalization",)):
        used = Counter(name for index in range(30) for name in draw_graph(SEED, index, wanted).operators)
        assert set(used) == set(wanted)


def test_series_cover_the_table_and_stay_alive() -> None:
    """250 graphs: every row occurs, graphs have 1 to 12 operators, and few of their codes are all the same."""
    rows: Counter[str] = Counter()
    sizes: Counter[int] = Counter()
    dead = alive = 0
    for index in range(250):
        drawn = draw_graph(SEED, index)
        rows.update(drawn.operators)
        sizes[len(drawn.operators)] += 1
        if index % 2 == 0:
            for array in codes_inside(drawn.case.model, drawn.case.inputs):
                distinct = np.unique(array).size
                dead, alive = dead + (distinct == 1), alive + (distinct > 4)
    assert set(rows) == set(OPERATORS)
    assert set(sizes) == set(range(1, MOST_NODES + 1))
    assert dead * 15 < alive


def codes_inside(data: bytes, inputs: Any) -> list[Any]:
    """Return the results of all quantisers and QOperator nodes of a model that have more than 20 elements."""
    model = ModelProto.FromString(data)
    names: list[str] = [
        node.output[0] for node in model.graph.node if node.op_type.startswith(("QuantizeLinear", "QLinear", "QGemm"))
    ]
    if not names:
        return []
    del model.graph.output[:]
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    arrays = open_session(model.SerializeToString()).run(names, dict(inputs))
    return [array for array in arrays if array.size > 20]


# ---- injected faults


def add_without_fma(a: Any, b: Any, zero_a: int, zero_b: int, *rest: Any) -> None:
    """Add codes with every product rounded for itself."""
    ratio_a, ratio_b, zero_point, lowest, highest, out = rest
    first = (a.astype(np.float32) - np.float32(zero_a)) * ratio_a
    second = (b.astype(np.float32) - np.float32(zero_b)) * ratio_b
    out[:] = np.clip(np.rint(first + second + np.float32(zero_point)), lowest, highest)


def requantise_with_floor(acc: Any, multiplier: Any, zero_point: int, lowest: int, highest: int, out: Any) -> None:
    """Requantise by rounding down."""
    scaled = acc.astype(np.float32) * multiplier.reshape(-1, 1)
    out[:] = np.clip(np.floor(scaled) + zero_point, lowest, highest)


def requantise_half_up(acc: Any, multiplier: Any, zero_point: int, lowest: int, highest: int, out: Any) -> None:
    """Requantise with ties rounded up: wrong in tie-rich graphs only."""
    scaled = acc.astype(np.float32) * multiplier.reshape(-1, 1)
    out[:] = np.clip(np.floor(scaled.astype(np.float64) + 0.5) + zero_point, lowest, highest)


def crash(*_: Any) -> None:
    """Fail like a programming error."""
    raise ZeroDivisionError("nothing to see")


FAULTS: dict[str, tuple[str, Callable[..., None], str]] = {
    "addition without fma": ("add_codes", add_without_fma, "mismatch"),
    "floor instead of rint": ("requantise_rows", requantise_with_floor, "mismatch"),
    "ties away from even": ("requantise_rows", requantise_half_up, "mismatch"),
    "crash in a pool": ("average_pool", crash, "crash"),
}


def first_failure(most: int = 150) -> tuple[int, Outcome]:
    """Return the first graph of the series that fails."""
    for index in range(most):
        outcome = check_one(SEED, index).outcome
        if outcome.failed:
            return index, outcome
    raise AssertionError(f"no failure in {most} graphs")


@pytest.mark.parametrize("name", few(FAULTS, 1))
def test_an_injected_fault_is_found_shrunk_and_saved(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The generator finds it; at most three nodes besides Q/DQ are left; the file fails with it and passes without."""
    kernel, fault, verdict = FAULTS[name]
    with monkeypatch.context() as patch:
        for module in (elementwise, epilogue_values):
            patch.setattr(module, kernel, fault, raising=module is elementwise)
        index, found = first_failure()
        assert found.verdict == verdict
        drawn = draw_graph(SEED, index)
        small = shrink(drawn.case, drawn.setup)
        assert small.outcome.signature == found.signature
        print(f"{name}: graph {index} of {len(drawn.operators)} operators, {small.checks} checks")
        assert 1 <= len(small.operators) <= 3
        path = save(small, drawn.setup, tmp_path, "small")
        assert verify(*load_saved(path)).signature == found.signature
    assert not verify(*load_saved(path)).failed


def test_the_script_says_what_it_covered(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The summary names seed, graphs, elements, operators; nothing is saved when nothing fails."""
    assert main(["--count", "12", "--seed", "5", "--save", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for part in ("seed 5, graphs 0..11", "elements compared", "mismatched: 0", "operators of the machine"):
        assert part in printed
    assert not list(tmp_path.iterdir())


@deep
def test_the_script_fails_and_saves(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault gives exit code 1 and files that can be replayed."""
    monkeypatch.setattr(elementwise, "add_codes", add_without_fma)
    assert main(["--count", "60", "--seed", "5", "--save", str(tmp_path), "--operators", "Add,Conv"]) == 1
    assert "FAILED" in capsys.readouterr().out
    assert {path.suffix for path in tmp_path.iterdir()} == {".onnx", ".npz"}


def test_refusals_are_counted_and_must_be_rare() -> None:
    """A series passes with few refusals, whose reasons are listed, and fails with many."""
    totals = Totals()
    for _ in range(99):
        totals.add(Outcome("exact", elements=10), ("Conv",))
    totals.add(Outcome("refused", "too odd"), ())
    assert totals.passed
    assert "refused 1x: too odd" in list(totals.lines())
    for _ in range(5):
        totals.add(Outcome("refused", "too odd"), ())
    assert not totals.passed
