"""The work of an operator, independent of any machine: what must be multiplied, moved and looked up."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from accelsim import operators as ops
from accelsim.tensors import TensorType

Types = tuple[TensorType, ...]


@dataclass(frozen=True)
class ImageLayout:
    """How a convolution's input lies in memory: [images, channels, height, width], gathered by implicit im2col."""

    images: int
    height: int
    width: int
    out_height: int
    out_width: int
    geometry: ops.ConvolutionGeometry


@dataclass(frozen=True)
class ContractionWork:
    """One GEMM per group: M rows (pixels of all images), K, N; parameters are bias and multiplier per column.

    input_bytes: bytes of an activation; weight_bits: bits of a weight, packed in memory.
    """

    m: int
    k: int
    n: int
    groups: int
    image: ImageLayout | None
    dynamic_second: bool
    output_bytes: int
    parameter_bytes: int
    input_bytes: int = 1
    weight_bits: int = 8

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.m * self.k * self.n * self.groups


@dataclass(frozen=True)
class StreamWork:
    """A layer without the array: bytes in, lane operations, bytes out.

    placement: "vector", "dma", "host" or "none"; read and write: (segments, bytes per segment) of each transfer;
    events: arithmetic by name of the energy table; units: indivisible parts (planes, rows, elements).
    """

    placement: str
    reads: tuple[tuple[int, int], ...]
    writes: tuple[tuple[int, int], ...]
    lane_operations: int
    events: tuple[tuple[str, int], ...]
    units: int

    @property
    def bytes_per_unit(self) -> int:
        """Scratchpad bytes that one unit needs, inputs and outputs together."""
        total = sum(count * size for count, size in (*self.reads, *self.writes))
        return -(-total // max(self.units, 1))


Work = ContractionWork | StreamWork


@dataclass(frozen=True)
class VectorCost:
    """One row of data/vector_unit.toml."""

    per: str
    lane_operations: int
    events: tuple[tuple[str, int], ...]


@cache
def vector_costs() -> tuple[Mapping[str, VectorCost], Mapping[str, VectorCost]]:
    """Read the packaged table: costs by operator class, and costs of float operators by ONNX name."""
    text = (resources.files("accelsim") / "data" / "vector_unit.toml").read_text("utf-8")
    table = tomllib.loads(text)
    host = table.pop("host")
    machine = {
        name: VectorCost(row["per"], row["lane_operations"], tuple(row["events"].items()))
        for name, row in table.items()
    }
    floats = {
        name: VectorCost(host["per"], host["lane_operations"], tuple(events.items()))
        for name, events in host["events"].items()
    }
    return machine, floats


def describe_work(op: ops.Operator, inputs: Types, outputs: Types) -> Work:
    """Return the work of an operator on tensors of the given types.

    Args:
        op: the operator.
        inputs: types of its dynamic inputs.
        outputs: types of its outputs.
    """
    if isinstance(op, ops.Convolution):
        return _convolution(op, inputs[0], outputs[0])
    if isinstance(op, ops.MatrixMultiply):
        return _product(op, inputs, outputs[0])
    if isinstance(op, ops.View):
        return StreamWork("none", (), (), 0, (), 1)
    if isinstance(op, ops.HostOperator):
        return _host(op, inputs, outputs)
    if isinstance(op, ops.Slice | ops.Split | ops.Gather | ops.Pad) or _plain_concatenation(op):
        return _copy(op, inputs, outputs)
    return _vector(op, inputs, outputs)


def _parameter_bytes(epilogue: ops.Epilogue) -> int:
    """Bytes per output column that travel with the weights: int32 bias, float32 multiplier, float bias if any."""
    if isinstance(epilogue, ops.Raw):
        return 4
    return 12 if isinstance(epilogue, ops.Rescale) and epilogue.bias is not None else 8


def _convolution(op: ops.Convolution, source: TensorType, target: TensorType) -> ContractionWork:
    images, _, *spatial = source.shape
    height, width = (1, spatial[0]) if len(spatial) == 1 else spatial
    out = target.shape[2:]
    out_height, out_width = (1, out[0]) if len(out) == 1 else out
    filters, depth = op.weights.values.shape
    return ContractionWork(
        images * out_height * out_width,
        depth,
        filters // op.groups,
        op.groups,
        ImageLayout(images, height, width, out_height, out_width, op.geometry),
        False,
        target.dtype.itemsize,
        _parameter_bytes(op.epilogue),
        source.dtype.itemsize,
        op.weights.bits,
    )


def _product(op: ops.MatrixMultiply, inputs: Types, target: TensorType) -> ContractionWork:
    first = inputs[0].shape
    depth = first[-2] if op.transpose_first else first[-1]
    columns = target.shape[-1]
    sizes = target.dtype.itemsize, _parameter_bytes(op.epilogue), inputs[0].dtype.itemsize
    if op.weights is not None:
        rows = target.elements // columns
        return ContractionWork(rows, depth, columns, 1, None, False, *sizes, op.weights.bits)
    matrices = math.prod(target.shape[:-2])
    return ContractionWork(target.shape[-2], depth, columns, matrices, None, True, *sizes)


def _contiguous(types: Types) -> tuple[tuple[int, int], ...]:
    """One segment per tensor."""
    return tuple((1, kind.size_bytes) for kind in types)


def _plain_concatenation(op: ops.Operator) -> bool:
    return isinstance(op, ops.Concatenate) and all(table is None for table in op.tables)


def _runs(kind: TensorType, axis: int, size: int) -> tuple[int, int]:
    """Return (segments, bytes) when `size` consecutive indices of an axis are taken from a tensor."""
    inner = math.prod(kind.shape[axis + 1 :]) * size * kind.dtype.itemsize
    return math.prod(kind.shape[:axis]), inner


def _copy(op: ops.Operator, inputs: Types, outputs: Types) -> StreamWork:
    """Data movement by DMA: long runs on one side, one segment per run on the other."""
    reads, writes = _contiguous(inputs), _contiguous(outputs)
    if isinstance(op, ops.Split):
        reads = tuple(_runs(kind, op.axis, kind.shape[op.axis]) for kind in outputs)
    elif isinstance(op, ops.Concatenate):
        writes = tuple(_runs(kind, op.axis, kind.shape[op.axis]) for kind in inputs)
    elif isinstance(op, ops.Slice):
        reads = (_slice_runs(op, inputs[0]),)
    elif isinstance(op, ops.Gather):
        count, size = _runs(inputs[0], op.axis, 1)
        reads = ((count * op.indices.size, size),)
    return StreamWork("dma", reads, writes, 0, (), max(sum(kind.elements for kind in outputs), 1))


def _slice_runs(op: ops.Slice, kind: TensorType) -> tuple[int, int]:
    """Return (segments, bytes) of a strided selection: runs end at the innermost axis that is cut."""
    cut = max((axis for axis, part in enumerate(op.ranges) if part != (0, kind.shape[axis], 1)), default=0)
    counts = [len(range(size)[slice(*part)]) for size, part in zip(kind.shape, op.ranges, strict=True)]
    inner = math.prod(kind.shape[cut + 1 :]) * kind.dtype.itemsize
    if op.ranges[cut][2] == 1:
        return math.prod(counts[:cut]), counts[cut] * inner
    return math.prod(counts[: cut + 1]), inner


def _counted(cost: VectorCost, op: ops.Operator, inputs: Types, outputs: Types) -> int:
    """Return how many elements a cost is charged for."""
    if cost.per == "input":
        return sum(kind.elements for kind in inputs)
    produced = sum(kind.elements for kind in outputs)
    if cost.per == "window" and isinstance(op, ops.AveragePool | ops.MaxPool):
        return produced * math.prod(op.geometry.kernel)
    return produced


def _units(op: ops.Operator, outputs: Types) -> int:
    """Return the number of parts a layer can be cut into: planes for windows, rows for softmax, else elements."""
    shape = outputs[0].shape
    if isinstance(op, ops.AveragePool | ops.MaxPool | ops.GlobalAveragePool):
        return math.prod(shape[:2])
    if isinstance(op, ops.Softmax):
        return max(outputs[0].elements // (math.prod(shape[op.axis :]) if op.flatten else shape[op.axis]), 1)
    return max(outputs[0].elements, 1)


def _vector(op: ops.Operator, inputs: Types, outputs: Types) -> StreamWork:
    cost = vector_costs()[0][type(op).__name__]
    count = _counted(cost, op, inputs, outputs)
    events = tuple((name, amount * count) for name, amount in cost.events)
    lane_operations = cost.lane_operations * count
    if isinstance(op, ops.GlobalAveragePool):  # contract 5.3: the sums are requantised in the same lanes
        events += (("requantisation", outputs[0].elements),)
        lane_operations += outputs[0].elements
    reads = (*_contiguous(inputs), *((1, table.nbytes) for table in _tables(op)))
    return StreamWork("vector", reads, _contiguous(outputs), lane_operations, events, _units(op, outputs))


def _tables(op: ops.Operator) -> list[NDArray[np.generic]]:
    """Return the tables that an operator looks things up in, which have to be loaded first."""
    if isinstance(op, ops.TableLookup):
        return [op.table]
    if isinstance(op, ops.Softmax):
        return [op.exponentials]
    if isinstance(op, ops.Concatenate):
        return [table for table in op.tables if table is not None]
    return []


def _host(op: ops.HostOperator, inputs: Types, outputs: Types) -> StreamWork:
    """Element-wise float operators run on the vector unit; anything else leaves the machine and comes back by DMA.

    Constants are read like any other operand; a Gather reads only the rows that it selects.
    """
    cost = vector_costs()[1].get(op.kind)
    constants = outputs if op.kind == "Gather" else op.constants
    reads, writes = _contiguous((*inputs, *constants)), _contiguous(outputs)
    produced = max(sum(kind.elements for kind in outputs), 1)
    if cost is None or not outputs:
        return StreamWork("host", reads, writes, 0, (), produced)
    events = tuple((name, amount * produced) for name, amount in cost.events)
    return StreamWork("vector", reads, writes, cost.lane_operations * produced, events, produced)
