"""Groups of weights: scales along the input channels where blocks divide them, else per channel, and that is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper

from accelsim.quantise.pipeline import Quantised, quantize
from tests.quantise.graphs import model, near, node, normal
from tests.quantise.helpers import CALIBRATION, DIGITS, quantize_into, samples
from tests.tiers import deep, few

DEPTHS = {"Conv": 12, "ConvTranspose": 12, "Gemm": 12, "MatMul": 12}


def layered(kind: str, depth: int) -> tuple[bytes, dict[str, np.ndarray]]:
    """Return one layer of a kind with a number of input channels, a Relu behind it, and samples."""
    if kind in ("Conv", "ConvTranspose"):
        shape = [6, depth, 3, 3] if kind == "Conv" else [depth, 6, 3, 3]
        sizes, values, given = {"x": ["N", depth, 5, 5]}, {"w": normal(*shape)}, {"x": normal(24, depth, 5, 5)}
        rank = 4
    else:
        sizes, values, given = {"x": ["N", depth]}, {"w": normal(depth, 6)}, {"x": normal(24, depth)}
        rank = 2
    nodes = [node(kind, ["x", "w"], ["h"], name="layer"), node("Relu", ["h"], ["y"], name="relu")]
    return model(nodes, values, sizes, {"y": [None] * rank}), given


def said(quantised: Quantised) -> list[str]:
    """Return the remarks on layers without groups."""
    return [remark for remark in quantised.remarks if "do not divide" in remark]


@pytest.mark.parametrize("kind", DEPTHS)
@pytest.mark.parametrize("block", few([2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 24], [4, 5, 24]))
@pytest.mark.parametrize("bits", [4, 8])
def test_blocks_that_divide_are_used_and_others_are_not(kind: str, block: int, bits: int) -> None:
    """Scales are those of blocks or of channels, never of a block that is cut short; the file runs exactly."""
    data, given = layered(kind, DEPTHS[kind])
    quantised = near(data, given, f"w4a8+weight_bits={bits}+block={block}", 8 if bits == 4 else 20)
    grid = quantised.weights["layer"].grid
    divides = DEPTHS[kind] % block == 0
    grouped = divides and block < DEPTHS[kind]  # a single block is a channel
    assert (grid.block, grid.scales.size) == ((block, grid.scales.size) if grouped else (0, 6))
    scales = {t.name: numpy_helper.to_array(t) for t in ModelProto.FromString(quantised.onnx).graph.initializer}
    assert scales["w_scale"].shape == grid.scales.shape
    assert len(said(quantised)) == (0 if divides else 1)


@deep
def test_what_is_said_names_layers_and_channels(tmp_path: Path) -> None:
    """The command ends well, and the digits' layers are named with their depth."""
    made = quantize_into(tmp_path, DIGITS, "--calib", CALIBRATION, "--option", "block=7")
    assert made.code == 0, made.stderr
    text = " ".join(made.stdout.split())
    assert "blocks of 7 weights do not divide the input channels of 'stem' 1, 'reduce' 16" in text
    assert "have a scale per output channel instead" in text


def test_layers_kept_in_float_are_not_said() -> None:
    """What has no codes has no groups either."""
    quantised = quantize(DIGITS, "w4a8+block=7+keep_float=reduce", samples(count=16))
    assert "'reduce'" not in said(quantised)[0]
