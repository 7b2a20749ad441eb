"""What onnx infers of a graph from types and small constants, without the values of large ones."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from accelsim.graph.load.element_types import ELEMENT_BITS, size_bytes
from accelsim.graph.load.loader import copy_for_inference

_MOST_BYTES = 1024  # constants up to this size may be sizes or axes


def element_types(proto: ModelProto) -> dict[str, int]:
    """Return the element types of tensors by name, as far as onnx infers them.

    Args:
        proto: the graph; onnx knows nothing behind operators of onnxruntime's own.
    """
    types = {value.name: value.type.tensor_type.elem_type for value in _inferred(proto)}
    return {name: element_type for name, element_type in types.items() if element_type}


def scalars(proto: ModelProto) -> set[str]:
    """Return the tensors that certainly are scalars.

    Args:
        proto: the graph, which claims no shapes but those of its inputs.
    """
    types = {value.name: value.type.tensor_type for value in _inferred(proto)}
    return {name for name, kind in types.items() if kind.HasField("shape") and not kind.shape.dim}


def _inferred(proto: ModelProto) -> Iterator[ValueInfoProto]:
    """Yield what is known of tensors; of a graph that onnx cannot follow, what it states."""
    bare = copy_for_inference(proto, _is_small)
    stated = ((tensor.name, tensor.data_type, list(tensor.dims)) for tensor in bare.graph.initializer)
    kept = [helper.make_tensor_value_info(*constant) for constant in stated]
    try:
        graph = onnx.shape_inference.infer_shapes(bare).graph
    except Exception:  # shape inference raises several unrelated types
        graph = bare.graph
    yield from (*kept, *graph.input, *graph.value_info, *graph.output)


def _is_small(tensor: TensorProto) -> bool:
    """Tell whether the values of a constant stay in the copy."""
    known = tensor.data_location != TensorProto.EXTERNAL and tensor.data_type in ELEMENT_BITS
    return known and size_bytes(tensor) <= _MOST_BYTES
