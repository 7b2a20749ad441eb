"""The float model: read, checked, brought to an operator set that can spell quantisers, and tidied."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from accelsim.errors import (
    InvalidModelError,
    UnsupportedModelError,
    printable,
    reason_of,
)
from accelsim.graph.load.constraints import node_label
from accelsim.graph.load.element_types import INPUT_TYPES, element_name
from accelsim.graph.load.external_data import ExternalFile
from accelsim.graph.load.limits import Limits
from accelsim.graph.load.structure_checks import rename_duplicate_nodes
from accelsim.operators.tensors import TensorType
from accelsim.quantise.network.float_file import WEIGHT_AXES, checked_proto, is_weighted, read_file
from accelsim.quantise.network.gelu import OLDEST_OPSET as OPSET_WITH_GELU, find_gelus, write_gelus
from accelsim.quantise.network.tidy import free_names, rename_made, split_odd_biases
from accelsim.reference.session import open_session

Floats = NDArray[np.float32]

OLDEST_OPSET = 13  # of a prepared model: scales along an axis
_NEWEST_OPSET = 25
_CONSTANT_INPUTS = 4  # IR version from which constants are no inputs

# Fusions of onnxruntime that make the weights of a Gemm its left operand: (x W)^T is written as W^T x^T.
_UNWANTED = ("GemmTransposeFusion",)
_CONVERTER_LACKS = "No Adapter"  # how the version converter says that it has no rule for an operator


@dataclass(frozen=True)
class FloatLayer:
    """A node with constant float weights."""

    name: str
    kind: str
    source: str
    output: str
    """source and output: names of the activations around it."""
    weight: str
    bias: str
    """weight and bias: names of the constants."""
    channel_axis: int
    """Of the output channels among the weights' axes."""
    depth_axis: int
    """Of the input channels, along which groups lie."""


@dataclass(frozen=True, eq=False)
class FloatModel:
    """A float model that can be quantised."""

    name: str
    sha256: str
    original: bytes = field(repr=False)
    """The file as it came, the data of other files inside."""
    proto: ModelProto = field(repr=False)
    """The same network, tidied: constants folded, batch normalisation part of the weights, every node named, shapes
    inferred."""
    inputs: Mapping[str, TensorType]
    layers: tuple[FloatLayer, ...]
    external: tuple[ExternalFile, ...] = ()
    """Those other files."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the model's outputs."""
        return tuple(value.name for value in self.proto.graph.output)

    def constant(self, name: str) -> Floats:
        """Return a float constant by its name."""
        return constants(self.proto)[name]

    def batch(self, usual: int) -> int:
        """Return how many samples a run takes: the model's own number, or a usual one where it leaves that open.

        Args:
            usual: what is taken where any number will do.
        """
        return usual if self.dynamic_batch() else int(next(iter(self.inputs.values())).shape[0])

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
    external_data: bool | None = None,
) -> FloatModel:
    """Read a float model and prepare it for quantisation.

    Args:
        source: path of an .onnx file, its bytes, or models:NAME-float for one of our own.
        limits: budgets; None takes the defaults.
        opset: operator set that the result must have at least; older files are converted.
        external_data: False refuses tensors in other files; else they are read, which must lie in the model's folder.

    Raises:
        UsageError: there is no such file.
        InvalidModelError: the file is no ONNX model, or a broken one.
        UnsupportedModelError: it is quantised already, has control flow, or cannot be converted.
        ResourceLimitError: it is larger than the limits allow.
    """
    limits = limits or Limits()
    data, name, folder = read_file(source, limits)
    forbidden = external_data is False and folder is not None
    proto, external = checked_proto(data, name, None if forbidden else folder, limits, forbidden=forbidden)
    original = bytes(proto.SerializeToString()) if external else data
    proto = _prepared(proto, name, opset)
    layers = tuple(_layers(proto.graph))
    if not layers:
        raise UnsupportedModelError(_nothing_to_quantise(proto.graph, name))
    return FloatModel(name, hashlib.sha256(data).hexdigest(), original, proto, _inputs(proto), layers, external)


def read_again(model: FloatModel, opset: int, limits: Limits | None = None) -> FloatModel:
    """Return a model that was read before, prepared in another operator set.

    Args:
        model: the model.
        opset: operator set that the result must have at least.
        limits: budgets; None takes the defaults.
    """
    return replace(read_float_model(model.original, limits, opset), name=model.name)


def _prepared(proto: ModelProto, name: str, opset: int) -> ModelProto:
    """Bring a model to an operator set, and tidy it: one with Gelu, if it spells that as a chain and can be brought."""
    tidy = _tidied(_converted(proto, name, opset), name)
    if opset_of(tidy) >= OPSET_WITH_GELU or not find_gelus(tidy.graph):
        return tidy
    try:
        return _tidied(_converted(proto, name, OPSET_WITH_GELU), name)
    except UnsupportedModelError:
        return tidy


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
        # Its other complaints are assertions of its sources, which say nothing about the model.
        _, lacks, which = reason_of(error, 400).partition(_CONVERTER_LACKS)
        why = f" ({printable(lacks + which, 160)})" if lacks else ""
        raise UnsupportedModelError(
            f"{name} uses operator set {has}, and the converter cannot bring it to {opset}, which the quantisers need"
            f"{why}: export it with operator set {opset} or later"
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
            open_session(proto.SerializeToString(), optimise="basic", save=str(path), without=_UNWANTED)
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
    if opset_of(tidy) >= OPSET_WITH_GELU:
        write_gelus(tidy.graph)
    _name_nodes(tidy.graph)
    _fold_factors(tidy.graph)
    _transpose_weights(tidy.graph)
    split_odd_biases(tidy.graph)
    rename_made(tidy.graph, proto.graph)
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
        if tensor.elem_type not in INPUT_TYPES:
            raise UnsupportedModelError(
                f"input '{printable(value.name)}' is {element_name(tensor.elem_type)}, which samples cannot hold: "
                f"export the model with an input of numbers"
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
        if not is_weighted(node) or node.input[1] not in floats or node.input[0] in floats:
            continue
        rank = floats[node.input[1]]
        if rank < 2:
            continue
        channel, depth = (axis % rank for axis in WEIGHT_AXES[node.op_type])
        if node.op_type == "Gemm" and attribute_of(node, "transB", 0):
            channel, depth = depth, channel
        bias = node.input[2] if len(node.input) > 2 and node.input[2] in floats else ""
        layers.append(
            FloatLayer(node.name, node.op_type, node.input[0], node.output[0], node.input[1], bias, channel, depth)
        )
    return layers


def _nothing_to_quantise(graph: GraphProto, name: str) -> str:
    """Say why a network has no layer that can be quantised."""
    floats = {t.name for t in graph.initializer if t.data_type == TensorProto.FLOAT and len(t.dims) > 1}
    left = next((n for n in graph.node if n.op_type in ("MatMul", "Gemm") and n.input[0] in floats), None)
    if left is not None:
        return (
            f"{name} has no layer to quantise, since the constant of {left.op_type} "
            f"'{printable(node_label(left), 60)}' is its left operand, and weights are the right one: write W x as the "
            f"transpose of x^T W^T"
        )
    return (
        f"{name} has no convolution or matrix product with constant weights, so there is nothing to quantise: "
        f"give a network with weights"
    )
