"""Checks of constant tensors and quantisation parameters, on the raw fields that a library would silently coerce."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from accelsim.errors import InvalidModelError, printable
from accelsim.graph.load.constraints import node_label, scale_positions
from accelsim.graph.load.element_types import (
    ELEMENT_BITS,
    INT32_FIELD_RANGE,
    PACKED_TYPES,
    element_name,
    size_bytes,
    typed_values,
)
from accelsim.graph.load.limits import Limits

# Where an operator reads codes that may be weights, and their scale. A channel that pruning left without any weight may
# be scaled by 0: nothing is divided by that.
_WEIGHTS = {
    "DequantizeLinear": (0, 1), "QLinearConv": (3, 4), "QLinearMatMul": (3, 4), "QGemm": (3, 4),
    "MatMulIntegerToFloat": (1, 3),
}  # fmt: skip


def check_tensor(label: str, tensor: TensorProto, limits: Limits) -> int:
    """Check one constant's location, dimensions and amount of data; foreign element types are left to others.

    Args:
        label: what to call the tensor.
        tensor: the constant.
        limits: budgets.

    Returns:
        The number of elements.

    Raises:
        InvalidModelError: data outside of the file, lying dimensions, or values outside of the element type.
        ResourceLimitError: more elements than the limits allow.
    """
    name = printable(label)
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        raise InvalidModelError(
            f"tensor '{name}' keeps its data in another file, though it claims to hold it, or stands where no weights "
            f"are looked for: save the model in one file"
        )
    if tensor.data_type not in TensorProto.DataType.values() or tensor.data_type == TensorProto.UNDEFINED:
        raise InvalidModelError(f"tensor '{name}' has no valid element type: export the model again")
    if any(dimension < 0 for dimension in tensor.dims):
        raise InvalidModelError(f"tensor '{name}' has a negative dimension {list(tensor.dims)}: export the model again")
    elements = limits.check_shape(label, tensor.dims)
    if tensor.data_type in ELEMENT_BITS:
        _check_amount(tensor, name, elements)
        _check_range(tensor, name)
    return elements


def _check_amount(tensor: TensorProto, name: str, elements: int) -> None:
    """Compare the amount of data with the dimensions."""
    if tensor.HasField("raw_data"):
        expected, held, unit = size_bytes(tensor), len(tensor.raw_data), "bytes"
    else:
        expected = size_bytes(tensor) if tensor.data_type in PACKED_TYPES else elements
        held, unit = len(typed_values(tensor)), "values"
    if held != expected:
        raise InvalidModelError(
            f"tensor '{name}' of shape {list(tensor.dims)} needs {expected} {unit} of data but holds {held}: "
            f"export the model again"
        )


def _check_range(tensor: TensorProto, name: str) -> None:
    """Demand that values stored in the 32-bit field fit the element type."""
    if tensor.data_type not in INT32_FIELD_RANGE:
        return
    lowest, highest = INT32_FIELD_RANGE[tensor.data_type]
    wrong = next((value for value in tensor.int32_data if not lowest <= value <= highest), None)
    if wrong is not None:
        raise InvalidModelError(
            f"tensor '{name}' holds {wrong}, outside of {element_name(tensor.data_type)} ({lowest}..{highest}): "
            f"export the model again"
        )


def check_quantisation_parameters(proto: ModelProto) -> None:
    """Demand finite, positive, normal scales wherever a constant is used as one; constant codes may be scaled by 0.

    Args:
        proto: the model.

    Raises:
        InvalidModelError: a scale is zero, negative, not finite or subnormal; names node and tensor.
    """
    constants = model_constants(proto)
    checked: set[tuple[str, bool]] = set()
    for node in proto.graph.node:
        codes, scale = _WEIGHTS.get(node.op_type, (0, -1))
        for position in scale_positions(node):
            name = node.input[position] if position < len(node.input) else ""
            weights = position == scale and node.input[codes] in constants
            if name in constants and (name, weights) not in checked:
                checked.add((name, weights))
                _check_scale(node, name, constants[name], zero=weights)


def model_constants(proto: ModelProto) -> dict[str, TensorProto]:
    """Return constants by name: initialisers, Constant nodes, and Identity of either."""
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "Identity" and node.input and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]]
        elif node.op_type == "Constant" and node.output and node.attribute:
            attribute = node.attribute[0]
            if attribute.name == "value":
                constants[node.output[0]] = attribute.t
            elif attribute.name == "value_float":
                constants[node.output[0]] = helper.make_tensor("", TensorProto.FLOAT, [], [attribute.f])
            elif attribute.name == "value_floats":
                size = len(attribute.floats)
                constants[node.output[0]] = helper.make_tensor("", TensorProto.FLOAT, [size], attribute.floats)
    return constants


def _check_scale(node: NodeProto, name: str, tensor: TensorProto, *, zero: bool) -> None:
    """Check every element of one scale, which may be 0 or not; those of blocked weights may be negative."""
    values = np.asarray(numpy_helper.to_array(tensor), np.float64)
    values = np.abs(values) if len(tensor.dims) > 1 else values
    usable = np.isfinite(values) & ((values >= np.finfo(np.float32).tiny) | (zero & (values == 0)))
    wrong = values[~usable]
    if wrong.size or not values.size:
        shown = "nothing" if not values.size else f"{wrong.flat[0]:g}"
        raise InvalidModelError(
            f"{node.op_type} '{printable(node_label(node))}': its scale '{printable(name)}' holds {shown}; scales must "
            f"be finite and positive (at least 1.2e-38): quantise the model again"
        )
