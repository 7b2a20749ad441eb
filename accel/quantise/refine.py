"""Ranges by cross-entropy: each range is shrunk by the share that gives the least loss on labelled data.

The whole network runs with its quantised weights and with quantisers as they are spelled, whose scales are inputs, so
that one session serves every range that is tried; one pass over the tensors, in the order of execution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from accelsim.errors import UsageError
from accelsim.quantise.calibration import Calibration
from accelsim.quantise.emit import Emission, emit
from accelsim.quantise.grid import CodeSpec, fit
from accelsim.quantise.observe import open_float
from accelsim.quantise.progress import Steps
from accelsim.quantise.ranges import Ranges
from accelsim.quantise.scheme import Scheme
from accelsim.quantise.source import FloatModel
from accelsim.quantise.weights import Weights
from accelsim.quantise.widths import activation_specs

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
    model: FloatModel, data: Calibration, scheme: Scheme, ranges: Ranges, weights: Weights, steps: Steps | None = None
) -> Ranges:
    """Return ranges with the least cross-entropy that the search finds.

    Args:
        model: the float model, one output of classes.
        data: labelled samples.
        scheme: how to quantise.
        ranges: to start from.
        weights: quantised weights by layer.
        steps: shows progress.

    Raises:
        UsageError: the model's first output is no vector of classes, or a label is none of them.
    """
    few = data.first(_SAMPLES)
    emission = emit(model, scheme, ranges, weights, {})
    session, softmax = open_float(_with_scales_as_inputs(emission), literal=True), _ends_in_softmax(model)
    chosen = dict(ranges)
    owners = _owners(emission, ranges)
    specs = activation_specs(model, scheme)
    parameters = {owner: _parameters(owner, chosen[owner].low, chosen[owner].high, specs.of(owner)) for owner in owners}

    def loss() -> float:
        extra = {name: value for pair in parameters.values() for name, value in pair.items()}
        logits = np.concatenate([session.run(session.outputs, feeds | extra)[0] for feeds in few.batches(model)])
        return cross_entropy(*_classes(logits, few), probabilities=softmax)

    best = loss()
    for index, owner in enumerate(owners):
        start = chosen[owner]
        for share in _SHARES:
            before = parameters[owner]
            parameters[owner] = _parameters(owner, start.low * share, start.high * share, specs.of(owner))
            tried = loss()
            if tried < best:
                best, chosen[owner] = tried, replace(start, low=start.low * share, high=start.high * share)
            else:
                parameters[owner] = before
        if steps is not None:
            steps("cross-entropy", index + 1, len(owners))
    return chosen


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


def _owners(emission: Emission, ranges: Ranges) -> list[str]:
    """Return the tensors whose ranges decide a scale, in the order of execution."""
    scales = {n.input[1] for n in emission.proto.graph.node if n.op_type == "QuantizeLinear"}
    return [name for name in ranges if f"{name}_scale" in scales]


def _parameters(owner: str, low: float, high: float, spec: CodeSpec) -> Mapping[str, NDArray[Any]]:
    """Return scale and zero point of a range as feeds."""
    scale, zero_point = fit(np.asarray([low]), np.asarray([high]), spec)
    dtype = np.dtype(f"{'' if spec.signed else 'u'}int{spec.bits}")
    return {f"{owner}_scale": scale.reshape(()), f"{owner}_zero_point": zero_point.astype(dtype).reshape(())}


def _with_scales_as_inputs(emission: Emission) -> bytes:
    """Turn the parameters of all activation quantisers into inputs."""
    proto = ModelProto()
    proto.CopyFrom(emission.proto)
    names = {name for n in proto.graph.node if n.op_type == "QuantizeLinear" for name in n.input[1:3]}
    kept = []
    for tensor in proto.graph.initializer:
        if tensor.name in names:
            kind = TensorProto.FLOAT if tensor.name.endswith("_scale") else tensor.data_type
            proto.graph.input.append(helper.make_tensor_value_info(tensor.name, kind, []))
        else:
            kept.append(tensor)
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    return bytes(proto.SerializeToString())
