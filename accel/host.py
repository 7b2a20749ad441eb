"""Operators outside the integer machine: each runs alone in onnxruntime, exactly as the reference runs it.

Rules (ONNX Runtime semantics, section 6): the node is taken from the normalised graph, initialisers stay
initialisers, all optimisations are off, one thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import AccelSimError, printable
from accelsim.operators import HostOperator


def open_session(
    model: bytes, *, optimise: str = "none", entries: tuple[tuple[str, str], ...] = (), save: str = ""
) -> Any:
    """Open an onnxruntime CPU session with one thread on model bytes (never on a path).

    Args:
        model: serialised ModelProto.
        optimise: "none", "extended" or "all".
        entries: session configuration entries.
        save: where to write the optimised model, or "".
    """
    import onnxruntime

    levels = {
        "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
        "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
        "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    }
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = levels[optimise]
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    for key, value in entries:
        options.add_session_config_entry(key, value)
    if save:
        options.optimized_model_filepath = save
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@lru_cache(maxsize=256)
def _session(model: bytes) -> Any:
    """Open each one-node model once per process."""
    return open_session(model)


def run_host_operator(op: HostOperator, inputs: Sequence[NDArray[np.generic]]) -> list[NDArray[np.generic]]:
    """Execute one node alone in onnxruntime.

    Args:
        op: the one-node model and its tensor names.
        inputs: arrays in the order of op.inputs.

    Raises:
        AccelSimError: onnxruntime refuses to run the node.
    """
    try:
        return list(_session(op.model).run(list(op.outputs), dict(zip(op.inputs, inputs, strict=True))))
    except Exception as error:  # onnxruntime's errors have no common base class
        reason = printable(str(error).splitlines()[0], 200)
        raise AccelSimError(f"onnxruntime could not run the host operator {op.kind}: {reason}") from None
