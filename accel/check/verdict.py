"""How far the outputs of a run are from those of the reference, and which layer they differ behind."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsim.check.steps import known_steps, largest_distance, step_of
from accelsim.operators import HostOperator
from accelsim.operators.vector import FloatReduce
from accelsim.program.layers import Layer, Program
from accelsim.results.check import Diagnosis, FirstMismatch, LayerCheck, LiteralDistance
from accelsim.results.differing import differing

Array = NDArray[np.generic]

# Operators whose float32 result depends on kernels or on the memory layout, which ORT_ENABLE_ALL may change.
BY_LAYOUT = (HostOperator, FloatReduce)


@dataclass(frozen=True)
class OutputDistance:
    """How far an output is from another evaluation's."""

    name: str
    largest: float
    """In real numbers."""
    lsb: float | None
    """In steps, None where it has none."""
    last_place: float
    """The unit in the last place of the other evaluation's largest value, of which a distance without steps is a
    multiple."""
    different: int
    """Elements."""
    size: int
    """Of all."""


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


def measure_outputs(
    program: Program, outputs: Mapping[str, Array], other: Mapping[str, Array]
) -> tuple[OutputDistance, ...]:
    """Measure how far each output is from that of another evaluation.

    Args:
        program: the program, to find the step of each output.
        outputs: ours by name.
        other: those of the other evaluation by name.
    """
    steps, found = known_steps(program), []
    for name, theirs in other.items():
        mine = outputs[name]
        largest, lsb = largest_distance(mine, theirs, step_of(name, mine, steps))
        place = _last_place(theirs) if lsb is None else 1.0
        found.append(OutputDistance(name, largest, lsb, place, int(differing(mine, theirs).sum()), mine.size))
    return tuple(found)


def largest_units(found: Sequence[OutputDistance]) -> tuple[float | None, float | None]:
    """Return the largest distance of differing outputs in LSB, and that in ULP of those that have no step.

    Args:
        found: of each output.
    """
    apart = [output for output in found if output.different]
    lsb = [round(output.lsb, 3) for output in apart if output.lsb is not None]
    ulp = [round(output.largest / output.last_place, 3) for output in apart if output.lsb is None]
    return max(lsb, default=None), max(ulp, default=None)


def whole_distance(found: Sequence[OutputDistance]) -> LiteralDistance:
    """Return the distance of all outputs together; in LSB where every output has a known step.

    Args:
        found: of each output.
    """
    steps = [output.lsb for output in found if output.lsb is not None]
    lsb = round(max(steps, default=0.0), 3) if len(steps) == len(found) else None
    largest = max((output.largest for output in found), default=0.0)
    share = sum(output.different for output in found) / max(sum(output.size for output in found), 1)
    return LiteralDistance(lsb, largest, share)


def _last_place(theirs: Array) -> float:
    """Return the unit in the last place of the largest finite value of a tensor."""
    finite = np.abs(theirs[np.isfinite(theirs)])
    smallest = float(np.finfo(theirs.dtype.name).smallest_normal)
    return float(np.spacing(np.maximum(finite.max(initial=0), smallest).astype(theirs.dtype)))
