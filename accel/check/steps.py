"""What one step of a tensor is: 1 for codes, for floats the scale of the codes that they were dequantised from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from accelsim.operators import Dequantise, Gather, HostOperator, Pad, Slice, Split, Transpose, View
from accelsim.operators.thresholds import DequantiseUniform
from accelsim.operators.vector import IndexedRead, Pick, Rearrange, Shuffle
from accelsim.program.layers import Layer, Program
from accelsim.values.accumulators import AccumulatorFormat
from accelsim.values.execute import execute

Array = NDArray[np.generic]
Steps = NDArray[np.float32]

# Operators that copy elements, so that dequantised floats keep their step.
_COPIES = (View, Transpose, Slice, Split, Gather, Pad, Rearrange, Shuffle, Pick, IndexedRead)


def known_steps(program: Program) -> dict[str, Steps]:
    """Return the steps of float tensors that hold dequantised codes: a scalar, or one step per element.

    Args:
        program: the program.
    """
    steps: dict[str, Steps] = {}
    for layer in program.layers:
        made = _made(layer)
        if made is not None:
            steps[layer.outputs[0]] = made
        elif layer.inputs and layer.inputs[0] in steps and _copies(layer):
            steps.update(_moved(layer, steps[layer.inputs[0]]))
    return {
        name: known for name, known in steps.items() if known.size and (known > 0).all() and np.isfinite(known).all()
    }


def step_of(name: str, array: Array, steps: Mapping[str, Steps]) -> Steps | None:
    """Return what one step of an output is, None where it has none.

    Args:
        name: of the output.
        array: its values; those of codes and truth values have steps of 1.
        steps: from `known_steps`.
    """
    return np.ones((), np.float32) if array.dtype.kind != "f" else steps.get(name)


def largest_distance(mine: Array, theirs: Array, step: Steps | None) -> tuple[float, float | None]:
    """Return the largest absolute difference, in real numbers and in steps.

    It is looked for block by block, since float64 copies of large tensors are heavy.

    Args:
        mine: the machine's results.
        theirs: the other ones.
        step: a scalar or one per element, None where there is none, nor a distance in it.
    """
    first, second = mine.reshape(-1), theirs.reshape(-1)
    units = None if step is None else np.broadcast_to(step, mine.shape).reshape(-1) if step.ndim else step
    largest, in_steps = 0.0, 0.0
    for start in range(0, first.size, 1 << 18):
        block = slice(start, start + (1 << 18))
        with np.errstate(invalid="ignore"):  # infinity minus infinity is NaN, which nanmax leaves out
            apart = np.abs(first[block].astype(np.float64) - second[block].astype(np.float64))
            largest = max(largest, float(np.nanmax(apart, initial=0.0)))
            if units is not None:
                apart = _in_steps(apart, units[block] if units.ndim else units, second[block])
                in_steps = max(in_steps, float(np.nanmax(apart, initial=0.0)))
    return largest, None if step is None else in_steps


def _in_steps(apart: NDArray[np.float64], step: Steps, theirs: Array) -> NDArray[np.float64]:
    """Return distances in steps; of float16, which rounds multiples of a step, whole ones as far as it does."""
    found = apart / step.astype(np.float64)
    if theirs.dtype != np.float16:
        return found
    rounding = np.spacing(np.abs(theirs)).astype(np.float64) / step
    return np.where(np.abs(found - np.rint(found)) <= 2 * rounding, np.rint(found), found)


def _made(layer: Layer) -> Steps | None:
    """Return the steps of what a layer dequantises: a scalar, or one for each element."""
    operator = layer.operator
    if isinstance(operator, Dequantise | DequantiseUniform):
        steps: Steps | None = np.asarray(operator.scale, np.float32)
    else:
        steps = operator.steps if isinstance(operator, HostOperator) else None
    if steps is None:
        return None
    return steps.reshape(()) if steps.size == 1 else np.broadcast_to(steps, layer.output_types[0].shape)


def _copies(layer: Layer) -> bool:
    """Tell whether a layer copies elements, or converts floats to another width."""
    operator = layer.operator
    converts = isinstance(operator, HostOperator) and operator.kind == "Cast"
    return isinstance(operator, _COPIES) or (converts and layer.output_types[0].dtype.kind == "f")


def _moved(layer: Layer, step: Steps) -> dict[str, Steps]:
    """Return the steps of what a layer copies; one per element are copied alike, if nothing else decides how."""
    if not step.ndim:
        return dict.fromkeys(layer.outputs, step)
    if isinstance(layer.operator, HostOperator):  # a Cast
        return {layer.outputs[0]: step}
    if len(layer.inputs) > 1:
        return {}
    moved, _ = execute(layer.operator, [step], layer.output_types, AccumulatorFormat(64))
    return dict(zip(layer.outputs, (np.asarray(array, np.float32) for array in moved), strict=True))
