"""Sessions of onnxruntime: how they are opened, and arrays on their way in and out.

One thread, no arena, no warnings. Tensors of 2 and 4 bits are packed: onnxruntime's Python interface neither takes nor
gives them, its Cast to and from 8-bit codes does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import UnsupportedModelError, reason_of
from accelsim.operators.tensors import BITS, byte_type, is_narrow

Array = NDArray[np.generic]

_ALIGNMENT = 16  # bytes; numpy and onnxruntime allocate at multiples of it


def open_session(
    model: bytes,
    *,
    weights: Mapping[str, NDArray[np.generic]] | None = None,
    optimise: str = "none",
    entries: tuple[tuple[str, str], ...] = (),
    save: str = "",
    without: tuple[str, ...] = (),
) -> Any:
    """Open an onnxruntime CPU session with one thread on model bytes (never on a path).

    Args:
        model: serialised ModelProto.
        weights: data of the constants that the model declares as external, used where it lies: keep it alive.
        optimise: "none", "basic", "extended" or "all".
        entries: session configuration entries.
        save: where to write the optimised model, or "".
        without: names of onnxruntime's optimisers that are left out.
    """
    import onnxruntime

    levels = {
        "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
        "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
        "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    }
    onnxruntime.set_default_logger_severity(4)  # kernels warn through the default logger, not the session's
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = levels[optimise]
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = False  # the arena grows by doubling and never shrinks
    if weights:
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
        options.add_external_initializers(list(weights), values)
        if optimise == "none":  # nothing rewrites the constants, so that the session need not copy them either
            for weight, value in zip(weights, values, strict=True):
                options.add_initializer(weight, value)
    for key, value in entries:
        options.add_session_config_entry(key, value)
    if save:
        options.optimized_model_filepath = save
    return onnxruntime.InferenceSession(
        model, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(without)
    )


def run_session(
    session: Any, names: Sequence[str], inputs: Mapping[str, NDArray[np.generic]]
) -> list[NDArray[np.generic]]:
    """Run a session, turning onnxruntime's errors into one sentence.

    Args:
        session: from `open_session`.
        names: outputs wanted.
        inputs: arrays by name.

    Raises:
        UnsupportedModelError: onnxruntime itself refuses to compute something while running.
    """
    feeds = {name: _aligned(array) for name, array in inputs.items()}
    try:
        if any(is_narrow(array.dtype) for array in feeds.values()) or _gives_narrow(session):
            return _run_packed(session, names, feeds)
        return list(session.run(list(names), feeds))
    except Exception as error:  # onnxruntime's errors have no common base class
        raise UnsupportedModelError(
            f"onnxruntime, the reference, fails while running the model: {reason_of(error)}: "
            f"change the model or its inputs"
        ) from None


def _gives_narrow(session: Any) -> bool:
    """Tell whether a session has outputs of less than a byte."""
    return any(value.type[len("tensor(") : -1] in BITS for value in session.get_outputs())


def _aligned(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return an array that lies in memory as onnxruntime's own tensors do.

    Its reductions begin with single elements up to the next multiple of 16 bytes, so that the order of additions, and
    the last bit with it, would depend on where a slice of another array happens to begin.
    """
    return array if array.ctypes.data % _ALIGNMENT == 0 else np.array(array)


def _run_packed(session: Any, names: Sequence[str], feeds: Mapping[str, Array]) -> list[Array]:
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

    first, second = (TensorProto.DataType.Value(name.upper()) for name in (source, target))
    graph = helper.make_graph(
        [helper.make_node("Cast", ["x"], ["y"], to=second)],
        "cast",
        [helper.make_tensor_value_info("x", first, None)],
        [helper.make_tensor_value_info("y", second, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)], ir_version=12)
    return open_session(model.SerializeToString())
