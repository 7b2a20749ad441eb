"""Networks as ONNX files: in float, or in Q/DQ form with uint8 activations and int8 weights per channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from accelsim.models.calibrate import Calibration, parameter_values
from accelsim.models.float_nodes import IR_VERSION, OPSET, float_nodes, masked_value, plain_constants
from accelsim.models.sketch import Sketch, Step
from accelsim.models.weights import Floats
from accelsim.progress import Steps

_LEVELS = 255  # steps of a uint8 code
_WEIGHT_CODES = 127  # largest code of a symmetric int8 weight
_PROBABILITY = np.float32(1 / 256)


@dataclass(frozen=True)
class Grid:
    """Scale and zero point of a tensor of uint8 codes."""

    scale: np.float32
    zero_point: np.uint8

    def encode(self, values: Floats) -> NDArray[np.uint8]:
        """Return the codes of an array of reals (rounded half to even, clipped)."""
        codes: Floats = np.rint(values / self.scale) + np.float32(self.zero_point)
        return np.clip(codes, 0, _LEVELS).astype(np.uint8)


def grid_of(name: str, operator: str, calibration: Calibration) -> Grid:
    """Choose the codes of an operator's output from the range met (min-max, Jacob et al., CVPR 2018, section 3)."""
    if operator == "Softmax":
        return Grid(_PROBABILITY, np.uint8(0))
    low, high = calibration.ranges[name]
    scale = np.float32((high - low) / _LEVELS)
    return Grid(scale, np.uint8(round(-low / float(scale))))


@dataclass
class Emitter:
    """An ONNX graph that grows layer by layer."""

    sketch: Sketch
    calibration: Calibration
    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)
    inputs: list[ValueInfoProto] = field(default_factory=list)
    outputs: list[ValueInfoProto] = field(default_factory=list)
    cache_kind: int = TensorProto.FLOAT

    def add(self, step: Step) -> None:
        """Add one layer in float."""
        if step.operator in ("Input", "Ids", "Codes"):
            self._declare(self.inputs, step, TensorProto.INT64 if step.operator == "Ids" else TensorProto.FLOAT)
            return
        names = [item.name for item in step.parameters]
        for name, values in zip(names, parameter_values(self.sketch.name, step, self.calibration), strict=True):
            self._constant(name, values)
        if step.operator == "Mask":
            names = [self._constant(f"{step.output}_value", masked_value())]
        if step.operator != "Learned":
            self.nodes.extend(float_nodes(step, step.inputs, names, step.output))
            self.constants.extend(plain_constants(step))

    def finish(self, steps: dict[str, Step]) -> None:
        """Declare the outputs."""
        for name in self.sketch.outputs:
            cached = name in self.sketch.caches
            self._declare(self.outputs, steps[name], self.cache_kind if cached else TensorProto.FLOAT)

    def model(self) -> ModelProto:
        """Return the whole model."""
        graph = helper.make_graph(self.nodes, self.sketch.name, self.inputs, self.outputs, self.constants)
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="accelsim.models")

    def _constant(self, name: str, values: NDArray[np.generic]) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def _declare(self, where: list[ValueInfoProto], step: Step, kind: int) -> None:
        shape: list[int | str] = ["N", *step.shape[1:]] if self.sketch.free_batch else [*step.shape]
        where.append(helper.make_tensor_value_info(step.output, kind, shape))


@dataclass
class QuantisedEmitter(Emitter):
    """The same graph in Q/DQ form: what a layer writes is quantised once, and dequantised for all of its readers."""

    grids: dict[str, Grid] = field(default_factory=dict)
    reals: dict[str, str] = field(default_factory=dict)
    cache_kind: int = TensorProto.UINT8

    def add(self, step: Step) -> None:
        """Add one layer between dequantised inputs and a quantised output."""
        if step.operator == "Ids":
            self._declare(self.inputs, step, TensorProto.INT64)
            return
        grid = self._choose(step)
        if step.operator == "Codes":
            self._declare(self.inputs, step, TensorProto.UINT8)
            self._dequantise(step.output, step.output)
        elif step.operator == "Learned":
            (values,) = parameter_values(self.sketch.name, step, self.calibration)
            self._dequantise(step.output, self._constant(f"{step.output}_quantized", grid.encode(values)))
        elif step.operator == "Input":
            self._declare(self.inputs, step, TensorProto.FLOAT)
            self._quantise(step.output, step.output)
        else:
            names = self._parameters(step)
            read = [self.reals.get(name, name) for name in step.inputs]
            raw = f"{step.output}_raw"
            self.nodes.extend(float_nodes(step, read, names, raw, activation=False))
            self.constants.extend(plain_constants(step, activation=False))
            self._quantise(step.output, raw)

    def _choose(self, step: Step) -> Grid:
        """Decide the codes of a layer's output."""
        if step.like in self.grids:
            grid = self.grids[step.like]
        else:
            grid = grid_of(step.like or step.output, step.operator, self.calibration)
        self.grids[step.output] = grid
        self._constant(f"{step.output}_scale", np.asarray(grid.scale))
        self._constant(f"{step.output}_zero_point", np.asarray(grid.zero_point))
        return grid

    def _quantise(self, name: str, raw: str) -> None:
        """Add the QuantizeLinear of what a layer computes, and the DequantizeLinear behind it."""
        codes = name if name in self.sketch.caches else f"{name}_quantized"
        grid = [f"{name}_scale", f"{name}_zero_point"]
        self.nodes.append(helper.make_node("QuantizeLinear", [raw, *grid], [codes], f"{name}_quantize"))
        self._dequantise(name, codes)

    def _dequantise(self, name: str, codes: str) -> None:
        """Add the DequantizeLinear of a tensor of codes; its reals have the tensor's name unless that is taken."""
        taken = {codes, *(value.name for value in self.inputs)}
        self.reals[name] = f"{name}_dequantized" if name in taken else name
        grid = [f"{name}_scale", f"{name}_zero_point"]
        self.nodes.append(
            helper.make_node("DequantizeLinear", [codes, *grid], [self.reals[name]], f"{name}_dequantize")
        )

    def _parameters(self, step: Step) -> list[str]:
        """Add the parameters of a layer in the form that its operator takes; returns the names of their reals."""
        if step.operator == "Mask":
            grid, name = self.grids[step.inputs[0]], f"{step.output}_value"
            self._constant(f"{name}_quantized", grid.encode(masked_value()))
            inputs = [f"{name}_quantized", f"{step.inputs[0]}_scale", f"{step.inputs[0]}_zero_point"]
            self.nodes.append(helper.make_node("DequantizeLinear", inputs, [name], f"{name}_dequantize"))
            return [name]
        values = parameter_values(self.sketch.name, step, self.calibration)
        names = [item.name for item in step.parameters]
        if step.operator == "LayerNormalization":
            return [self._constant(name, array) for name, array in zip(names, values, strict=True)]
        if values:
            self._weight_and_bias(step, names, values)
        return names

    def _weight_and_bias(self, step: Step, names: Sequence[str], values: Sequence[Floats]) -> None:
        """Add int8 weights with a scale per channel, and the int32 bias in units of the products."""
        (weight, bias), axis = values, step.parameters[0].axis
        others = tuple(position for position in range(weight.ndim) if position != axis)
        scales = (np.abs(weight).max(others) / np.float32(_WEIGHT_CODES)).astype(np.float32)
        extent = [-1 if position == axis else 1 for position in range(weight.ndim)]
        weight /= scales.reshape(extent)
        codes = np.rint(weight, out=weight).astype(np.int8)
        units = (self.grids[step.inputs[0]].scale * scales).astype(np.float32)
        sums = np.rint(bias / units).astype(np.int32)
        for name, array, scale, place in ((names[0], codes, scales, axis), (names[1], sums, units, 0)):
            zero_points = np.zeros(scale.shape, array.dtype)
            inputs = [
                self._constant(f"{name}_quantized", array),
                self._constant(f"{name}_scale", scale),
                self._constant(f"{name}_zero_point", zero_points),
            ]
            self.nodes.append(helper.make_node("DequantizeLinear", inputs, [name], f"{name}_dequantize", axis=place))


def emit(sketch: Sketch, calibration: Calibration, *, quantised: bool, progress: Steps | None = None) -> ModelProto:
    """Write a network as an ONNX model.

    Args:
        sketch: the network.
        calibration: ranges of all its tensors by name, and normalisations.
        quantised: in Q/DQ form; else in float.
        progress: called with (layer, index, count).
    """
    emitter = (QuantisedEmitter if quantised else Emitter)(sketch, calibration)
    for index, step in enumerate(sketch.steps):
        emitter.add(step)
        if progress is not None:
            progress(step.output, index + 1, len(sketch.steps))
    emitter.finish({step.output: step for step in sketch.steps})
    return emitter.model()
