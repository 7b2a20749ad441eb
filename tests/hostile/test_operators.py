"""Operators whose attributes contradict their operands: refused by the loader, for onnxruntime fails while running."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, helper

from tests.cli.command import assert_refused, run_model
from tests.hostile.builders import constant, floats, model_of, parameters


def _image(worker: NodeProto, filters: tuple[int, ...]) -> ModelProto:
    """Return a quantised model of one operator on [1, 4, 6, 6] with int8 weights of some shape."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["codes"]),
        helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["a"]),
        helper.make_node("DequantizeLinear", ["weights", "w_scale", "w_zero"], ["w"]),
        worker,
        helper.make_node("QuantizeLinear", ["b", "scale", "zero"], ["out"]),
        helper.make_node("DequantizeLinear", ["out", "scale", "zero"], ["y"]),
    ]
    constants = [
        *parameters(),
        constant("weights", np.ones(filters, np.int8)),
        constant("w_scale", np.float32(0.1)),
        constant("w_zero", np.int8(0)),
    ]
    outputs = [helper.make_tensor_value_info("y", 1, None)]
    return model_of(nodes, constants, [floats("x", [1, 4, 6, 6])], outputs)


def _convolution(filters: tuple[int, ...] = (8, 4, 3, 3), **attributes: Any) -> ModelProto:
    return _image(helper.make_node("Conv", ["a", "w"], ["b"], "conv", **attributes), filters)


def _pool(**attributes: Any) -> ModelProto:
    return _image(helper.make_node("MaxPool", ["a"], ["b"], "pool", **attributes), (8, 4, 3, 3))


WRONG = {
    "no groups": (_convolution(group=0), "has 0 groups"),
    "negative groups": (_convolution(group=-1), "has -1 groups"),
    "huge groups": (_convolution(group=2**62), "groups of 4 channels for data of 4"),
    "groups that do not divide": (_convolution(group=3), "has 3 groups of 4 channels for data of 4"),
    "filters that do not divide": (_convolution((7, 2, 3, 3), group=2), "has 7 filters in 2 groups"),
    "other channels": (_convolution((8, 3, 3, 3)), "has 1 groups of 3 channels for data of 4"),
    "empty weights": (_convolution((0, 4, 3, 3)), "has empty weights"),
    "weights of another rank": (_convolution((8, 4, 3)), "has weights of 3 dimensions for data of 4"),
    "kernel that the weights contradict": (_convolution(kernel_shape=[3, 4]), "states the kernel [3, 4]"),
    "stride of zero": (_convolution(strides=[0, 1]), "has strides out of range: [0, 1]"),
    "negative stride": (_convolution(strides=[1, -1]), "has strides out of range"),
    "huge dilation": (_convolution(dilations=[1, 2**40]), "has dilations out of range"),
    "huge pads": (_convolution(pads=[0, 2**62, 0, 2**62]), "has pads out of range"),
    "too few pads": (_convolution(pads=[1, 1]), "has 2 pads for 2 spatial dimensions"),
    "too many strides": (_convolution(strides=[1, 1, 1]), "has 3 strides for 2 spatial dimensions"),
    "dilated beyond the image": (_convolution(dilations=[1, 5]), "has a window of 11 for data of 6"),
    "window larger than the image": (_pool(kernel_shape=[7, 1]), "has a window of 7 for data of 6"),
    "empty window": (_pool(kernel_shape=[0, 1]), "has a kernel out of range: [0, 1]"),
    "window of another rank": (_pool(kernel_shape=[2]), "has a window of 1 dimensions for data of 4"),
}


@pytest.mark.parametrize(("model", "words"), WRONG.values(), ids=WRONG)
def test_a_contradiction_is_refused_with_node_and_numbers(tmp_path: Path, model: ModelProto, words: str) -> None:
    """A window, group or channel count that cannot be is refused with the node's name and the numbers."""
    name = "'conv'" if any(node.name == "conv" for node in model.graph.node) else "'pool'"
    assert_refused(run_model(tmp_path, model), 5, name, words)


def test_dilations_with_automatic_pads(tmp_path: Path) -> None:
    """What onnxruntime does not execute is unsupported, with a remedy."""
    model = _convolution(dilations=[2, 2], auto_pad="SAME_LOWER")
    assert_refused(run_model(tmp_path, model), 4, "'conv' combines dilations with auto_pad", "explicit pads")


RIGHT = {
    "plain": _convolution(),
    "stated kernel": _convolution(kernel_shape=[3, 3]),
    "padded": _convolution(pads=[1, 1, 1, 1], strides=[2, 2]),
    "exactly one position": _convolution((8, 4, 6, 6)),
    "one position thanks to pads": _convolution(dilations=[3, 3], pads=[1, 0, 0, 1]),
    "padded automatically": _convolution((8, 4, 9, 9), auto_pad="SAME_UPPER"),
    "groups": _convolution((8, 2, 3, 3), group=2),
    "pool": _pool(kernel_shape=[6, 6]),
}


@pytest.mark.parametrize("model", RIGHT.values(), ids=RIGHT)
def test_border_of_the_legal(tmp_path: Path, model: ModelProto) -> None:
    """The largest windows that fit run and are exact."""
    outcome = run_model(tmp_path, model)
    assert outcome.code == 0, outcome
    assert "check    exact" in outcome.stdout
