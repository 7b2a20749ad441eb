"""Shapes that onnxruntime does not infer: seen in one run, and called dependent on data only where they are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from onnx import TensorProto, helper

import accelsim
from accelsim.graph.normalise.data_shapes import shapes_by_data
from tests.strategies import MICROSOFT, Builder, Case, Draw

SEED = 71_006
Layer = Callable[[Builder, str], str]


def normalised(build: Builder, x: str) -> str:
    """Normalise over samples and places; onnxruntime infers no shape for what it gives."""
    return build.node("MeanVarianceNormalization", [x])


def distances(build: Builder, x: str) -> str:
    """Distances of the rows of a matrix from those of another one."""
    rows = build.node("Reshape", [x, build.constant(np.array([-1, 6]))])
    return build.node("CDist", [rows, build.constant(np.eye(5, 6), np.float32)], MICROSOFT, metric="euclidean")


def crops(build: Builder, x: str) -> str:
    """One piece of an image, whose size is a constant."""
    boxes, index = build.constant([[0, 0, 1, 1]], np.float32), build.constant(np.zeros(1, np.int32))
    return build.node("CropAndResize", [x, boxes, index, build.constant(np.array([3, 3], np.int32))], MICROSOFT)


def reshaped(build: Builder, x: str) -> str:
    """A shape that is computed of a shape that was not inferred, and of no value."""
    hidden = normalised(build, x)
    return build.node("Reshape", [normalised(build, hidden), build.node("Shape", [hidden])])


def positions(build: Builder, x: str) -> str:
    """Where values are not 0, of which there are as many in zeros plus one as in noise plus one."""
    found = build.node("NonZero", [build.node("Add", [x, build.constant(100, np.float32)])])
    return build.node("Cast", [found], to=TensorProto.FLOAT)


def expanded(build: Builder, x: str) -> str:
    """As many rows as a value says."""
    count = build.node("Cast", [build.node("ReduceMax", [x], keepdims=0)], to=TensorProto.INT64)
    sizes = build.node(
        "Concat", [build.node("Reshape", [count, build.constant(np.array([1]))]), build.constant([3])], axis=0
    )
    return build.node("Expand", [build.constant(np.ones((1, 3)), np.float32), sizes])


INDEPENDENT = (normalised, distances, crops, reshaped)
DEPENDENT = (positions, expanded)


def one_layer(layer: Layer, *, is_open: bool) -> Case:
    """Build one operator behind a quantiser, for a fixed or an open number of samples."""
    build = Builder(Draw((SEED, 1), ties=False), opset=13)
    code = build.draw.activation(np.dtype("uint8"))
    real = build.input(build.draw.rng.uniform(0.5, 4, (2, 4, 6, 6)).astype(np.float32))
    x = build.dequantise(build.quantise(real, code), code)
    build.output(build.node("Relu", [layer(build, x)]))
    proto = build.proto()
    if is_open:
        proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
        del proto.graph.value_info[:]
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    return Case(proto.SerializeToString(), build.inputs)


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("layer", [*INDEPENDENT, *DEPENDENT])
def test_shapes_that_are_not_inferred_are_seen(layer: Layer, is_open: bool) -> None:
    """Each runs, equals onnxruntime, and says of shapes what is true."""
    case = one_layer(layer, is_open=is_open)
    result = accelsim.run(accelsim.load(case.model), None, case.inputs)
    assert result.check.verdict == "exact"
    said = any("depend on data" in note for note in result.check.notes)
    assert said == (layer in DEPENDENT)


def test_windows_that_are_inferred_wrongly_do_not_depend_on_data() -> None:
    """With ceil_mode inference may count a window that lies in the padding; onnxruntime leaves it out."""
    build = Builder(Draw((SEED, 2), ties=False))
    code = build.draw.activation(np.dtype("uint8"))
    x = build.dequantise(build.quantise(build.input(np.ones((1, 2, 5, 5), np.float32)), code), code)
    pooled = build.node("AveragePool", [x], kernel_shape=[2, 2], strides=[3, 3], pads=[1, 1, 1, 1], ceil_mode=1)
    build.output(pooled)
    case = build.case()
    result = accelsim.run(accelsim.load(case.model), None, case.inputs)
    assert result.check.verdict == "exact"
    assert not any("depend on data" in note for note in result.check.notes)


def test_the_graph_says_which_shapes_depend_on_data() -> None:
    """Sizes that are computed of values, and what reads such a tensor; not sizes of shapes, not indices."""
    nodes = [
        helper.make_node("Shape", ["x"], ["sizes"]), helper.make_node("Reshape", ["x", "sizes"], ["same"]),
        helper.make_node("Gather", ["x", "i"], ["rows"]), helper.make_node("Reshape", ["x", "i"], ["data"]),
        helper.make_node("Shape", ["data"], ["data_sizes"]),
        helper.make_node("Expand", ["c", "data_sizes"], ["behind"]),
        helper.make_node("NonZero", ["c"], ["constant"]), helper.make_node("NonZero", ["x"], ["found"]),
        helper.make_node("Relu", ["found"], ["next"]),
    ]  # fmt: skip
    inputs = [helper.make_tensor_value_info("x", 1, [4]), helper.make_tensor_value_info("i", 7, [1])]
    proto = helper.make_model(helper.make_graph(nodes, "graph", inputs, []))
    unknown = {name for node in nodes for name in node.output}
    assert shapes_by_data(proto, unknown) == {"data", "behind", "found", "next"}
