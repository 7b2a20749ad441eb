"""The same network with weights and tensors in float16, for comparison."""

from __future__ import annotations

import warnings

from onnx import ModelProto, NodeProto

from accelsim.errors import UnsupportedModelError, reason_of


def as_float16(proto: ModelProto) -> ModelProto:
    """Return a model whose weights and inner tensors are float16; inputs and outputs stay what they are.

    Args:
        proto: a float32 model; it is left as it is.

    Raises:
        UnsupportedModelError: onnxruntime's converter cannot do it.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copy = ModelProto()
    copy.CopyFrom(proto)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # values that float16 rounds to 0 are what is to be seen
            return _without_twins(convert_float_to_float16(copy, keep_io_types=True))
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        raise UnsupportedModelError(f"the model cannot be converted to float16: {reason_of(error)}") from None


def _without_twins(proto: ModelProto) -> ModelProto:
    """Drop nodes equal to an earlier one: the converter casts a tensor anew wherever it is read, under one name."""
    distinct = dict.fromkeys(node.SerializeToString(deterministic=True) for node in proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(map(NodeProto.FromString, distinct))
    return proto
