"""The width that sums need: the same figure everywhere, and true, whatever overflowed in the run that names it."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import accelsim
from accelsim.errors import UnsupportedModelError
from accelsim.reports.page.page import report_html
from accelsim.reports.terminal.budgets import overflow_text
from accelsim.results.accumulators import bits_needed, width_lines
from accelsim.results.reader import result_from_dict
from accelsim.results.result import Result
from tests.cli.command import command
from tests.tiers import few

ROOT = Path(__file__).resolve().parents[2]
MODELS = ["digits_int8", "digits_w4_ptq", "affine weights"]
MACHINES: dict[str, dict[str, Any]] = {
    "wrap": {},
    "saturate": {"overflow": "saturate"},
    "subtract": {"zp_mode": "subtract"},
    "row sums": {"weight_zero_point": "row-sum"},
}


@cache
def loaded(model: str) -> accelsim.Model:
    """Return a digits network, or one whose weights have zero points."""
    if model != "affine weights":
        return accelsim.load(ROOT / "models" / f"{model}.onnx")
    return accelsim.load(accelsim.quantize(ROOT / "models" / "digits_float.onnx", "int8-affine-weights").onnx)


def run(model: str, bits: int, **changes: Any) -> Result:
    """Run a network."""
    return accelsim.run(loaded(model), accelsim.Arch().evolve(acc_bits=bits, **changes), seed=3, check=False)


@pytest.mark.parametrize("model", few(MODELS, 1))
@pytest.mark.parametrize("machine", few(MACHINES, ["wrap"]))
def test_the_width_named_is_enough_and_the_least(model: str, machine: str) -> None:
    """Whatever width is given, the same one is named: there nothing overflows, one bit below something does."""
    changes = MACHINES[machine]
    needed = bits_needed(run(model, 48, **changes).layers)
    assert needed is not None
    assert not any(layer.acc and layer.acc.overflows for layer in run(model, needed, **changes).layers)
    assert any(layer.acc and layer.acc.overflows for layer in run(model, needed - 1, **changes).layers)
    wide = [layer.acc and (layer.acc.peak, layer.acc.min_safe_bits) for layer in run(model, 48, **changes).layers]
    for bits in range(8, needed + 2):
        found = run(model, bits, **changes)
        assert bits_needed(found.layers) == needed
        assert [layer.acc and (layer.acc.peak, layer.acc.min_safe_bits) for layer in found.layers] == wide


def test_layers_behind_an_overflow_are_marked() -> None:
    """Those that read what it may have changed, and no others."""
    found = run("digits_int8", 14)
    changed: set[str] = set()
    for layer in found.layers:
        assert layer.inputs is not None
        assert layer.outputs is not None
        assert layer.behind_overflow == bool(changed & set(layer.inputs))
        if layer.behind_overflow or (layer.acc and layer.acc.overflows):
            changed |= set(layer.outputs)
    assert not any(layer.behind_overflow for layer in run("digits_int8", 32).layers)


@pytest.mark.parametrize("bits", few([12, 14, 18, 19, 32], [14]))
def test_everything_says_the_same(bits: int, tmp_path: Path) -> None:
    """Summary, table, JSON, report and test helper name one width."""
    model = ROOT / "models" / "digits_int8.onnx"
    shown = command("run", model, "--acc-bits", bits, "--seed", 3, "-v", "-o", tmp_path)
    data = json.loads((tmp_path / "result.json").read_text())
    needed = data["totals"]["acc_bits_needed"]
    (line,) = re.findall(r"^acc +(.*)$", shown.stdout, re.MULTILINE)
    assert line.startswith(f"{bits} bits given, {needed} needed by the sums of this input, ")
    table = shown.stdout.partition("bits needed")[2].partition("acc  ")[0]
    rows = [int(found[1]) for found in re.finditer(r"^ ?\S+ +\d+ +[\d,]+ +(\d+) +[\d,]+ *$", table, re.MULTILINE)]
    assert max(rows) == needed
    result = run("digits_int8", bits)
    assert f"{needed} needed by the sums of this input" in overflow_text(result)
    assert f"{bits} bits given, {needed} needed by the sums of this input" in report_html([result])
    assert ("the first overflow is in layer" in shown.stdout) == (bits < needed)


def test_results_of_before_do_not_claim_what_they_do_not_know() -> None:
    """Without the key, layers behind the first overflow are unknown, and the sentence says where to get the number."""
    data = run("digits_int8", 14).to_dict()
    for row in data["layers"]:
        del row["behind_overflow"], row["sums_unknown"]
    del data["totals"]["acc_bits_needed"]
    old = result_from_dict(json.loads(json.dumps(data)), "old")
    assert bits_needed(old.layers) is None
    assert old.to_dict()["totals"]["acc_bits_needed"] is None
    assert "run with --acc-bits 64" in width_lines(old.layers)[0]
    assert "unknown, inputs overflowed" in report_html([old])
    clean = run("digits_int8", 32).to_dict()
    for row in clean["layers"]:
        del row["behind_overflow"], row["sums_unknown"]
    assert bits_needed(result_from_dict(json.loads(json.dumps(clean)), "old").layers) is not None


def test_a_second_pass_that_fails_leaves_the_width_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run stands, and no number is claimed."""

    def fail(*arguments: object) -> None:
        raise UnsupportedModelError("a host operator takes no such values")

    monkeypatch.setattr("accelsim.values.exact_sums.run_program", fail)
    found = run("digits_int8", 14)
    assert bits_needed(found.layers) is None
    assert "not known behind an overflow" in width_lines(found.layers)[0]
    assert bits_needed(run("digits_int8", 32).layers) is not None


def test_a_network_without_sums_says_nothing() -> None:
    """No accumulators, no line."""
    found = accelsim.run(ROOT / "models" / "digits_int8.onnx", values=False)
    assert width_lines(found.layers) == []
    assert found.to_dict()["totals"]["acc_bits_needed"] is None
    assert np.all([layer.acc is None for layer in found.layers])
