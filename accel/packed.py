"""Tensors of 2 and 4 bits on their way to onnxruntime and back: numpy holds one code per byte, onnxruntime packs them.

numpy has no such types of its own (ml_dtypes lends them), and onnxruntime's Python interface neither takes nor gives
them; its Cast to and from 8-bit codes does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]

BITS = {"int4": 4, "uint4": 4, "int2": 2, "uint2": 2}


def is_narrow(dtype: np.dtype[Any]) -> bool:
    """Tell whether codes of a type are packed in memory."""
    return dtype.name in BITS


def byte_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the 8-bit type that holds the codes of a narrow one."""
    return np.dtype(np.uint8 if dtype.name.startswith("u") else np.int8)


def bounds(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Return the lowest and the highest code of a narrow type."""
    bits = BITS[dtype.name]
    return (0, (1 << bits) - 1) if dtype.name.startswith("u") else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def widened(array: Array) -> Array:
    """Return codes of a narrow type as bytes, which any reader of a file knows; other arrays as they are."""
    return array.astype(byte_type(array.dtype)) if is_narrow(array.dtype) else array


def run_packed(session: Any, names: Sequence[str], feeds: Mapping[str, Array]) -> list[Array]:
    """Run a session some of whose inputs or outputs are narrow.

    Args:
        session: an open session.
        names: outputs wanted.
        feeds: arrays by name, narrow ones with one code per byte.
    """
    from onnxruntime import OrtValue

    values = {
        name: _pack(array) if is_narrow(array.dtype) else OrtValue.ortvalue_from_numpy(array)
        for name, array in feeds.items()
    }
    return [_unpack(value) for value in session.run_with_ort_values(list(names), values)]


def _pack(array: Array) -> Any:
    """Turn codes into a packed tensor of onnxruntime."""
    from onnxruntime import OrtValue

    source = OrtValue.ortvalue_from_numpy(np.asarray(array.astype(byte_type(array.dtype)), order="C"))
    return _caster(byte_type(array.dtype).name, array.dtype.name).run_with_ort_values(["y"], {"x": source})[0]


def _unpack(value: Any) -> Array:
    """Turn a tensor of onnxruntime into an array."""
    name = value.data_type().removeprefix("tensor(").removesuffix(")")
    if name not in BITS:
        return np.asarray(value.numpy())
    import ml_dtypes

    dtype = np.dtype(getattr(ml_dtypes, name))
    codes = _caster(name, byte_type(dtype).name).run_with_ort_values(["y"], {"x": value})[0]
    return np.asarray(codes.numpy()).astype(dtype)


@cache
def _caster(source: str, target: str) -> Any:
    """Open a session that casts one type to another."""
    from onnx import TensorProto, helper

    from accelsim.host import open_session

    first, second = (TensorProto.DataType.Value(name.upper()) for name in (source, target))
    graph = helper.make_graph(
        [helper.make_node("Cast", ["x"], ["y"], to=second)],
        "cast",
        [helper.make_tensor_value_info("x", first, None)],
        [helper.make_tensor_value_info("y", second, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)], ir_version=12)
    return open_session(model.SerializeToString())
