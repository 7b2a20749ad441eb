"""The float operators of one layer as ONNX nodes: calibration runs them, and every form of a network contains them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from accelsim.models.sketch import MASKED, Step
from accelsim.models.weights import Floats

OPSET, IR_VERSION = 20, 9


def float_nodes(
    step: Step, inputs: Sequence[str], parameters: Sequence[str], output: str, *, activation: bool = True
) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a layer in order.

    Args:
        step: the layer, which is no input and no parameter.
        inputs: tensors that it reads, as they are called here.
        parameters: tensors of its parameters, likewise.
        output: tensor that it writes, likewise.
        activation: with the activation behind it.
    """
    clipped = activation and step.activation
    last = f"{step.output}_linear" if clipped else output
    if step.operator == "Linear":
        yield helper.make_node("MatMul", [inputs[0], parameters[0]], [f"{step.output}_product"], step.output)
        yield helper.make_node("Add", [f"{step.output}_product", parameters[1]], [last], f"{step.output}_add")
    elif step.operator == "Mask":
        yield helper.make_node("Where", [f"{step.output}_seen", inputs[0], parameters[0]], [last], step.output)
    else:
        names = [*inputs, *parameters, *integer_names(step)]
        yield helper.make_node(step.operator, names, [last], step.output, **step.attributes)
    if clipped == "relu":
        yield helper.make_node("Relu", [last], [output], f"{step.output}_relu")
    elif clipped:
        bounds = [f"{step.output}_lowest", f"{step.output}_highest"]
        yield helper.make_node("Clip", [last, *bounds], [output], f"{step.output}_clip")


def integer_names(step: Step) -> list[str]:
    """Return the names of the constants that decide shapes."""
    return [f"{step.output}_integers{index}" for index in range(len(step.integers))]


def plain_constants(step: Step, *, activation: bool = True) -> Iterator[onnx.TensorProto]:
    """Yield the constants of a layer's nodes that are no parameters."""
    for name, value in zip(integer_names(step), step.integers, strict=True):
        yield numpy_helper.from_array(np.asarray(value, np.int64), name)
    if step.operator == "Mask":
        yield numpy_helper.from_array(np.tril(np.ones(step.shape[-2:], np.bool_))[None, None], f"{step.output}_seen")
    if activation and step.activation == "relu6":
        yield numpy_helper.from_array(np.float32(0), f"{step.output}_lowest")
        yield numpy_helper.from_array(np.float32(6), f"{step.output}_highest")


def masked_value() -> Floats:
    """Return the constant that takes the place of a score nobody may see."""
    return np.full(1, MASKED, np.float32)
