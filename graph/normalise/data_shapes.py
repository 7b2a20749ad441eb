"""Which tensors have shapes that depend on data, and not only on the sizes of a run.

That a shape was not inferred does not say so: onnxruntime infers nothing for some operators. It does where an operator
counts what it finds, or reads a size that was computed of values.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from onnx import ModelProto, NodeProto

# What counts what it finds.
_COUNTING = frozenset({"NonZero", "NonMaxSuppression", "Unique", "Compress", "DynamicTimeWarping"})

# Inputs that hold sizes, ends or axes, by operator.
_SIZES_AT: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("Reshape", "Expand", "Tile", "TopK", "OneHot", "Split", "Pad"), (1,)),
    **dict.fromkeys(("Squeeze", "Unsqueeze", "CenterCropPad", "Upsample"), (1,)),
    "Slice": (1, 2, 3, 4), "Range": (0, 1, 2), "ConstantOfShape": (0,), "Resize": (1, 2, 3), "CropAndResize": (3,),
}  # fmt: skip


def shapes_by_data(proto: ModelProto, unknown: Collection[str]) -> set[str]:
    """Return those tensors of unknown shape of which the graph itself says that it depends on data.

    Args:
        proto: the graph, its nodes in order.
        unknown: tensors whose shapes were not inferred.
    """
    values = {value.name for value in proto.graph.input} - {tensor.name for tensor in proto.graph.initializer}
    shapes: set[str] = set()
    for node in proto.graph.node:
        outputs = {name for name in node.output if name}
        measures = node.op_type in ("Shape", "Size")
        if not set(node.input) & (shapes if measures else values):
            continue
        values |= outputs
        counts = node.op_type in _COUNTING or _reads_size(node, values)
        if counts or (not measures and not shapes.isdisjoint(node.input)):
            shapes |= outputs & set(unknown)
    return shapes


def _reads_size(node: NodeProto, values: Collection[str]) -> bool:
    """Tell whether a node takes a size from values that depend on data."""
    return any(name in values for place, name in enumerate(node.input) if place in _SIZES_AT.get(node.op_type, ()))
