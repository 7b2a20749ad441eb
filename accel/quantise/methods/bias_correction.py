"""Bias correction: the mean error of a layer's results over the calibration data is taken off its bias.

M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (2019), section 4.2, with
means over data. By linearity the error is that of a layer whose weights are the rounding errors W^ - W.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from accelsim.progress import Steps
from accelsim.quantise.calibrate.calibration import Calibration
from accelsim.quantise.calibrate.observe import open_float
from accelsim.quantise.network.source import FloatLayer, FloatModel
from accelsim.quantise.write.weights import QuantisedWeights

Floats = NDArray[np.float32]

_WITH_BIAS = frozenset({"Conv", "ConvTranspose", "Gemm"})


def corrected_biases(
    model: FloatModel, data: Calibration, weights: Mapping[str, QuantisedWeights], steps: Steps | None = None
) -> dict[str, Floats]:
    """Return the corrected bias of every layer that can have one.

    Args:
        model: the float model.
        data: calibration samples.
        weights: quantised weights by layer.
        steps: shows progress.
    """
    layers = correctable(model, weights)
    if not layers:
        return {}
    session = open_float(_with_error_layers(model, layers, weights))
    names = [_error_name(layer) for layer in layers]
    sums: dict[str, NDArray[np.float64]] = {}
    batches = list(data.batches(model))
    for index, feeds in enumerate(batches):
        for layer, error in zip(layers, session.run(names, feeds), strict=True):
            axes = tuple(axis for axis in range(error.ndim) if axis != 1)
            count = len(next(iter(feeds.values())))
            sums[layer.name] = sums.get(layer.name, 0.0) + error.mean(axis=axes, dtype=np.float64) * count
        if steps is not None:
            steps("correct biases", index + 1, len(batches))
    corrected = {}
    for layer in layers:
        shift = sums[layer.name] / data.samples
        old = model.constant(layer.bias) if layer.bias else np.zeros(shift.shape, np.float32)
        corrected[layer.name] = (old - shift).astype(np.float32)
    return corrected


def correctable(model: FloatModel, weights: Mapping[str, QuantisedWeights]) -> list[FloatLayer]:
    """Return the quantised layers whose bias can be shifted: it is a constant, or there is room for one.

    Args:
        model: the float model.
        weights: quantised weights by layer.
    """
    computed = {node.name for node in model.proto.graph.node if len(node.input) > 2 and node.input[2]}
    layers = (layer for layer in model.layers if layer.name in weights and layer.kind in _WITH_BIAS)
    return [layer for layer in layers if layer.bias or layer.name not in computed]


def _error_name(layer: FloatLayer) -> str:
    """Return the name of a layer's error."""
    return f"{layer.output}_rounding_error"


def _with_error_layers(model: FloatModel, layers: list[FloatLayer], weights: Mapping[str, QuantisedWeights]) -> bytes:
    """Give every layer a twin without bias, whose weights are the rounding errors, and make those the outputs."""
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    nodes = {node.name: node for node in model.proto.graph.node}
    del proto.graph.output[:]
    for layer in layers:
        error = weights[layer.name].restored - weights[layer.name].values
        name = f"{layer.weight}_error_of_{layer.name}"
        proto.graph.initializer.append(numpy_helper.from_array(error, name))
        twin = proto.graph.node.add()
        twin.CopyFrom(nodes[layer.name])
        twin.name = f"{layer.name}_rounding_error"
        del twin.input[:]
        del twin.output[:]
        twin.input.extend([layer.source, name])
        twin.output.append(_error_name(layer))
        proto.graph.output.append(helper.make_tensor_value_info(_error_name(layer), TensorProto.FLOAT, None))
    return bytes(proto.SerializeToString())
