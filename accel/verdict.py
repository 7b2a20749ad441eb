"""How far the outputs of a run are from those of the reference, and which layer they differ behind."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsim.check_result import Diagnosis, FirstMismatch, LayerCheck, LiteralDistance
from accelsim.compare import differing
from accelsim.operators import HostOperator
from accelsim.program import Layer, Program
from accelsim.steps import known_steps, largest_distance, step_of
from accelsim.vector_operators import FloatReduce

Array = NDArray[np.generic]

# Operators whose float32 result depends on kernels or on the memory layout, which ORT_ENABLE_ALL may change.
BY_LAYOUT = (HostOperator, FloatReduce)


@dataclass(frozen=True)
class Distances:
    """The largest distance of differing outputs: in steps where they have one, else in units in the last place."""

    lsb: float | None
    ulp: float | None


def final_difference(program: Program, name: str, mine: Array, theirs: Array) -> FirstMismatch:
    """Describe an output that equals the normalised graph's and yet not the one of the whole model."""
    where = tuple(int(i) for i in np.unravel_index(int(np.argmax(differing(mine, theirs))), mine.shape))
    layer = next((layer for layer in program.layers if name in layer.outputs), None)
    cause = Diagnosis(
        "final-output",
        "every tensor before it equals the graph that onnxruntime's optimiser wrote, but the whole model gives another "
        "output: onnxruntime contradicts itself here",
        None,
    )
    label, kind = ("", "") if layer is None else (layer.name, layer.kind)
    return FirstMismatch(name, label, where, float(mine[where]), float(theirs[where]), False, kind, cause)


def find_behind(
    program: Program, checks: Sequence[tuple[Layer, LayerCheck]], differing_outputs: Collection[str]
) -> Layer | None:
    """Return the layer that differing outputs are behind, None where there is none that could differ.

    It is the first layer on their way, in topological order, that is not of class exact and differs on the reference's
    own inputs; without one, the first that onnxruntime may compute otherwise in the whole model than node by node; else
    the first that is not of class exact.

    Args:
        program: the program.
        checks: layers that were compared, with their comparison.
        differing_outputs: names of the outputs that differ.
    """
    wanted, path = set(differing_outputs), []
    for layer in reversed(program.layers):
        if any(name in wanted for name in layer.outputs):
            path.append(layer)
            wanted.update(layer.inputs)
    path.reverse()
    apart = {id(layer) for layer, check in checks if check.mismatched}
    inexact = [layer for layer in path if layer.exactness != "exact"]
    by_layout = [layer for layer in path if isinstance(layer.operator, BY_LAYOUT)]
    return next(iter([*(layer for layer in inexact if id(layer) in apart), *by_layout, *inexact]), None)


def measure_outputs(program: Program, outputs: Mapping[str, Array], reference: Mapping[str, Array]) -> Distances:
    """Measure how far differing outputs are from the reference's.

    Args:
        program: the program, to find the step of each output.
        outputs: ours by name.
        reference: those of the reference by name.
    """
    steps, lsb, ulp = known_steps(program), [], []
    for name, theirs in reference.items():
        mine = outputs[name]
        if not differing(mine, theirs).any():
            continue
        step = step_of(name, mine, steps)
        if step is not None:
            lsb.append(round(largest_distance(mine, theirs, step), 3))
        else:
            ulp.append(round(largest_distance(mine, theirs) / _last_place(theirs), 3))
    return Distances(max(lsb, default=None), max(ulp, default=None))


def distance(program: Program, outputs: Mapping[str, Array], other: Mapping[str, Array]) -> LiteralDistance:
    """Measure how far the outputs are from those of another evaluation; LSB where every output has a known step.

    Args:
        program: the program, to find the step of each output.
        outputs: ours by name.
        other: those of the other evaluation by name.
    """
    steps = known_steps(program)
    largest, largest_lsb, different, total = 0.0, 0.0, 0, 0
    known = True
    for name, theirs in other.items():
        mine = outputs[name]
        step = step_of(name, mine, steps)
        known = known and step is not None
        largest = max(largest, largest_distance(mine, theirs))
        largest_lsb = max(largest_lsb, largest_distance(mine, theirs, step))
        different += int(differing(mine, theirs).sum())
        total += mine.size
    return LiteralDistance(round(largest_lsb, 3) if known else None, largest, different / max(total, 1))


def _last_place(theirs: Array) -> float:
    """Return the unit in the last place of the largest finite value of a tensor."""
    finite = np.abs(theirs[np.isfinite(theirs)])
    smallest = float(np.finfo(theirs.dtype.name).smallest_normal)
    return float(np.spacing(np.maximum(finite.max(initial=0), smallest).astype(theirs.dtype)))
