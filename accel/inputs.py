"""Inputs of a run: read from .npz files and checked against the model, or drawn from a seed."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import UsageError, nearest, printable
from accelsim.tensors import TensorType

Array = NDArray[np.generic]


def read_npz(path: str | Path) -> dict[str, Array]:
    """Read all arrays of an .npz file (never pickled objects).

    Raises:
        UsageError: the file is missing or no .npz archive.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise UsageError(f"{path} is a single array: save it with numpy.savez(file, input_name=array)")
            return {name: archive[name] for name in archive.files}
    except OSError as error:
        raise UsageError(f"cannot read the inputs {path}: {error.strerror or error}") from None
    except (ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise UsageError(
            f"{path} is not a readable .npz archive ({printable(str(error), 80)}): save it with numpy.savez"
        ) from None


def check_inputs(
    arrays: Mapping[str, Array], declared: Mapping[str, TensorType], source: str = "inputs"
) -> dict[str, Array]:
    """Check names, element types and values of the arrays given; shapes are checked when the model is bound.

    Args:
        arrays: arrays by input name.
        declared: types of the model's inputs; dynamic dimensions do not matter here.
        source: where the arrays come from, for messages.

    Raises:
        UsageError: a missing or unknown name, a wrong dtype, or NaN.
    """
    unknown = [name for name in arrays if name not in declared]
    if unknown:
        raise UsageError(
            f"{source}: the model has no input '{printable(unknown[0])}' ({nearest(unknown[0], list(declared))})"
        )
    missing = [name for name in declared if name not in arrays]
    if missing:
        kind = declared[missing[0]]
        raise UsageError(f"{source}: the array '{printable(missing[0])}' is missing: add it as {kind.dtype.name}")
    checked: dict[str, Array] = {}
    for name, kind in declared.items():
        array = np.asarray(arrays[name])
        if array.dtype != kind.dtype:
            raise UsageError(
                f"{source}: '{printable(name)}' is {array.dtype.name}, the model wants {kind.dtype.name}: "
                f"convert it with .astype(numpy.{kind.dtype.name})"
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise UsageError(f"{source}: '{printable(name)}' contains NaN or infinity: replace those values")
        checked[name] = np.ascontiguousarray(array).reshape(array.shape)
    return checked


def draw_inputs(declared: Mapping[str, TensorType], seed: int = 0) -> dict[str, Array]:
    """Draw inputs from a seed: codes over their whole range, floats from a standard normal, other integers 0 or 1.

    Args:
        declared: types with fixed shapes.
        seed: seed of the generator.
    """
    generator = np.random.default_rng(seed)
    arrays: dict[str, Array] = {}
    for name, kind in declared.items():
        if kind.dtype.kind == "f":
            arrays[name] = np.asarray(generator.standard_normal(kind.shape)).astype(kind.dtype)
        elif kind.dtype.kind in "iu" and kind.dtype.itemsize == 1:
            bounds = np.iinfo(kind.dtype.name)
            arrays[name] = generator.integers(bounds.min, bounds.max + 1, kind.shape).astype(kind.dtype)
        else:
            arrays[name] = generator.integers(0, 2, kind.shape).astype(kind.dtype)
    return arrays
