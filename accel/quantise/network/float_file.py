"""The file of a float model: read, and refused in words where it cannot be quantised; nothing in it is trusted."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, NodeProto, TensorProto

from accelsim.errors import (
    InvalidModelError,
    ResourceLimitError,
    UnsupportedModelError,
    UsageError,
    printable,
    reason_of,
)
from accelsim.files.reading import read_input
from accelsim.graph.load.constraints import node_label
from accelsim.graph.load.element_types import element_name
from accelsim.graph.load.external_data import ExternalFile, embed_external_data
from accelsim.graph.load.float_models import is_quantised, spells_quantisers
from accelsim.graph.load.limits import Limits
from accelsim.graph.load.loader import PARSER_REJECTS, check_inferred_shapes
from accelsim.graph.load.structure_checks import check_dataflow, check_text
from accelsim.graph.load.tensor_checks import check_tensor, model_constants
from accelsim.graph.qonnx.quantisers import in_qonnx_domain
from accelsim.simulation.model import is_own_model, own_model, own_name

# Kinds of nodes with weights: position of the output channels and of the input channels among the weights' axes.
WEIGHT_AXES = {"Conv": (0, 1), "ConvTranspose": (1, 0), "Gemm": (1, 0), "MatMul": (-1, -2)}

_LARGEST_BYTES = 2 << 30  # protobuf's own limit
_OTHER_FLOATS = frozenset({TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16})


def read_file(source: str | Path | bytes, limits: Limits) -> tuple[bytes, str, Path | None]:
    """Return a model's bytes, its printable name and its folder.

    Args:
        source: path of an .onnx file, its bytes, or models:NAME-float for one of our own.
        limits: budgets.

    Raises:
        UsageError: there is no such file, or no model of our own of this name.
        UnsupportedModelError: the quantised form of one of our own is named.
        ResourceLimitError: the file is larger than the limits allow.
    """
    if isinstance(source, bytes):
        return source, "model", None
    if not isinstance(source, str | Path):
        raise UsageError(f"a model is a path or bytes, not {type(source).__name__}: give the path of a .onnx file")
    if is_own_model(source):
        return _own(source)
    if not str(source):
        raise UsageError("the name of the model is empty: give the path of a .onnx file")
    path, shown = Path(source), printable(str(source))
    largest = min(limits.file_bytes, _LARGEST_BYTES)
    try:
        data = read_input(path, largest)
        size = max(path.stat().st_size, len(data))
    except IsADirectoryError:
        raise UsageError(f"{shown} is a directory: give the path of a .onnx file") from None
    except (OSError, ValueError) as error:  # ValueError: a zero character in the path
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read {shown}: {reason}: give the path of a .onnx file") from None
    if size > largest:
        why = "ONNX files end at 2 GB" if size > _LARGEST_BYTES else f"the limit is {largest:,}"
        raise ResourceLimitError(
            f"{shown} has {size:,} bytes, {why}: quantise a smaller model, or a part of it at a time"
        )
    return data, printable(path.name), path.parent


def _own(source: str | Path) -> tuple[bytes, str, None]:
    """Build a model of our own in its float form; the quantised one is refused before it is built."""
    from accelsim.models.catalogue import FLOAT_SUFFIX
    from accelsim.models.store import find

    name, shown = own_name(source), printable(str(source))
    _, in_float = find(name)
    if not in_float:
        raise UnsupportedModelError(f"{shown} is quantised already: give its float form, {shown}{FLOAT_SUFFIX}")
    return own_model(source), name, None


def checked_proto(
    data: bytes, name: str, folder: Path | None, limits: Limits, *, forbidden: bool = False
) -> tuple[ModelProto, tuple[ExternalFile, ...]]:
    """Parse a model and check its skeleton before any library works on it.

    Args:
        data: the file.
        name: its printable name.
        folder: where external data may be read from, or None.
        limits: budgets.
        forbidden: there is a folder, and the user ruled out reading from it.

    Returns:
        The model, and the files beside it that tensors were read from.

    Raises:
        InvalidModelError: it is no ONNX model, or a broken one.
        UnsupportedModelError: it is quantised already, not in float32, has control flow, or an output without a node.
        ResourceLimitError: it is larger than the limits allow.
    """
    try:
        proto = ModelProto.FromString(data)
    except DecodeError:
        raise InvalidModelError(f"{name} {PARSER_REJECTS}") from None
    if not proto.graph.node:
        raise InvalidModelError(f"{name} has no nodes, or is not an ONNX model: give a .onnx file")
    external = embed_external_data(proto, folder, limits, forbidden=forbidden)
    check_text(proto, limits)
    if len(proto.graph.node) > limits.nodes:
        raise ResourceLimitError(
            f"{name} has {len(proto.graph.node):,} nodes, the limit is {limits.nodes:,}: use a smaller model"
        )
    for tensor in proto.graph.initializer:
        check_tensor(printable(tensor.name), tensor, limits)
    _check_precision(proto, name)
    inner = next((n for n in proto.graph.node if any(a.HasField("g") or a.graphs for a in n.attribute)), None)
    if inner is not None or proto.functions:
        what = "local functions" if inner is None else _shown(inner)
        raise UnsupportedModelError(f"{name} has control flow or functions ({what}): inline them before export")
    check_dataflow(proto.graph, name)
    written = {value for node in proto.graph.node for value in node.output}
    given = next((value.name for value in proto.graph.output if value.name not in written), None)
    if given is not None:
        raise UnsupportedModelError(
            f"the output '{printable(given)}' of {name} is an input or a constant: remove it from the outputs"
        )
    try:
        onnx.checker.check_model(_with_shapes(proto))
    except Exception as error:  # the checker raises several unrelated types
        raise InvalidModelError(f"{name} is not a valid ONNX model: {reason_of(error)}: export it again") from None
    check_inferred_shapes(proto, limits)
    return proto, external


def _check_precision(proto: ModelProto, name: str) -> None:
    """Refuse what is quantised already, and networks whose weights are floats of another width."""
    found = next((n for n in proto.graph.node if is_quantised(n) or in_qonnx_domain(n.domain)), None)
    if found is not None:
        raise UnsupportedModelError(
            f"{name} is quantised already ({_shown(found)}): run it as it is, or give the float model that it was made "
            f"from"
        )
    if spells_quantisers(proto):
        raise UnsupportedModelError(
            f"{name} is quantised already, by Round and Clip in float: run it as it is, or give the float model it "
            f"was made from"
        )
    constants = model_constants(proto)
    weights = [(node, constants.get(node.input[1])) for node in proto.graph.node if is_weighted(node)]
    known = [(node, tensor.data_type) for node, tensor in weights if tensor is not None]
    other = next((pair for pair in known if pair[1] in _OTHER_FLOATS), None)
    if other is not None and all(kind != TensorProto.FLOAT for _, kind in known):
        node, kind = other
        raise UnsupportedModelError(
            f"{name} computes in {element_name(kind)} ({_shown(node)}), and what is quantised are float32 networks: "
            f"convert it to float32, or export it so"
        )


def is_weighted(node: NodeProto) -> bool:
    """Tell whether a node is of a kind that has weights as its second input."""
    return node.op_type in WEIGHT_AXES and node.domain in ("", "ai.onnx") and len(node.input) > 1


def _shown(node: NodeProto) -> str:
    """Return operator and name of a node for a message."""
    return f"{node.op_type} '{printable(node_label(node), 60)}'"


def _with_shapes(proto: ModelProto) -> ModelProto:
    """Return the model with a shape for every output: the checker wants one, though it can be inferred."""
    if all(value.type.tensor_type.HasField("shape") for value in proto.graph.output):
        return proto
    copy = ModelProto()
    copy.CopyFrom(proto)
    for value in copy.graph.output:
        value.type.tensor_type.shape.SetInParent()
    return copy
