"""Bytes to a checked ModelProto: nothing in the file is trusted before it has been looked at, nothing is executed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError, Message
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper

from accelsim.errors import (
    InvalidModelError,
    ResourceLimitError,
    UsageError,
    printable,
    reason_of,
)
from accelsim.files.reading import read_input
from accelsim.graph.load.branches import check_branches, fold_branches
from accelsim.graph.load.contributed import has_contributed, move_contributed, unify_standard_domain
from accelsim.graph.load.element_types import INPUT_TYPES, constant_tensors, size_bytes
from accelsim.graph.load.external_data import ExternalFile, embed_external_data
from accelsim.graph.load.functions import inline_functions
from accelsim.graph.load.limits import Limits
from accelsim.graph.load.operator_checks import Shape, check_operator
from accelsim.graph.load.structure_checks import (
    check_dataflow,
    check_live_elements,
    check_text,
    rename_duplicate_nodes,
    with_numbered_nodes,
)
from accelsim.graph.load.support import check_support
from accelsim.graph.load.tensor_checks import check_quantisation_parameters, check_tensor, model_constants
from accelsim.graph.load.unused import without_unused_random
from accelsim.graph.qonnx.expand import ExpandedQuantiser, expand_quantisers
from accelsim.graph.qonnx.quantisers import is_qonnx

Weights = Mapping[str, NDArray[np.generic]]

_SHAPE_DATA_BYTES = 1024  # constants up to this size may decide shapes
_OVERRIDABLE_CONSTANTS = 4  # IR version from which a constant that is also listed as an input can be overridden
_LARGE_BYTES = 1 << 20  # constants from this size on are kept once, outside of the messages that are copied around

_NUMBERED = "a copy whose equal node names are numbered (onnxruntime refuses the file itself)"

PARSER_REJECTS = "is not an ONNX model (the file cannot be parsed): give a .onnx file"


@dataclass(frozen=True, eq=False)
class CheckedModel:
    """A model that has passed every check of the loader."""

    name: str
    sha256: str
    proto: ModelProto
    """The model, its large constants declared as external."""
    weights: Weights = field(default_factory=dict)
    """The data of those constants."""
    quantisers: tuple[ExpandedQuantiser, ...] = ()
    """Of a QONNX model, whose quantisers proto spells in standard operators."""
    file: bytes = field(default=b"", repr=False)
    """The bytes of the user's file."""
    bound: tuple[tuple[str, int], ...] = ()
    """Dimensions that the user fixed, in both."""
    subject: str = ""
    """What file is where it is not the user's own, which onnxruntime cannot open."""
    external: tuple[ExternalFile, ...] = ()
    """Files beside the model whose data is part of all this."""

    @property
    def external_files(self) -> tuple[str, ...]:
        """Names of the files beside the model that weights were read from."""
        return tuple(file.name for file in self.external)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the graph inputs that are not initialisers."""
        constants = {tensor.name for tensor in self.proto.graph.initializer}
        return tuple(value.name for value in self.proto.graph.input if value.name not in constants)

    @property
    def parameters_bytes(self) -> int:
        """Bytes of all initialisers, packed at their own width."""
        return sum(size_bytes(tensor) for tensor in self.proto.graph.initializer)


def load_model(path: str | Path, limits: Limits | None = None, *, external_data: bool | None = None) -> CheckedModel:
    """Read and check a model file.

    Args:
        path: the .onnx file.
        limits: budgets; None takes the defaults.
        external_data: False refuses tensors in other files; else they are read, which must lie in the model's folder.

    Raises:
        UsageError: there is no such file.
        InvalidModelError: the file is no ONNX model, or a broken or hostile one.
        ResourceLimitError: the model is larger than the limits allow.
        UnsupportedModelError: the model is valid but outside of what can run; lists every reason at once.
    """
    limits = limits or Limits()
    if not str(path):
        raise UsageError("the name of the model is empty: give the path of a .onnx file")
    shown = printable(str(path))
    try:
        content = [read_input(path, limits.file_bytes)]
    except IsADirectoryError:
        raise UsageError(f"{shown} is a directory: give the path of a .onnx file") from None
    except (OSError, ValueError) as error:  # ValueError: a zero character in the path
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read {shown}: {reason}: give the path of a .onnx file") from None
    folder = None if external_data is False else Path(path).parent
    return load_bytes(
        content.pop(), Path(path).name, limits, folder, str(path)
    )  # popped, so that the callee can free it


def load_bytes(
    data: bytes,
    name: str = "model",
    limits: Limits | None = None,
    external_folder: Path | None = None,
    source: str = "",
) -> CheckedModel:
    """Check a model given as bytes; arguments and errors as for `load_model`.

    Args:
        data: the content of an .onnx file.
        name: its name, for messages.
        limits: budgets; None takes the defaults.
        external_folder: where external data may be read from; None refuses it.
        source: what the user named, for messages that repeat it; "" for bytes.
    """
    limits = limits or Limits()
    name = printable(name)
    if len(data) > limits.file_bytes:
        raise ResourceLimitError(
            f"{name} is larger than the limit of {limits.file_bytes:,} bytes: use a smaller model, or raise "
            f"Limits.file_bytes from Python"
        )
    try:
        proto = ModelProto.FromString(data)
    except DecodeError:
        raise InvalidModelError(f"{name} {PARSER_REJECTS}") from None
    sha256 = hashlib.sha256(data).hexdigest()
    if not proto.graph.node:
        known = proto.ir_version or proto.HasField("graph")
        raise InvalidModelError(
            f"{name} has no nodes, so there is nothing to run: export the model again"
            if known
            else f"{name} {PARSER_REJECTS}"
        )
    external = embed_external_data(proto, external_folder, limits, forbidden=bool(source))
    if external:
        data = proto.SerializeToString()
    file = data
    check_text(proto, limits)
    unify_standard_domain(proto)
    _check_sizes(proto, name, limits)
    check_branches(proto, limits)
    undecided: dict[str, str] = {}
    folded = fold_branches(inline_functions(proto, limits, name), limits, _known_shapes, undecided)
    flat = without_unused_random(folded)
    if flat is not proto:
        _check_sizes(flat, name, limits)
        proto = flat
    check_support(proto, name, source, undecided)
    check_dataflow(proto.graph, name)
    quantisers: tuple[ExpandedQuantiser, ...] = ()
    if is_qonnx(proto):
        proto, quantisers = expand_quantisers(proto, model_constants(proto), name)
    _check_with_onnx(proto, name)
    _drop_constant_inputs(proto)
    subject = _NUMBERED if rename_duplicate_nodes(proto.graph) else ""
    if subject:
        file = with_numbered_nodes(file)
    check_quantisation_parameters(proto)
    check_inferred_shapes(proto, limits)
    apart = without_weights(proto)
    return CheckedModel(name, sha256, apart, _weights(proto), quantisers, file, subject=subject, external=external)


def _drop_constant_inputs(proto: ModelProto) -> None:
    """Take constants out of the inputs of a file of IR version 3, which had to list them there.

    They cannot be overridden; but once onnxruntime's optimiser has used one up, it would look like an input.
    """
    if proto.ir_version >= _OVERRIDABLE_CONSTANTS:
        return
    constants = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in constants]
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    proto.ir_version = _OVERRIDABLE_CONSTANTS


def _check_sizes(proto: ModelProto, name: str, limits: Limits) -> None:
    """Check counts, dimensions and raw data before any library touches the tensors."""
    if len(proto.graph.node) > limits.nodes:
        raise ResourceLimitError(
            f"{name} has {len(proto.graph.node):,} nodes, the limit is {limits.nodes:,}: use a smaller model"
        )
    total = sum(check_tensor(label, tensor, limits) for label, tensor in constant_tensors(proto))
    if total > limits.total_elements:
        raise ResourceLimitError(
            f"{name} holds {total:,} constants, the limit is {limits.total_elements:,}: use a smaller model"
        )
    for value in proto.graph.input:
        dims = value.type.tensor_type.shape.dim
        if any(dim.dim_value < 0 for dim in dims):
            raise InvalidModelError(
                f"{name}: input '{printable(value.name)}' has a negative dimension: repair the model"
            )
        limits.check_shape(value.name, [dim.dim_value or 1 for dim in dims])


def _check_with_onnx(proto: ModelProto, name: str) -> None:
    """Let onnx.checker look for malformed attributes, types and operators."""
    try:
        onnx.checker.check_model(_for_checker(proto))
    except Exception as error:  # the checker raises several unrelated types
        raise InvalidModelError(f"{name} is not a valid ONNX model: {reason_of(error)}: export it again") from None


def _for_checker(proto: ModelProto) -> ModelProto:
    """Return the model without its large constants, whose data is checked, and with a shape for every output.

    The checker wants a shape there, though it can be inferred, and a name of the graph, which onnxruntime does not.
    """
    bare = not proto.graph.name or any(not value.type.tensor_type.HasField("shape") for value in proto.graph.output)
    if not bare and not any(map(_is_large, proto.graph.initializer)) and not has_contributed(proto):
        return proto
    copy = copy_model(proto, lambda tensor: _emptied(tensor) if _is_large(tensor) else tensor)
    move_contributed(copy)
    copy.graph.name = proto.graph.name or "graph"
    for value in copy.graph.output:
        value.type.tensor_type.shape.SetInParent()
    return copy


def check_inferred_shapes(proto: ModelProto, limits: Limits) -> None:
    """Bound every tensor whose shape onnx can infer, and compare operands, before anything is allocated.

    Args:
        proto: a model that onnx.checker has passed.
        limits: budgets.

    Raises:
        InvalidModelError: shapes contradict each other.
        ResourceLimitError: a tensor, or what is alive at once, is too large.
    """
    try:
        known = _inferred_shapes(proto)
    except Exception as error:  # shape inference raises several unrelated types
        raise InvalidModelError(
            f"the shapes of the model contradict each other: {reason_of(error)}: export it again"
        ) from None
    known |= {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        check_operator(node, known)
    elements: dict[str, int] = {}
    for value, shape in known.items():
        if any(size is not None and size < 0 for size in shape):
            raise InvalidModelError(f"'{printable(value)}' has a negative dimension: export the model again")
        elements[value] = limits.check_shape(value, [1 if size is None else size for size in shape])
    check_live_elements(proto.graph, elements, limits)


def _known_shapes(proto: ModelProto) -> Mapping[str, Shape]:
    """Return the shapes of tensors as far as they are known before a run; none of a model that onnx refuses."""
    try:
        onnx.checker.check_model(_for_checker(proto))
        return _inferred_shapes(proto)
    except Exception:  # both raise several unrelated types; whatever is wrong is said later
        return {}


def _inferred_shapes(proto: ModelProto) -> dict[str, Shape]:
    """Return the shapes of inputs, intermediate values and outputs that are known at least in part."""
    graph = onnx.shape_inference.infer_shapes(_skeleton(proto), data_prop=True).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    return {value.name: _shape_of(value) for value in values if value.type.tensor_type.HasField("shape")}


def _shape_of(value: ValueInfoProto) -> Shape:
    """Return a shape with None for dimensions that only the inputs decide."""
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim)


def _skeleton(proto: ModelProto) -> ModelProto:
    """Copy the model without the data of large weights, and without the shapes that the file claims for results."""
    copy = copy_for_inference(proto, _may_decide_shapes)
    del copy.graph.value_info[:]
    for value in copy.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_value == 0:  # some exporters mean: any size
                dim.ClearField("dim_value")
    for value in copy.graph.output:
        value.type.tensor_type.ClearField("shape")
    return copy


def copy_for_inference(proto: ModelProto, keep: Callable[[TensorProto], bool]) -> ModelProto:
    """Copy a model for onnx's shape inference: constants that are not kept are inputs of their shape.

    Args:
        proto: the model.
        keep: tells constants whose values may decide shapes.
    """
    copy = copy_model(proto, lambda tensor: tensor if keep(tensor) else None)
    declared = {value.name for value in copy.graph.input}
    copy.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        for tensor in proto.graph.initializer
        if not keep(tensor) and tensor.name not in declared
    )
    move_contributed(copy)
    return copy


def _may_decide_shapes(tensor: TensorProto) -> bool:
    """Tell whether a constant is small enough to hold sizes, axes or the like."""
    return not tensor.HasField("raw_data") or size_bytes(tensor) <= _SHAPE_DATA_BYTES


def _is_large(tensor: TensorProto) -> bool:
    """Tell whether a constant is kept outside of the messages: plain data of a type that numpy has."""
    return tensor.HasField("raw_data") and tensor.data_type in INPUT_TYPES and size_bytes(tensor) >= _LARGE_BYTES


def _emptied(tensor: TensorProto) -> TensorProto:
    """Return name and type of a tensor, with no elements."""
    return TensorProto(name=tensor.name, data_type=tensor.data_type, dims=[0])


def _external(tensor: TensorProto) -> TensorProto:
    """Return name, type and shape of a tensor, its data declared as external: a session is given it by name."""
    stub = TensorProto(
        name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, data_location=TensorProto.EXTERNAL
    )
    for key, value in (("location", "weights"), ("offset", "0"), ("length", str(size_bytes(tensor)))):
        stub.external_data.add(key=key, value=value)
    return stub


def without_weights(proto: ModelProto) -> ModelProto:
    """Return the model with its large constants declared as external; without any it is the same message."""
    apart = _kept_apart(proto.graph)
    return copy_model(proto, lambda tensor: _external(tensor) if tensor.name in apart else tensor) if apart else proto


def _weights(proto: ModelProto) -> dict[str, NDArray[np.generic]]:
    """Return the data of the large constants by name."""
    apart = _kept_apart(proto.graph)
    return {
        tensor.name: array_of(tensor, tensor.raw_data) for tensor in proto.graph.initializer if tensor.name in apart
    }


def _kept_apart(graph: GraphProto) -> set[str]:
    """Return the names of the large constants that something reads; onnxruntime drops others before it takes data."""
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    return {tensor.name for tensor in graph.initializer if _is_large(tensor)} & read


def array_of(tensor: TensorProto, data: bytes) -> NDArray[np.generic]:
    """View bytes as the values of a tensor whose type is one of INPUT_TYPES."""
    return np.frombuffer(data, helper.tensor_dtype_to_np_dtype(tensor.data_type)).reshape(tensor.dims)


def copy_model(proto: ModelProto, change: Callable[[TensorProto], TensorProto | None]) -> ModelProto:
    """Copy a model, each initialiser as a function gives it back: large ones are not copied on the way.

    Args:
        proto: the model.
        change: takes an initialiser; returns what stands for it, or None to leave it out.
    """
    copy = ModelProto()
    _merge_fields(copy, proto, without="graph")
    _merge_fields(copy.graph, proto.graph, without="initializer")
    copy.graph.initializer.extend(kept for tensor in proto.graph.initializer if (kept := change(tensor)) is not None)
    return copy


def _merge_fields(target: Message, source: Message, without: str) -> None:
    """Copy all fields of a message but one."""
    for descriptor, value in source.ListFields():
        if descriptor.name == without:
            continue
        if hasattr(value, "MergeFrom"):  # a message, or repeated
            getattr(target, descriptor.name).MergeFrom(value)
        else:
            setattr(target, descriptor.name, value)
