"""Checks of constant tensors and quantisation parameters, on the raw fields that a library would silently coerce."""

from __future__ import annotations

import math

import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper

from accelsim.errors import InvalidModelError, UnsupportedModelError, printable
from accelsim.graph.constraints import scale_positions
from accelsim.graph.limits import Limits

# Bits per element of the element types that may appear; every other type is refused.
ELEMENT_BITS: dict[int, int] = {
    TensorProto.FLOAT: 32, TensorProto.DOUBLE: 64, TensorProto.FLOAT16: 16, TensorProto.BFLOAT16: 16,
    TensorProto.UINT8: 8, TensorProto.INT8: 8, TensorProto.UINT16: 16, TensorProto.INT16: 16,
    TensorProto.INT32: 32, TensorProto.UINT32: 32, TensorProto.INT64: 64, TensorProto.UINT64: 64,
    TensorProto.BOOL: 8, TensorProto.UINT4: 4, TensorProto.INT4: 4,
}  # fmt: skip

# Range of the narrow integer types that a file may store in its 32-bit field.
INT32_FIELD_RANGE: dict[int, tuple[int, int]] = {
    TensorProto.UINT8: (0, 255), TensorProto.INT8: (-128, 127), TensorProto.BOOL: (0, 1),
    TensorProto.UINT16: (0, 65535), TensorProto.INT16: (-32768, 32767),
}  # fmt: skip


def check_tensor(tensor: TensorProto, limits: Limits) -> int:
    """Check one constant's location, type, dimensions and amount of data.

    Returns:
        The number of elements.

    Raises:
        InvalidModelError: data outside of the file, lying dimensions, or values outside of the element type.
        UnsupportedModelError: an element type that is not executed.
        ResourceLimitError: more elements than the limits allow.
    """
    name = printable(tensor.name or "(unnamed)")
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        raise InvalidModelError(
            f"tensor '{name}' keeps its data in another file, which is refused: save the model in one file"
        )
    if tensor.data_type not in ELEMENT_BITS:
        kind = TensorProto.DataType.Name(tensor.data_type) if tensor.data_type in TensorProto.DataType.values() else "?"
        raise UnsupportedModelError(
            f"tensor '{name}' has element type {kind}, which is not executed: use an 8-bit quantised model"
        )
    if any(dimension < 0 for dimension in tensor.dims):
        raise InvalidModelError(f"tensor '{name}' has a negative dimension {list(tensor.dims)}: export the model again")
    elements = limits.check_shape(tensor.name, tensor.dims)
    if tensor.HasField("raw_data"):
        expected = size_bytes(tensor)
        if len(tensor.raw_data) != expected:
            raise InvalidModelError(
                f"tensor '{name}' of shape {list(tensor.dims)} needs {expected} bytes of data but holds "
                f"{len(tensor.raw_data)}: export the model again"
            )
    if tensor.data_type in INT32_FIELD_RANGE and tensor.int32_data:
        lowest, highest = INT32_FIELD_RANGE[tensor.data_type]
        wrong = next((value for value in tensor.int32_data if not lowest <= value <= highest), None)
        if wrong is not None:
            kind = TensorProto.DataType.Name(tensor.data_type).lower()
            raise InvalidModelError(
                f"tensor '{name}' holds {wrong}, outside of {kind} ({lowest}..{highest}): export the model again"
            )
    return elements


def size_bytes(tensor: TensorProto) -> int:
    """Return the bytes that a tensor's elements take, packed."""
    bits: int = math.prod(tensor.dims) * ELEMENT_BITS[tensor.data_type]
    return -(-bits // 8)


def check_quantisation_parameters(proto: ModelProto) -> None:
    """Demand finite, positive, normal scales wherever a constant is used as one.

    Raises:
        InvalidModelError: a scale is zero, negative, not finite or subnormal; names node and tensor.
    """
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "Constant":
            constants.update((node.output[0], attribute.t) for attribute in node.attribute if attribute.name == "value")
    checked: set[str] = set()
    for node in proto.graph.node:
        for position in scale_positions(node):
            name = node.input[position] if position < len(node.input) else ""
            if name in constants and name not in checked:
                checked.add(name)
                _check_scale(node.op_type, node.name, constants[name])


def _check_scale(operator: str, node: str, tensor: TensorProto) -> None:
    """Check every element of one scale; those of blocked weights (two or more axes) may be negative."""
    values = np.asarray(numpy_helper.to_array(tensor), np.float64)
    values = np.abs(values) if len(tensor.dims) > 1 else values
    wrong = values[~(np.isfinite(values) & (values >= np.finfo(np.float32).tiny))] if values.size else values
    if wrong.size or not values.size:
        shown = "nothing" if not values.size else f"{wrong.flat[0]:g}"
        raise InvalidModelError(
            f"{operator} '{printable(node)}': its scale '{printable(tensor.name)}' holds {shown}; scales must be "
            f"finite and positive (at least 1.2e-38): quantise the model again"
        )
