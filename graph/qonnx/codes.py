"""Codes of QONNX activations: their names, their formats, and the nodes that only move or compare them."""

from __future__ import annotations

from onnx import NodeProto

from accelsim.graph.context import Context, attributes
from accelsim.graph.importers.movement import VIEWS, import_gather, import_slice, import_split, import_transpose
from accelsim.graph.importers.windows import window_geometry
from accelsim.graph.qonnx.grid import Codes
from accelsim.graph.quantised.tensor import NotOnTheMachineError
from accelsim.operators import MaxPool, Operator
from accelsim.operators.uniform import Decoding, Quantiser

_MOVEMENTS = {
    **VIEWS,
    "Transpose": import_transpose,
    "Slice": import_slice,
    "Split": import_split,
    "Gather": import_gather,
}
MOVES = frozenset(_MOVEMENTS) | {"MaxPool"}


def code_name(tensor: str) -> str:
    """Return the name of the tensor of codes that stands for a float tensor of the reference."""
    return f"{tensor} codes"


def codes_of(tensor: str, quantiser: Quantiser) -> Codes:
    """Return the codes that a clipping quantiser writes.

    Args:
        tensor: the float tensor of the reference that they stand for.
        quantiser: what makes them.
    """
    stride = 2 if quantiser.bipolar else 1
    decoding = Decoding(tensor, quantiser.step, quantiser.zero, quantiser.code_dtype, stride)
    return Codes(code_name(tensor), decoding, (quantiser.lowest or 0, quantiser.highest or 0), quantiser.bits)


def move_codes(context: Context, node: NodeProto) -> Operator:
    """Return the operator that moves or compares codes as a node does floats; larger codes are larger floats.

    Raises:
        NotOnTheMachineError: the node does something else as well.
    """
    if node.op_type != "MaxPool":
        return _MOVEMENTS[node.op_type](context, node).operator
    attribute = attributes(node)
    if attribute.get("storage_order") or len(list(filter(None, node.output))) > 1:
        raise NotOnTheMachineError("indices of maxima")
    spatial = context.types[node.input[0]].shape[2:]
    geometry = window_geometry(attribute, tuple(attribute["kernel_shape"]), spatial, pooling=True)
    return MaxPool(geometry, bool(attribute.get("ceil_mode", 0)))
