"""One GEMM on the array alone, every operand resident: the tiles of the timing contract, section 4.4, in order."""

from __future__ import annotations

import numpy as np

from accelsim.kernels.cycles.array import issue_chunk
from accelsim.kernels.cycles.specs import IS, OS, Cycle
from accelsim.kernels.jit import kernel


@kernel
def gemm_timeline(machine, loop, acc_rows, classes, events):
    """Issue all tiles of one product that waits for nothing; returns its cycles (contract, sections 4.1 and 4.2).

    Args:
        machine: ArraySpec.
        loop: LoopSpec; m, k and n are read.
        acc_rows: rows of an accumulator bank, the longest stream of a WS or IS tile.
        classes: int64[14], filled.
        events: int64[18], filled.
    """
    state = np.zeros(4, np.int64)
    if machine.dataflow == OS:
        for column in range(0, loop.n, machine.cols):
            columns = min(machine.cols, loop.n - column)
            issue_chunk(machine, loop, state, 1, loop.m, columns, 0, loop.k, 0, 0, 0, classes, events)
        classes[Cycle.SHIFT] += machine.rows
        classes[Cycle.TAIL] += machine.rows + machine.cols
        return state[0] + state[1] + 2 * machine.rows + machine.cols
    held, streamed = (loop.m, loop.n) if machine.dataflow == IS else (loop.n, loop.m)
    for column in range(0, held, machine.cols):
        columns = min(machine.cols, held - column)
        for row in range(0, streamed, acc_rows):
            rows = min(acc_rows, streamed - row)
            block = (columns, rows) if machine.dataflow == IS else (rows, columns)
            issue_chunk(machine, loop, state, 1, block[0], block[1], 0, loop.k, 0, 0, 0, classes, events)
    classes[Cycle.TAIL] += machine.rows + machine.cols
    return state[0] + state[1] + machine.rows + machine.cols
