"""Calibration data: arrays by input name from .npz, a folder of .npy or .png, or a seed; checked against the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import ResourceLimitError, UsageError, nearest, printable, reason_of
from accelsim.operators.tensors import TensorType
from accelsim.quantise.network.source import FloatModel
from accelsim.simulation.inputs import LARGEST_NPZ_BYTES, draw_inputs, read_npz

Array = NDArray[np.generic]
Feeds = dict[str, Array]

LABELS = "labels"  # an array of this name beside the inputs holds the classes
BATCH = 16
_SYNTHETIC_SAMPLES = 16


@dataclass(frozen=True, eq=False)
class Calibration:
    """Samples to calibrate or to measure with."""

    arrays: Mapping[str, Array] = field(repr=False)
    """By input name, first axis samples."""
    labels: NDArray[np.int64] | None
    """The class of each sample, or None."""
    origin: str
    """Where they come from."""
    warnings: tuple[str, ...] = ()
    """What a reader should know about them."""

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return len(next(iter(self.arrays.values())))

    def first(self, count: int) -> Calibration:
        """Return the first samples only."""
        labels = None if self.labels is None else self.labels[:count]
        return Calibration({n: a[:count] for n, a in self.arrays.items()}, labels, self.origin, self.warnings)

    def spread(self, model: FloatModel, count: int) -> Calibration:
        """Return about `count` samples from all over the data, since labels may be sorted; whole batches of a model.

        Args:
            model: which model they are for.
            count: how many are enough.
        """
        count = min(whole_batches(model, count), self.samples)
        chosen = np.arange(count) * self.samples // count
        labels = None if self.labels is None else self.labels[chosen]
        return replace(self, arrays={name: array[chosen] for name, array in self.arrays.items()}, labels=labels)

    def batches(self, model: FloatModel, size: int = BATCH) -> Iterator[Feeds]:
        """Yield feeds of the model: batches of samples, or as many as its fixed batch dimension says.

        Args:
            model: which model they are for.
            size: samples of a batch where the model leaves it open.
        """
        step = model.batch(size)
        for start in range(0, self.samples, step):
            yield {name: array[start : start + step] for name, array in self.arrays.items()}


def whole_batches(model: FloatModel, count: int) -> int:
    """Return how many samples make whole batches of a model: about as many as asked for, one batch at least.

    Args:
        model: the float model.
        count: how many are enough.
    """
    size = model.batch(1)
    return max(count // size, 1) * size


def load_calibration(source: object, model: FloatModel, *, seed: int = 0, pixel_scale: float = 255.0) -> Calibration:
    """Return calibration data for a model.

    Args:
        source: a path of .npz or of a folder, a mapping of arrays by input name, or None for synthetic data.
        model: what it is for.
        seed: of synthetic data.
        pixel_scale: what pixels of images are divided by.

    Raises:
        UsageError: names, shapes, types or values do not fit the model.
    """
    if isinstance(source, Calibration):
        return source
    if source is None:
        return _synthetic(model, seed)
    if isinstance(source, Mapping):
        return check_samples(
            {str(name): np.asarray(array) for name, array in source.items()}, model, "calibration data"
        )
    if not isinstance(source, str | Path):
        raise UsageError(f"calibration data is a path or a mapping of arrays, not {type(source).__name__}")
    path = Path(source)
    if not path.is_dir():
        return check_samples(read_npz(path), model, printable(str(path)))
    from accelsim.quantise.calibrate.folder import read_folder

    return check_samples(read_folder(path, model, pixel_scale), model, printable(str(path)))


def _synthetic(model: FloatModel, seed: int) -> Calibration:
    """Draw standard normal values: good enough to run the machine, not to judge accuracy."""
    if seed < 0:
        raise UsageError(f"the seed must not be negative, got {seed}")
    count = model.batch(_SYNTHETIC_SAMPLES)
    kinds = {name: TensorType.of(kind.dtype, (count, *kind.shape[1:])) for name, kind in model.inputs.items()}
    warning = (
        f"the ranges come from {count} synthetic sample(s), standard normal (seed {seed}), so accuracy "
        f"on real data means nothing: give real samples with --calib"
    )
    return Calibration(draw_inputs(kinds, seed), None, f"synthetic, seed {seed}", (warning,))


def check_samples(arrays: Mapping[str, Array], model: FloatModel, origin: str) -> Calibration:
    """Check arrays against the inputs of a model; an array called "labels" beside them holds the classes.

    Args:
        arrays: by input name, first axis samples.
        model: the model.
        origin: what messages call them.

    Raises:
        UsageError: a name is missing or unknown; a shape, type or count is wrong; values are not finite, all 0, or all
            equal in every input; a label names no class.
    """
    wanted = model.inputs
    labels = arrays[LABELS] if LABELS in arrays and LABELS not in wanted else None
    given = {name: array for name, array in arrays.items() if labels is None or name != LABELS}
    unknown = [name for name in given if name not in wanted]
    if unknown:
        raise UsageError(
            f"{origin}: the model has no input '{printable(unknown[0])}' ({nearest(unknown[0], list(wanted))})"
        )
    missing = [name for name in wanted if name not in given]
    if missing:
        raise UsageError(
            f"{origin}: the array '{printable(missing[0])}' is missing: add it, its first axis counting samples"
        )
    if sum(array.nbytes for array in given.values()) > LARGEST_NPZ_BYTES:
        raise ResourceLimitError(f"{origin} holds more than {LARGEST_NPZ_BYTES:,} bytes: use fewer samples")
    checked = {name: _checked(given[name], name, model, origin) for name in wanted}
    counts = {name: len(array) for name, array in checked.items()}
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"'{printable(name)}' {count}" for name, count in counts.items())
        raise UsageError(f"{origin}: the inputs have different numbers of samples ({shown}): give equally many")
    count = next(iter(counts.values()))
    warnings = _constant_inputs(checked, origin)
    if labels is None:
        return Calibration(checked, None, origin, warnings)
    return Calibration(checked, check_labels(labels, count, origin, class_count(model)), origin, warnings)


def _constant_inputs(arrays: Mapping[str, Array], origin: str) -> tuple[str, ...]:
    """Return a warning per input with one value everywhere, a mask perhaps; all 0, or nothing else, is no data."""
    constant = {name: array for name, array in arrays.items() if array.min() == array.max()}
    warnings = []
    for name, array in constant.items():
        if array.dtype.kind != "f":
            continue
        value, label = float(array.min()), f"{origin}: '{printable(name)}'"
        if not value or len(constant) == len(arrays):
            raise UsageError(
                f"{label} has the value {value:g} everywhere, so no range can be told from it: give real samples"
            )
        warnings.append(
            f"{label} has the value {value:g} everywhere, and its range is chosen for that: give samples in which it "
            f"varies, unless it never does"
        )
    return tuple(warnings)


def class_count(model: FloatModel) -> int | None:
    """Return how many classes the first output tells apart, None where it is no vector of classes per sample.

    Args:
        model: the float model.
    """
    shape = model.proto.graph.output[0].type.tensor_type.shape
    sizes = [dim.dim_value for dim in shape.dim][1:]
    long = [size for size in sizes if size != 1]
    return long[0] or None if len(long) == 1 else None


def _checked(array: Array, name: str, model: FloatModel, origin: str) -> Array:
    """Check the array of one input."""
    kind, label = model.inputs[name], f"{origin}: '{printable(name)}'"
    value = next(value for value in model.proto.graph.input if value.name == name)
    free = [dim.dim_value == 0 for dim in value.type.tensor_type.shape.dim]
    shown = "x".join(
        ["N", *("?" if any_size else str(size) for any_size, size in zip(free[1:], kind.shape[1:], strict=True))]
    )
    fits = array.ndim == len(kind.shape) and all(
        any_size or size == wanted
        for any_size, size, wanted in zip(free[1:], array.shape[1:], kind.shape[1:], strict=True)
    )
    if not fits:
        has = "x".join(map(str, array.shape)) or "a scalar"
        if not free[1:]:
            raise UsageError(
                f"{label} is {has}, but the input has one dimension, which has to count the samples: export the model "
                f"with a batch dimension in front, or give one value per sample"
            )
        raise UsageError(f"{label} is {has}, the model wants {shown}, N samples")
    if array.dtype.newbyteorder("=") != kind.dtype:
        raise UsageError(
            f"{label} is {array.dtype.name}, the model wants {kind.dtype.name}: convert it with "
            f".astype(numpy.{kind.dtype.name})"
        )
    if not array.size:
        raise UsageError(f"{label} is empty: give at least one sample")
    if not free[0] and len(array) % kind.shape[0]:
        raise UsageError(
            f"{label} has {len(array)} samples, the model takes {kind.shape[0]} at a time: give a multiple of that"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UsageError(f"{label} contains NaN or infinity: replace those values")
    return np.ascontiguousarray(array, kind.dtype)


def check_labels(labels: Array, samples: int, origin: str, classes: int | None = None) -> NDArray[np.int64]:
    """Check the classes of samples.

    Args:
        labels: whole numbers, one per sample.
        samples: how many samples there are.
        origin: what messages call them.
        classes: how many classes the model tells apart, None if that is not known.

    Raises:
        UsageError: they are not whole numbers, negative, not as many as samples, or beyond the classes.
    """
    labels = labels.reshape(-1) if labels.ndim == 2 and 1 in labels.shape else labels
    if labels.ndim != 1 or len(labels) != samples:
        shape = "x".join(map(str, labels.shape)) or "a scalar"
        raise UsageError(
            f"{origin}: the labels are {shape}, but there are {samples} samples: give one label per sample"
        )
    if labels.dtype.kind not in "iu":
        raise UsageError(f"{origin}: the labels are {labels.dtype.name}: give whole numbers, one class per sample")
    if labels.size and labels.min() < 0:
        raise UsageError(f"{origin}: the label {labels.min()} is negative: classes count from 0")
    if classes is not None and labels.size and labels.max() >= classes:
        raise UsageError(
            f"{origin}: the label {labels.max()} names no class, since the model tells {classes} apart, 0 to "
            f"{classes - 1}: give labels of this model"
        )
    return labels.astype(np.int64)


def read_labels(path: str | Path, samples: int, classes: int | None = None) -> NDArray[np.int64]:
    """Read labels from .npy, or from .npz with an array called "labels" or nothing else.

    Args:
        path: the file.
        samples: how many samples they are for.
        classes: how many classes the model tells apart, None if that is not known.

    Raises:
        UsageError: the file cannot be read, or its labels do not match.
    """
    shown = printable(str(path))
    try:
        if Path(path).suffix == ".npy":
            return check_labels(np.load(path, allow_pickle=False), samples, shown, classes)
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"cannot read the labels {shown}: {reason_of(error, 80)}: give .npy or .npz") from None
    arrays = read_npz(path, "labels")
    name = LABELS if LABELS in arrays else next(iter(arrays), "") if len(arrays) == 1 else ""
    if name not in arrays:
        raise UsageError(f"{shown} has no array called '{LABELS}' ({nearest(LABELS, list(arrays))})")
    return check_labels(arrays[name], samples, shown, classes)
