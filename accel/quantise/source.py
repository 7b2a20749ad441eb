"""The float model: read, checked, brought to an operator set that can spell quantisers, and tidied."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from accelsim.errors import (
    InvalidModelError,
    ResourceLimitError,
    UnsupportedModelError,
    UsageError,
    printable,
    reason_of,
)
from accelsim.graph.constraints import is_quantised, node_label
from accelsim.graph.external_data import embed_external_data
from accelsim.graph.limits import Limits
from accelsim.graph.loader import PARSER_REJECTS, check_inferred_shapes
from accelsim.graph.qonnx import is_qonnx
from accelsim.graph.structure_checks import check_dataflow, check_text, rename_duplicate_nodes
from accelsim.graph.tensor_checks import check_tensor
from accelsim.host import open_session
from accelsim.quantise.tidy import free_names, split_odd_biases
from accelsim.tensors import TensorType

Floats = NDArray[np.float32]

OLDEST_OPSET = 13  # of a prepared model: scales along an axis
_NEWEST_OPSET = 25
_LARGEST_BYTES = 2 << 30  # protobuf's own limit
_CONSTANT_INPUTS = 4  # IR version from which constants are no inputs

# Kinds of nodes with weights: position of the output channels and of the input channels among the weights' axes.
_WEIGHT_AXES = {"Conv": (0, 1), "ConvTranspose": (1, 0), "Gemm": (1, 0), "MatMul": (-1, -2)}


@dataclass(frozen=True)
class FloatLayer:
    """A node with constant float weights.

    weight, bias: names of the constants; source, output: names of the activations around it; channel_axis: of the
    output channels among the weights' axes; depth_axis: of the input channels, along which groups lie.
    """

    name: str
    kind: str
    source: str
    output: str
    weight: str
    bias: str
    channel_axis: int
    depth_axis: int


@dataclass(frozen=True, eq=False)
class FloatModel:
    """A float model that can be quantised.

    original: the file as it came; proto: the same network, tidied: constants folded, batch normalisation part of the
    weights, every node named, shapes inferred.
    """

    name: str
    sha256: str
    original: bytes = field(repr=False)
    proto: ModelProto = field(repr=False)
    inputs: Mapping[str, TensorType]
    layers: tuple[FloatLayer, ...]

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the model's outputs."""
        return tuple(value.name for value in self.proto.graph.output)

    def constant(self, name: str) -> Floats:
        """Return a float constant by its name."""
        return constants(self.proto)[name]

    def dynamic_batch(self) -> bool:
        """Tell whether the first dimension of every input is free."""
        values = [value for value in self.proto.graph.input if value.name in self.inputs]
        return all(value.type.tensor_type.shape.dim[0].dim_value == 0 for value in values)


def constants(proto: ModelProto) -> dict[str, Floats]:
    """Return the float32 constants of a model by name."""
    return {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer if t.data_type == TensorProto.FLOAT}


def read_float_model(
    source: str | Path | bytes,
    limits: Limits | None = None,
    opset: int = OLDEST_OPSET,
    *,
    external_data: bool = False,
) -> FloatModel:
    """Read a float model and prepare it for quantisation.

    Args:
        source: path of an .onnx file, or its bytes.
        limits: budgets; None takes the defaults.
        opset: operator set that the result must have at least; older files are converted.
        external_data: read tensors from other files, which must lie in the model's folder; refused otherwise.

    Raises:
        UsageError: there is no such file.
        InvalidModelError: the file is no ONNX model, or a broken one.
        UnsupportedModelError: it is quantised already, has control flow, or cannot be converted.
        ResourceLimitError: it is larger than the limits allow.
    """
    limits = limits or Limits()
    data, name, folder = _read(source, limits)
    folder = folder if external_data else None
    proto = _checked(data, name, folder, limits)
    if is_qonnx(proto) or any(is_quantised(node) for node in proto.graph.node):
        found = next((n for n in proto.graph.node if is_quantised(n)), proto.graph.node[0])
        raise UnsupportedModelError(
            f"{name} is quantised already ({found.op_type} '{printable(node_label(found), 60)}'): run it as it is, or "
            f"give the float model that it was made from"
        )
    proto = _tidied(_converted(proto, name, opset), name)
    layers = tuple(_layers(proto.graph))
    if not layers:
        raise UnsupportedModelError(
            f"{name} has no convolution or matrix product with constant weights, so there is nothing to quantise: "
            f"give a network with weights"
        )
    return FloatModel(name, hashlib.sha256(data).hexdigest(), _standalone(data, folder), proto, _inputs(proto), layers)


def _read(source: str | Path | bytes, limits: Limits) -> tuple[bytes, str, Path | None]:
    """Return a model's bytes, its printable name and its folder."""
    if isinstance(source, bytes):
        return source, "model", None
    if not isinstance(source, str | Path):
        raise UsageError(f"a model is a path or bytes, not {type(source).__name__}: give the path of a .onnx file")
    path, shown = Path(source), printable(str(source) or "(empty name)")
    try:
        if path.is_dir():
            raise UsageError(f"{shown} is a directory: give the path of a .onnx file")
        size = path.stat().st_size
        largest = min(limits.file_bytes, _LARGEST_BYTES)
        if size > largest:
            why = "ONNX files end at 2 GB" if size > _LARGEST_BYTES else f"the limit is {largest:,}"
            raise ResourceLimitError(
                f"{shown} has {size:,} bytes, {why}: quantise a smaller model, or a part of it at a time"
            )
        return path.read_bytes(), printable(path.name), path.parent
    except (OSError, ValueError) as error:  # ValueError: a zero character in the path
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read {shown}: {reason}: give the path of a .onnx file") from None


def _checked(data: bytes, name: str, folder: Path | None, limits: Limits) -> ModelProto:
    """Parse a model and check its skeleton before any library works on it."""
    try:
        proto = ModelProto.FromString(data)
    except DecodeError:
        raise InvalidModelError(f"{name} {PARSER_REJECTS}") from None
    if not proto.graph.node:
        raise InvalidModelError(f"{name} has no nodes, or is not an ONNX model: give a .onnx file")
    if folder is not None:
        embed_external_data(proto, folder, limits)
    check_text(proto, limits)
    if len(proto.graph.node) > limits.nodes:
        raise ResourceLimitError(
            f"{name} has {len(proto.graph.node):,} nodes, the limit is {limits.nodes:,}: use a smaller model"
        )
    for tensor in proto.graph.initializer:
        check_tensor(printable(tensor.name), tensor, limits)
    inner = next((n for n in proto.graph.node if any(a.HasField("g") or a.graphs for a in n.attribute)), None)
    if inner is not None or proto.functions:
        what = "local functions" if inner is None else f"{inner.op_type} '{printable(node_label(inner), 60)}'"
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
    return proto


def _with_shapes(proto: ModelProto) -> ModelProto:
    """Return the model with a shape for every output: the checker wants one, though it can be inferred."""
    if all(value.type.tensor_type.HasField("shape") for value in proto.graph.output):
        return proto
    copy = ModelProto()
    copy.CopyFrom(proto)
    for value in copy.graph.output:
        value.type.tensor_type.shape.SetInParent()
    return copy


def _standalone(data: bytes, folder: Path | None) -> bytes:
    """Return the file with its external data inside."""
    proto = ModelProto.FromString(data)
    if folder is None or not any(t.data_location == TensorProto.EXTERNAL for t in proto.graph.initializer):
        return data
    embed_external_data(proto, folder, Limits())
    return bytes(proto.SerializeToString())


def _converted(proto: ModelProto, name: str, opset: int) -> ModelProto:
    """Bring a model to an operator set; constants of old files stop being inputs."""
    has = opset_of(proto)
    if has > _NEWEST_OPSET:
        raise UnsupportedModelError(
            f"{name} uses operator set {has}, known are those up to {_NEWEST_OPSET}: export it with an older one"
        )
    _drop_constant_inputs(proto)
    if has >= opset:
        return proto
    try:
        converted = onnx.version_converter.convert_version(proto, opset)
        onnx.checker.check_model(converted, full_check=True)
    except Exception as error:  # the converter raises several unrelated types
        raise UnsupportedModelError(
            f"{name} uses operator set {has}, and the converter cannot bring it to {opset}, which the quantisers need "
            f"({reason_of(error, 160)}): export it with operator set {opset} or later"
        ) from None
    return converted


def opset_of(proto: ModelProto) -> int:
    """Return the version of the standard operators that a model uses."""
    return max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=1)


def _drop_constant_inputs(proto: ModelProto) -> None:
    """Take constants out of the inputs."""
    known = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in known]
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    proto.ir_version = max(proto.ir_version, _CONSTANT_INPUTS)


def _tidied(proto: ModelProto, name: str) -> ModelProto:
    """Let onnxruntime fold constants and batch normalisation (ORT_ENABLE_BASIC), and infer all shapes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "basic.onnx"
        try:
            open_session(proto.SerializeToString(), optimise="basic", save=str(path))
            tidy = onnx.load(path)
        except Exception as error:
            if not type(error).__module__.startswith("onnxruntime"):
                raise
            raise UnsupportedModelError(
                f"onnxruntime cannot run {name}: {reason_of(error)}: repair or export it again"
            ) from None
    used = {node.domain for node in tidy.graph.node} | {""}
    imports = [entry for entry in tidy.opset_import if entry.domain in used]
    del tidy.opset_import[:]
    tidy.opset_import.extend(imports)
    _name_nodes(tidy.graph)
    _fold_factors(tidy.graph)
    _transpose_weights(tidy.graph)
    split_odd_biases(tidy.graph)
    free_names(tidy.graph, name)
    del tidy.graph.value_info[:]
    try:
        return onnx.shape_inference.infer_shapes(tidy, data_prop=True)
    except Exception as error:  # shape inference raises several unrelated types
        raise InvalidModelError(
            f"the shapes of {name} contradict each other: {reason_of(error)}: export it again"
        ) from None


def _name_nodes(graph: GraphProto) -> None:
    """Name every node, after its operator and output where the file does not."""
    for node in graph.node:
        node.name = node.name or f"{node.op_type}_{next(filter(None, node.output), '')}"
    rename_duplicate_nodes(graph)


def _fold_factors(graph: GraphProto) -> None:
    """Multiply alpha of a Gemm into its weights and beta into its bias, so that both can be quantised."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    readers = [name for node in graph.node for name in node.input]
    for node in graph.node:
        if node.op_type != "Gemm":
            continue
        for label, position in (("alpha", 1), ("beta", 2)):
            attribute = next((entry for entry in node.attribute if entry.name == label), None)
            name = node.input[position] if position < len(node.input) else ""
            if attribute is None or attribute.f == 1 or name not in tensors:
                continue
            values = (numpy_helper.to_array(tensors[name]) * np.float32(attribute.f)).astype(np.float32)
            fresh = name if readers.count(name) == 1 else f"{name}_{label}_{node.name}"
            target = tensors[name] if fresh == name else graph.initializer.add()
            target.CopyFrom(numpy_helper.from_array(values, fresh))
            node.input[position], attribute.f = fresh, 1.0


def _transpose_weights(graph: GraphProto) -> None:
    """Store the weights of every Gemm with a row per output (transB = 1).

    onnxruntime turns a DequantizeLinear in front of weights stored the other way into MatMulNBits where the activations
    have 16 bits, which quantises them once more, to 8 bits.
    """
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    readers = [name for node in graph.node for name in node.input]
    for node in graph.node:
        weight = node.input[1] if node.op_type == "Gemm" else ""
        if weight not in tensors or attribute_of(node, "transB", 0):
            continue
        turned = np.ascontiguousarray(numpy_helper.to_array(tensors[weight]).T)
        fresh = weight if readers.count(weight) == 1 else f"{weight}_transposed_{node.name}"
        target = tensors[weight] if fresh == weight else graph.initializer.add()
        target.CopyFrom(numpy_helper.from_array(turned, fresh))
        node.input[1] = fresh
        kept = [attribute for attribute in node.attribute if attribute.name != "transB"]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute("transB", 1)])


def _inputs(proto: ModelProto) -> dict[str, TensorType]:
    """Return the types of the inputs, dynamic dimensions as 1."""
    types = {}
    for value in proto.graph.input:
        tensor = value.type.tensor_type
        shape = [dim.dim_value or 1 for dim in tensor.shape.dim]
        if not shape:
            raise UnsupportedModelError(
                f"input '{printable(value.name)}' has no dimensions, so calibration samples cannot be told apart: "
                f"export the model with a batch dimension"
            )
        types[value.name] = TensorType.of(helper.tensor_dtype_to_np_dtype(tensor.elem_type), shape)
    return types


def attribute_of(node: NodeProto, name: str, default: Any) -> Any:
    """Return an attribute of a node, or a default."""
    return next((helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name), default)


def _layers(graph: GraphProto) -> list[FloatLayer]:
    """Find the nodes with constant float weights."""
    floats = {t.name: len(t.dims) for t in graph.initializer if t.data_type == TensorProto.FLOAT}
    layers = []
    for node in graph.node:
        axes = _WEIGHT_AXES.get(node.op_type)
        if axes is None or node.domain not in ("", "ai.onnx") or len(node.input) < 2 or node.input[1] not in floats:
            continue
        if node.input[0] in floats:
            continue
        rank = floats[node.input[1]]
        if rank < 2:
            continue
        channel, depth = (axis % rank for axis in axes)
        if node.op_type == "Gemm" and attribute_of(node, "transB", 0):
            channel, depth = depth, channel
        bias = node.input[2] if len(node.input) > 2 and node.input[2] in floats else ""
        layers.append(
            FloatLayer(node.name, node.op_type, node.input[0], node.output[0], node.input[1], bias, channel, depth)
        )
    return layers
