"""What keeps a tensor quantised: one short rule per operator of the normalised graph."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from accelsim.graph.context import Context, Imported, attributes
from accelsim.graph.importers.host import import_host
from accelsim.graph.importers.movement import VIEWS, import_slice, import_split, import_transpose
from accelsim.graph.importers.rearrange import (
    import_any_gather,
    import_depth_to_space,
    import_expand,
    import_pad,
    import_resize,
    import_space_to_depth,
    import_tile,
)
from accelsim.graph.importers.windows import window_geometry
from accelsim.graph.ir import Node
from accelsim.graph.load.constraints import node_label
from accelsim.graph.quantised.analysis import Quantisation, Rule
from accelsim.graph.quantised.clips import clip_bounds
from accelsim.graph.quantised.quantiser import all_codes
from accelsim.graph.quantised.spelled_quantisers import take_clip, take_round, take_shift
from accelsim.graph.quantised.tensor import NotOnTheMachineError, QuantisedTensor
from accelsim.operators import CLAMP, CodeFormat, Concatenate, HostOperator, MaxPool, Operator, Pad, TableLookup
from accelsim.operators.tensors import TensorType, is_narrow
from accelsim.operators.vector import Rearrange
from accelsim.reference.host import run_host_operator

Array = NDArray[np.generic]
Floats = NDArray[np.float32]

_WIDEST_CODE = 16
_INTEGERS = (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16)


def _dequantise(found: Quantisation, node: NodeProto) -> None:
    """DequantizeLinear: x, s [, z]; parameters are constant, or one of each is known at run time."""
    context, codes = found.context, node.input[0]
    kind = context.types[codes]
    if kind.dtype.name.rstrip("0123456789") not in ("int", "uint") or kind.element_bits > _WIDEST_CODE:
        return
    scales, late_scale = _parameter(found, node, 1, np.ones(1, np.float32))
    zeros, late_zero = _parameter(found, node, 2, np.zeros(1, np.int64))
    attribute = attributes(node)
    block = int(attribute.get("block_size", 0))
    if scales.ndim > 1 and not block:
        raise NotOnTheMachineError("scales of several dimensions")
    if codes not in context.constants and found.folder.is_constant(codes):
        array = found.folder.value(codes)
        codes = codes if array is None else found.add_constant(codes, array)
    found.tensors[node.output[0]] = QuantisedTensor(
        codes,
        scales.reshape(-1).astype(np.float32),
        zeros.reshape(-1).astype(np.int64),
        int(attribute.get("axis", 1)),
        block,
        scales.dtype == np.float32,
        late_scale,
        late_zero,
    )


def _parameter(found: Quantisation, node: NodeProto, position: int, absent: Array) -> tuple[Array, str | None]:
    """Return a scale or zero point, or a neutral one and the name of the tensor that holds it at run time."""
    name = node.input[position] if position < len(node.input) else ""
    if not name:
        return absent, None
    value = found.folder.value(name)
    if value is not None:
        return value, None
    if found.context.types[name].elements != 1 or found.context.types[name].dtype == np.float16:
        raise NotOnTheMachineError("scales or zero points that are computed, and several")
    return absent, name


def _max_pool(context: Context, node: NodeProto) -> Imported:
    """MaxPool with one output: larger codes are larger values."""
    attribute = attributes(node)
    if attribute.get("storage_order") or len([name for name in node.output if name]) > 1:
        raise NotOnTheMachineError("indices of maxima")
    spatial = context.types[node.input[0]].shape[2:]
    geometry = window_geometry(attribute, tuple(attribute["kernel_shape"]), spatial, pooling=True)
    return Imported(MaxPool(geometry, bool(attribute.get("ceil_mode", 0))), (node.input[0],))


_MOVEMENTS = {
    **VIEWS,
    "Transpose": import_transpose,
    "Slice": import_slice,
    "Split": import_split,
    "Gather": import_any_gather,
    "Expand": import_expand,
    "Tile": import_tile,
    "DepthToSpace": import_depth_to_space,
    "SpaceToDepth": import_space_to_depth,
    "Pad": import_pad,
    "Resize": import_resize,
    "MaxPool": _max_pool,
}


def _move(found: Quantisation, node: NodeProto) -> None:
    """A movement of elements moves codes as well; constants are moved at once."""
    source = found.get(node.input[0])
    _keep_limits(found, node)
    if source is None or any(name in found.tensors for name in node.input[1:]):
        return
    if found.is_constant(source) and all(found.folder.is_constant(name) for name in node.input[1:] if name):
        _move_constant(found, node, source)
        return
    if not (source.is_whole or source.late_scale or source.late_zero_point):
        raise NotOnTheMachineError("scales that differ along an axis, behind a movement")
    if node.op_type == "MaxPool" and not (_is_positive(found, source.late_scale) and (source.scales > 0).all()):
        raise NotOnTheMachineError("a scale that is not known to be positive")
    moved = NodeProto()
    moved.CopyFrom(node)
    moved.input[0] = source.name
    imported = _MOVEMENTS[node.op_type](found.context, moved)
    operator = _filled(found, imported.operator, source)
    if node.op_type == "Split":
        _split(found, node, source, imported)
        return
    output = node.output[0]
    codes = found.derive(output, operator, imported.inputs, node, fill=_fill(operator))
    _settle(found, output, replace(source, name=codes))


def _keep_limits(found: Quantisation, node: NodeProto) -> None:
    """Codes that are moved as they are, not dequantised, stay within their limits where nothing is filled up."""
    limits = found.context.limits.get(node.input[0])
    if limits is not None and node.op_type not in ("Pad", "Resize"):
        found.context.limits.update((name, limits) for name in node.output if name)


def _is_positive(found: Quantisation, late_scale: str | None) -> bool:
    """Tell whether a scale that is known at run time only is positive for certain: that of a dynamic quantiser is."""
    maker = None if late_scale is None else found.context.producer(late_scale)
    return late_scale is None or (maker is not None and maker.op_type == "DynamicQuantizeLinear")


def _fill(operator: Operator) -> tuple[int, ...]:
    """Return the code with which a movement fills gaps, nothing where it leaves none."""
    if isinstance(operator, Pad):
        return (int(operator.value),)
    gaps = isinstance(operator, Rearrange) and any((part < 0).any() for part in operator.positions)
    return (int(operator.fill),) if isinstance(operator, Rearrange) and gaps else ()


def _settle(found: Quantisation, output: str, tensor: QuantisedTensor) -> None:
    """Register derived codes."""
    found.tensors[output] = tensor
    found.decode(tensor.name, output, tensor)


def _filled(found: Quantisation, operator: Operator, source: QuantisedTensor) -> Operator:
    """Return a movement that fills gaps with codes in place of reals."""
    if isinstance(operator, Pad):
        return Pad(operator.widths, _on_grid(found, float(operator.value), source))
    if isinstance(operator, Rearrange) and any((part < 0).any() for part in operator.positions):
        return Rearrange(operator.view, operator.positions, _on_grid(found, float(operator.fill), source))
    return operator


def _on_grid(found: Quantisation, value: float, source: QuantisedTensor) -> int:
    """Return the code that means a value to the bit.

    Raises:
        NotOnTheMachineError: no code does.
    """
    code = found.code(source)
    nearest = round(value / float(source.scale)) + code.zero_point if value else code.zero_point
    exact = np.float32(np.float32(nearest - code.zero_point) * source.scale) == np.float32(value)
    span = (
        code if is_narrow(code.dtype) else CodeFormat(code.dtype, 0)
    )  # a fill may lie beyond the limits of the others
    if not exact or not span.lowest <= nearest <= span.highest:
        raise NotOnTheMachineError(f"{value:g} is no multiple of the scale")
    return nearest


def _split(found: Quantisation, node: NodeProto, source: QuantisedTensor, imported: Imported) -> None:
    """Split gives several tensors of codes, one layer."""
    context, dtype = found.context, found.context.types[source.name].dtype
    names = tuple(context.fresh(f"{output}/codes") for output in node.output)
    for name, output in zip(names, node.output, strict=True):
        context.add_type(name, TensorType.of(dtype, context.types[output].shape))
        _settle(found, output, replace(source, name=name))
    label = node_label(node)
    found.derived[node.output[0]] = [Node(label, node.op_type, imported.operator, imported.inputs, names)]


def _move_constant(found: Quantisation, node: NodeProto, source: QuantisedTensor) -> None:
    """Move constant codes, and find where their scales lie then."""
    context = found.context
    codes, output = context.constants[source.name], node.output[0]
    shape = context.types[output].shape
    axis = source.axis
    if source.block or source.scales.size > 1 or source.zero_points.size > 1:
        axis = _moved_axis(context, node, source, codes.shape, shape)
    if node.op_type in VIEWS:
        array = codes.reshape(shape)
    elif node.op_type == "Transpose":
        array = np.ascontiguousarray(codes.transpose(_permutation(node, codes.ndim)))
    elif node.op_type == "Split":
        raise NotOnTheMachineError("constant codes that are split")
    else:
        array = _moved_by_onnxruntime(found, node, source)
    found.tensors[output] = replace(source, name=found.add_constant(output, array, source.name), axis=axis)


def _permutation(node: NodeProto, rank: int) -> list[int]:
    return [int(axis) for axis in attributes(node).get("perm") or reversed(range(rank))]


def _moved_axis(
    context: Context, node: NodeProto, source: QuantisedTensor, old: tuple[int, ...], new: tuple[int, ...]
) -> int:
    """Return the axis along which scales lie behind a view or a transposition.

    Raises:
        NotOnTheMachineError: they lie along none.
    """
    axis = source.axis % max(len(old), 1)
    if node.op_type == "Transpose":
        return _permutation(node, len(old)).index(axis)
    if node.op_type in VIEWS and not source.block:
        before = int(np.prod(old[:axis], dtype=np.int64))
        for place, size in enumerate(new):
            if size == old[axis] and int(np.prod(new[:place], dtype=np.int64)) == before:
                return place
    raise NotOnTheMachineError("scales of a constant that lie along no axis behind a movement")


def _moved_by_onnxruntime(found: Quantisation, node: NodeProto, source: QuantisedTensor) -> Array:
    """Execute a movement on constant codes of one scale."""
    context, codes = found.context, found.context.constants[source.name]
    moved = NodeProto()
    moved.CopyFrom(node)
    moved.input[0] = source.name
    if node.op_type in ("Pad", "Resize"):
        raise NotOnTheMachineError("constant codes that are filled up")
    operator = import_host(context, moved).operator
    if not isinstance(operator, HostOperator):
        raise NotOnTheMachineError("constant codes that are moved in an unknown way")
    values = {name: found.folder.value(name) for name in operator.inputs} | {source.name: codes}
    known = [value for value in values.values() if value is not None]
    if len(known) != len(values):
        raise NotOnTheMachineError("a movement by computed positions")
    return run_host_operator(operator, [values[name] for name in operator.inputs])[0]  # type: ignore[misc]


def _concatenate(found: Quantisation, node: NodeProto) -> None:
    """Concat of codes that mean the same."""
    parts = [found.get(name) for name in node.input]
    if not parts or any(part is None for part in parts):
        return
    tensors = [part for part in parts if part is not None]
    types = {found.context.types[part.name].dtype for part in tensors}
    if len(types) > 1 or not all(tensors[0].same_grid(part) for part in tensors):
        raise NotOnTheMachineError("Concat of tensors with different scales")
    axis = int(attributes(node)["axis"]) % len(found.context.types[node.output[0]].shape)
    names = tuple(part.name for part in tensors)
    codes = found.derive(node.output[0], Concatenate(axis, (None,) * len(names)), names, node)
    _settle(found, node.output[0], replace(tensors[0], name=codes))


def _clamp(found: Quantisation, node: NodeProto) -> None:
    """Relu and Clip whose bounds are multiples of the scale, or beyond all codes."""
    source = found.get(node.input[0])
    if found.context.types[node.input[0]].dtype.kind in "iu" and node.op_type == "Clip":
        _limit(found, node)
    elif source is None and node.op_type == "Clip":
        take_clip(found, node)
    if source is None or not source.is_whole:
        return
    code = found.code(source)
    bounds = clip_bounds(node, found.folder.value)
    if bounds is None:
        raise NotOnTheMachineError("bounds that are computed")
    low, high = bounds
    ends = [
        (code.lowest - code.zero_point) * float(source.scale),
        (code.highest - code.zero_point) * float(source.scale),
    ]
    lowest = code.lowest if low <= ends[0] else _on_grid(found, low, source)
    highest = code.highest if high >= ends[1] else _on_grid(found, high, source)
    output = node.output[0]
    if (lowest, highest) == (code.lowest, code.highest):
        found.tensors[output] = source
    elif found.is_constant(source):
        clamped = np.clip(found.context.constants[source.name], lowest, highest)
        found.tensors[output] = replace(source, name=found.add_constant(output, clamped, source.name))
    else:
        table = np.clip(all_codes(code.dtype), lowest, highest).astype(code.dtype)
        codes = found.derive(output, TableLookup(CLAMP, table), (source.name,), node, fill=(lowest, highest))
        _settle(found, output, replace(source, name=codes))


def _limit(found: Quantisation, node: NodeProto) -> None:
    """Clip of codes: their limits."""
    span = np.iinfo(found.context.types[node.input[0]].dtype.name)
    known = found.context.limits.get(node.input[0], (int(span.min), int(span.max)))
    bounds = clip_bounds(node, found.folder.value)
    if bounds is None:
        return
    lowest, highest = max(bounds[0], known[0]), min(bounds[1], known[1])
    if lowest <= highest:
        found.context.limits[node.output[0]] = (int(lowest), int(highest))


def _factor(found: Quantisation, node: NodeProto) -> None:
    """Mul by a constant, and Div by one: a second-level scale."""
    left, right = (found.get(name) for name in node.input)
    source, other = (left, node.input[1]) if left is not None else (right, node.input[0])
    if source is None or (left is not None and right is not None) or (left is None and node.op_type == "Div"):
        return
    value = found.folder.value(other) if found.folder.is_constant(other) else None
    if value is None or value.dtype.kind != "f":
        return
    if found.context.types[source.name].shape != found.context.types[node.output[0]].shape:
        raise NotOnTheMachineError("a factor that changes the shape")
    factor = value.astype(np.float32)
    with np.errstate(all="ignore"):
        factor = factor if node.op_type == "Mul" else np.float32(1) / factor
    if not (np.isfinite(factor) & (factor > 0)).all():
        raise NotOnTheMachineError("a factor that is not positive")
    axis = source.axis
    if factor.size > 1:
        axis = _factor_axis(found, node, source, factor)
    scales = np.asarray(source.scales * factor.reshape(-1), np.float32)
    one = source.exact and source.is_whole and source.scale == 1 and factor.size == 1
    found.tensors[node.output[0]] = replace(source, scales=scales, axis=axis, exact=one)


def _factor_axis(found: Quantisation, node: NodeProto, source: QuantisedTensor, factor: Floats) -> int:
    """Return the axis along which a factor of constant codes varies."""
    shape = found.context.types[node.output[0]].shape
    wide = (1,) * (len(shape) - factor.ndim) + factor.shape
    axes = [axis for axis, size in enumerate(wide) if size > 1]
    along = len(axes) == 1 and wide[axes[0]] == shape[axes[0]] and found.is_constant(source) and not source.block
    if not along or (source.scales.size > 1 and source.axis % len(shape) != axes[0]):
        raise NotOnTheMachineError("a factor for each of several dimensions")
    return axes[0]


def _cast(found: Quantisation, node: NodeProto) -> None:
    """Cast between float formats: the same codes, rounded once more."""
    source = found.get(node.input[0])
    if source is not None and int(attributes(node)["to"]) in (TensorProto.FLOAT, TensorProto.FLOAT16):
        same = found.context.types[node.input[0]].dtype == found.context.types[node.output[0]].dtype
        found.tensors[node.output[0]] = replace(source, exact=source.exact and same)


def file_limits(file: ModelProto) -> dict[str, tuple[int, int]]:
    """Return the limits of constant codes that the file clips, which onnxruntime's optimiser folds to plain constants.

    Args:
        file: the checked model.
    """
    constants = {tensor.name: tensor for tensor in file.graph.initializer if not tensor.dims}
    limits = {}
    for node in file.graph.node:
        bounds = [constants.get(name) for name in node.input[1:3]] if node.op_type == "Clip" else []
        if len(bounds) == 2 and all(bound is not None and bound.data_type in _INTEGERS for bound in bounds):
            low, high = (int(numpy_helper.to_array(bound)) for bound in bounds if bound is not None)
            limits[node.output[0]] = (low, high)
    return limits


RULES: dict[str, Rule] = {
    "DequantizeLinear": _dequantise,
    **dict.fromkeys(_MOVEMENTS, _move),
    "Concat": _concatenate,
    "Relu": _clamp,
    "Clip": _clamp,
    "Mul": _factor,
    "Div": _factor,
    "Cast": _cast,
    "Round": take_round,
    "Add": take_shift,
    "Sub": take_shift,
}
