"""Quantisation known at run time only: dynamic ranges, and operators completed with the parameters they read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from accelsim.operators import CodeFormat, Contraction, Convolution, Rescale

Array = NDArray[np.generic]
Codes = NDArray[np.uint8]


def dynamic_parameters(values: Array) -> tuple[np.float32, int]:
    """Return scale and zero point of a uint8 range that holds all values and 0.

    ONNX Runtime semantics, section 3.9:
    s = fl32(fl32(max - min) / 255), or 1 where max = min; z = round_half_even(clamp(fl32(0 - fl32(min / s)), 0, 255)).
    A range so small that s underflows to 0 keeps it, as in onnxruntime: z is then 255, and codes are 0 or 255.

    Args:
        values: float32, any shape.
    """
    lowest = min(np.float32(values.min(initial=0)), np.float32(0))
    highest = max(np.float32(values.max(initial=0)), np.float32(0))
    with np.errstate(all="ignore"):  # infinite values quantise to whatever onnxruntime makes of them
        scale = np.float32(np.float32(highest - lowest) / np.float32(255))
        scale = scale if highest != lowest else np.float32(1)
        start = np.float32(np.float32(0) - np.float32(lowest / scale))
    return scale, int(np.rint(max(np.float32(0), min(np.float32(255), start))))


def complete(op: Contraction, inputs: Sequence[Array]) -> Contraction:
    """Return a contraction whose zero points and scales are those that its inputs hold.

    Args:
        op: a contraction, with or without run-time parameters.
        inputs: its inputs, parameters included.
    """
    runtime = op.runtime
    if runtime is None:
        return op
    if runtime.zero_point is not None:
        op = replace(op, input=CodeFormat(op.input.dtype, _scalar(inputs[runtime.zero_point])))
    if runtime.second_zero_point is not None and not isinstance(op, Convolution) and op.second is not None:
        op = replace(op, second=CodeFormat(op.second.dtype, _scalar(inputs[runtime.second_zero_point])))
    late = [np.float32(inputs[at].reshape(-1)[0]) for at in (runtime.scale, runtime.second_scale) if at is not None]
    if late and isinstance(op.epilogue, Rescale):
        scale = late[0] * late[1] if len(late) > 1 else late[0]
        op = replace(op, epilogue=replace(op.epilogue, scale=scale * op.epilogue.scale))
    return op


def _scalar(array: Array) -> int:
    """Return the only element of an array."""
    return int(array.reshape(-1)[0])
