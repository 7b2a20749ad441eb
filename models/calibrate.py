"""One float pass through a network in onnxruntime, layer by layer: ranges, and what normalisation folds in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from accelsim.models.float_nodes import IR_VERSION, OPSET, float_nodes, masked_value, plain_constants
from accelsim.models.sketch import Parameter, Sketch, Step
from accelsim.models.weights import Floats, draw, generator
from accelsim.progress import Steps
from accelsim.reference.session import open_session

Array = NDArray[np.generic]

_EPSILON = 1e-3  # added to a variance, as batch normalisation does


@dataclass(frozen=True, eq=False)
class Folded:
    """What normalisation makes of a layer: weights times gain, and a bias. Both float32, one value per channel."""

    gain: Floats
    bias: Floats


@dataclass(frozen=True, eq=False)
class Calibration:
    """Ranges of the reals met in every tensor, zero included, and the normalisations by layer."""

    ranges: Mapping[str, tuple[float, float]]
    folded: Mapping[str, Folded]


def parameter_values(network: str, step: Step, calibration: Calibration) -> list[Floats]:
    """Return the float parameters of a layer with its normalisation folded in, in the layer's order."""
    folded = calibration.folded.get(step.output)
    if folded is None:
        return [draw(network, item) for item in step.parameters]
    weight = draw(network, step.parameters[0])
    weight *= folded.gain.reshape(-1, *[1] * (weight.ndim - 1))
    return [weight, folded.bias]


def calibrate(sketch: Sketch, batch: int, progress: Steps | None = None) -> Calibration:
    """Run a network once on seeded inputs.

    Args:
        sketch: the network; inputs of codes cannot be calibrated.
        batch: number of samples, where the batch is free.
        progress: called with (layer, index, count).
    """
    last_use = {name: index for index, step in enumerate(sketch.steps) for name in step.inputs}
    values: dict[str, Array] = {}
    ranges: dict[str, tuple[float, float]] = {}
    folded: dict[str, Folded] = {}
    for index, step in enumerate(sketch.steps):
        values[step.output] = result = _evaluate(sketch, step, values, batch, folded)
        if result.dtype == np.float32:
            ranges[step.output] = min(float(result.min()), step.at_least, 0.0), max(float(result.max()), 0.0)
        for name in step.inputs:
            if last_use[name] == index:
                values.pop(name, None)  # one layer may read a tensor twice
        if progress is not None:
            progress(step.output, index + 1, len(sketch.steps))
    return Calibration(ranges, folded)


def _evaluate(sketch: Sketch, step: Step, values: Mapping[str, Array], batch: int, folded: dict[str, Folded]) -> Array:
    """Compute one layer in float; a normalised one is also entered into `folded`."""
    if step.operator in ("Input", "Ids"):
        shape = (batch if sketch.free_batch else step.shape[0], *step.shape[1:])
        source = generator(sketch.name, step.output)
        if step.operator == "Ids":
            return source.integers(0, step.attributes["below"], shape)
        return source.standard_normal(shape, np.float32)
    parameters = [draw(sketch.name, item) for item in step.parameters]
    if step.operator == "Learned":
        return parameters[0]
    if step.operator == "Mask":
        parameters = [masked_value()]
    if step.normalised:
        parameters[1][:] = 0.0
    inputs = [values[name] for name in step.inputs]
    result = _run(step, inputs, parameters)
    if step.normalised:
        folded[step.output], result = _normalise(sketch.name, step, result)
    return _activate(step, result)


def _normalise(network: str, step: Step, result: Floats) -> tuple[Folded, Floats]:
    """Give every channel (axis 1) the mean and the spread that a trained network's normalisation might have."""
    channels = result.shape[1]
    others = tuple(axis for axis in range(result.ndim) if axis != 1)
    wide = result.astype(np.float64)
    gain = _drawn(network, f"{step.output}_scale", "gain", 0.2, channels) / np.sqrt(wide.var(others) + _EPSILON)
    bias = _drawn(network, f"{step.output}_shift", "shift", 0.2, channels) - wide.mean(others) * gain
    kept = Folded(gain.astype(np.float32), bias.astype(np.float32))
    extent = (1, channels, *[1] * (result.ndim - 2))
    return kept, result * kept.gain.reshape(extent) + kept.bias.reshape(extent)


def _drawn(network: str, name: str, kind: str, spread: float, size: int) -> NDArray[np.float64]:
    """Draw one parameter of a normalisation."""
    parameter = Parameter(name, (size,), "gain" if kind == "gain" else "shift", spread)
    return draw(network, parameter).astype(np.float64)


def _activate(step: Step, result: Floats) -> Floats:
    """Apply the activation behind a layer."""
    if not step.activation:
        return result
    return np.clip(result, np.float32(0), np.float32(6) if step.activation == "relu6" else None)


def _run(step: Step, inputs: list[Array], parameters: list[Floats]) -> Floats:
    """Run the nodes of one layer, without its activation, in onnxruntime on one thread."""
    arrays = {f"input{index}": array for index, array in enumerate(inputs)}
    arrays |= {f"parameter{index}": array for index, array in enumerate(parameters)}
    names = list(arrays)
    nodes = list(float_nodes(step, names[: len(inputs)], names[len(inputs) :], "result", activation=False))
    graph = helper.make_graph(
        nodes,
        "layer",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in arrays.items()
        ],
        [helper.make_tensor_value_info("result", TensorProto.FLOAT, None)],
        list(plain_constants(step, activation=False)),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    result: Floats = open_session(model.SerializeToString(), optimise="all").run(["result"], arrays)[0]
    return result
