"""Whole quantised convolutions through the RTL array and the RTL requantiser, against onnxruntime's QLinearConv."""

from __future__ import annotations

import numpy as np
import pytest

from tests.rtl import convolutions, drawing
from tests.rtl.cases import simulate
from tests.rtl.comparison import value_differences
from tests.rtl.conftest import SHAPES, SQUARE, WIDE, Programs
from tests.rtl.tools import Build
from tests.tiers import few

CONVOLUTIONS = 60
GENERIC = (SQUARE, SHAPES[4], WIDE)


@pytest.mark.parametrize("build", few(GENERIC, [GENERIC[0]]), ids=["4x4", "8x8", "4x4 wide"])
def test_convolutions_equal_onnxruntime_in_every_output(programs: Programs, build: Build) -> None:
    """Each on WS, OS and IS, a third of them depthwise and packed block-diagonally: 0 differing outputs."""
    random = np.random.default_rng(GENERIC.index(build))
    drawn = [convolutions.draw(random, depthwise=index % 3 == 0) for index in range(CONVOLUTIONS)]
    expected = [convolutions.onnxruntime_output(convolution) for convolution in drawn]
    for dataflow in drawing.DATAFLOWS:
        lanes = int(random.integers(1, build.columns + 1))
        cut = [convolutions.parts(convolution, build, dataflow, lanes) for convolution in drawn]
        answers = iter(simulate(programs[build], build, [part.case for parts in cut for part in parts]))
        for convolution, parts, wanted in zip(drawn, cut, expected, strict=True):
            found = convolutions.assemble(convolution, [(part, next(answers).outputs) for part in parts])
            assert np.array_equal(found, wanted), (dataflow, convolution)
    assert sum(convolution.depthwise for convolution in drawn) >= CONVOLUTIONS // 3


@pytest.mark.parametrize("build", few(GENERIC[:2], [GENERIC[0]]), ids=["4x4", "8x8"])
def test_the_address_generator_gathers_from_the_feature_map(programs: Programs, build: Build) -> None:
    """Implicit im2col in RTL (4.5): strides, dilations, pads, groups, images; zero points folded, pads read z_x."""
    random = np.random.default_rng(45)
    drawn = [convolutions.draw(random, depthwise=index % 3 == 0) for index in range(CONVOLUTIONS)]
    for dataflow in drawing.DATAFLOWS:
        cut = [
            [convolutions.implicit(convolution, part) for part in convolutions.parts(convolution, build, dataflow, 2)]
            for convolution in drawn
        ]
        answers = iter(simulate(programs[build], build, [part.case for parts in cut for part in parts]))
        for convolution, parts in zip(drawn, cut, strict=True):
            found = []
            for part in parts:
                answer = next(answers)
                assert value_differences(part.case, answer) == []
                found.append((part, answer.outputs))
            wanted = convolutions.onnxruntime_output(convolution)
            assert np.array_equal(convolutions.assemble(convolution, found), wanted), (dataflow, convolution)


def test_the_drawn_outputs_are_neither_zero_nor_clamped() -> None:
    """The comparison is of values: most outputs lie between the bounds of their type."""
    random = np.random.default_rng(0)
    inside = total = 0
    for index in range(CONVOLUTIONS):
        outputs = convolutions.onnxruntime_output(convolutions.draw(random, depthwise=index % 3 == 0))
        limits = np.iinfo(outputs.dtype)
        inside += int(((outputs > limits.min) & (outputs < limits.max)).sum())
        total += outputs.size
        assert len(np.unique(outputs)) > 1
    assert inside > 0.5 * total
