"""The sums of a network as accumulators of any width would make them, where those of the machine have overflowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import AccelSimError
from accelsim.program.layers import Program
from accelsim.results.accumulators import WIDEST_BITS
from accelsim.values.accumulators import AccumulatorFormat, AccumulatorUse
from accelsim.values.execute import run_program

Array = NDArray[np.generic]
Uses = Sequence[AccumulatorUse | None]


def exact_uses(
    program: Program, feeds: Mapping[str, Array], accumulator: AccumulatorFormat, uses: Uses
) -> list[AccumulatorUse | None] | None:
    """Return what accumulators went through, with the extremes of the network's own sums.

    A layer behind an overflow adds up what the network never computes, so that its extremes say nothing about the width
    that it needs. Where something overflowed, the values are computed once more, in accumulators that cannot.

    Args:
        program: what was run.
        feeds: arrays by input name.
        accumulator: of the run.
        uses: of the run, by layer.

    Returns:
        Extremes of exact sums on exact inputs, events of the run; None where those cannot be computed.
    """
    if not any(use is not None and use.overflows for use in uses):
        return list(uses)
    wide = replace(accumulator, bits=WIDEST_BITS)
    try:
        exact = [step.acc for step in run_program(program, feeds, wide)]
    except AccelSimError:  # of an operator that onnxruntime computes: a figure is missing then, not the run
        return None
    return [
        None if ours is None or theirs is None else replace(theirs, bits=ours.bits, overflows=ours.overflows)
        for ours, theirs in zip(uses, exact, strict=True)
    ]


def behind_overflow(program: Program, uses: Uses) -> list[bool]:
    """Tell which layers read something that an overflow may have changed.

    Args:
        program: what was run.
        uses: of the run, by layer.
    """
    changed: set[str] = set()
    behind = []
    for layer, use in zip(program.layers, uses, strict=True):
        behind.append(not changed.isdisjoint(layer.inputs))
        if behind[-1] or (use is not None and use.overflows):
            changed.update(layer.outputs)
    return behind
