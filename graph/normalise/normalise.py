"""Normalisation: onnxruntime's own optimiser writes the graph that it really executes (ADR 2)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto

from accelsim.errors import AccelSimError, InvalidModelError, ResourceLimitError, printable
from accelsim.graph.load.element_types import INPUT_TYPES
from accelsim.graph.load.limits import Limits
from accelsim.graph.load.loader import CheckedModel, Weights, array_of, copy_model, without_weights
from accelsim.graph.load.tensor_checks import check_quantisation_parameters
from accelsim.graph.normalise.binding import Shapes, check_shapes, input_types
from accelsim.graph.normalise.block_quantisation import multiply_in_float, runs_in_int8
from accelsim.graph.normalise.constant_casts import fold_constant_casts
from accelsim.graph.normalise.reference import Reference, choose_reference, literal_reference
from accelsim.graph.normalise.sessions import ExposedSession, open_reference
from accelsim.graph.normalise.tensor_types import Feeds, find_types
from accelsim.graph.qonnx.expand import ExpandedQuantiser
from accelsim.operators.tensors import TensorType

_WEIGHTS_FILE = "weights"
_BREAKS_FILES = "QDQSelectorActionTransformer"
_BLOCK = 1 << 20  # bytes written at once


@dataclass(frozen=True, eq=False)
class NormalisedModel:
    """The graph that onnxruntime executes for fixed input shapes, with the type of every tensor in it."""

    name: str
    sha256: str
    source: ModelProto
    """The checked model, its large constants declared as external."""
    file: bytes
    """The bytes that the reference runs, empty where it runs source instead."""
    weights: Weights
    """Data of the large constants of source."""
    proto: ModelProto
    """The optimised graph, for the sizes of this run."""
    reference: Reference
    inputs: Mapping[str, TensorType]
    """Types of the graph inputs."""
    types: Mapping[str, TensorType]
    """Types of all tensors that nodes produce."""
    exposed: ExposedSession
    """Onnxruntime on that graph, every tensor an output."""
    quantisers: tuple[ExpandedQuantiser, ...] = ()
    """Of a QONNX model, whose graph spells them in standard operators."""
    by_data: tuple[str, ...] = ()
    """Tensors whose shapes are those that the inputs of this run gave."""
    narrowed: int = 0
    """Products whose activations onnxruntime quantises to int8 in the file, and not in this graph."""

    def with_float_products(self, outputs: frozenset[str]) -> NormalisedModel:
        """Return the same with MatMulNBits that multiply in float32, where they quantise their activations otherwise.

        Args:
            outputs: of the nodes.
        """
        if not outputs:
            return self
        types = {**self.inputs, **self.types}
        nodes = [node for node in self.proto.graph.node if node.output[0] in outputs]
        narrowed = sum(runs_in_int8(node, types[node.input[0]].dtype.name) for node in nodes)
        copy = ModelProto()
        copy.CopyFrom(self.proto)
        multiply_in_float(copy, outputs)
        return replace(self, proto=copy, exposed=self.exposed.with_float_products(outputs), narrowed=narrowed)

    def without_weights(self) -> NormalisedModel:
        """Return the same without the data of large constants in proto, which only the import needs."""
        return replace(self, proto=without_weights(self.proto))


def normalise(
    model: CheckedModel,
    shapes: Shapes | None = None,
    limits: Limits | None = None,
    mode: str = "ort",
    feeds: Feeds | None = None,
) -> NormalisedModel:
    """Let onnxruntime optimise the user's file, and read back graph and types for inputs of fixed shapes.

    The dimensions that the file leaves open are still open when onnxruntime optimises it, since that decides what it
    fuses; they are bound afterwards.

    Args:
        model: the checked model.
        shapes: shape of every input; None binds dynamic dimensions to 1.
        limits: budgets for the tensors found.
        mode: which configuration of onnxruntime is the reference, see accelsim.graph.normalise.reference.MODES.
        feeds: gives the inputs of the run, which are looked at only where a shape depends on data; None takes zeros.

    Raises:
        UsageError: a shape contradicts the declared one.
        InvalidModelError: onnxruntime refuses the model.
        UnsupportedModelError: a tensor's element type is not executed.
    """
    shapes = shapes or {name: kind.shape for name, kind in input_types(model).items()}
    check_shapes(model, shapes)
    reference = literal_reference() if model.quantisers else choose_reference(model.proto, mode)
    reference, bare, weights = _optimised(model, reference)
    if model.subject:
        reference = reference.on(model.subject)
    if model.bound:
        bound = ", ".join(f"{printable(name, 40)}={size}" for name, size in model.bound)
        reference = reference.on(f"{model.subject or 'the file'} with {bound} bound")
    found = find_types(bare, weights, shapes, model.name, reference, limits or Limits(), feeds)
    proto = _with_weights(found.proto, weights)
    check_quantisation_parameters(proto)  # folding constants may have made scales out of other ones
    return NormalisedModel(
        model.name,
        model.sha256,
        model.proto,
        b"" if model.quantisers else model.file,
        model.weights,
        proto,
        reference,
        found.inputs,
        found.types,
        found.exposed,
        model.quantisers,
        found.by_data,
    )


def _optimised(model: CheckedModel, reference: Reference) -> tuple[Reference, ModelProto, Weights]:
    """Let onnxruntime optimise a file, without the optimiser that fuses quantisers where it breaks the file.

    It does where scales have the shape [1], which the fused operators do not take, or zero points are missing.
    """
    try:
        return reference, *_optimise(model.proto, model, reference)
    except InvalidModelError as refusal:
        if not reference.optimised:
            raise
        other = reference.excluding(_BREAKS_FILES)
        try:
            return other, *_optimise(model.proto, model, other)
        except AccelSimError:
            raise refusal from None


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
            open_reference(
                data,
                model.name,
                settings,
                weights=model.weights,
                optimise=level,
                save=str(path),
                without=reference.without,
            )
        except AccelSimError:
            _check_room(folder, len(data) + sum(array.nbytes for array in model.weights.values()))
            raise
        optimised = ModelProto.FromString(path.read_bytes())
        weights = _read_weights(optimised, path.with_name(_WEIGHTS_FILE), model.weights)
    return fold_constant_casts(optimised, weights) if reference.optimised else (optimised, weights)


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
