"""Random quantised models: a drawer of parameters, and a builder of ONNX graphs around DequantizeLinear/QuantizeLinear.

Scales are either log-uniform or "tie-rich": powers of two moved by at most two units in the last place. With those,
results lie on or beside rounding ties, where a wrong order of operations shows at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference

from accelsim import Arch

Array = NDArray[Any]
Shape = tuple[int, ...]

MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Quantisation:
    """How reals become codes: dtype, scale (float32, one or one per channel) and zero point of the same size."""

    dtype: np.dtype[Any]
    scale: Any
    zero_point: Any

    @property
    def zero_codes(self) -> Array:
        """Zero point as an array of the code's dtype."""
        return np.asarray(self.zero_point).astype(self.dtype)

    @property
    def mean_scale(self) -> float:
        """Typical scale."""
        return float(np.mean(self.scale))


def bounds(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Return the lowest and the highest code."""
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


@dataclass
class Draw:
    """A seeded source of parameters; `ties` makes its scales tie-rich."""

    seed: Sequence[int]
    ties: bool
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(list(self.seed))

    def integer(self, lowest: int, highest: int) -> int:
        """Draw an integer, both ends included."""
        return int(self.rng.integers(lowest, highest + 1))

    def integers(self, lowest: int, highest: int, count: int) -> list[int]:
        """Draw several integers."""
        return [self.integer(lowest, highest) for _ in range(count)]

    def chance(self, percent: int = 50) -> bool:
        """Draw yes or no."""
        return self.integer(0, 99) < percent

    def choice(self, options: Sequence[Any]) -> Any:
        """Draw one of the options."""
        return options[self.integer(0, len(options) - 1)]

    def shape(self, rank: int, highest: int = 6) -> Shape:
        """Draw a shape."""
        return tuple(self.integers(1, highest, rank))

    def beside(self, value: float) -> np.float32:
        """Return float32(value), moved by up to two units in the last place."""
        result = np.float32(value)
        for _ in range(self.integer(0, 2)):
            result = np.nextafter(result, np.float32(self.choice([0.0, np.inf])))
        return result

    def scale(self, around: float = 0.02) -> np.float32:
        """Draw a scale near a value: beside a power of two when ties are wanted."""
        value = around * 10 ** float(self.rng.uniform(-0.8, 0.8))
        return self.beside(2.0 ** round(math.log2(value))) if self.ties else np.float32(value)

    def zero_point(self, dtype: np.dtype[Any]) -> int:
        """Draw a zero point: an end of the range, its middle, or anywhere."""
        lowest, highest = bounds(dtype)
        return int(self.choice([lowest, (lowest + highest + 1) // 2, highest, self.integer(lowest, highest)]))

    def dtype(self, *names: str) -> np.dtype[Any]:
        """Draw a dtype, uint8 or int8 without names."""
        name: str = self.choice(names or ("uint8", "int8"))
        return np.dtype(name)

    def activation(self, dtype: np.dtype[Any] | None = None, around: float = 0.02) -> Quantisation:
        """Draw the quantisation of an activation."""
        kind = dtype or self.dtype()
        return Quantisation(kind, self.scale(around), self.zero_point(kind))

    def result(self, dtype: np.dtype[Any], unit: float, spread: float) -> Quantisation:
        """Draw an output quantisation for results that spread over `spread` units.

        With ties wanted the scale is the unit times a power of two, beside or exactly.
        """
        factor = spread / float(self.rng.uniform(20, 70))
        if self.ties:
            return Quantisation(dtype, self.beside(unit * 2.0 ** round(math.log2(factor))), self.zero_point(dtype))
        return Quantisation(dtype, np.float32(unit * factor), self.zero_point(dtype))

    def weights(self, dtype: np.dtype[Any], channels: int) -> Quantisation:
        """Draw the quantisation of weights, per tensor or per channel, any zero points."""
        if self.chance():
            return Quantisation(dtype, self.scale(0.01), self.zero_point(dtype))
        scales = np.array([self.scale(0.01) for _ in range(channels)], np.float32)
        zeros = np.array([self.zero_point(dtype) for _ in range(channels)], dtype)
        return Quantisation(dtype, scales, zeros)

    def weights_dtype(self, activation: np.dtype[Any]) -> np.dtype[Any]:
        """Draw what onnxruntime's kernels combine with an activation: int8 goes with int8 only."""
        return self.dtype() if activation == np.uint8 else np.dtype(np.int8)

    def codes(self, shape: Shape, dtype: np.dtype[Any]) -> Array:
        """Draw codes, the ends of the range only in one case of five."""
        lowest, highest = bounds(dtype)
        if self.chance(20):
            return np.asarray(self.rng.choice([lowest, highest], shape), dtype)
        return np.asarray(self.rng.integers(lowest, highest + 1, shape)).astype(dtype)

    def machine(self) -> Arch:
        """Draw a machine whose values must not depend on its shape, order, overflow mode or zero-point modes."""
        return Arch(
            array=(self.choice([4, 8, 16, 32]), self.choice([4, 8, 16, 32])),
            dataflow=self.choice(["ws", "os", "is"]),
            zp_mode=self.choice(["fold", "subtract"]),
            overflow=self.choice(["wrap", "saturate"]),
            acc_bits=self.choice([32, 40]),
            weight_zero_point=self.choice(["wide-operand", "row-sum"]),
        )


@dataclass(frozen=True)
class Case:
    """A model with its inputs."""

    model: bytes
    inputs: Mapping[str, Array]


@dataclass
class Builder:
    """Collects nodes, constants, inputs and outputs of a model; names tell nothing."""

    draw: Draw
    opset: int = 21
    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)
    inputs: dict[str, Array] = field(default_factory=dict)
    outputs: list[tuple[str, np.dtype[Any], int]] = field(default_factory=list)
    _count: int = 0

    def _name(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}_{self._count}"

    def input(self, array: Array) -> str:
        """Add a graph input and what is fed to it."""
        name = self._name("input")
        self.inputs[name] = array
        return name

    def constant(self, value: Any, dtype: Any = None) -> str:
        """Add a constant."""
        name = self._name("constant")
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, kind: str, inputs: Sequence[str], domain: str = "", **attributes: Any) -> str:
        """Add a node with one output."""
        return self.nodes_of(kind, inputs, 1, domain, **attributes)[0]

    def nodes_of(
        self, kind: str, inputs: Sequence[str], outputs: int, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Add a node with several outputs; attributes that are None are left out."""
        names = [self._name(kind) for _ in range(outputs)]
        given = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=f"n_{names[0]}", domain=domain, **given))
        return names

    def parameters(self, code: Quantisation) -> list[str]:
        """Add scale and zero point as constants."""
        return [self.constant(code.scale, np.float32), self.constant(code.zero_codes)]

    def quantise(self, real: str, code: Quantisation) -> str:
        """Real to code."""
        return self.node("QuantizeLinear", [real, *self.parameters(code)])

    def dequantise(self, codes: str, code: Quantisation, axis: int | None = None) -> str:
        """Code to real; per channel along an axis."""
        along = axis if np.ndim(code.scale) else None
        return self.node("DequantizeLinear", [codes, *self.parameters(code)], axis=along)

    def activation(self, shape: Shape, code: Quantisation) -> str:
        """Add an activation: codes as a graph input, or reals as a graph input and a QuantizeLinear; gives reals."""
        codes = self.draw.codes(shape, code.dtype)
        if self.draw.chance():
            return self.dequantise(self.input(codes), code)
        noise = self.draw.rng.uniform(-0.6, 0.6, shape)
        reals = (codes.astype(np.float64) - code.zero_point + noise) * float(code.scale)
        return self.dequantise(self.quantise(self.input(reals.astype(np.float32)), code), code)

    def codes(self, shape: Shape, code: Quantisation) -> str:
        """Add an activation as a graph input of codes."""
        return self.input(self.draw.codes(shape, code.dtype))

    def weight(self, shape: Shape, code: Quantisation, axis: int) -> str:
        """Add constant codes and dequantise them."""
        return self.dequantise(self.constant(self.draw.codes(shape, code.dtype)), code, axis)

    def output(self, name: str, dtype: Any = np.float32, rank: int = 0) -> None:
        """Make a tensor a graph output; its rank is needed behind operators that onnx does not know."""
        self.outputs.append((name, np.dtype(dtype), rank))

    def finish(self, real: str, code: Quantisation) -> Case:
        """Quantise the result; codes or, as often, dequantised reals leave the graph."""
        codes = self.quantise(real, code)
        if self.draw.chance():
            self.output(codes, code.dtype)
        else:
            self.output(self.dequantise(codes, code))
        return self.case()

    def case(self) -> Case:
        """Close the model."""
        return Case(self.proto().SerializeToString(), dict(self.inputs))

    def proto(self) -> ModelProto:
        """Return the model."""
        graph = helper.make_graph(
            self.nodes,
            "drawn",
            [_value(name, array.dtype, array.shape) for name, array in self.inputs.items()],
            [_value(name, dtype, (None,) * rank or None) for name, dtype, rank in self.outputs],
            self.constants,
        )
        domains = {node.domain for node in self.nodes}
        opsets = [helper.make_opsetid("", self.opset)]
        opsets += [helper.make_opsetid(MICROSOFT, 1)] if MICROSOFT in domains else []
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8 if self.opset < 19 else 10)
        return shape_inference.infer_shapes(model)


def _value(name: str, dtype: np.dtype[Any], shape: tuple[int | None, ...] | None) -> Any:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)


def broadcast_pair(draw: Draw) -> tuple[Shape, Shape]:
    """Draw two shapes that broadcast against each other, scalars and all-ones included."""
    channels, height, width = draw.shape(3, 14)
    full = (2, channels, height, width)
    first, second = draw.choice(
        [
            (full, full),
            (full, (channels, 1, 1)),
            (full, (width,)),
            (full, ()),
            (full, (1,)),
            (full, (1, 1, 1, 1)),
            ((2, 1, height, 1), (1, channels, 1, width)),
            ((height, 1), (1, width)),
            ((channels, height, width), (2, 1, 1, 1)),
            ((height, width), (height, width)),
        ]
    )
    return (second, first) if draw.chance() else (first, second)
