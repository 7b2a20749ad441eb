"""Corners of pools: windows outside of the image, gaps between windows, scales that onnxruntime refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import accelsim
from tests.differential.registry import SEED, run_exactly
from tests.differential.single_pools import pool_target
from tests.strategies import Builder, Case, Draw, Quantisation


def pool_case(kind: str, size: int, **attributes: Any) -> Case:
    """Build a 1-D pool of 2 x 3 rows of a size."""
    draw = Draw((SEED, 3, size), ties=True)
    build, source = Builder(draw), draw.activation()
    target = source if kind == "MaxPool" else pool_target(draw, source)
    real = build.activation((2, 3, size), source)
    return build.finish(build.node(kind, [real], **attributes), target)


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(("size", "kernel", "stride", "pads"), [(7, 1, 2, 0), (8, 1, 3, 0), (6, 2, 2, 1), (9, 2, 3, 1)])
def test_ceil_mode_drops_windows_that_start_outside(kind: str, size: int, kernel: int, stride: int, pads: int) -> None:
    """In ceil mode a last window that would start behind the image is no output, although onnx infers one."""
    case = pool_case(kind, size, kernel_shape=[kernel], strides=[stride], pads=[0, pads], ceil_mode=1)
    result = run_exactly(case, accelsim.Arch(), f"{kind} {size} {kernel} {stride} {pads}")
    (output,) = result.outputs.values()
    before_the_end = len(range(0, size, stride))
    assert output.shape == (2, 3, before_the_end)


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize(("size", "kernel", "stride"), [(9, 1, 3), (8, 1, 2), (10, 2, 5), (6, 1, 3)])
def test_average_pool_with_gaps_between_windows(mode: str, size: int, kernel: int, stride: int) -> None:
    """Automatic padding of windows with gaps between them: onnxruntime pads negatively, that is, it skips pixels."""
    case = pool_case("AveragePool", size, kernel_shape=[kernel], strides=[stride], auto_pad=mode)
    run_exactly(case, accelsim.Arch(), f"{mode} {size} {kernel} {stride}")


def refused_pool() -> Case:
    """Build a GlobalAveragePool whose scales onnxruntime's kernel refuses when it runs: s_x / (s_y * N) >= 256."""
    draw = Draw((SEED, 4), ties=False)
    build, source = Builder(draw), Quantisation(np.dtype(np.uint8), np.float32(0.5), 3)
    real = build.dequantise(build.codes((1, 2, 2, 2), source), source)
    target = replace(source, scale=np.float32(1e-6))
    return build.finish(build.node("GlobalAveragePool", [real]), target)


def test_what_onnxruntime_refuses_while_running_is_one_sentence() -> None:
    """A kernel of the reference that fails at run time ends in an error of accelsim, not of onnxruntime."""
    case = refused_pool()
    with pytest.raises(accelsim.AccelSimError, match="onnxruntime"):
        accelsim.run(accelsim.load(case.model), None, case.inputs)
