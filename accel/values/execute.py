"""Values: executes lowered operators on arrays; exact codes out, overflow statistics beside them.

Nothing here knows about time. Each operator type has one short function; `execute` picks it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim import operators as ops
from accelsim.errors import UnsupportedModelError
from accelsim.operators.tensors import TensorType
from accelsim.program.layers import Layer, Program
from accelsim.reference.host import run_host_operator
from accelsim.values import elementwise, movement, reductions
from accelsim.values.accumulators import AccumulatorFormat, AccumulatorUse
from accelsim.values.contraction import convolve, multiply
from accelsim.values.runtime import complete

Array = NDArray[np.generic]
Arrays = Sequence[Array]


@dataclass(frozen=True)
class LayerValues:
    """What one layer consumed and produced; acc is None where no accumulator is involved."""

    layer: Layer
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    acc: AccumulatorUse | None

    def named_outputs(self) -> list[tuple[str, Array]]:
        """Return the outputs with their tensor names."""
        return list(zip(self.layer.outputs, self.outputs, strict=True))


def execute(
    op: ops.Operator, inputs: Arrays, out_types: Sequence[TensorType], accumulator: AccumulatorFormat
) -> tuple[list[Array], AccumulatorUse | None]:
    """Execute one operator.

    Args:
        op: the operator with its constants.
        inputs: its dynamic inputs.
        out_types: dtype and shape of each output.
        accumulator: width and behaviour of the accumulators.

    Returns:
        The outputs, and the accumulators' use for operators that have accumulators.
    """
    if isinstance(op, ops.Convolution | ops.MatrixMultiply):
        op = complete(op, inputs)
    if isinstance(op, ops.Convolution):
        result, use = convolve(inputs[0], op, out_types[0].shape, accumulator)
        return [result], use
    if isinstance(op, ops.MatrixMultiply):
        second = inputs[1] if op.weights is None else None
        result, use = multiply(inputs[0], second, op, out_types[0].shape, accumulator)
        return [result], use
    return _FUNCTIONS[type(op)](op, inputs, out_types), None


def run_program(program: Program, inputs: Mapping[str, Array], accumulator: AccumulatorFormat) -> Iterator[LayerValues]:
    """Execute a program layer by layer, dropping every tensor after its last use.

    Args:
        program: the lowered program.
        inputs: one array per program input.
        accumulator: width and behaviour of the accumulators.

    Yields:
        The values of each layer, in order; the caller keeps what it needs.
    """
    values: dict[str, Array] = {**program.constants, **inputs}
    last_use = {name: index for index, layer in enumerate(program.layers) for name in layer.inputs}
    kept = {*program.outputs, *program.constants}
    for index, layer in enumerate(program.layers):
        arguments = tuple(values[name] for name in layer.inputs)
        results, use = execute(layer.operator, arguments, layer.output_types, accumulator)
        values.update(zip(layer.outputs, results, strict=True))
        yield LayerValues(layer, arguments, tuple(results), use)
        for name in {*layer.inputs, *layer.outputs}:
            if last_use.get(name, -1) <= index and name not in kept:
                values.pop(name, None)


def _host(op: ops.HostOperator, inputs: Arrays, types: Sequence[TensorType]) -> list[Array]:
    results = run_host_operator(op, inputs[op.priced_inputs :])
    for array, kind in zip(results, types, strict=True):
        if array.shape != kind.shape:
            raise UnsupportedModelError(
                f"{op.kind} gives a tensor of the shape {list(array.shape)} here and of {list(kind.shape)} in the run "
                f"of onnxruntime that the machine was planned for: cut the model in front of it"
            )
    return results


def _part(op: ops.Part, inputs: Arrays, types: Sequence[TensorType]) -> list[Array]:
    """Results of a part exist inside of onnxruntime's kernel only: zeros that take no memory stand for them."""
    return [np.broadcast_to(np.zeros((), kind.dtype), kind.shape) for kind in types]


_FUNCTIONS: dict[type[Any], Callable[[Any, Arrays, Sequence[TensorType]], list[Array]]] = {
    ops.HostOperator: _host,
    ops.ProductPart: _part,
    ops.VectorPart: _part,
    **elementwise.FUNCTIONS,
    **movement.FUNCTIONS,
    **reductions.FUNCTIONS,
}
