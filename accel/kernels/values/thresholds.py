"""Loop of the threshold requantiser: accumulators to codes of few bits by binary search."""

from __future__ import annotations

from accelsim.kernels.jit import kernel


@kernel
def threshold_rows(acc, thresholds, first, step, out):
    """Count the thresholds int64[N, L] (ascending) that acc[N, M] reaches: out = first[n] + step[n] * count."""
    for n in range(acc.shape[0]):
        levels = thresholds[n]
        for m in range(acc.shape[1]):
            value = acc[n, m]
            low, high = 0, levels.size
            while low < high:
                middle = (low + high) // 2
                if levels[middle] <= value:
                    low = middle + 1
                else:
                    high = middle
            out[n, m] = first[n] + step[n] * low
