"""Bytes to a checked ModelProto: nothing in the file is trusted before it has been looked at, nothing is executed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto

from accelsim.errors import (
    Finding,
    InvalidModelError,
    ResourceLimitError,
    UnsupportedModelError,
    UsageError,
    printable,
)
from accelsim.graph.constraints import float_model_error, node_findings, opset_finding
from accelsim.graph.limits import Limits
from accelsim.graph.tensor_checks import check_quantisation_parameters, check_tensor, size_bytes

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
    path = Path(path)
    try:
        if path.is_dir():
            raise UsageError(f"{path} is a directory: give the path of a .onnx file")
        if path.stat().st_size > limits.file_bytes:
            raise ResourceLimitError(f"{path} has {path.stat().st_size:,} bytes, the limit is {limits.file_bytes:,}")
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {printable(str(path))}: {error.strerror or error}") from None
    return load_bytes(data, path.name, limits)


def load_bytes(data: bytes, name: str = "model", limits: Limits | None = None) -> CheckedModel:
    """Check a model given as bytes; arguments and errors as for `load_model`."""
    limits = limits or Limits()
    name = printable(name)
    try:
        proto = ModelProto.FromString(data)
    except DecodeError:
        raise InvalidModelError(f"{name} {PARSER_REJECTS}") from None
    if not proto.graph.node:
        raise InvalidModelError(
            f"{name} {PARSER_REJECTS}" if not proto.ir_version else f"{name} has no nodes: nothing to run"
        )
    _check_structure(proto, name, limits)
    _check_support(proto, name)
    _check_with_onnx(proto, name)
    check_quantisation_parameters(proto)
    _check_inferred_shapes(proto, limits)
    return CheckedModel(name, hashlib.sha256(data).hexdigest(), proto)


def all_tensors(proto: ModelProto) -> Iterator[TensorProto]:
    """Yield every tensor in the file: initialisers, sparse parts and tensor attributes."""
    yield from proto.graph.initializer
    for sparse in proto.graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in proto.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _check_structure(proto: ModelProto, name: str, limits: Limits) -> None:
    """Check counts, names, sizes and raw data before any library touches the tensors."""
    if len(proto.graph.node) > limits.nodes:
        raise ResourceLimitError(f"{name} has {len(proto.graph.node):,} nodes, the limit is {limits.nodes:,}")
    for node in proto.graph.node:
        for text in (node.name, node.op_type, *node.input, *node.output):
            if len(text) > limits.name_length:
                raise ResourceLimitError(
                    f"{name}: the name '{printable(text, 40)}' has {len(text):,} characters, "
                    f"the limit is {limits.name_length:,}"
                )
    total = sum(check_tensor(tensor, limits) for tensor in all_tensors(proto))
    if total > limits.total_elements:
        raise ResourceLimitError(f"{name} holds {total:,} constants, the limit is {limits.total_elements:,}")
    for value in proto.graph.input:
        dims = value.type.tensor_type.shape.dim
        if any(dim.dim_value < 0 for dim in dims):
            raise InvalidModelError(
                f"{name}: input '{printable(value.name)}' has a negative dimension: repair the model"
            )
        limits.check_shape(value.name, [dim.dim_value or 1 for dim in dims])


def _check_support(proto: ModelProto, name: str) -> None:
    """Refuse whatever cannot run, naming all of it at once."""
    findings: list[Finding] = []
    if proto.functions:
        findings.append(
            Finding(
                proto.functions[0].name,
                "function",
                "local functions are not executed",
                "inline them before export",
            )
        )
    for value in (*proto.graph.input, *proto.graph.output):
        if value.type.WhichOneof("value") not in ("tensor_type", None):
            kind = str(value.type.WhichOneof("value")).removesuffix("_type")
            findings.append(
                Finding(value.name, kind, "only dense tensors enter or leave", "export the model with tensors")
            )
    for node in proto.graph.node:
        findings.extend(node_findings(node))
    float_error = float_model_error(proto, name)
    if float_error is not None and not findings:
        raise float_error
    findings = [*opset_finding(proto), *findings]
    if findings:
        shown = findings[:40]
        more = f" (the first {len(shown)} of them)" if len(findings) > len(shown) else ""
        raise UnsupportedModelError(f"{name} cannot run, {len(findings)} reason(s){more}:", shown)


def _check_with_onnx(proto: ModelProto, name: str) -> None:
    """Let onnx.checker look for cycles, duplicates, missing values and malformed attributes."""
    try:
        onnx.checker.check_model(proto)
    except Exception as error:  # the checker raises several unrelated types
        reason = printable(" ".join(str(error).split()), 240)
        raise InvalidModelError(f"{name} is not a valid ONNX model: {reason}: export it again") from None
    seen: set[str] = set()
    for node in proto.graph.node:
        for output in filter(None, node.output):
            if output in seen:
                raise InvalidModelError(
                    f"{name}: value '{printable(output)}' is produced twice: export the model again"
                )
            seen.add(output)


def _check_inferred_shapes(proto: ModelProto, limits: Limits) -> None:
    """Bound every intermediate tensor whose shape onnx can infer, before anything is allocated for it."""
    skeleton = _without_large_constants(proto)
    try:
        inferred = onnx.shape_inference.infer_shapes(skeleton, data_prop=True)
    except Exception as error:  # shape inference raises several unrelated types
        reason = printable(" ".join(str(error).split()), 240)
        raise InvalidModelError(f"the shapes of the model contradict each other: {reason}: export it again") from None
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        dims = value.type.tensor_type.shape.dim
        limits.check_shape(value.name, [max(dim.dim_value, 1) for dim in dims])


def _without_large_constants(proto: ModelProto) -> ModelProto:
    """Copy the model with the data of large weights dropped, since shapes do not depend on them."""
    copy = ModelProto()
    copy.CopyFrom(proto)
    for tensor in copy.graph.initializer:
        if len(tensor.raw_data) > 1024:
            value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            if all(known.name != tensor.name for known in copy.graph.input):
                copy.graph.input.append(value)
    kept = [tensor for tensor in copy.graph.initializer if len(tensor.raw_data) <= 1024]
    del copy.graph.initializer[:]
    copy.graph.initializer.extend(kept)
    return copy
