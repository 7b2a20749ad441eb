"""Values behind the accumulators: what a requantiser makes of sums, exactly, one row of sums per column of weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accelsim.kernels.values.elementwise import quantise_all, requantise_rows
from accelsim.kernels.values.thresholds import threshold_rows
from accelsim.operators import Epilogue
from accelsim.operators.epilogues import Requantise, Rescale
from accelsim.operators.fixed_point import FixedRequantise
from accelsim.operators.thresholds import Threshold
from accelsim.values.fixed_point import requantise

IntArray = NDArray[np.generic]


def apply_epilogue(acc: IntArray, epilogue: Epilogue) -> IntArray:
    """Turn accumulators acc[N, M] into codes, floats or int32, row n with its own multiplier.

    Args:
        acc: int32 or int64 [N, M].
        epilogue: what the requantiser does.
    """
    rows = acc.shape[0]
    if isinstance(epilogue, FixedRequantise):
        return requantise(acc, epilogue)
    if isinstance(epilogue, Requantise):
        out = np.empty(acc.shape, epilogue.output.dtype)
        multiplier = np.ascontiguousarray(np.broadcast_to(epilogue.multiplier.reshape(-1), (rows,)))
        code = epilogue.output
        requantise_rows(acc, multiplier, code.zero_point, *epilogue.bounds, out)
        return out
    if isinstance(epilogue, Threshold):
        out = np.empty(acc.shape, epilogue.output.dtype)
        parts = (epilogue.thresholds, epilogue.first, epilogue.step)
        threshold_rows(acc, *(np.ascontiguousarray(np.broadcast_to(p, (rows, *p.shape[1:]))) for p in parts), out)
        return out
    if isinstance(epilogue, Rescale):
        return _rescale(acc, epilogue)
    return acc.astype(np.int32)


def _rescale(acc: IntArray, epilogue: Rescale) -> IntArray:
    """Turn accumulators [N, M] into floats, or into the codes that a quantiser makes of those."""
    with np.errstate(all="ignore"):
        result = acc.astype(np.float32) * epilogue.scale.reshape(-1, 1)
        if epilogue.bias is not None:
            result = result + epilogue.bias.reshape(-1, 1)
        if epilogue.bounds is not None:
            lowest, highest = (np.float32(bound) for bound in epilogue.bounds)
            result = np.clip(result, lowest, highest)
        if epilogue.half:
            return result.astype(np.float16)
    if epilogue.quantise is None:
        return result
    code = epilogue.quantise.output
    out = np.empty(result.size, code.dtype)
    values = np.ascontiguousarray(result).reshape(-1)
    quantise_all(values, epilogue.quantise.scale, code.zero_point, code.lowest, code.highest, out)
    return out.reshape(result.shape)
