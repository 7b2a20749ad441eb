"""The work of layers without the array: bytes in, lane operations, bytes out."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from accelsim import operators as ops
from accelsim.machine.vector_costs import VectorCost, vector_costs
from accelsim.operators import vector as vops
from accelsim.operators.tensors import TensorType
from accelsim.operators.thresholds import SumCodes, SumPool, Threshold

Types = tuple[TensorType, ...]
Runs = tuple[int, int]
Events = tuple[tuple[str, int], ...]

# A rearrangement whose runs are shorter than this passes through the lanes instead of being cut into DMA segments,
# each of which takes a whole burst.
SHORT_RUN_BYTES = 64

# Tables are loaded in pieces of this size, so that those of 16-bit codes do not have to fit with a single element.
_TABLE_PIECE_BYTES = 4096


Entry = TypeVar("Entry")


def moved_entries(entries: tuple[Entry, ...], kept: tuple[bool, ...]) -> tuple[Entry, ...]:
    """Return the entries whose flag is not set; without flags, all."""
    if not kept:
        return entries
    return tuple(entry for entry, stays in zip(entries, kept, strict=True) if not stays)


@dataclass(frozen=True)
class StreamWork:
    """A layer without the array: bytes in, lane operations, bytes out."""

    placement: str
    """One of "vector", "dma", "host" or "none"."""
    reads: tuple[Runs, ...]
    writes: tuple[Runs, ...]
    lane_operations: int
    events: Events
    """Arithmetic by name of the energy table."""
    units: int
    """Indivisible parts (planes, rows, elements)."""
    off_array_macs: int | None = 0
    """Multiply-accumulates that are done elsewhere than on the array, None where nobody has counted them."""
    repeats: int = 1
    """How often all of this is done, one after the other (contract, section 5.9)."""

    def moved_reads(self, kept: tuple[bool, ...]) -> tuple[Runs, ...]:
        """Return the reads from DRAM, `kept` flagging those that are on chip already."""
        return moved_entries(self.reads, kept)

    def moved_writes(self, kept: tuple[bool, ...]) -> tuple[Runs, ...]:
        """Return the writes to DRAM, `kept` flagging those that stay on chip."""
        return moved_entries(self.writes, kept)

    def buffered_bytes(self, kept_reads: tuple[bool, ...], kept_writes: tuple[bool, ...]) -> int:
        """Scratchpad bytes that one unit needs for what is not kept on chip, inputs and outputs together."""
        moved = (*self.moved_reads(kept_reads), *self.moved_writes(kept_writes))
        return -(-sum(count * size for count, size in moved) // max(self.units, 1))


def describe_stream(op: ops.Operator, inputs: Types, outputs: Types) -> StreamWork:
    """Return the work of an operator that is no contraction.

    Args:
        op: the operator.
        inputs: types of its dynamic inputs.
        outputs: types of its outputs.
    """
    if isinstance(op, ops.View):
        return StreamWork("none", (), (), 0, (), 1)
    part = op.part if isinstance(op, ops.HostOperator) else op
    if isinstance(part, ops.VectorPart):
        return _part(part, inputs[: op.priced_inputs] if isinstance(op, ops.HostOperator) else inputs, outputs)
    if isinstance(op, ops.HostOperator):
        return _host(op, inputs, outputs)
    if isinstance(op, vops.Rearrange | vops.Pick):
        return _rearrangement(op, inputs, outputs)
    if isinstance(op, ops.Slice | ops.Split | ops.Gather | ops.Pad | vops.IndexedRead) or _plain_concatenation(op):
        return _copy(op, inputs, outputs)
    return _vector(op, inputs, outputs)


def threshold_bytes(threshold: Threshold, rows: int) -> int:
    """Bytes of the thresholds of some rows, packed at the width that holds them."""
    return -(-rows * int(threshold.thresholds.shape[1]) * threshold.bits // 8)


def _contiguous(types: Types) -> tuple[Runs, ...]:
    """One segment per tensor."""
    return tuple((1, kind.size_bytes) for kind in types)


def _plain_concatenation(op: ops.Operator) -> bool:
    return isinstance(op, ops.Concatenate) and all(table is None for table in op.tables)


def _runs(kind: TensorType, axis: int, size: int) -> Runs:
    """Return (segments, bytes) when `size` consecutive indices of an axis are taken from a tensor."""
    inner = math.prod(kind.shape[axis + 1 :]) * size
    return math.prod(kind.shape[:axis]), -(-inner * kind.element_bits // 8)


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
    elif isinstance(op, vops.IndexedRead):
        reads = (_indexed_runs(op, inputs), *_contiguous(inputs[1:]))
    return StreamWork("dma", reads, writes, 0, (), max(sum(kind.elements for kind in outputs), 1))


def _indexed_runs(op: vops.IndexedRead, inputs: Types) -> Runs:
    """Return (segments, bytes) of reads whose addresses are computed: one segment per index."""
    data, indices = inputs
    if op.form == "Gather":
        count, size = _runs(data, op.axis, 1)
        return count * indices.elements, size
    if op.form == "GatherElements":
        return indices.elements, data.dtype.itemsize
    depth = indices.shape[-1]
    return indices.elements // max(depth, 1), math.prod(data.shape[op.axis + depth :]) * data.dtype.itemsize


def _slice_runs(op: ops.Slice, kind: TensorType) -> Runs:
    """Return (segments, bytes) of a strided selection: runs end at the innermost axis that is cut."""
    cut = max((axis for axis, part in enumerate(op.ranges) if part != (0, kind.shape[axis], 1)), default=0)
    counts = [len(range(size)[slice(*part)]) for size, part in zip(kind.shape, op.ranges, strict=True)]
    inner = math.prod(kind.shape[cut + 1 :])
    if op.ranges[cut][2] == 1:
        return math.prod(counts[:cut]), -(-counts[cut] * inner * kind.element_bits // 8)
    return math.prod(counts[: cut + 1]), -(-inner * kind.element_bits // 8)


def _rearrangement(op: vops.Rearrange | vops.Pick, inputs: Types, outputs: Types) -> StreamWork:
    """Long runs are copied by DMA, one segment each; short ones pass through the lanes, one element per operation."""
    segments, total = _position_runs(op, outputs[0])
    units = max(outputs[0].elements, 1)
    if not segments:  # nothing is left to move
        return StreamWork("dma", (), _contiguous(outputs), 0, (), units)
    if total >= SHORT_RUN_BYTES * segments:
        size, longer = divmod(total, segments)
        reads = tuple(part for part in ((segments - longer, size), (longer, size + 1)) if part[0])
        return StreamWork("dma", reads, _contiguous(outputs), 0, (), units)
    tables = ((1, op.positions.nbytes),) if isinstance(op, vops.Pick) else ()
    return StreamWork("vector", (*_contiguous(inputs), *tables), _contiguous(outputs), units, (), units)


def _position_runs(op: vops.Rearrange | vops.Pick, target: TensorType) -> Runs:
    """Return how many runs of consecutive source elements the output consists of, and their bytes together."""
    if isinstance(op, vops.Pick):
        return _breaks(op.positions.reshape(-1)), target.size_bytes
    moved = [axis for axis, positions in enumerate(op.positions) if not _is_whole(positions, op.view[axis])]
    if not moved:
        return 1, target.size_bytes
    return math.prod(target.shape[: moved[-1]]) * _breaks(op.positions[moved[-1]]), target.size_bytes


def _is_whole(positions: NDArray[np.int32], size: int) -> bool:
    return positions.size == size and _breaks(positions) == 1 and (not size or positions[0] == 0)


def _breaks(positions: NDArray[np.int32] | NDArray[np.int64]) -> int:
    """Return the number of runs of consecutive positions."""
    return int((np.diff(positions) != 1).sum()) + 1 if positions.size else 1


def _counted(cost: VectorCost, op: ops.Operator, inputs: Types, outputs: Types) -> int:
    """Return how many elements a cost is charged for."""
    if cost.per == "input":
        return sum(kind.elements for kind in inputs)
    produced = sum(kind.elements for kind in outputs)
    if cost.per == "operand":
        return produced * len(inputs)
    if cost.per == "window" and isinstance(op, ops.AveragePool | ops.MaxPool | SumPool):
        return produced * math.prod(op.geometry.kernel)
    return produced


def _units(op: ops.Operator, inputs: Types, outputs: Types) -> int:
    """Return the number of parts a layer can be cut into.

    Planes for windows, rows for softmax, the elements that enter a reduction (partial results stay in the lanes), else
    the elements that leave, or the pieces of the tables where those are more.
    """
    shape = outputs[0].shape
    if isinstance(op, ops.AveragePool | ops.MaxPool | ops.GlobalAveragePool | SumPool):
        return math.prod(shape[:2])
    if isinstance(op, ops.Softmax):
        return max(outputs[0].elements // (math.prod(shape[op.axis :]) if op.flatten else shape[op.axis]), 1)
    reduced = isinstance(op, vops.ReduceExtreme | vops.ArgExtreme | vops.FloatReduce)
    tables = 0 if isinstance(op, vops.ResizeLinear) else sum(table.nbytes for table in _tables(op))
    return max((inputs if reduced else outputs)[0].elements, tables // _TABLE_PIECE_BYTES, 1)


def _vector(op: ops.Operator, inputs: Types, outputs: Types) -> StreamWork:
    machine, floats = vector_costs()
    cost = floats[op.function] if isinstance(op, vops.FloatArithmetic) else machine[type(op).__name__]
    count, produced = _counted(cost, op, inputs, outputs), outputs[0].elements
    events = _scaled(cost.events, count, inputs[0])
    lane_operations = cost.lane_operations * count
    if cost.finish:  # contract 5.3 for GlobalAveragePool: the sums are requantised in the same lanes
        events += _scaled(cost.finish, produced, inputs[0])
        lane_operations += produced
    if isinstance(op, vops.Select):  # only the elements of a side that changes its scale pass through its table
        events += (("table_read", produced),) if any(table is not None for table in op.tables) else ()
    passes = 2 if isinstance(op, ops.DynamicQuantise) else 1  # the extremes must be known before the first code
    reads = (*_contiguous(inputs * passes), *((1, table.nbytes) for table in _tables(op)))
    if isinstance(op, SumCodes | SumPool):  # a pipelined search: it costs energy and memory, no lane's time
        searched = op.epilogue.comparisons * produced
        events += (("int32_add", searched), ("table_read", searched))
        reads += ((1, threshold_bytes(op.epilogue, op.epilogue.thresholds.shape[0])),)
    return StreamWork("vector", reads, _contiguous(outputs), lane_operations, events, _units(op, inputs, outputs))


def _scaled(events: Events, count: int, kind: TensorType) -> Events:
    """Return the events of `count` elements; a comparison is an addition of the operand's width."""
    width = min(8 * kind.dtype.itemsize, 32)
    return tuple((f"int{width}_add" if name == "compare" else name, amount * count) for name, amount in events)


def _tables(op: ops.Operator) -> list[NDArray[np.generic]]:
    """Return the tables that an operator looks things up in, which have to be loaded first."""
    if isinstance(op, ops.TableLookup):
        return [op.table]
    if isinstance(op, ops.Softmax):
        return [op.exponentials]
    if isinstance(op, ops.Concatenate | vops.Select):
        return [table for table in op.tables if table is not None]
    if isinstance(op, vops.ChannelAffine):
        return [op.factor, op.offset]
    if isinstance(op, vops.ResizeLinear):
        axes = (op.rows, op.columns)
        return [part for a in axes for part in (a.first, a.second, a.first_weight, a.second_weight)]
    return []


def _host(op: ops.HostOperator, inputs: Types, outputs: Types) -> StreamWork:
    """Float operators with a price run on the vector unit; anything else leaves the machine and comes back by DMA.

    Constants are read like any other operand; a Gather reads only the rows that it selects.
    """
    cost = vector_costs()[1].get(op.kind)
    constants = outputs if op.kind == "Gather" else op.constants
    reads, writes = _contiguous((*inputs, *constants)), _contiguous(outputs)
    if op.kind in ("Shape", "Size"):  # shapes are static: no element is looked at
        reads = ()
    produced = max(sum(kind.elements for kind in outputs), 1)
    if cost is None or not outputs:
        return StreamWork("host", reads, writes, 0, (), produced, op.macs)
    operands = (*inputs, *op.constants)
    first = (operands or outputs)[0]
    count = _counted(cost, op, operands if cost.per == "operand" else (first,), outputs)
    events, lane_operations = _scaled(cost.events, count, first), cost.lane_operations * count
    if cost.finish:
        rows = first.elements // max(first.shape[-1], 1) if first.shape else 1
        events += _scaled(cost.finish, rows, first)
        lane_operations += rows
    units = max(produced, count if cost.per == "input" else 0)
    return StreamWork("vector", reads, writes, lane_operations, events, units, op.macs)


def _part(part: ops.VectorPart, inputs: Types, outputs: Types) -> StreamWork:
    """Vector work inside of a node: the sum of rows of the table; without any arithmetic, a copy by DMA."""
    machine, floats = vector_costs()
    events: Counter[str] = Counter()
    lane_operations = 0
    for step in part.steps:
        cost = floats.get(step.row) or machine[step.row]
        events.update({name: amount * step.elements for name, amount in cost.events})
        events.update({name: amount * step.rows for name, amount in cost.finish})
        lane_operations += cost.lane_operations * step.elements + (step.rows if cost.finish else 0)
    reads = _contiguous(inputs) if part.reads is None else part.reads
    writes = _contiguous(outputs) if part.writes is None else part.writes
    placement = "vector" if part.steps else "dma"
    return StreamWork(
        placement, reads, writes, lane_operations, tuple(events.items()), part.units, repeats=part.repeats
    )
