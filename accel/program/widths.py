"""What layers of few bits cost and waste: thresholds in the requantiser, narrow operands on wide multipliers."""

from __future__ import annotations

from dataclasses import dataclass

from accelsim.machine.arch import Arch
from accelsim.operators import Convolution, MatrixMultiply, Operator
from accelsim.operators.thresholds import Threshold


@dataclass(frozen=True)
class ThresholdSearch:
    """Binary search of one accumulator through its column's thresholds, one comparison per pipeline stage.

    FINN's thresholding unit does the same in one stage per output bit (finn-rtllib/thresholding/hdl/thresholding.sv).
    """

    comparisons: int
    """Per accumulator."""
    bits: int
    """Of a threshold."""
    memory_bytes: int
    """Thresholds of one column."""


def threshold_search(operator: Operator) -> ThresholdSearch | None:
    """Return what the threshold requantiser of a layer does, None where it has none."""
    epilogue = getattr(operator, "epilogue", None)
    if not isinstance(epilogue, Threshold):
        return None
    levels = int(epilogue.thresholds.shape[1])
    return ThresholdSearch(epilogue.comparisons, epilogue.bits, -(-levels * epilogue.bits // 8))


def operand_bits(operator: Operator) -> tuple[int, int] | None:
    """Return the widths of a contraction's codes in memory, None where it is no contraction of codes."""
    if not isinstance(operator, Convolution | MatrixMultiply):
        return None
    weights = operator.weights
    if weights is not None:
        return operator.input.width, weights.bits
    second = operator.second if isinstance(operator, MatrixMultiply) else None
    return operator.input.width, operator.input.width if second is None else second.width


def narrow_lines(operator: Operator, arch: Arch) -> list[str]:
    """Say what a layer of narrow codes leaves unused on this array, and what its thresholds take.

    Args:
        operator: the layer's operator.
        arch: the machine; its multipliers take activations one bit wider than their codes.
    """
    lines = []
    bits = operand_bits(operator)
    wide = arch.act_bits + 1, arch.weight_bits
    if bits is not None and (bits[0] < arch.act_bits or bits[1] < arch.weight_bits):
        used = min(bits[0] / wide[0], 1.0) * min(bits[1] / wide[1], 1.0)
        lines.append(
            f"    narrow    {bits[0]}-bit x {bits[1]}-bit codes on {wide[0]}x{wide[1]}-bit multipliers: {used:.1%} of "
            f"their bits used"
        )
    search = threshold_search(operator)
    if search is not None:
        lines.append(
            f"    steps     thresholds of {search.bits} bits, {search.memory_bytes:,} B per column, "
            f"{search.comparisons} comparisons per output"
        )
    return lines
