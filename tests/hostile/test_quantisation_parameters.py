"""Scales and zero points that onnx accepts and onnxruntime silently misuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper

import accelsim
from tests.cli.command import assert_refused, run_model
from tests.hostile.builders import Edit, constant, initialiser, node, quantised, replace_constant

BAD_SCALES = (0.0, -0.0, float("nan"), -1.0, float("inf"), float("-inf"), 1e-40)


@pytest.mark.parametrize("value", BAD_SCALES)
def test_scale_that_is_no_step(tmp_path: Path, value: float) -> None:
    """Zero, negative, infinite, undefined and subnormal scales name the node and the tensor."""
    model = quantised(replace_constant("scale", np.float32(value)))
    assert_refused(run_model(tmp_path, model), 5, "QuantizeLinear 'quantise'", "scale 'scale'", "finite and positive")


@pytest.mark.parametrize("value", [1.2e-38, 3e38])
def test_extreme_but_normal_scales_run(tmp_path: Path, value: float) -> None:
    """The smallest and largest normal scales are legal."""
    assert run_model(tmp_path, quantised(replace_constant("scale", np.float32(value)))).code == 0


def _one_bad_channel(model: ModelProto) -> None:
    scales = np.full(8, 0.1, np.float32)
    scales[5] = np.nan
    replace_constant("weights_scale", scales)(model)
    replace_constant("weights_zero", np.zeros(8, np.int8))(model)
    node(model, "dequantise_weights").attribute.append(helper.make_attribute("axis", 1))


def test_one_bad_scale_among_channels(tmp_path: Path) -> None:
    """Every channel's scale is looked at."""
    assert_refused(run_model(tmp_path, quantised(_one_bad_channel)), 5, "'weights_scale' holds nan")


def _scale_from(producer: NodeProto) -> Edit:
    """Return an edit that lets a node produce "scale"."""

    def edit(model: ModelProto) -> None:
        initialiser(model, "scale").name = "original"
        model.graph.node.insert(0, producer)

    return edit


PRODUCERS = {
    "Constant value": helper.make_node("Constant", [], ["scale"], value=constant("", np.float32(0))),
    "Constant value_float": helper.make_node("Constant", [], ["scale"], value_float=0.0),
    "Constant value_floats": helper.make_node("Constant", [], ["scale"], value_floats=[0.0]),
}


@pytest.mark.parametrize("producer", PRODUCERS.values(), ids=PRODUCERS)
def test_scale_from_a_constant_node(tmp_path: Path, producer: NodeProto) -> None:
    """A scale is checked wherever a file keeps its constants."""
    assert_refused(run_model(tmp_path, quantised(_scale_from(producer))), 5, "'scale' holds 0")


def test_an_identity_does_not_hide_a_bad_scale(tmp_path: Path) -> None:
    """An Identity in between does not hide a bad scale."""
    identity = helper.make_node("Identity", ["original"], ["scale"])
    model = quantised(replace_constant("scale", np.float32(-2)), _scale_from(identity))
    assert_refused(run_model(tmp_path, model), 5, "'scale' holds -2")


def test_a_scale_without_elements_is_refused(tmp_path: Path) -> None:
    """A scale without elements is no scale."""
    model = quantised(replace_constant("scale", np.zeros(0, np.float32)))
    assert_refused(run_model(tmp_path, model), 5, "'scale' holds nothing")


SHAPES = {
    "too few scales": (replace_constant("scale", np.full(3, 0.1, np.float32)), "3 scales"),
    "too many zero points": (replace_constant("zero", np.zeros(8, np.uint8)), "1 scales but zero points of shape [8]"),
    "scale with two axes": (replace_constant("scale", np.full((2, 2), 0.1, np.float32)), "without a block size"),
}


@pytest.mark.parametrize(("edit", "words"), SHAPES.values(), ids=SHAPES)
def test_parameters_that_do_not_fit_their_tensor(tmp_path: Path, edit: Edit, words: str) -> None:
    """Numbers of scales and zero points are compared with the tensor, before onnxruntime trips over them."""
    assert_refused(run_model(tmp_path, quantised(edit)), 5, "'quantise'", words)


def test_scale_that_is_a_big_tensor(tmp_path: Path) -> None:
    """A computed tensor in the place of a scale is refused by its shape."""

    def edit(model: ModelProto) -> None:
        node(model, "dequantise").input[1] = "x"

    assert_refused(run_model(tmp_path, quantised(edit)), 5, "'dequantise'", "2 dimensions without a block size")


def test_axis_out_of_range(tmp_path: Path) -> None:
    """Scales per channel of an axis that the tensor does not have are refused."""

    def edit(model: ModelProto) -> None:
        replace_constant("weights_scale", np.full(8, 0.1, np.float32))(model)
        replace_constant("weights_zero", np.zeros(8, np.int8))(model)
        node(model, "dequantise_weights").attribute.append(helper.make_attribute("axis", 7))

    assert_refused(run_model(tmp_path, quantised(edit)), 5, "quantises axis 7 of 2")


def _blocked(size: int, *shape: int) -> Edit:
    """Return an edit that gives the weights one scale per block of an axis."""

    def edit(model: ModelProto) -> None:
        model.opset_import[0].version = 21
        replace_constant("weights_scale", np.full(shape, 0.1, np.float32))(model)
        replace_constant("weights_zero", np.zeros(shape, np.int8))(model)
        attributes = [helper.make_attribute("axis", 0), helper.make_attribute("block_size", size)]
        node(model, "dequantise_weights").attribute.extend(attributes)

    return edit


@pytest.mark.parametrize(("size", "shape"), [(4, (3, 8)), (4, (2, 7)), (4, (8,)), (-4, (2, 8))])
def test_scales_that_do_not_fit_their_blocks(tmp_path: Path, size: int, shape: tuple[int, ...]) -> None:
    """Blocked weights need one scale per block."""
    assert_refused(run_model(tmp_path, quantised(_blocked(size, *shape))), 5, "'dequantise_weights' has", "block")


@pytest.mark.parametrize(("size", "shape"), [(4, (2, 8)), (3, (3, 8)), (8, (1, 8))])
def test_blocked_weights_load(size: int, shape: tuple[int, ...]) -> None:
    """Whole blocks, and a last one that is not full, are legal (whether onnxruntime runs them is another matter)."""
    accelsim.load(quantised(_blocked(size, *shape)).SerializeToString())


@pytest.mark.parametrize(
    ("element_type", "value"),
    [(TensorProto.UINT8, 9999), (TensorProto.UINT8, -1), (TensorProto.INT8, 128), (TensorProto.INT8, -129)],
)
def test_zero_point_outside_of_its_type(tmp_path: Path, element_type: int, value: int) -> None:
    """A zero point stored in the 32-bit field is refused when it does not fit 8 bits (onnxruntime would wrap it)."""

    def edit(model: ModelProto) -> None:
        tensor = initialiser(model, "zero")
        tensor.ClearField("raw_data")
        tensor.data_type = element_type
        tensor.int32_data.append(value)

    assert_refused(run_model(tmp_path, quantised(edit)), 5, "'zero'", str(value), "outside of")


def test_zero_point_in_the_32_bit_field_runs(tmp_path: Path) -> None:
    """The same field with a value in range is legal."""

    def edit(model: ModelProto) -> None:
        tensor = initialiser(model, "zero")
        tensor.ClearField("raw_data")
        tensor.int32_data.append(255)

    assert run_model(tmp_path, quantised(edit)).code == 0


def test_four_bit_pairs_outside_of_a_byte(tmp_path: Path) -> None:
    """Packed 4-bit weights whose pairs do not fit a byte are refused."""

    def edit(model: ModelProto) -> None:
        tensor = initialiser(model, "weights")
        tensor.ClearField("raw_data")
        tensor.data_type = TensorProto.INT4
        tensor.int32_data.extend([300] * 32)

    assert_refused(run_model(tmp_path, quantised(edit)), 5, "'weights' holds 300", "int4")
