"""Record a run as a golden folder, and verify that a later run gives the same."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InvalidFileError, UsageError, nearest, printable
from accelsim.files.json_reading import read_regular
from accelsim.files.writing import pack_npz
from accelsim.machine.arch import Arch
from accelsim.machine.description import resolve_arch
from accelsim.regression.folder import MANIFEST, GoldenFolder, check_target, file_record, read_folder, write_folder
from accelsim.results.comparison import GROUPS, Comparison, Tolerance, compare
from accelsim.results.manifest import (
    KIND,
    LARGEST_FILE_BYTES,
    SCHEMA_VERSION,
    Manifest,
    ModelRecord,
    Observation,
    TensorRecord,
    describe,
    machine_of,
    observe,
)
from accelsim.results.result import Result
from accelsim.simulation.inputs import check_inputs, draw_inputs, unpack_npz
from accelsim.simulation.model import Model, is_own_model, load, own_model
from accelsim.simulation.run import Progress, run
from accelsim.values.execute import LayerValues

Array = NDArray[np.generic]


def record(
    model: Model | str | Path,
    folder: str | Path,
    arch: Arch | str | Path | None = None,
    inputs: Mapping[str, Array] | None = None,
    *,
    seed: int = 0,
    path: str | Path | None = None,
    copy_model: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Run a model and write everything that can regress into a folder; equal runs give equal bytes.

    Args:
        model: a loaded model or the path of one.
        folder: where to write; refused if it holds anything but an older record, which is replaced as a whole.
        arch: the machine, or the name of a preset or TOML file; None takes the default one.
        inputs: one array per model input, stored beside the record; None draws them from the seed.
        seed: seed of the inputs when none are given.
        path: where a loaded model lies, so that `verify` finds it; a path given as the model is taken itself.
        copy_model: also store the model file.
        progress: as for `accelsim.run`.

    Returns:
        The result of the run, whatever its verdict.

    Raises:
        UsageError: the folder cannot be written or holds other files.
        AccelSimError: see `accelsim.run`.
    """
    target = check_target(folder)
    source = path if isinstance(model, Model) else Path(model)
    loaded = (model if isinstance(model, Model) else load(model)).taking(inputs)
    if copy_model and source is None:
        raise UsageError("the model was not loaded from a file, so it cannot be copied: give its path")
    if copy_model and loaded.checked.external_files:
        raise UsageError(
            f"--copy-model stores one file, and the model keeps weights in "
            f"{printable(loaded.checked.external_files[0])} beside it: leave --copy-model out, or save it in one file"
        )
    machine = resolve_arch(arch)
    given = None if inputs is None else check_inputs(inputs, loaded.inputs())
    result, observed = _observe(loaded, machine, given, seed, progress)
    files = {"outputs.npz": pack_npz(result.outputs)}
    if given is not None:
        files["inputs.npz"] = pack_npz(given)
    if copy_model and source is not None:
        files["model.onnx"] = _copy(Path(source), loaded)
    manifest = Manifest(
        kind=KIND,
        schema_version=SCHEMA_VERSION,
        model=ModelRecord(
            name=loaded.name,
            sha256=loaded.checked.sha256,
            path=None if source is None or copy_model else _hint(source, target),
            reference="ort-default" if loaded.reference == "ort-default" else "ort",
            bind=dict(loaded.checked.bound),
        ),
        machine=machine_of(machine),
        seed=seed if given is None else None,
        observed=observed,
        files={name: file_record(data) for name, data in files.items()},  # type: ignore[misc]
    )
    write_folder(target, files | {MANIFEST: manifest.to_bytes()})
    return result


def record_again(
    folder: str | Path,
    model: str | Path | None = None,
    *,
    external_data: bool | None = None,
    progress: Progress | None = None,
) -> Result:
    """Record once more what a golden folder says: its model, on its machine, compared as then, with its inputs.

    The folder is replaced in one step; until then, and after any error, the old record is what it was.

    Args:
        folder: what `record` wrote.
        model: where the model is now; None takes the copy in the folder, or the path that was recorded.
        external_data: as for `accelsim.load`.
        progress: as for `accelsim.run`.

    Returns:
        The result of the run, whatever its verdict.

    Raises:
        UsageError: no golden folder, another schema version, no model, or a file in the folder that is none of ours.
        InvalidFileError: the folder was altered, or is not complete.
        AccelSimError: see `accelsim.run`.
    """
    golden = read_folder(folder)
    manifest, place = golden.manifest, _find_model(golden) if model is None else Path(model)
    loaded = _recorded_model(golden, place, external_data)
    if model is None:
        loaded = replace(loaded, checked=replace(loaded.checked, name=manifest.model.name))  # a copy has another
    return record(
        loaded,
        folder,
        manifest.arch(),
        _recorded_inputs(golden, loaded),
        seed=manifest.seed or 0,
        path=place,
        copy_model="model.onnx" in golden.files,
        progress=progress,
    )


def _recorded_inputs(golden: GoldenFolder, model: Model) -> dict[str, Array] | None:
    """Return the inputs in the folder, None where a seed draws them."""
    if golden.manifest.seed is not None:
        return None
    arrays = _unpack(golden, "inputs.npz")
    return check_inputs(arrays, model.taking(arrays).inputs(), "the recorded inputs")


def verify(
    folder: str | Path,
    model: Model | str | Path | None = None,
    *,
    cycles_tolerance: float = 0.0,
    energy_tolerance: float = 0.0,
    ignore: Iterable[str] = (),
    external_data: bool | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Run a recorded model again, on the recorded machine and inputs, and compare everything.

    Args:
        folder: what `record` wrote.
        model: the model or its path; None takes the copy in the folder, or the path that was recorded.
        cycles_tolerance: relative change of the cycles' total that is let pass; 0 demands every layer's to be equal.
        energy_tolerance: likewise for energy.
        ignore: groups that may change, of accelsim.results.comparison.GROUPS.
        external_data: as for `accelsim.load`.
        progress: as for `accelsim.run`.

    Raises:
        UsageError: no golden folder, another schema version, no model, or an argument out of range.
        InvalidFileError: the folder was altered, or is not complete.
        AccelSimError: see `accelsim.run`.
    """
    tolerance = _tolerance(cycles_tolerance, energy_tolerance, ignore)
    golden = read_folder(folder)
    manifest = golden.manifest
    reference = manifest.model.reference
    loaded = model if isinstance(model, Model) else _recorded_model(golden, model, external_data)
    if loaded.reference != reference:
        raise UsageError(f"the record was compared with '{reference}', the model given is loaded for another reference")
    if dict(loaded.checked.bound) != manifest.model.bind:
        bound = ", ".join(f"{printable(name, 40)}={size}" for name, size in manifest.model.bind.items())
        raise UsageError(f"the record is of a model with {bound or 'nothing'} bound: load the model with the same bind")
    recorded = _unpack(golden, "outputs.npz")
    given = _recorded_inputs(golden, loaded)
    result, observed = _observe(loaded, manifest.arch(), given, manifest.seed or 0, progress)
    sides = recorded, dict(result.outputs)
    return compare(str(folder), manifest, loaded.checked.sha256, observed, result.check, sides, tolerance)


def load_recorded(folder: str | Path, model: str | Path | None = None, *, external_data: bool | None = None) -> Model:
    """Load the model of a record, as `verify` does.

    Args:
        folder: what `record` wrote.
        model: another place of the model; None takes the copy in the folder, or the path that was recorded.
        external_data: as for `accelsim.load`.

    Raises:
        AccelSimError: as for `verify`.
    """
    return _recorded_model(read_folder(folder), model, external_data)


def _recorded_model(golden: GoldenFolder, model: str | Path | None, external_data: bool | None) -> Model:
    """Load the model of a record from where it is."""
    place = _find_model(golden) if model is None else Path(model)
    recorded = golden.manifest.model
    return load(place, external_data=external_data, reference=recorded.reference, bind=recorded.bind)


def _observe(
    model: Model, arch: Arch, inputs: Mapping[str, Array] | None, seed: int, progress: Progress | None
) -> tuple[Result, Observation]:
    """Run a model, keeping a digest of each layer's outputs."""
    outputs: list[list[TensorRecord]] = []

    def keep(step: LayerValues) -> None:
        outputs.append([describe(name, array) for name, array in step.named_outputs()])

    result = run(model, arch, inputs, seed=seed, progress=progress, observe=keep)
    shapes = None if inputs is None else {name: array.shape for name, array in inputs.items()}
    graph = model.bind(shapes, None if inputs is None else (lambda: inputs)).graph
    fed = draw_inputs({name: graph.types[name] for name in graph.inputs}, seed) if inputs is None else inputs
    return result, observe(result, outputs, fed)


def _copy(path: Path, model: Model) -> bytes:
    """Read the model's file again for a copy of it."""
    data = own_model(path) if is_own_model(path) else read_regular(path, LARGEST_FILE_BYTES, "the model")
    if file_record(data).sha256 != model.checked.sha256:
        raise UsageError(f"{printable(str(path))} changed while it was recorded: record it again")
    return data


def _hint(model: str | Path, folder: Path) -> str:
    """Return where a model lies as seen from a folder, with forward slashes; those of our own go by their name."""
    if is_own_model(model):
        return str(model)
    return Path(os.path.relpath(os.path.realpath(model), folder)).as_posix()


def _find_model(golden: GoldenFolder) -> Path:
    """Return the copy of the model in the folder, or the file at the recorded relative path.

    Raises:
        UsageError: there is none; the user can say where it is.
    """
    if "model.onnx" in golden.files:
        return golden.path / "model.onnx"
    hint = golden.manifest.model.path
    if hint is not None and is_own_model(hint):
        return Path(hint)
    place = None if hint is None or Path(hint).is_absolute() else golden.path / hint
    if place is None or not os.path.isfile(place):  # noqa: PTH113 - Path.is_file raises for names that are too long
        wanted = printable(str(hint or golden.manifest.model.name))
        raise UsageError(f"the recorded model '{wanted}' is not there: say with --model where it is")
    return place


def _unpack(golden: GoldenFolder, name: str) -> dict[str, Array]:
    """Return the arrays of a file of the folder.

    Raises:
        InvalidFileError: it is no archive of arrays, though its digest is right.
    """
    try:
        return unpack_npz(golden.files[name], printable(str(golden.path / name)))
    except UsageError as error:
        raise InvalidFileError(str(error)) from None


def _tolerance(cycles: float, energy: float, ignore: Iterable[str]) -> Tolerance:
    """Check what the user lets pass."""
    for name, value in (("cycles", cycles), ("energy", energy)):
        if not 0 <= value < 1e6:
            raise UsageError(f"the tolerance of {name} is {value:g}: give a share such as 0.01 for one percent")
    ignored = frozenset(ignore)
    unknown = sorted(ignored - set(GROUPS))
    if unknown:
        raise UsageError(f"there is no '{printable(unknown[0])}' to ignore ({nearest(unknown[0], GROUPS)})")
    return Tolerance(float(cycles), float(energy), ignored)
