"""Bytes to a checked ModelProto: nothing in the file is trusted before it has been looked at, nothing is executed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, ValueInfoProto

from accelsim.errors import (
    Finding,
    InvalidModelError,
    ResourceLimitError,
    UnsupportedModelError,
    UsageError,
    printable,
    reason_of,
)
from accelsim.graph.constraints import OPSET_WINDOW, float_model_error, node_findings, opset_finding, value_findings
from accelsim.graph.element_types import constant_tensors, size_bytes
from accelsim.graph.limits import Limits
from accelsim.graph.operator_checks import Shape, check_operator
from accelsim.graph.structure_checks import check_dataflow, check_live_elements, check_text, rename_duplicate_nodes
from accelsim.graph.tensor_checks import check_quantisation_parameters, check_tensor

_SHAPE_DATA_BYTES = 1024  # constants up to this size may decide shapes

PARSER_REJECTS = "is not an ONNX model (the file cannot be parsed): give a .onnx file"


@dataclass(frozen=True, eq=False)
class CheckedModel:
    """A model that has passed every check of the loader."""

    name: str
    sha256: str
    proto: ModelProto

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the graph inputs that are not initialisers."""
        constants = {tensor.name for tensor in self.proto.graph.initializer}
        return tuple(value.name for value in self.proto.graph.input if value.name not in constants)

    @property
    def parameters_bytes(self) -> int:
        """Bytes of all initialisers, packed at their own width."""
        return sum(size_bytes(tensor) for tensor in self.proto.graph.initializer)


def load_model(path: str | Path, limits: Limits | None = None) -> CheckedModel:
    """Read and check a model file.

    Args:
        path: the .onnx file.
        limits: budgets; None takes the defaults.

    Raises:
        UsageError: there is no such file.
        InvalidModelError: the file is no ONNX model, or a broken or hostile one.
        ResourceLimitError: the model is larger than the limits allow.
        UnsupportedModelError: the model is valid but outside of what can run; lists every reason at once.
    """
    limits = limits or Limits()
    shown = printable(str(path) or "(empty name)")
    try:
        if Path(path).is_dir():
            raise UsageError(f"{shown} is a directory: give the path of a .onnx file")
        with Path(path).open("rb") as file:
            data = file.read(limits.file_bytes + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero character in the path
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read {shown}: {reason}: give the path of a .onnx file") from None
    return load_bytes(data, Path(path).name, limits)


def load_bytes(data: bytes, name: str = "model", limits: Limits | None = None) -> CheckedModel:
    """Check a model given as bytes; arguments and errors as for `load_model`."""
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
    if not proto.graph.node:
        known = proto.ir_version or proto.HasField("graph")
        raise InvalidModelError(
            f"{name} has no nodes, so there is nothing to run: export the model again"
            if known
            else f"{name} {PARSER_REJECTS}"
        )
    check_text(proto, limits)
    _check_sizes(proto, name, limits)
    _check_support(proto, name)
    check_dataflow(proto.graph, name)
    _check_with_onnx(proto, name)
    rename_duplicate_nodes(proto.graph)
    check_quantisation_parameters(proto)
    _check_inferred_shapes(proto, limits)
    return CheckedModel(name, hashlib.sha256(data).hexdigest(), proto)


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


def _check_support(proto: ModelProto, name: str) -> None:
    """Refuse whatever cannot run, naming all of it at once."""
    wrong_opset = list(opset_finding(proto))
    opset = max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    findings = [*value_findings(proto), *_function_findings(proto)]
    for node in proto.graph.node:
        findings.extend(node_findings(node, OPSET_WINDOW[1] if wrong_opset else opset))
    float_error = float_model_error(proto, name)
    if float_error is not None and not findings:
        raise float_error
    findings = [*wrong_opset, *findings]
    if findings:
        shown = findings[:40]
        more = f" (the first {len(shown)} of them)" if len(findings) > len(shown) else ""
        raise UnsupportedModelError(f"{name} cannot run, {len(findings)} reason(s){more}:", shown)


def _function_findings(proto: ModelProto) -> Iterator[Finding]:
    """Name the local functions of a model."""
    for function in proto.functions:
        yield Finding(function.name, "function", "local functions are not executed", "inline them before export")


def _check_with_onnx(proto: ModelProto, name: str) -> None:
    """Let onnx.checker look for malformed attributes, types and operators."""
    try:
        onnx.checker.check_model(_with_output_shapes(proto))
    except Exception as error:  # the checker raises several unrelated types
        raise InvalidModelError(f"{name} is not a valid ONNX model: {reason_of(error)}: export it again") from None


def _with_output_shapes(proto: ModelProto) -> ModelProto:
    """Return the model with a shape for every output: the checker wants one, though it can be inferred."""
    bare = [value.name for value in proto.graph.output if not value.type.tensor_type.HasField("shape")]
    if not bare:
        return proto
    copy = ModelProto()
    copy.CopyFrom(proto)
    for value in copy.graph.output:
        value.type.tensor_type.shape.SetInParent()
    return copy


def _check_inferred_shapes(proto: ModelProto, limits: Limits) -> None:
    """Bound every tensor whose shape onnx can infer, and compare operands, before anything is allocated."""
    skeleton = _skeleton(proto)
    try:
        inferred = onnx.shape_inference.infer_shapes(skeleton, data_prop=True)
    except Exception as error:  # shape inference raises several unrelated types
        raise InvalidModelError(
            f"the shapes of the model contradict each other: {reason_of(error)}: export it again"
        ) from None
    known = {value.name: _shape_of(value) for value in _values(inferred.graph)}
    known |= {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        check_operator(node, known)
    elements: dict[str, int] = {}
    for value, shape in known.items():
        if any(size is not None and size < 0 for size in shape):
            raise InvalidModelError(f"'{printable(value)}' has a negative dimension: export the model again")
        elements[value] = limits.check_shape(value, [1 if size is None else size for size in shape])
    check_live_elements(proto.graph, elements, limits)


def _values(graph: GraphProto) -> Iterator[ValueInfoProto]:
    """Yield the inputs, intermediate values and outputs whose shape is known at least in part."""
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            yield value


def _shape_of(value: ValueInfoProto) -> Shape:
    """Return a shape with None for dimensions that only the inputs decide."""
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim)


def _skeleton(proto: ModelProto) -> ModelProto:
    """Copy the model without the data of large weights, and without the shapes that the file claims for results."""
    copy = ModelProto()
    copy.CopyFrom(proto)
    declared = {value.name for value in copy.graph.input}
    kept = []
    for tensor in copy.graph.initializer:
        if len(tensor.raw_data) <= _SHAPE_DATA_BYTES:
            kept.append(tensor)
        elif tensor.name not in declared:
            value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            copy.graph.input.append(value)
    del copy.graph.initializer[:]
    copy.graph.initializer.extend(kept)
    del copy.graph.value_info[:]
    for value in copy.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_value == 0:  # some exporters mean: any size
                dim.ClearField("dim_value")
    for value in copy.graph.output:
        value.type.tensor_type.ClearField("shape")
    return copy
