"""Files that onnxruntime saved in its own layouts: the layers, values and cycles of the same network channels first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

import accelsim

Array = NDArray[Any]
MICROSOFT = "com.microsoft"


class Net:
    """A network under construction: nodes and constants, with names that count up."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self.rng = np.random.default_rng(7)

    def constant(self, array: Any, kind: Any = None) -> str:
        """Add a constant."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, kind), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str = "", domain: str = "", **attributes: Any) -> str:
        """Add a node of one output."""
        name = output or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=f"{kind}_{name}", domain=domain, **attributes))
        return name

    def parameters(self, scale: float, zero: int) -> list[str]:
        """Add scale and zero point of codes."""
        return [self.constant(scale, np.float32), self.constant(zero, np.uint8)]

    def quantised(self, name: str, scale: float = 0.03, zero: int = 128) -> str:
        """Put QuantizeLinear and DequantizeLinear behind a tensor."""
        pair = self.parameters(scale, zero)
        return self.node("DequantizeLinear", [self.node("QuantizeLinear", [name, *pair]), *pair])

    def weights(self, *shape: int) -> list[str]:
        """Add int8 weights with scales per channel and zero points."""
        codes = self.constant(self.rng.integers(-127, 128, shape), np.int8)
        scales = self.constant(self.rng.uniform(0.002, 0.005, shape[0]), np.float32)
        return [codes, scales, self.constant(np.zeros(shape[0]), np.int8)]

    def convolution(self, name: str, *shape: int, zero: int = 128, **attributes: Any) -> str:
        """Add a quantised Conv that keeps the size of the map."""
        weights = self.node("DequantizeLinear", self.weights(*shape), axis=0)
        pads = [1] * (2 * (len(shape) - 2))
        return self.quantised(self.node("Conv", [name, weights], pads=pads, **attributes), zero=zero)

    def close(self, shape: list[int], output: str = "y", kind: int = TensorProto.FLOAT) -> ModelProto:
        """Finish the network whose input is x."""
        ends = [helper.make_tensor_value_info("x", kind, shape), helper.make_tensor_value_info(output, kind, None)]
        graph = helper.make_graph(self.nodes, "net", ends[:1], ends[1:], self.constants)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def saved(model: ModelProto, path: Path) -> Path:
    """Let onnxruntime save a network as it executes it at ORT_ENABLE_ALL."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return path


def own_session(path: Path, x: Array) -> Array:
    """Run a file in onnxruntime, without the project."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def channels_last(path: Path) -> list[str]:
    """Return the operators of a file that read channels last."""
    nodes = onnx.load(path).graph.node
    flagged = [node for node in nodes if any(a.name == "channels_last" and a.i for a in node.attribute)]
    return [node.op_type for node in (*flagged, *(node for node in nodes if node.op_type == "NhwcMaxPool"))]


def residual() -> ModelProto:
    """Convolutions, one of them depthwise, a pool, a sum, tables, a gate per channel, and a mean."""
    net = Net()
    start = net.convolution(net.quantised("x"), 8, 3, 3, 3, zero=0)
    pooled = net.quantised(net.node("MaxPool", [start], kernel_shape=[2, 2], strides=[2, 2]), zero=0)
    branch = net.convolution(pooled, 8, 1, 3, 3, group=8)
    total = net.quantised(net.node("Add", [pooled, branch]), 0.05)
    table = net.quantised(net.node("Sigmoid", [total]), 1 / 256, 0)
    gate = net.quantised(net.node("GlobalAveragePool", [table]), 1 / 256, 0)
    gated = net.quantised(net.node("Mul", [total, gate]))
    joined = net.quantised(net.node("Concat", [gated, branch], axis=1))
    last = net.convolution(joined, 4, 16, 3, 3)
    mean = net.quantised(net.node("GlobalAveragePool", [last]))
    net.node("Flatten", [mean], "y")
    return net.close([1, 3, 12, 12])


def chain(*sizes: int) -> ModelProto:
    """Two convolutions over any number of spatial dimensions."""
    net = Net()
    kernel = [3] * len(sizes)
    first = net.convolution(net.quantised("x"), 4, 2, *kernel)
    net.node("Identity", [net.convolution(first, 3, 4, *kernel)], "y")
    return net.close([2, 2, *sizes])


@pytest.mark.parametrize("model", [residual(), chain(9), chain(5, 6), chain(4, 3, 5)], ids=["residual", "1", "2", "3"])
def test_a_saved_file_is_the_network_that_it_was(model: ModelProto, tmp_path: Path) -> None:
    """The same layers and cycles as channels first, every tensor compared, and nothing on the host."""
    path = saved(model, tmp_path / "saved.onnx")
    assert channels_last(path)
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(1).normal(0, 1, shape).astype(np.float32)
    before, result = (accelsim.run(file, None, {"x": x}) for file in (model.SerializeToString(), path))
    assert result.check.verdict == "exact"
    assert np.array_equal(result.outputs["y"], own_session(path, x))
    assert [(layer.op, layer.cycles) for layer in result.layers] == [(la.op, la.cycles) for la in before.layers]
    assert result.energy_pj == before.energy_pj
    assert all(layer.check is not None and layer.placement != "host" for layer in result.layers)
    assert result.macs_on_array_share == 1.0


def written_by_hand(*, sum_of_two: bool = False) -> ModelProto:
    """A network of codes that is channels last from its input to its output."""
    net = Net()
    net_in, net_out = net.parameters(0.03, 128), net.parameters(0.04, 120)
    wide = net.node(
        "QLinearConv",
        ["x", *net_in, *net.weights(6, 4, 3, 3), *net_out],
        domain=MICROSOFT,
        channels_last=1,
        pads=[1] * 4,
        strides=[2, 1],
    )
    mean = net.node(
        "QLinearAveragePool",
        [wide, *net_out, *net_out],
        "" if sum_of_two else "y",
        MICROSOFT,
        kernel_shape=[3, 3],
        pads=[1] * 4,
        channels_last=1,
    )
    if sum_of_two:
        shape = net.constant(net.rng.integers(0, 256, 6), np.uint8)
        more = net.node("QLinearAdd", [mean, *net_out, shape, *net_in, *net_out], domain=MICROSOFT)
        net.node("QLinearAdd", [more, *net_out, wide, *net_out, *net_in], "y", MICROSOFT)
    return net.close([1, 8, 5, 4], kind=TensorProto.UINT8)


@pytest.mark.parametrize("sum_of_two", [False, True])
def test_channels_last_from_end_to_end(sum_of_two: bool, tmp_path: Path) -> None:
    """Where the graph itself is channels last, a Transpose stands at its ends, and before a sum along the last axis."""
    path = tmp_path / "last.onnx"
    onnx.save(written_by_hand(sum_of_two=sum_of_two), path)
    x = np.random.default_rng(2).integers(0, 256, (1, 8, 5, 4)).astype(np.uint8)
    result = accelsim.run(path, None, {"x": x})
    assert result.check.verdict == "exact"
    assert np.array_equal(result.outputs["y"], own_session(path, x))
    assert {layer.placement for layer in result.layers} == {"array", "vector"}
    kinds = [layer.op for layer in result.layers]
    assert kinds[:2] == ["Transpose", "QLinearConv"]
    assert kinds[-1] == ("QLinearAdd" if sum_of_two else "Transpose")
    assert kinds.count("Transpose") == (3 if sum_of_two else 2)


def test_other_transposes_read_channels_first(tmp_path: Path) -> None:
    """A Transpose behind a convolution is one Transpose on the machine, whatever it makes of channels last."""
    model = written_by_hand()
    model.graph.node[-1].output[0] = "mean"
    model.graph.node.append(helper.make_node("Transpose", ["mean"], ["y"], perm=[0, 3, 2, 1]))
    path = tmp_path / "turned.onnx"
    onnx.save(model, path)
    x = np.random.default_rng(3).integers(0, 256, (1, 8, 5, 4)).astype(np.uint8)
    result = accelsim.run(path, None, {"x": x})
    assert result.check.verdict == "exact"
    assert np.array_equal(result.outputs["y"], own_session(path, x))
    assert [layer.op for layer in result.layers].count("Transpose") == 2


def test_wrong_channels_are_counted_where_they_are() -> None:
    """The loader compares channels with the last axis."""
    model = written_by_hand()
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 8
    with pytest.raises(accelsim.InvalidModelError, match="1 groups of 4 channels for data of 8"):
        accelsim.load(model.SerializeToString())


@pytest.mark.parametrize("channels", [3, 16])
def test_blocks_of_channels_stay_with_onnxruntime(channels: int, tmp_path: Path) -> None:
    """Float layers in blocks of channels (com.microsoft.nchwc) load and run on the host, beside codes on the array."""
    net = Net()
    name = net.quantised("x")
    for depth in (channels, 16):
        weights = net.constant(net.rng.normal(0, 0.1, (16, depth, 3, 3)), np.float32)
        name = net.node("Relu", [net.node("Conv", [name, weights], pads=[1] * 4)])
    flat = net.quantised(net.node("Flatten", [net.node("GlobalAveragePool", [name])]))
    net.node("MatMul", [flat, net.node("DequantizeLinear", net.weights(16, 10)[:2], axis=0)], "y")
    net.constants[-2].CopyFrom(numpy_helper.from_array(np.float32(0.01), net.constants[-2].name))
    path = saved(net.close([1, channels, 8, 8]), tmp_path / "blocked.onnx")
    assert any(node.domain == "com.microsoft.nchwc" for node in onnx.load(path).graph.node)
    x = np.random.default_rng(4).normal(0, 1, (1, channels, 8, 8)).astype(np.float32)
    result = accelsim.run(path, None, {"x": x})
    assert result.check.verdict == "exact"
    assert np.array_equal(result.outputs["y"], own_session(path, x))
    assert {"host", "array"} <= {layer.placement for layer in result.layers}
