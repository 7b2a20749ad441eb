"""Graphs that once failed, shrunk and saved under tests/saved_graphs: each must pass on every machine, for ever."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from accelsim import Arch
from tests.generator.shrink import load_saved
from tests.generator.verify import verify

FOLDER = Path(__file__).resolve().parents[1] / "saved_graphs"
MACHINES = (
    Arch(spm_act=1 << 20, acc_bits=48),
    Arch(array=(4, 32), dataflow="os", zp_mode="subtract", overflow="saturate", acc_bits=48, spm_act=1 << 20),
    Arch(array=(32, 8), dataflow="is", acc_bits=48, spm_act=1 << 20),
)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.onnx")), ids=lambda path: path.stem)
def test_a_saved_graph_passes(path: Path) -> None:
    """No element differs from onnxruntime, and what onnxruntime computes in float is one step away at most."""
    case, setup = load_saved(path)
    for machine in (setup.machine, *MACHINES):
        outcome = verify(case, replace(setup, machine=machine))
        assert not outcome.failed, (machine, outcome.detail)
        assert not any(distance.is_far for distance in outcome.distances)


def test_every_saved_graph_has_its_inputs() -> None:
    """A model without inputs, or inputs without a model, would be skipped in silence."""
    models = {path.stem for path in FOLDER.glob("*.onnx")}
    assert models == {path.stem for path in FOLDER.glob("*.npz")}
