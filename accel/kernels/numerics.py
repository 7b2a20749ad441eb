"""Rounding, saturation, wrapping and requantisation: the only place where they exist.

Scalar functions, inlined into the loops of the other kernels. All float operands are float32 and every operation
rounds once to float32, as written in the ONNX Runtime semantics that the datapath reproduces.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from accelsim.kernels.jit import kernel

INT32_SPAN = np.float32(2.0**31)
INT32_LOWEST, INT32_HIGHEST = np.int64(-(2**31)), np.int64(2**31 - 1)


@intrinsic
def fused_multiply_add(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """Return float32 a * b + c with a single rounding."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        single = ir.FloatType()
        function_type = ir.FunctionType(single, [single, single, single])
        fma = builder.module.declare_intrinsic("llvm.fma", [single], function_type)
        return builder.call(fma, arguments)

    return types.float32(types.float32, types.float32, types.float32), generate


@kernel
def wrap(value, lowest, mask):
    """Wrap an integer into two's complement: lowest = -2^(bits-1), mask = 2^bits - 1 (bits <= 63)."""
    return ((value - lowest) & mask) + lowest


@kernel
def clamp(value, lowest, highest):
    """Saturate to [lowest, highest]."""
    return min(max(value, lowest), highest)


@kernel
def clamp_then_round(value, zero_point, lowest, highest):
    """Requantise: clamp in float, round half to even, then add the zero point (contract section 2, mode f32)."""
    bounded = min(max(value, np.float32(lowest - zero_point)), np.float32(highest - zero_point))
    return np.int32(np.rint(bounded)) + zero_point


@kernel
def round_then_clamp(value, lowest, highest):
    """Round half to even, then clamp; the zero point is already inside the value.

    At and beyond 2^31 the x86 conversion gives INT_MIN, so onnxruntime answers the lowest code.
    """
    if not value < INT32_SPAN:
        return lowest
    return np.int32(min(max(np.rint(value), np.float32(lowest)), np.float32(highest)))


@kernel
def quantise(value, scale, zero_point, lowest, highest):
    """QuantizeLinear of one float32: true division, clamp, round half to even; NaN gives the lowest code."""
    scaled = np.float32(value / scale)
    if np.isnan(scaled):
        return np.int32(lowest)
    return clamp_then_round(scaled, zero_point, lowest, highest)


@kernel
def dequantise(code, scale, zero_point):
    """DequantizeLinear of one code to float32."""
    return np.float32(np.float32(np.int32(code) - zero_point) * scale)


@kernel
def saturated_sum(value, zero_point, lowest, highest):
    """Round to int32 (out of range or NaN gives INT_MIN, as x86 does), add the zero point with wrap, clamp.

    For uint8 onnxruntime clamps from above only and keeps the low byte.
    """
    rounded = np.int32(np.rint(value)) if abs(value) < np.float32(2.0**31) else np.int32(-(2**31))
    total = np.int32(rounded + zero_point)
    if lowest == 0:
        return min(total, highest) & 255
    return min(max(total, lowest), highest)


@kernel
def round_add_clamp(value, zero_point, lowest, highest):
    """Round a float64, add the zero point, clamp: without a step through an integer nothing wraps."""
    return np.int32(min(max(np.rint(value) + zero_point, np.float64(lowest)), np.float64(highest)))


@kernel
def doubling_high_multiply(a, b):
    """Return a * b / 2^31 of two int32, ties towards +infinity: gemmlowp's SaturatingRoundingDoublingHighMul.

    Only -2^31 * -2^31 leaves int32; it saturates.
    """
    return min((np.int64(a) * np.int64(b) + np.int64(1 << 30)) >> np.int64(31), INT32_HIGHEST)


@kernel
def rounding_shift_right(value, exponent):
    """Return value / 2^exponent of an int32, ties away from zero: gemmlowp's RoundingDivideByPOT (0 to 31)."""
    mask = (np.int64(1) << np.int64(exponent)) - np.int64(1)
    threshold = (mask >> np.int64(1)) + np.int64(value < 0)
    return (np.int64(value) >> np.int64(exponent)) + np.int64((np.int64(value) & mask) > threshold)


@kernel
def scale_fixed(value, mantissa, shift):
    """Return value * mantissa / 2^31 * 2^shift with two roundings, as TFLite's MultiplyByQuantizedMultiplier.

    The value is saturated to int32 where it enters, and again behind a left shift, which TFLite leaves undefined: both
    are beyond every 16-bit code by then. -31 <= shift <= 31 (contract section 2, mode q31).
    """
    entered = clamp(np.int64(value), INT32_LOWEST, INT32_HIGHEST)
    shifted = clamp(entered << np.int64(max(shift, 0)), INT32_LOWEST, INT32_HIGHEST)
    return rounding_shift_right(doubling_high_multiply(shifted, mantissa), max(-shift, 0))
