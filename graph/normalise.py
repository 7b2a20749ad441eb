"""Normalisation: onnxruntime's own optimiser writes the graph that it really executes (design, decision 3)."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from accelsim.errors import (
    AccelSimError,
    InvalidModelError,
    ResourceLimitError,
    UnsupportedModelError,
    UsageError,
    printable,
    reason_of,
)
from accelsim.graph.element_types import INPUT_TYPES
from accelsim.graph.limits import Limits
from accelsim.graph.loader import CheckedModel, Weights, array_of, copy_model, without_weights
from accelsim.graph.qonnx_expand import ExpandedQuantiser
from accelsim.graph.reference import Reference, choose_reference, literal_reference
from accelsim.graph.scalar_scales import make_scales_scalar
from accelsim.graph.tensor_checks import check_quantisation_parameters
from accelsim.host import open_session, run_session
from accelsim.tensors import TensorType

ORT_DTYPES: dict[str, str] = {
    "tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16", "tensor(uint8)": "uint8",
    "tensor(int8)": "int8", "tensor(uint16)": "uint16", "tensor(int16)": "int16", "tensor(int32)": "int32",
    "tensor(uint32)": "uint32", "tensor(int64)": "int64", "tensor(uint64)": "uint64", "tensor(bool)": "bool",
    "tensor(int4)": "int4", "tensor(uint4)": "uint4", "tensor(int2)": "int2", "tensor(uint2)": "uint2",
}  # fmt: skip


_WEIGHTS_FILE = "weights"
_BLOCK = 1 << 20  # bytes written at once


@dataclass(eq=False)
class ExposedSession:
    """onnxruntime on the optimised graph with every tensor as an output; opened when needed, closed to free memory."""

    data: bytes
    weights: Weights
    name: str
    reference: Reference
    _session: Any = field(default=None, repr=False)

    @property
    def session(self) -> Any:
        """The open session."""
        if self._session is None:
            self._session = _open(self.data, self.name, self.reference, weights=self.weights)
        return self._session

    def close(self) -> None:
        """Free a session that holds its own copy of large weights; others are cheaper to keep than to open again."""
        if self.weights:
            self._session = None


@dataclass(frozen=True, eq=False)
class NormalisedModel:
    """The graph that onnxruntime executes for fixed input shapes, with the type of every tensor in it.

    source: the checked model with its dynamic dimensions bound, its large constants declared as external; weights:
    the data of those constants; proto: the optimised graph; inputs: types of the graph inputs; types: types of all
    tensors that nodes produce; exposed: onnxruntime on that graph, every tensor an output; quantisers: of a QONNX
    model, whose graph spells them in standard operators.
    """

    name: str
    sha256: str
    source: ModelProto
    weights: Weights
    proto: ModelProto
    reference: Reference
    inputs: Mapping[str, TensorType]
    types: Mapping[str, TensorType]
    exposed: ExposedSession
    quantisers: tuple[ExpandedQuantiser, ...] = ()

    def without_weights(self) -> NormalisedModel:
        """Return the same without the data of large constants in proto, which only the import needs."""
        return replace(self, proto=without_weights(self.proto))


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
    model: CheckedModel,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    limits: Limits | None = None,
    mode: str = "ort",
) -> NormalisedModel:
    """Let onnxruntime optimise the model for fixed input shapes, and read back graph and types.

    Args:
        model: the checked model.
        shapes: shape of every input; None binds dynamic dimensions to 1.
        limits: budgets for the tensors found.
        mode: which configuration of onnxruntime is the reference, see accelsim.graph.reference.MODES.

    Raises:
        InvalidModelError: onnxruntime refuses the model.
        UnsupportedModelError: a tensor's shape depends on data, or its element type is not executed.
    """
    shapes = shapes or {name: kind.shape for name, kind in input_types(model).items()}
    source = bind_shapes(model, shapes)
    make_scales_scalar(source)
    reference = literal_reference() if model.quantisers else choose_reference(model.proto, mode)
    bare, weights = _optimise(source, model, reference)
    exposed = ExposedSession(_expose(bare), weights, model.name, reference)
    declared = {value.name: _type_of(value, limits or Limits()) for value in exposed.session.get_inputs()}
    if not reference.optimised or _rounds_up(bare):  # the optimiser off leaves shapes unknown that constants decide
        types = _observed_types(exposed.session, declared, limits or Limits())
    else:
        types = {value.name: _type_of(value, limits or Limits()) for value in exposed.session.get_outputs()}
    exposed.close()
    proto = _with_weights(bare, weights)
    check_quantisation_parameters(proto, optimised=True)  # folding constants may have made scales out of other ones
    return NormalisedModel(
        model.name, model.sha256, source, model.weights, proto, reference, declared, types, exposed, model.quantisers
    )


def _optimise(source: ModelProto, model: CheckedModel, reference: Reference) -> tuple[ModelProto, Weights]:
    """Run onnxruntime's optimiser at ORT_ENABLE_EXTENDED and read the graph it writes, large constants apart.

    Where the reference executes the file literally, the optimiser is off and the graph is the file's own.
    """
    entries = reference.entries
    if model.weights:
        smallest = str(min(array.nbytes for array in model.weights.values()))
        entries += (
            ("session.optimized_model_external_initializers_file_name", _WEIGHTS_FILE),
            ("session.optimized_model_external_initializers_min_size_in_bytes", smallest),
        )
    with _temporary_folder() as folder:
        path = folder / "normalised.onnx"
        settings, data = replace(reference, entries=entries), source.SerializeToString()
        level = "extended" if reference.optimised else "none"
        try:
            _open(data, model.name, settings, weights=model.weights, optimise=level, save=str(path))
        except AccelSimError:
            _check_room(folder, len(data) + sum(array.nbytes for array in model.weights.values()))
            raise
        optimised = ModelProto.FromString(path.read_bytes())
        weights = _read_weights(optimised, path.with_name(_WEIGHTS_FILE), model.weights)
    return optimised, weights


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Make a folder for what onnxruntime writes, which is removed afterwards."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="accel-sim-")
    except OSError as error:
        raise _no_room(error) from None
    with folder as name:
        yield Path(name)


def _check_room(folder: Path, size: int) -> None:
    """Write as much as onnxruntime had to, which calls a file that it cannot write a model that it refuses."""
    try:
        with (folder / "probe").open("wb") as file:
            for start in range(0, size, _BLOCK):
                file.write(bytes(min(_BLOCK, size - start)))
    except OSError as error:
        raise _no_room(error) from None


def _no_room(error: OSError) -> ResourceLimitError:
    """Return the error for temporary files that cannot be written."""
    return ResourceLimitError(
        f"cannot write temporary files ({error.strerror or error}): free space, raise the limit on file sizes, or name "
        f"another folder with TMPDIR"
    )


def _read_weights(optimised: ModelProto, path: Path, known: Weights) -> Weights:
    """Read the constants that onnxruntime wrote apart; those that it left alone share the memory of the source."""
    weights: dict[str, NDArray[np.generic]] = {}
    for tensor in optimised.graph.initializer:
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        place = {entry.key: entry.value for entry in tensor.external_data}
        with path.open("rb") as file:
            file.seek(int(place.get("offset", 0)))
            data = file.read(int(place["length"]))
        if tensor.data_type in INPUT_TYPES:
            weights[tensor.name] = _shared(known.get(tensor.name), array_of(tensor, data))
        else:  # a type that numpy lacks stays in the message
            _fill(tensor, data)
    return weights


def _shared(known: NDArray[np.generic] | None, array: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return the known array when it is the same to the bit, so that the other one can be freed."""
    if known is None or (known.dtype, known.shape) != (array.dtype, array.shape):
        return array
    return known if known.tobytes() == array.tobytes() else array


def _fill(tensor: TensorProto, data: bytes) -> TensorProto:
    """Put data into a tensor that was declared as external."""
    tensor.raw_data = data
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    return tensor


def _with_weights(proto: ModelProto, weights: Weights) -> ModelProto:
    """Return the model with the data of its large constants; without any it is the same message."""
    if not weights:
        return proto
    copy = copy_model(proto, lambda tensor: tensor)
    for tensor in copy.graph.initializer:
        if tensor.name in weights:
            _fill(tensor, weights[tensor.name].tobytes())
    return copy


def _open(data: bytes, name: str, reference: Reference, **options: Any) -> Any:
    """Open a session, turning onnxruntime's refusal into one sentence."""
    try:
        return open_session(data, entries=reference.entries, **options)
    except Exception as error:  # onnxruntime's errors have no common base class
        raise _refusal(str(error), f"onnxruntime refuses {name}: {reason_of(error)}: ") from None


def _refusal(detail: str, sentence: str) -> AccelSimError:
    """Tell a kernel that onnxruntime lacks and memory that it cannot get from a broken model."""
    if "attribute: dilations" in detail and "QLinearAveragePool" in detail:
        found = re.search(r'In Node, \("([^"]*)"', detail)
        label = printable(found.group(1) if found else "(unnamed)")
        return UnsupportedModelError(
            f"AveragePool '{label}' is quantised and has the attribute dilations, with which onnxruntime, the "
            f"reference, cannot load it: leave the attribute out where it is 1, else remove the Q/DQ nodes around it"
        )
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


def _observed_types(session: Any, declared: Mapping[str, TensorType], limits: Limits) -> dict[str, TensorType]:
    """Return the types of all tensors as one run on zeros shows them."""
    names = [value.name for value in session.get_outputs()]
    zeros = {name: np.zeros(kind.shape, kind.dtype) for name, kind in declared.items()}
    arrays = run_session(session, names, zeros)
    for name, array in zip(names, arrays, strict=True):
        limits.check_shape(name, array.shape)
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
