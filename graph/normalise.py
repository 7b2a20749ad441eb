"""Normalisation: onnxruntime's own optimiser writes the graph that it really executes (design, decision 3)."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, helper

from accelsim.errors import (
    AccelSimError,
    InvalidModelError,
    ResourceLimitError,
    UnsupportedModelError,
    UsageError,
    printable,
    reason_of,
)
from accelsim.graph.limits import Limits
from accelsim.graph.loader import CheckedModel
from accelsim.graph.reference import Reference, choose_reference
from accelsim.graph.tensor_checks import check_quantisation_parameters
from accelsim.host import open_session, run_session
from accelsim.tensors import TensorType

ORT_DTYPES: dict[str, str] = {
    "tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16", "tensor(uint8)": "uint8",
    "tensor(int8)": "int8", "tensor(uint16)": "uint16", "tensor(int16)": "int16", "tensor(int32)": "int32",
    "tensor(uint32)": "uint32", "tensor(int64)": "int64", "tensor(uint64)": "uint64", "tensor(bool)": "bool",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class NormalisedModel:
    """The graph that onnxruntime executes for fixed input shapes, with the type of every tensor in it.

    source: the checked model with its dynamic dimensions bound; proto: the optimised graph; inputs: types of the graph
    inputs; types: types of all tensors that nodes produce; exposed_session: onnxruntime on that graph with every tensor
    as an output.
    """

    name: str
    sha256: str
    source: ModelProto
    proto: ModelProto
    reference: Reference
    inputs: Mapping[str, TensorType]
    types: Mapping[str, TensorType]
    exposed_session: Any


def input_types(model: CheckedModel, batch: int = 1) -> dict[str, TensorType]:
    """Return the declared inputs, dynamic dimensions replaced by the batch size given."""
    types = {}
    wanted = set(model.input_names)
    for value in model.proto.graph.input:
        if value.name in wanted:
            tensor = value.type.tensor_type
            dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
            types[value.name] = TensorType.of(dtype, [dim.dim_value or batch for dim in tensor.shape.dim])
    return types


def declared_shape(model: CheckedModel, name: str) -> tuple[int | str, ...]:
    """Return the shape of an input as the file states it, names standing for dynamic dimensions."""
    value = next(value for value in model.proto.graph.input if value.name == name)
    return tuple(dim.dim_value or dim.dim_param or "?" for dim in value.type.tensor_type.shape.dim)


def bind_shapes(model: CheckedModel, shapes: Mapping[str, tuple[int, ...]]) -> ModelProto:
    """Return a copy of the model in which every input has a fixed shape.

    Args:
        model: the checked model.
        shapes: shape of every graph input.

    Raises:
        UsageError: a shape contradicts the declared one.
    """
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    bound: dict[str, int] = {}
    for value in proto.graph.input:
        if value.name not in shapes:
            continue
        declared = declared_shape(model, value.name)
        shape = shapes[value.name]
        fits = len(declared) == len(shape) and all(
            isinstance(d, str) or d == s for d, s in zip(declared, shape, strict=True)
        )
        if not fits or 0 in shape:
            dims = "x".join(map(str, declared))
            raise UsageError(
                f"input '{printable(value.name)}' must have the shape {dims}, not {'x'.join(map(str, shape))}: "
                f"give that shape"
            )
        for dim, size in zip(value.type.tensor_type.shape.dim, shape, strict=True):
            if dim.dim_param and bound.setdefault(dim.dim_param, size) != size:
                raise UsageError(
                    f"dimension '{printable(dim.dim_param)}' is {bound[dim.dim_param]} in one input and {size} in "
                    f"'{printable(value.name)}': give equal sizes"
                )
            dim.Clear()
            dim.dim_value = size
    for value in proto.graph.output:  # stale names of dynamic dimensions would contradict the bound ones
        value.type.tensor_type.ClearField("shape")
    del proto.graph.value_info[:]
    return proto


def normalise(
    model: CheckedModel, shapes: Mapping[str, tuple[int, ...]] | None = None, limits: Limits | None = None
) -> NormalisedModel:
    """Let onnxruntime optimise the model for fixed input shapes, and read back graph and types.

    Args:
        model: the checked model.
        shapes: shape of every input; None binds dynamic dimensions to 1.
        limits: budgets for the tensors found.

    Raises:
        InvalidModelError: onnxruntime refuses the model.
        UnsupportedModelError: a tensor's shape depends on data, or its element type is not executed.
    """
    shapes = shapes or {name: kind.shape for name, kind in input_types(model).items()}
    source = bind_shapes(model, shapes)
    reference = choose_reference(model.proto)
    proto = _optimise(source, model.name, reference)
    session = _open(_expose(proto), model.name, reference)
    types = {value.name: _type_of(value, limits or Limits()) for value in session.get_outputs()}
    declared = {value.name: _type_of(value, limits or Limits()) for value in session.get_inputs()}
    if _rounds_up(proto):
        types = _observed_types(session, declared)
    return NormalisedModel(model.name, model.sha256, source, proto, reference, declared, types, session)


def _optimise(source: ModelProto, name: str, reference: Reference) -> ModelProto:
    """Run onnxruntime's optimiser at ORT_ENABLE_EXTENDED and read the graph it writes."""
    with tempfile.TemporaryDirectory(prefix="accel-sim-") as folder:
        path = Path(folder) / "normalised.onnx"
        _open(source.SerializeToString(), name, reference, optimise="extended", save=str(path))
        optimised = ModelProto.FromString(path.read_bytes())
    check_quantisation_parameters(optimised)  # folding constants may have made scales out of other ones
    return optimised


def _open(data: bytes, name: str, reference: Reference, **options: str) -> Any:
    """Open a session, turning onnxruntime's refusal into one sentence."""
    try:
        return open_session(data, entries=reference.entries, **options)
    except Exception as error:  # onnxruntime's errors have no common base class
        raise _refusal(str(error), f"onnxruntime refuses {name}: {reason_of(error)}: ") from None


def _refusal(detail: str, sentence: str) -> AccelSimError:
    """Tell a kernel that onnxruntime lacks and memory that it cannot get from a broken model."""
    if "NOT_IMPLEMENTED" in detail:
        return UnsupportedModelError(sentence + "use another operator or element type")
    if "bad_alloc" in detail or "Failed to allocate" in detail:
        return ResourceLimitError(sentence + "use a smaller model or input")
    return InvalidModelError(sentence + "repair or export the model again")


def _expose(proto: ModelProto) -> bytes:
    """Make every tensor of the graph an output."""
    copy = ModelProto()
    copy.CopyFrom(proto)
    outputs = [name for node in proto.graph.node for name in node.output if name]
    produced = set(outputs)
    outputs += [value.name for value in proto.graph.output if value.name not in produced]
    del copy.graph.output[:]
    copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in outputs)
    data: bytes = copy.SerializeToString()
    return data


def _rounds_up(proto: ModelProto) -> bool:
    """Tell whether a pool has ceil_mode, whose output onnx's shape inference may give one window too many."""
    return any(
        attribute.name == "ceil_mode" and attribute.i for node in proto.graph.node for attribute in node.attribute
    )


def _observed_types(session: Any, declared: Mapping[str, TensorType]) -> dict[str, TensorType]:
    """Return the types of all tensors as one run on zeros shows them."""
    names = [value.name for value in session.get_outputs()]
    zeros = {name: np.zeros(kind.shape, kind.dtype) for name, kind in declared.items()}
    arrays = run_session(session, names, zeros)
    return {name: TensorType.of(array.dtype, array.shape) for name, array in zip(names, arrays, strict=True)}


def _type_of(value: Any, limits: Limits) -> TensorType:
    """Read the type that onnxruntime inferred for a tensor."""
    if value.type not in ORT_DTYPES:
        raise UnsupportedModelError(
            f"tensor '{printable(value.name)}' has the type {value.type}, which is not executed: use dense tensors"
        )
    if not all(isinstance(dimension, int) for dimension in value.shape):
        raise UnsupportedModelError(
            f"the shape of tensor '{printable(value.name)}' depends on data ({value.shape}), so its work cannot be "
            f"planned: export the model with static shapes"
        )
    limits.check_shape(value.name, value.shape)
    return TensorType.of(np.dtype(ORT_DTYPES[value.type]), value.shape)
