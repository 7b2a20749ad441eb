"""Importers of float groups of the vector unit: movement, reductions, chains, affine maps, interpolation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from accelsim.graph.context import Context, Imported, attributes
from accelsim.graph.importers.rearrange import (
    import_depth_to_space,
    import_expand,
    import_gather_elements,
    import_gather_nd,
    import_pad,
    import_resize,
    import_space_to_depth,
    import_tile,
    rescaling_table,
)
from accelsim.graph.importers.reductions import reduced_axes
from accelsim.graph.importers.resize import linear_blend, resize_geometry
from accelsim.graph.importers.windows import window_geometry
from accelsim.graph.quantised.groups import Group, GroupImport, quantised_operand
from accelsim.graph.quantised.quantiser import quantise_values
from accelsim.graph.quantised.tensor import NotOnTheMachineError, QuantisedTensor
from accelsim.operators import Concatenate, FloatOperand, MaxPool, Pad
from accelsim.operators.vector import (
    ChannelAffine,
    FloatChain,
    FloatReduce,
    Rearrange,
    ReduceExtreme,
    ResizeLinear,
    Select,
)

Importer = Callable[[Context, Group], GroupImport]


def _no_clip(group: Group) -> None:
    if group.bounds is not None or attributes(group.core).get("activation"):
        raise NotOnTheMachineError("a clip behind it")


def _same_code(context: Context, group: Group, position: int = 0) -> QuantisedTensor:
    """Return the operand of a group that keeps scale and zero point, so that it works on codes."""
    _no_clip(group)
    source, code = quantised_operand(context, group, position)
    same = (code.dtype, code.zero_point) == (group.output.dtype, group.output.zero_point)
    if not same or source.scale != group.output_scale:
        raise NotOnTheMachineError("a movement that changes the scale")
    return source


def _movement(importer: Callable[[Context, NodeProto], Imported]) -> Importer:
    """Return the importer of a group that only moves elements: the movement of codes instead of reals."""

    def import_group(context: Context, group: Group) -> GroupImport:
        source = _same_code(context, group)
        operator = importer(context, group.core).operator
        if isinstance(operator, Pad):
            value = quantise_values(np.array([operator.value], np.float32), group.output_scale, group.output)
            operator = Pad(operator.widths, int(value[0]))
        if isinstance(operator, Rearrange) and any((part < 0).any() for part in operator.positions):
            filled = quantise_values(np.array([operator.fill], np.float32), group.output_scale, group.output)
            operator = Rearrange(operator.view, operator.positions, int(filled[0]))
        return GroupImport(operator, (source.name,), False)

    return import_group


def _resize(context: Context, group: Group) -> GroupImport:
    """Resize: nearest moves codes; linear interpolates dequantised codes in float32."""
    geometry = resize_geometry(context, group.core)
    if geometry.mode != "linear" or geometry.is_copy:
        return _movement(import_resize)(context, group)
    _no_clip(group)
    source, code = quantised_operand(context, group, 0)
    rank = len(geometry.axes)
    if rank not in (2, 4) or geometry.coordinates == "tf_crop_and_resize":
        raise NotOnTheMachineError("a linear Resize of other than two axes")
    channels_last = rank == 4 and geometry.axes[1].scale != 1
    rows, columns = geometry.axes[1:3] if channels_last else geometry.axes[-2:]
    others = (geometry.axes[0], geometry.axes[3]) if channels_last else geometry.axes[:-2]
    if any(axis.size != axis.resized for axis in others):
        raise NotOnTheMachineError("a linear Resize of more than two axes")
    operator = ResizeLinear(
        linear_blend(rows, geometry.coordinates),
        linear_blend(columns, geometry.coordinates),
        channels_last,
        code,
        source.scale,
        group.output_scale,
        group.output,
    )
    return GroupImport(operator, (source.name,), False)


def _batch_normalisation(context: Context, group: Group) -> GroupImport:
    """BatchNormalization with constant parameters: one factor and one offset per channel, as onnxruntime folds them."""
    _no_clip(group)
    source, code = quantised_operand(context, group, 0)
    attribute = attributes(group.core)
    if attribute.get("training_mode") or len(context.types[source.name].shape) < 2:
        raise NotOnTheMachineError("a BatchNormalization in training, or without channels")
    parameters = [context.constant(group.core, position) for position in range(1, 5)]
    if any(parameter.dtype != np.float32 for parameter in parameters):
        raise NotOnTheMachineError("parameters that are not float32")
    scale, bias, mean, variance = (parameter.astype(np.float32) for parameter in parameters)
    epsilon = np.float32(attribute.get("epsilon", 1e-5))
    with np.errstate(all="ignore"):
        factor = np.asarray((np.float32(1) / np.sqrt(variance + epsilon)) * scale, np.float32)
        offset = np.asarray(bias - mean * factor, np.float32)
    operator = ChannelAffine(factor, offset, code, source.scale, group.output_scale, group.output)
    return GroupImport(operator, (source.name,), False)


def _reduction(context: Context, group: Group) -> GroupImport:
    """ReduceSum and ReduceMean over the last axes, or over the first ones: float32 sums in a known order."""
    _no_clip(group)
    source, code = quantised_operand(context, group, 0)
    shape = context.types[source.name].shape
    target = context.types[group.core.output[0]].shape
    operator = FloatReduce(
        group.core.op_type.removeprefix("Reduce").lower(),
        _two_dimensional(shape, reduced_axes(context, group.core)),
        target,
        code,
        source.scale,
        group.output_scale,
        group.output,
    )
    return GroupImport(operator, (source.name,), False)


def _two_dimensional(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the shape as [kept, reduced, 1] or [1, reduced, kept].

    Raises:
        NotOnTheMachineError: the reduced axes lie in the middle, where onnxruntime's order is that of a matrix product.
    """
    if 0 in shape or not axes:
        raise NotOnTheMachineError("an empty tensor")
    first, last = axes[0], axes[-1]
    before, after = math.prod(shape[:first]), math.prod(shape[last + 1 :])
    if axes != tuple(range(first, last + 1)) or (last < len(shape) - 1 and (before > 1 or after == 1)):
        raise NotOnTheMachineError("axes in the middle")
    return before, math.prod(shape[first : last + 1]), after


def _extreme(context: Context, group: Group) -> GroupImport:
    """ReduceMax and ReduceMin between equal scales: on codes, since dequantising keeps their order."""
    source = _same_code(context, group)
    if not source.scale > 0 or 0 in context.types[source.name].shape:
        raise NotOnTheMachineError("a scale that is not positive")
    function = group.core.op_type.removeprefix("Reduce").lower()
    keep = bool(attributes(group.core).get("keepdims", 1))
    return GroupImport(ReduceExtreme(function, reduced_axes(context, group.core), keep), (source.name,), False)


def _max_pool(context: Context, group: Group) -> GroupImport:
    """MaxPool between equal scales of 16-bit codes."""
    source, attribute = _same_code(context, group), attributes(group.core)
    if attribute.get("storage_order") or len([name for name in group.core.output if name]) > 1 or source.scale <= 0:
        raise NotOnTheMachineError("indices of maxima")
    kernel = tuple(attribute["kernel_shape"])
    geometry = window_geometry(attribute, kernel, context.types[source.name].shape[2:], pooling=True)
    return GroupImport(MaxPool(geometry, bool(attribute.get("ceil_mode", 0))), (source.name,), False)


def _tables(context: Context, group: Group, positions: range) -> tuple[list[NDArray[np.generic] | None], list[str]]:
    """Return rescaling tables and names of several quantised operands."""
    _no_clip(group)
    tables, names = [], []
    for position in positions:
        source, code = quantised_operand(context, group, position)
        tables.append(rescaling_table(code, source.scale, group.output, group.output_scale))
        names.append(source.name)
    return tables, names


def _concatenation(context: Context, group: Group) -> GroupImport:
    """Concat of 16-bit codes: a table of all codes where the scale changes."""
    tables, names = _tables(context, group, range(len(group.core.input)))
    axis = int(attributes(group.core)["axis"]) % len(context.types[names[0]].shape)
    return GroupImport(Concatenate(axis, tuple(tables)), tuple(names), False)


def _select(context: Context, group: Group) -> GroupImport:
    """Where on 16-bit codes: a table of all codes where the scale changes."""
    tables, names = _tables(context, group, range(1, 3))
    return GroupImport(Select((tables[0], tables[1])), (group.core.input[0], *names), False)


def import_chain(context: Context, group: Group) -> GroupImport:
    """Max, Min and Sum of three and more operands, quantised or float constants."""
    _no_clip(group)
    operands, names = [], []
    for position, name in enumerate(group.core.input):
        if position in group.sources:
            source, code = quantised_operand(context, group, position)
            operands.append(FloatOperand(code, source.scale))
            names.append(source.name)
        elif name in context.constants:
            operands.append(FloatOperand(None, np.float32(1)))
            names.append(name)
        else:
            raise NotOnTheMachineError("an operand that is neither quantised nor constant")
    operator = FloatChain(group.core.op_type, tuple(operands), group.output_scale, group.output)
    return GroupImport(operator, tuple(names), False)


VECTOR_GROUPS: dict[str, Importer] = {
    "Resize": _resize,
    "BatchNormalization": _batch_normalisation,
    "ReduceSum": _reduction,
    "ReduceMean": _reduction,
    "ReduceMax": _extreme,
    "ReduceMin": _extreme,
    "MaxPool": _max_pool,
    "Concat": _concatenation,
    "Where": _select,
    "Sum": import_chain,
    "Pad": _movement(import_pad),
    "Expand": _movement(import_expand),
    "Tile": _movement(import_tile),
    "DepthToSpace": _movement(import_depth_to_space),
    "SpaceToDepth": _movement(import_space_to_depth),
    "GatherElements": _movement(import_gather_elements),
    "GatherND": _movement(import_gather_nd),
}
