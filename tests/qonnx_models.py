"""Builds QONNX models: a graph that grows by layers, and seeded random networks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

DOMAIN = "qonnx.custom_op.general"
MODES = ("ROUND", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN", "HALF_EVEN")


@dataclass
class QonnxGraph:
    """A growing QONNX graph; methods add nodes and return the name of their output."""

    opset: int = 13
    domain: str = DOMAIN
    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)

    def add_input(self, name: str, *shape: int | str) -> str:
        """Declare a float input."""
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """Add a constant."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, operator: str, *inputs: str, domain: str = "", outputs: int = 1, **attributes: Any) -> str:
        """Add a node; returns its first output."""
        label = f"{operator}_{len(self.nodes)}"
        names = [f"{label}_out" if i == 0 else f"{label}_out{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, name=label, domain=domain, **attributes))
        return names[0]

    def quant(
        self, x: str, scale: Any, zero_point: Any, bits: Any, signed: int = 1, narrow: int = 0, mode: str = "ROUND"
    ) -> str:
        """Add a Quant node."""
        parameters = [self.constant(value) for value in (scale, zero_point, bits)]
        return self.node("Quant", x, *parameters, domain=self.domain, signed=signed, narrow=narrow, rounding_mode=mode)

    def bipolar(self, x: str, scale: Any) -> str:
        """Add a BipolarQuant node."""
        return self.node("BipolarQuant", x, self.constant(scale), domain=self.domain)

    def trunc(self, x: str, scale: Any, zero_point: Any, wide: int, bits: int, mode: str = "FLOOR") -> str:
        """Add a Trunc node of version 1."""
        parameters = [self.constant(value) for value in (scale, zero_point, wide, bits)]
        return self.node("Trunc", x, *parameters, domain=self.domain, rounding_mode=mode)

    def normalise(self, x: str, channels: int, rng: np.random.Generator, spread: float = 1.0) -> str:
        """Add a BatchNormalization with slopes of both signs."""
        slope = rng.normal(size=channels) * spread
        values = (slope, rng.normal(size=channels), rng.normal(size=channels), rng.random(channels) + 0.1)
        return self.node("BatchNormalization", x, *(self.constant(value) for value in values))

    def model(self, *outputs: str) -> bytes:
        """Return the serialised model."""
        infos = [helper.make_empty_tensor_value_info(name) for name in outputs]
        for info in infos:
            info.type.tensor_type.elem_type = TensorProto.FLOAT
        graph = helper.make_graph(self.nodes, "qonnx", self.inputs, infos, self.constants)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(self.domain, 1)]
        model: ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        data: bytes = model.SerializeToString()
        return data


@dataclass(frozen=True)
class Style:
    """What random networks look like: scales that are powers of two, or any; the rounding mode, or a random one."""

    powers_of_two: bool = True
    mode: str | None = None


def _scale(rng: np.random.Generator, style: Style, size: int | None = None) -> Any:
    exponents = rng.integers(-5, 1, size)
    if style.powers_of_two:
        return np.float32(2.0) ** exponents.astype(np.float32) if size else np.float32(2.0 ** float(exponents))
    return (rng.random(size) + 0.3).astype(np.float32) if size else np.float32(rng.random() + 0.3)


def _mode(rng: np.random.Generator, style: Style) -> str:
    name = style.mode or MODES[rng.integers(len(MODES))]
    return name.lower() if rng.random() < 0.3 else name


def activation(graph: QonnxGraph, x: str, rng: np.random.Generator, style: Style) -> str:
    """Quantise an activation in a random way."""
    if rng.random() < 0.15:
        return graph.bipolar(x, _scale(rng, style))
    bits, signed, narrow = int(rng.integers(1, 9)), int(rng.integers(2)), int(rng.integers(2))
    if bits == 1 and not signed:
        narrow = 0
    zero_point = 0 if rng.random() < 0.6 else int(rng.integers(0, 2 ** (bits - 1)) if bits > 1 else 0)
    return graph.quant(x, _scale(rng, style), zero_point, bits, signed, narrow, _mode(rng, style))


def weights(graph: QonnxGraph, rng: np.random.Generator, style: Style, shape: tuple[int, ...], axis: int) -> str:
    """Add quantised weights, per tensor or per channel of an axis."""
    values = graph.constant(rng.normal(size=shape))
    extent = [size if position == axis else 1 for position, size in enumerate(shape)]
    scale = _scale(rng, style) if rng.random() < 0.5 else _scale(rng, style, shape[axis]).reshape(extent)
    if rng.random() < 0.15:
        return graph.bipolar(values, scale)
    bits = int(rng.integers(2, 9))
    return graph.quant(
        values, np.asarray(scale) / 2 ** (bits // 2), 0, bits, 1, int(rng.integers(2)), _mode(rng, style)
    )


def random_mlp(seed: int, style: Style) -> tuple[bytes, dict[str, np.ndarray]]:
    """Return a random network of dense layers and an input."""
    rng = np.random.default_rng([seed, 1])
    graph = QonnxGraph(opset=int(rng.choice([9, 11, 13, 17])))
    batch, width = int(rng.integers(1, 20)), int(rng.integers(2, 40))
    x = activation(graph, graph.add_input("x", batch, width), rng, style)
    for _ in range(int(rng.integers(1, 4))):
        columns = int(rng.integers(1, 30))
        if rng.random() < 0.3:
            w = weights(graph, rng, style, (columns, width), 0)
            off_grid = rng.normal(size=columns) if not style.powers_of_two else rng.integers(-9, 9, columns)
            x = graph.node("Gemm", x, w, *([graph.constant(off_grid)] if rng.random() < 0.5 else []), transB=1)
        elif rng.random() < 0.5:
            w = graph.node("Transpose", weights(graph, rng, style, (columns, width), 0), perm=[1, 0])
            x = graph.node("MatMul", x, w)
        else:
            x = graph.node("MatMul", x, weights(graph, rng, style, (width, columns), 1))
        x = _between(graph, x, rng, columns, (1, columns))
        x = activation(graph, x, rng, style)
        width = columns
    w = weights(graph, rng, style, (width, 5), 1)
    x = graph.node("MatMul", x, w)
    if rng.random() < 0.5:
        x = graph.node("Mul", x, graph.constant(rng.normal(size=5)))
    values = (rng.normal(size=(batch, int(_width(graph)))) * 2).astype(np.float32)
    return graph.model(x), {"x": values}


def _width(graph: QonnxGraph) -> int:
    return int(graph.inputs[0].type.tensor_type.shape.dim[1].dim_value)


def _between(graph: QonnxGraph, x: str, rng: np.random.Generator, channels: int, shape: tuple[int, ...]) -> str:
    """Add what may stand between a layer and its quantiser."""
    for kind in rng.choice(["norm", "mul", "add", "relu", "none", "div", "clip", "tanh", "prelu"], 2):
        if kind == "norm":
            x = graph.normalise(x, channels, rng)
        elif kind in ("mul", "add", "div"):
            value = rng.normal(size=shape if rng.random() < 0.5 else ()) + (0.01 if kind == "div" else 0)
            x = graph.node(kind.capitalize(), x, graph.constant(value))
        elif kind == "relu":
            x = graph.node("Relu", x)
        elif kind == "tanh":
            x = graph.node("Tanh", x)
        elif kind == "prelu":
            x = graph.node("PRelu", x, graph.constant(np.abs(rng.normal(size=shape[1:]))))
        elif kind == "clip" and graph.opset >= 11:
            x = graph.node("Clip", x, graph.constant(-1.5), graph.constant(2.25))
    return x


def random_cnn(seed: int, style: Style) -> tuple[bytes, dict[str, np.ndarray]]:
    """Return a random convolutional network and an input."""
    rng = np.random.default_rng([seed, 2])
    graph = QonnxGraph(opset=int(rng.choice([9, 11, 13])))
    batch, channels, size = int(rng.integers(1, 3)), int(rng.integers(1, 5)), int(rng.integers(5, 10))
    x = activation(graph, graph.add_input("x", batch, channels, size, size), rng, style)
    first = channels
    for _ in range(int(rng.integers(1, 4))):
        depthwise = rng.random() < 0.3
        filters = channels if depthwise else int(rng.integers(1, 9))
        kernel = int(rng.choice([1, 3]))
        w = weights(graph, rng, style, (filters, 1 if depthwise else channels, kernel, kernel), 0)
        bias = [graph.constant(rng.normal(size=filters))] if rng.random() < 0.3 else []
        x = graph.node(
            "Conv", x, w, *bias, kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4,
            strides=[int(rng.integers(1, 3))] * 2, group=channels if depthwise else 1,
        )  # fmt: skip
        x = _between(graph, x, rng, filters, (1, filters, 1, 1))
        x = activation(graph, x, rng, style)
        if rng.random() < 0.3:
            x = graph.node("MaxPool", x, kernel_shape=[2, 2], pads=[0, 0, 1, 1])
        channels = filters
    if rng.random() < 0.5:
        x = graph.node("Relu", x)
    values = (rng.normal(size=(batch, first, size, size)) * 2).astype(np.float32)
    return graph.model(x), {"x": values}


def random_residual(seed: int, style: Style) -> tuple[bytes, dict[str, np.ndarray]]:
    """Return a network with an addition of two branches, poolings, truncation and requantisation, and an input."""
    rng = np.random.default_rng([seed, 3])
    graph = QonnxGraph(opset=int(rng.choice([11, 13])))
    channels, size = int(rng.integers(1, 5)), int(rng.integers(4, 9))
    x = activation(graph, graph.add_input("x", 2, channels, size, size), rng, style)
    scale, bits = _scale(rng, style), int(rng.integers(2, 9))
    branches = []
    for kernel in (1, 3):
        w = weights(graph, rng, style, (4, channels, kernel, kernel), 0)
        y = graph.node("Conv", x, w, kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4)
        y = graph.normalise(y, 4, rng)
        branches.append(graph.quant(y, scale, 0, bits, int(rng.integers(2)), 0, _mode(rng, style)))
    x = graph.node("Add", *branches)
    x = activation(graph, _between(graph, x, rng, 4, (1, 4, 1, 1)), rng, style)
    if rng.random() < 0.5:
        x = activation(graph, _between(graph, x, rng, 4, (1, 4, 1, 1)), rng, style)
    scale, bits = _scale(rng, style), int(rng.integers(2, 6))
    x = graph.quant(x, scale, 0, bits, int(rng.integers(2)), 0, _mode(rng, style))
    if rng.random() < 0.5:
        x = graph.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
        if rng.random() < 0.5:
            x = graph.node("Mul", x, graph.constant(4.0))
        x = graph.trunc(x, scale, 0, bits + 2, bits, _mode(rng, style))
    else:
        x = graph.node("GlobalAveragePool", x)
        x = graph.quant(x, np.float32(scale) / 2, 0, 8, 1, 0, _mode(rng, style))
    x = graph.node("Flatten", x)
    x = graph.node("Mul", x, graph.constant(0.75))
    values = (rng.normal(size=(2, channels, size, size)) * 2).astype(np.float32)
    return graph.model(x), {"x": values}
