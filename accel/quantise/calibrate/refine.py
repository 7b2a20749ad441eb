"""Ranges by cross-entropy: each range is shrunk by the share that gives the least loss on labelled data.

The whole network runs with its quantised weights and with quantisers as they are spelled, whose scales are inputs, so
that one session serves every range that is tried; one pass over the tensors, in the order of execution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, helper

from accelsim.errors import UsageError
from accelsim.progress import Steps
from accelsim.quantise.calibrate.calibration import Calibration
from accelsim.quantise.calibrate.observe import FloatSession, open_float
from accelsim.quantise.calibrate.ranges import Range, Ranges
from accelsim.quantise.grid import fit
from accelsim.quantise.network.source import FloatModel
from accelsim.quantise.scheme import Scheme
from accelsim.quantise.write.emit import Emission, QuantisedActivation, emit
from accelsim.quantise.write.structure import clamps_are_needed
from accelsim.quantise.write.weights import Weights

Floats = NDArray[np.float32]

_SHARES = (1.15, 0.9, 0.8, 0.7, 0.6)
_SAMPLES = 128  # that are enough to compare losses


def cross_entropy(logits: Floats, labels: NDArray[np.int64], *, probabilities: bool = False) -> float:
    """Return the mean cross-entropy of classes.

    Args:
        logits: float32 [samples, classes], or probabilities.
        labels: int64 [samples].
        probabilities: logits have passed a softmax already.
    """
    values = logits.astype(np.float64)
    if probabilities:
        logs = np.log(np.maximum(values, 1e-12))
    else:
        shifted = values - values.max(axis=1, keepdims=True)
        logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-logs[np.arange(len(labels)), labels].mean())


def refined_ranges(
    model: FloatModel,
    data: Calibration,
    scheme: Scheme,
    ranges: Ranges,
    weights: Weights,
    biases: Mapping[str, Floats],
    steps: Steps | None = None,
) -> Ranges:
    """Return ranges with the least cross-entropy that the search finds, on 128 samples from the whole of the data.

    Args:
        model: the float model, one output of classes.
        data: labelled samples.
        scheme: how to quantise.
        ranges: to start from.
        weights: quantised weights by layer.
        biases: by layer, where they differ from the model's.
        steps: shows progress.

    Raises:
        UsageError: the model's first output is no vector of classes, or a label is none of them.
    """
    few = data.spread(model, _SAMPLES)
    emission = emit(model, scheme, ranges, weights, biases)
    session = open_float(_with_scales_as_inputs(emission), literal=True)
    searched = _searched(emission, ranges)
    clamps, chosen = clamps_are_needed(model, ranges), dict(ranges)
    parameters = {source: _parameters(activations, ranges[source], scheme) for source, activations in searched.items()}

    def loss() -> float:
        extra = {name: value for feeds in parameters.values() for name, value in feeds.items()}
        return _loss(model, session, few, extra)

    first = best = loss()
    for index, (source, activations) in enumerate(searched.items()):
        start = chosen[source]
        for share in _SHARES:
            tried = replace(start, low=start.low * share, high=start.high * share)
            if clamps_are_needed(model, chosen | {source: tried}) != clamps:
                continue  # another graph than the one that is run here
            before, parameters[source] = parameters[source], _parameters(activations, tried, scheme)
            found = loss()
            if found < best:
                best, chosen[source] = found, tried
            else:
                parameters[source] = before
        if steps is not None:
            steps("cross-entropy", index + 1, len(searched))
    # Biases are rounded anew in steps of the new scales, which may take back what little was gained.
    proto = emit(model, scheme, chosen, weights, biases).proto.SerializeToString()
    return chosen if _loss(model, open_float(proto, literal=True), few, {}) < first else ranges


def _loss(model: FloatModel, session: FloatSession, data: Calibration, extra: Mapping[str, NDArray[Any]]) -> float:
    """Return the cross-entropy of a quantised model, some of whose constants are fed."""
    logits = np.concatenate([session.run(session.outputs, {**feeds, **extra})[0] for feeds in data.batches(model)])
    return cross_entropy(*_classes(logits, data), probabilities=_ends_in_softmax(model))


def _classes(logits: Floats, data: Calibration) -> tuple[Floats, NDArray[np.int64]]:
    """Return logits as a matrix, and the labels that fit it."""
    matrix = logits.reshape(len(logits), -1)
    if len(matrix) != data.samples or data.labels is None or int(data.labels.max()) >= matrix.shape[1]:
        raise UsageError(
            f"the first output has shape {'x'.join(map(str, logits.shape))} for {data.samples} samples, which does "
            f"not fit the labels: cross-entropy needs a vector of classes per sample"
        )
    return matrix, data.labels


def _ends_in_softmax(model: FloatModel) -> bool:
    """Tell whether the first output leaves a Softmax."""
    return any(n.op_type == "Softmax" and model.outputs[0] in n.output for n in model.proto.graph.node)


def _searched(emission: Emission, ranges: Ranges) -> dict[str, list[QuantisedActivation]]:
    """Return the tensors whose chosen ranges decide scales, in the order of execution, with their quantisers."""
    found: dict[str, list[QuantisedActivation]] = {name: [] for name in ranges}
    for activation in emission.activations:
        if activation.source:
            found[activation.source].append(activation)
    return {name: activations for name, activations in found.items() if activations}


def _parameters(activations: Sequence[QuantisedActivation], span: Range, scheme: Scheme) -> Mapping[str, NDArray[Any]]:
    """Return the scales and zero points of a range as feeds."""
    feeds: dict[str, NDArray[Any]] = {}
    for activation in activations:
        spec = replace(activation.grid.spec, narrow=scheme.activation_narrow)
        low, high = np.float32(span.low), np.float32(span.high)  # as onnxruntime's quantiser hands them on
        scale, zero_point = fit(np.asarray([low]), np.asarray([high]), spec)
        dtype = np.dtype(f"{'' if spec.signed else 'u'}int{spec.bits}")
        feeds[activation.scale] = scale.reshape(())
        feeds[activation.zero_point] = zero_point.astype(dtype).reshape(())
    return feeds


def _with_scales_as_inputs(emission: Emission) -> bytes:
    """Turn the parameters of the quantisers whose ranges are searched into inputs."""
    proto = ModelProto()
    proto.CopyFrom(emission.proto)
    names = {name for one in emission.activations if one.source for name in (one.scale, one.zero_point)}
    kept = []
    for tensor in proto.graph.initializer:
        if tensor.name in names:
            proto.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, []))
        else:
            kept.append(tensor)
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    return bytes(proto.SerializeToString())
