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

from accelsim.operators import HostOperator
from accelsim.reference.session import open_session, run_session


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
        UnsupportedModelError: onnxruntime refuses to run the node.
    """
    return run_session(_session(op.model), op.outputs, dict(zip(op.inputs, inputs, strict=True)))
