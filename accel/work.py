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
from accelsim.geometry import ConvolutionGeometry
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
    geometry: ConvolutionGeometry


@dataclass(frozen=True)
class ContractionWork:
    """One GEMM per group: M rows (pixels of all images), K, N; parameters are bias and multiplier per column.

    input_bytes: bytes of an activation; weight_bits: bits of a weight, packed in memory; inserted_zero_macs: slots of
    the array in which a transposed convolution multiplies a zero inserted between pixels: they take time, but no
    energy, and do not count as multiply-accumulates; folds_at_run_time: the zero point of the activations is not known
    before the run, so that folding it takes one product and one addition per column, while the bias is loaded;
    arithmetic: "integer", or "float32"/"float16" for float activations, whose weights are dequantised on their way into
    the array.
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
    inserted_zero_macs: int = 0
    folds_at_run_time: bool = False
    arithmetic: str = "integer"

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.m * self.k * self.n * self.groups - self.inserted_zero_macs


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
    if isinstance(op, ops.HostOperator) and op.product is not None:
        return _float_product(op.product, inputs[0], outputs[0])
    if isinstance(op, ops.View):
        return StreamWork("none", (), (), 0, (), 1)
    if isinstance(op, ops.HostOperator):
        return _host(op, inputs, outputs)
    if isinstance(op, ops.Slice | ops.Split | ops.Gather | ops.Pad) or _plain_concatenation(op):
        return _copy(op, inputs, outputs)
    return _vector(op, inputs, outputs)


def _parameter_bytes(op: ops.Contraction) -> int:
    """Bytes per output column that travel with the weights.

    An int32 bias; the float32 multiplier and bias that the epilogue has; the int32 sum of the weights, where a zero
    point known at run time only is to be folded into the bias.
    """
    size = 4
    if not isinstance(op.epilogue, ops.Raw):
        size += 4
    if isinstance(op.epilogue, ops.Rescale) and op.epilogue.bias is not None:
        size += 4
    return size + (4 if _folds_at_run_time(op) else 0)


def _folds_at_run_time(op: ops.Contraction) -> bool:
    """Tell whether constant weights meet activations whose zero point is known at run time only."""
    return op.runtime is not None and op.runtime.zero_point is not None and op.weights is not None


def _convolution(op: ops.Convolution, source: TensorType, target: TensorType) -> ContractionWork:
    """Each output slice of a 3-D convolution is an image, whose channels are those of all slices it needs."""
    height, width = (1, source.shape[2]) if len(source.shape) == 3 else source.shape[-2:]
    out_height, out_width = (1, target.shape[2]) if len(target.shape) == 3 else target.shape[-2:]
    images = source.shape[0] * (target.shape[2] if op.depth is not None else 1)
    filters, depth = op.weights.values.shape
    layout = ImageLayout(images, height, width, out_height, out_width, op.geometry)
    return ContractionWork(
        images * out_height * out_width,
        depth,
        filters // op.groups,
        op.groups,
        layout,
        False,
        target.dtype.itemsize,
        _parameter_bytes(op),
        source.dtype.itemsize,
        op.weights.bits,
        inserted_zero_macs=_inserted_zero_macs(layout, depth, filters),
        folds_at_run_time=_folds_at_run_time(op),
    )


def _inserted_zero_macs(layout: ImageLayout, depth: int, filters: int) -> int:
    """Count the multiplications by zeros inserted between pixels: neither pixels nor padding."""
    shape = layout.geometry
    taps = math.prod(shape.kernel)
    filled = _filled_taps(layout.height, layout.out_height, shape, 0)
    filled *= _filled_taps(layout.width, layout.out_width, shape, 1)
    zeros = layout.out_height * layout.out_width * taps - filled
    return zeros * layout.images * (depth // taps) * filters


def _filled_taps(size: int, outputs: int, shape: ConvolutionGeometry, axis: int) -> int:
    """Count the pairs of output position and tap along an axis that do not meet an inserted zero.

    Padding counts as pixels do, as for any convolution; but beside inserted zeros it is no more than they are.
    """
    step = shape.insertion[axis]
    if step == 1:
        return outputs * shape.kernel[axis]
    starts = np.arange(outputs)[:, None] * shape.strides[axis] - shape.pads[axis]
    places = starts + np.arange(shape.kernel[axis])[None, :] * shape.dilations[axis]
    return int(((places >= 0) & (places <= (size - 1) * step) & (places % step == 0)).sum())


def _product(op: ops.MatrixMultiply, inputs: Types, target: TensorType) -> ContractionWork:
    second = inputs[1].shape if op.weights is None else None
    left, right = op.matrices(inputs[0].shape, second)
    depth, columns = right[-2:]
    sizes = target.dtype.itemsize, _parameter_bytes(op), inputs[0].dtype.itemsize
    if op.weights is not None:
        rows, late = math.prod(left[:-1]), _folds_at_run_time(op)
        return ContractionWork(rows, depth, columns, 1, None, False, *sizes, op.weights.bits, folds_at_run_time=late)
    matrices = target.elements // max(left[-2] * columns, 1)
    return ContractionWork(left[-2], depth, columns, matrices, None, True, *sizes)


def _float_product(product: ops.FloatProduct, source: TensorType, target: TensorType) -> ContractionWork:
    """A product of float activations with packed weights; scales and zero points of its blocks travel with a column."""
    blocks = -(-product.depth // product.block)
    parameters = blocks * 4 + (-(-blocks * product.weight_bits // 8) if product.zero_points else 0)
    return ContractionWork(
        target.elements // product.columns, product.depth, product.columns, 1, None, False,
        target.dtype.itemsize, parameters + 4 * product.biased, source.dtype.itemsize, product.weight_bits,
        arithmetic=product.arithmetic,
    )  # fmt: skip


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
    passes = 2 if isinstance(op, ops.DynamicQuantise) else 1  # the extremes must be known before the first code
    reads = (*_contiguous(inputs * passes), *((1, table.nbytes) for table in _tables(op)))
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
