"""From a float model to a Q/DQ model: read, calibrate, equalise, round, correct, write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from accelsim.errors import UsageError, nearest, printable
from accelsim.graph.load.limits import Limits
from accelsim.progress import Steps
from accelsim.quantise.calibrate.calibration import Calibration, load_calibration
from accelsim.quantise.calibrate.ranges import Range, Ranges, choose_ranges
from accelsim.quantise.calibrate.refine import refined_ranges
from accelsim.quantise.measure.attempt import attempt
from accelsim.quantise.measure.lowered import float_layers
from accelsim.quantise.methods.bias_correction import corrected_biases
from accelsim.quantise.methods.equalise import equalised
from accelsim.quantise.network.names import with_full_names
from accelsim.quantise.network.source import FloatModel, opset_of, read_again, read_float_model
from accelsim.quantise.scheme import Scheme, parse_scheme
from accelsim.quantise.write.emit import Emission, emit
from accelsim.quantise.write.sharing import separated
from accelsim.quantise.write.weights import Weights, quantise_weights, ungrouped
from accelsim.simulation.model import Model, load

Array = NDArray[np.generic]


@dataclass(frozen=True, eq=False)
class Quantised:
    """A quantised model and everything that went into it."""

    model: FloatModel
    """The float model that was quantised, equalised or not."""
    scheme: Scheme
    """How."""
    data: Calibration = field(repr=False)
    """The calibration samples."""
    onnx: bytes = field(repr=False)
    """The Q/DQ file."""
    ranges: Ranges = field(repr=False)
    """Chosen for all activations, which a clamp or a Softmax may overrule."""
    emission: Emission = field(repr=False)
    """Grids and codes."""
    float_bytes: int
    """Of the float model's constants."""
    said: tuple[str, ...]
    """Sentences for the user about what was done."""

    @cached_property
    def loaded(self) -> Model:
        """The Q/DQ file as the machine reads it.

        Raises:
            AccelSimError: the machine cannot take it.
        """
        return load(self.onnx)

    @cached_property
    def float_layers(self) -> tuple[tuple[str, str], ...]:
        """Name and operator of the layers that `accel-sim run` leaves to float.

        Raises:
            AccelSimError: the machine cannot take the file.
        """
        first = next(iter(self.data.batches(self.model)))
        return float_layers(self.loaded, {name: array.shape for name, array in first.items()})

    @cached_property
    def remarks(self) -> tuple[str, ...]:
        """Sentences for the user: what was done, and what stays in float on the machine."""
        found, reason = attempt(lambda: self.float_layers)
        if found is None:
            return (*self.said, f"which operators stay in float is not known, because {reason}")
        return (*self.said, *_in_float(found))

    @property
    def weights(self) -> Weights:
        """Quantised weights by layer."""
        return self.emission.weights

    @property
    def parameters_bytes(self) -> int:
        """Bytes of all constants, packed: codes, scales, zero points, biases."""
        return constants_bytes(self.emission.proto)

    @property
    def effective_bits(self) -> float:
        """Bits per quantised weight in the file, scales and zero points counted."""
        distinct = {weights.layer.weight: weights for weights in self.weights.values()}.values()
        return sum(w.stored_bits for w in distinct) / max(sum(w.codes.size for w in distinct), 1)

    def save(self, path: str | Path) -> None:
        """Write the Q/DQ file, whole or not at all."""
        from accelsim.files.writing import written_atomically

        with written_atomically(Path(path)) as file:
            file.write(self.onnx)


def quantize(
    model: FloatModel | str | Path | bytes,
    scheme: Scheme | str = "int8-per-channel",
    calibration: Calibration | Mapping[str, Array] | str | Path | None = None,
    *,
    seed: int = 0,
    limits: Limits | None = None,
    external_data: bool | None = None,
    progress: Steps | None = None,
) -> Quantised:
    """Quantise a float model after training.

    Args:
        model: path or bytes of an .onnx file, or a model that was read before.
        scheme: a `Scheme`, or text as `parse_scheme` reads it, such as "int8-per-channel" or "w4a8+bias_correction".
        calibration: arrays by input name (first axis samples), an .npz file of such, a folder of .npy or .png files, or
            None for synthetic data, which says nothing about accuracy.
        seed: of synthetic data.
        limits: budgets for reading; None takes the defaults.
        external_data: False refuses tensors in other files; else they are read from the model's folder.
        progress: called with (what is being done, how far, of how many).

    Returns:
        The model as bytes of an .onnx file, with the grids behind it.

    Raises:
        AccelSimError: anything the user can do something about; see accelsim.errors.
    """
    scheme = parse_scheme(scheme) if isinstance(scheme, str) else scheme
    if not scheme.is_integer:
        raise UsageError(f"the scheme {scheme.name} keeps floats, so there is nothing to quantise: choose another")
    if not isinstance(model, FloatModel):
        model = read_float_model(model, limits, scheme.opset, external_data=external_data)
    elif opset_of(model.proto) < scheme.opset:
        model = read_again(model, scheme.opset, limits)
    data = load_calibration(calibration, model, seed=seed)
    if scheme.needs_labels and data.labels is None:
        raise UsageError("ranges by cross-entropy need the class of each sample: give labels")
    scheme = with_full_names(scheme, model)
    kept, float_bytes = _kept_layers(model, scheme), constants_bytes(model.proto)
    model = separated(model, scheme)
    remarks: list[str] = []
    if scheme.equalise:
        model, pairs = equalised(model)
        remarks += [] if pairs else ["no two convolutions follow each other in a way that can be equalised"]
    ranges = choose_ranges(model, data, scheme, progress)
    weights = quantise_weights(model, scheme, kept)
    remarks += ungrouped(weights, scheme.block)
    biases = corrected_biases(model, data, weights, progress) if scheme.bias_correction else {}
    if scheme.needs_labels:
        ranges = refined_ranges(model, data, scheme, ranges, weights, biases, progress)
    remarks += _uncorrected(weights, biases) if scheme.bias_correction else []
    emission = emit(model, scheme, ranges, weights, biases)
    said = (*data.warnings, *remarks, *emission.remarks, *_dead(emission, ranges))
    content = emission.proto.SerializeToString(deterministic=True)
    return Quantised(model, scheme, data, content, ranges, emission, float_bytes, said)


def constants_bytes(proto: ModelProto) -> int:
    """Return the bytes of all constants of a model, packed.

    Args:
        proto: the model.
    """
    from accelsim.graph.load.element_types import size_bytes

    return sum(size_bytes(tensor) for tensor in proto.graph.initializer)


def _uncorrected(weights: Weights, biases: Mapping[str, Array]) -> list[str]:
    """Say which layers bias correction could not correct."""
    left = [name for name in weights if name not in biases]
    if not left:
        return []
    shown = ", ".join(f"'{printable(name, 50)}'" for name in left[:4])
    more = f" and {len(left) - 4} more" if len(left) > 4 else ""
    return [f"{len(left)} layer(s) have no constant bias that could be corrected: {shown}{more}"]


def _kept_layers(model: FloatModel, scheme: Scheme) -> frozenset[str]:
    """Return the layers that stay in float.

    Raises:
        UsageError: a layer or a kind of operator that the scheme names does not exist, or nothing is left to quantise.
    """
    names = {node.name for node in model.proto.graph.node}
    kinds = {node.op_type for node in model.proto.graph.node}
    layers = [layer.name for layer in model.layers]
    for name in scheme.keep_float:
        if name not in names | kinds:
            raise UsageError(
                f"there is no layer or operator '{printable(name)}' to keep in float ({nearest(name, layers)})"
            )
    for entry in scheme.layer_bits:
        if entry.layer not in layers:
            raise UsageError(
                f"there is no layer '{printable(entry.layer)}' with weights ({nearest(entry.layer, layers)})"
            )
    kept = frozenset(layer.name for layer in model.layers if {layer.name, layer.kind} & set(scheme.keep_float))
    if len(kept) == len(layers):
        raise UsageError("every layer is kept in float, so there is nothing to quantise: keep fewer")
    return kept


def _in_float(layers: Sequence[tuple[str, str]]) -> list[str]:
    """Say which layers stay in float."""
    if not layers:
        return []
    shown = ", ".join(f"{printable(kind, 40)} '{printable(name, 50)}'" for name, kind in layers[:8])
    more = f" and {len(layers) - 8} more" if len(layers) > 8 else ""
    return [f"{len(layers)} operator(s) stay in float: {shown}{more}"]


def _dead(emission: Emission, ranges: Ranges) -> list[str]:
    """Say which tensors had no range."""
    dead = [a.tensor for a in emission.activations if _is_dead(ranges.get(a.tensor))]
    if not dead:
        return []
    shown = ", ".join(f"'{printable(name, 50)}'" for name in dead[:4])
    more = f" and {len(dead) - 4} more" if len(dead) > 4 else ""
    return [f"{len(dead)} tensor(s) are always 0 in the calibration data and have no range: {shown}{more}"]


def _is_dead(found: Range | None) -> bool:
    """Tell whether a tensor was 0 throughout."""
    return found is not None and found.smallest == found.largest == 0
