"""The worked example of the timing contract, section 8: three layers on a 32x32 array, in every mode of its table."""

from __future__ import annotations

import numpy as np
import pytest

from accelsim.kernels.cycles.recurrence import CLASSES, output_step, stationary_step
from accelsim.machine.arch import Arch
from accelsim.timing.recurrence import array_spec

ROWS = COLS = 32
ACC_ROWS = 1024

TABLE = [
    # (M, K, N): WS default, WS single-buffered, WS flush, OS default, IS default
    ((3136, 576, 64), (112_992, 117_568, 126_720, 112_992, 112_992)),
    ((49, 4608, 512), (112_992, 186_688, 334_080, 147_552, 147_552)),
    ((1, 512, 1000), (17_409, 17_440, 49_664, 16_480, 16_096)),
]


def array_cycles(m: int, k: int, n: int, arch: Arch) -> int:
    """Issue all tiles of a GEMM whose operands are resident, and return the cycles of the array."""
    machine = array_spec(arch)
    state, classes = np.zeros(4, np.int64), np.zeros(len(CLASSES), np.int64)
    if arch.dataflow == "os":
        for _ in range(0, n, COLS):
            for _ in range(0, m, ROWS):
                output_step(machine, state, k, 0, 0, True, k, classes)
        return int(state[0] + state[1]) + 2 * ROWS + COLS
    streamed, held = (m, n) if arch.dataflow == "ws" else (n, m)
    for column in range(0, held, COLS):
        for row in range(0, streamed, ACC_ROWS):
            for fold in range(0, k, ROWS):
                sizes = min(ROWS, k - fold), min(COLS, held - column), min(ACC_ROWS, streamed - row)
                stationary_step(machine, state, *sizes, 0, 0, 0, fold > 0, classes)
    return int(state[0] + state[1]) + ROWS + COLS


@pytest.mark.parametrize(("shape", "expected"), TABLE)
def test_the_contracts_example_is_reproduced(shape: tuple[int, int, int], expected: tuple[int, ...]) -> None:
    """Every number of the table, to the cycle."""
    machine = Arch(array=(ROWS, COLS), acc_rows=ACC_ROWS, weight_load="full")
    modes = (
        machine,
        machine.evolve(weight_double_buffer=False),
        machine.evolve(flush_between_tiles=True),
        machine.evolve(dataflow="os"),
        machine.evolve(dataflow="is"),
    )
    assert tuple(array_cycles(*shape, mode) for mode in modes) == expected
