"""Element types of ONNX tensors: which ones are executed, how they are stored in a file, what they are called."""

from __future__ import annotations

import math
from collections.abc import Iterator

from onnx import ModelProto, TensorProto

# Bits per element of the element types that constants may have; every other type is refused.
ELEMENT_BITS: dict[int, int] = {
    TensorProto.FLOAT: 32, TensorProto.DOUBLE: 64, TensorProto.FLOAT16: 16, TensorProto.BFLOAT16: 16,
    TensorProto.UINT8: 8, TensorProto.INT8: 8, TensorProto.UINT16: 16, TensorProto.INT16: 16,
    TensorProto.INT32: 32, TensorProto.UINT32: 32, TensorProto.INT64: 64, TensorProto.UINT64: 64,
    TensorProto.BOOL: 8, TensorProto.UINT4: 4, TensorProto.INT4: 4, TensorProto.UINT2: 2, TensorProto.INT2: 2,
}  # fmt: skip

# Types of less than a byte: packed in a file and in memory; their codes are fed as int8 or uint8.
PACKED_TYPES = frozenset(kind for kind, bits in ELEMENT_BITS.items() if bits < 8)

# Element types of model inputs that numpy can hold in an .npz file.
INPUT_TYPES = frozenset(ELEMENT_BITS) - {TensorProto.BFLOAT16} - PACKED_TYPES

# Range of the narrow types that a file may store in its 32-bit field; 2- and 4-bit types are packed to bytes.
INT32_FIELD_RANGE: dict[int, tuple[int, int]] = {
    TensorProto.UINT8: (0, 255), TensorProto.INT8: (-128, 127), TensorProto.BOOL: (0, 1),
    TensorProto.UINT16: (0, 65535), TensorProto.INT16: (-32768, 32767),
    TensorProto.FLOAT16: (0, 65535), TensorProto.BFLOAT16: (0, 65535),
    TensorProto.UINT4: (0, 255), TensorProto.INT4: (-128, 255),
    TensorProto.UINT2: (0, 255), TensorProto.INT2: (-128, 255),
}  # fmt: skip

_FIELDS: dict[int, str] = {
    TensorProto.FLOAT: "float_data", TensorProto.DOUBLE: "double_data", TensorProto.INT64: "int64_data",
    TensorProto.UINT32: "uint64_data", TensorProto.UINT64: "uint64_data",
}  # fmt: skip


def element_name(element_type: int) -> str:
    """Return the name of an element type, or its number when ONNX does not define it."""
    known = element_type in TensorProto.DataType.values()
    return TensorProto.DataType.Name(element_type).lower() if known else f"number {element_type}"


def size_bytes(tensor: TensorProto) -> int:
    """Return the size of a checked tensor's data, packed at the width of its element type."""
    return -(-int(math.prod(tensor.dims)) * ELEMENT_BITS[tensor.data_type] // 8)


def typed_values(tensor: TensorProto) -> list[int] | list[float]:
    """Return the values that a tensor of a known type holds outside of its raw data."""
    values: list[int] | list[float] = getattr(tensor, _FIELDS.get(tensor.data_type, "int32_data"))
    return values


def constant_tensors(proto: ModelProto) -> Iterator[tuple[str, TensorProto]]:
    """Yield every tensor in the main graph with what to call it: initialisers, sparse parts, tensor attributes."""
    for tensor in proto.graph.initializer:
        yield tensor.name or "(unnamed)", tensor
    for sparse in proto.graph.sparse_initializer:
        yield sparse.values.name or "(unnamed)", sparse.values
        yield sparse.values.name or "(unnamed)", sparse.indices
    for node in proto.graph.node:
        for attribute in node.attribute:
            label = f"{attribute.name} of {node.op_type} {node.name or next(filter(None, node.output), '')}"
            sparse_tensors = [attribute.sparse_tensor, *attribute.sparse_tensors]
            parts = [part for sparse in sparse_tensors for part in (sparse.values, sparse.indices)]
            for tensor in (attribute.t, *attribute.tensors, *parts):
                if tensor.ListFields():
                    yield label, tensor
