"""Which tensors get a quantiser: onnxruntime's own, so that its kernels fuse what lies between."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper

from accelsim.errors import UnsupportedModelError, reason_of
from accelsim.quantise.calibrate.ranges import Ranges
from accelsim.quantise.network.source import FloatModel
from accelsim.quantise.scheme import Scheme
from accelsim.quantise.write.weights import Weights

# Functions of one tensor that its quantiser passes over, though between quantisers they become tables on the machine.
_TABLES = ("Erf", "Gelu")


@dataclass(frozen=True)
class UsedRange:
    """The range that a quantiser takes; source: the tensor whose chosen range it is, "" where there is no choice."""

    low: float
    high: float
    source: str


def insert_quantisers(
    model: FloatModel, scheme: Scheme, ranges: Ranges, weights: Weights
) -> tuple[ModelProto, dict[str, UsedRange]]:
    """Let onnxruntime's quantiser insert Q and DQ.

    Args:
        model: the float model.
        scheme: how to quantise.
        ranges: of all float activations.
        weights: by layer; layers without stay in float.

    Returns:
        The model, its weights quantised in some way, and by tensor the ranges as the quantiser adjusted them: in front
        of a Relu or Clip it takes the one behind, and behind a Softmax [0, 1].

    Raises:
        UnsupportedModelError: it cannot work on the model.
    """
    from onnxruntime.quantization import QDQQuantizer, QuantType, TensorData, TensorsData
    from onnxruntime.quantization.calibrate import CalibrationMethod
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    symmetric = scheme.activation_mapping == "symmetric"
    kinds = sorted({*QDQRegistry, *QLinearOpsRegistry, *_TABLES} - set(scheme.keep_float))
    excluded = [node.name for node in model.proto.graph.node if node.name in scheme.keep_float]
    excluded += [layer.name for layer in model.layers if layer.name not in weights and layer.name not in excluded]
    data = {n: TensorData(lowest=np.float32(r.low), highest=np.float32(r.high)) for n, r in ranges.items()}
    tensors = TensorsData(CalibrationMethod.MinMax, data)
    kind = ("QInt" if scheme.activation_signed else "QUInt") + str(scheme.activation_bits)
    source = ModelProto()
    source.CopyFrom(model.proto)
    logger, level = logging.getLogger(), logging.getLogger().level
    logger.setLevel(logging.ERROR)  # its remarks on models that are not pre-processed
    try:
        quantiser = QDQQuantizer(
            source, False, False, QuantType.QInt8, getattr(QuantType, kind), tensors, [], excluded, kinds,
            {
                "ActivationSymmetric": symmetric,
                "QDQKeepRemovableActivations": clamps_are_needed(model, ranges),
                "QDQDisableWeightAdjustForInt32Bias": True,
                "WeightSymmetric": True,
            },
        )  # fmt: skip
        with np.errstate(all="ignore"):  # of constants that are not finite, which are refused later if they matter
            proto = quantiser.quantize_model()
    except (ValueError, RuntimeError, KeyError, AttributeError, TypeError, AssertionError) as error:
        raise UnsupportedModelError(
            f"onnxruntime's quantiser cannot work on {model.name} ({reason_of(error, 160)}): keep what it "
            f"stumbles over in float with keep_float"
        ) from None
    finally:
        logger.setLevel(level)
    adjusted = quantiser.tensors_range
    sources = {id(given): name for name, given in data.items()}  # it passes the very objects on, or makes its own
    # In front of a Relu it takes the range behind, even where the values are an output of the network.
    own = {name for name in model.outputs if name in ranges}
    used = {}
    for name in data:
        low, high = map(float, adjusted[name].range_value)
        used[name] = UsedRange(low, high, sources.get(id(adjusted[name]), ""))
    return proto, used | {name: UsedRange(ranges[name].low, ranges[name].high, name) for name in own & _clamped(model)}


def _clamped(model: FloatModel) -> set[str]:
    """Return the tensors that a Relu or Clip reads."""
    return {node.input[0] for node in model.proto.graph.node if node.op_type in ("Relu", "Clip")}


def clamps_are_needed(model: FloatModel, ranges: Ranges) -> bool:
    """Tell whether a grid behind some Relu or Clip reaches beyond its bounds, so that it must stay.

    Args:
        model: the float model.
        ranges: of all float activations.
    """
    floats = {tensor.name: tensor for tensor in model.proto.graph.initializer if tensor.data_type == TensorProto.FLOAT}
    for node in model.proto.graph.node:
        if node.op_type not in ("Relu", "Clip") or node.output[0] not in ranges:
            continue
        bounds = [0.0, np.inf] if node.op_type == "Relu" else [-np.inf, np.inf]
        for position, name in enumerate(node.input[1:]):
            if name:
                bounds[position] = (
                    float(numpy_helper.to_array(floats[name]).reshape(-1)[0]) if name in floats else np.nan
                )
        found = ranges[node.output[0]]
        if not (min(found.low, 0.0) >= bounds[0] and max(found.high, 0.0) <= bounds[1]):
            return True
    return False
