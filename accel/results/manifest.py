"""What a golden folder's manifest.json holds: strict on the way in, the same bytes for the same run on the way out."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from accelsim.errors import InvalidFileError, UsageError, printable
from accelsim.machine.arch import SECTIONS, Arch
from accelsim.results.result import LayerResult, Result

KIND: Final = "accel-sim golden"
SCHEMA_VERSION: Final = 1
LARGEST_FILE_BYTES = 4 << 30

Array = NDArray[np.generic]
Count = Annotated[int, Field(ge=0, lt=1 << 64)]
Energy = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(max_length=1 << 16)]
FileName = Literal["outputs.npz", "inputs.npz", "model.onnx"]
Scalar = bool | Count | Annotated[float, Field(allow_inf_nan=False)] | Name


class _Part(BaseModel):
    """A frozen part of the manifest that takes no unknown key and converts nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class TensorRecord(_Part):
    """A tensor by its type and digest."""

    tensor: Name
    dtype: Name
    shape: list[Count]
    sha256: Digest


class AccumulatorRecord(_Part):
    """Overflow statistics of one layer."""

    bits: Count
    peak: Count
    overflows: Count
    min_safe_bits: Count


class LayerRecord(_Part):
    """One layer: digests of its outputs, cycles by class, energy by component, accumulators."""

    name: Name
    op: Name
    placement: Name
    outputs: list[TensorRecord]
    cycles: Count
    cycle_classes: dict[str, Count]
    energy_pj: dict[str, Energy]
    acc: AccumulatorRecord | None


class VerdictRecord(_Part):
    """The verdict against onnxruntime; the last four are empty in records of versions that did not write them."""

    verdict: Name
    tensors: Count
    elements: Count
    mismatched_elements: Count
    drifted_elements: Count
    output_mismatched: Count
    subject: Name = ""
    output_lsb: Energy | None = None
    output_ulp: Energy | None = None
    behind: Name = ""


class Observation(_Part):
    """Everything of a run that can regress. Energies in pJ; versions: of the packages, and the reference used."""

    layers: list[LayerRecord]
    outputs: list[TensorRecord]
    inputs: list[TensorRecord]
    cycles: Count
    energy_pj: Energy
    check: VerdictRecord
    versions: dict[str, Name]


class ModelRecord(_Part):
    """Which model was recorded; path: where it was, relative to the folder, or None; bind: dimensions fixed."""

    name: Name
    sha256: Digest
    path: Name | None
    reference: Literal["ort", "ort-default"]
    bind: dict[Name, Annotated[int, Field(ge=1, lt=1 << 62)]] = {}


class FileRecord(_Part):
    """A file of the folder."""

    bytes: Annotated[int, Field(ge=0, le=LARGEST_FILE_BYTES)]
    sha256: Digest


class Manifest(_Part):
    """The whole manifest; seed: of the inputs, None when they are in inputs.npz."""

    kind: Literal["accel-sim golden"]
    schema_version: Literal[1]
    model: ModelRecord
    machine: dict[str, dict[str, Scalar]]
    seed: Annotated[int, Field(ge=0)] | None
    observed: Observation
    files: dict[FileName, FileRecord]

    def arch(self) -> Arch:
        """Return the machine, with the defaults of this version for parameters that the recording version lacked.

        Raises:
            UsageError: a parameter is unknown to this version or out of range.
        """
        parameters = {}
        for section, values in self.machine.items():
            for key, value in values.items():
                name = SECTIONS.get(section, {}).get(key)
                if name is None:
                    shown = printable(f"{section}.{key}", 80)
                    raise UsageError(
                        f"the golden folder has a machine with {shown}, unknown to this version of accel-sim"
                    )
                parameters[name] = value
        return Arch(**parameters)

    def to_bytes(self) -> bytes:
        """Return manifest.json, sealed by a digest over everything else in it."""
        data = self.model_dump(mode="json")
        return (json.dumps(data | {"seal": _seal(data)}, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


def _seal(data: Mapping[str, Any]) -> str:
    """Return the digest over plain data, whatever its layout in the file."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def parse_manifest(data: Mapping[str, Any], label: str) -> Manifest:
    """Check and convert the content of a manifest.json.

    Args:
        data: the JSON object.
        label: subject of the error messages.

    Raises:
        UsageError: it is no manifest, or one of another schema version.
        InvalidFileError: it was altered, or does not hold what a manifest holds.
    """
    if data.get("kind") != KIND:
        raise UsageError(f"{label} is not the manifest of a golden folder: record one with accel-sim record")
    version = data.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        shown = printable(str(version), 20)
        raise UsageError(
            f"{label} has the schema version {shown}, this accel-sim reads version {SCHEMA_VERSION}: record the model "
            f"again"
        )
    content = {key: value for key, value in data.items() if key != "seal"}
    try:
        intact = data.get("seal") == _seal(content)
    except ValueError:  # an infinity, as 1e999 gives
        intact = False
    if not intact:
        raise InvalidFileError(f"{label} was altered or damaged after it was recorded: restore it, or record it again")
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        item = error.errors()[0]
        where = printable(".".join(map(str, item["loc"])), 80)
        raise InvalidFileError(f"{label} is damaged: {where}: {item['msg'].lower()}: record the model again") from None


def describe(name: str, array: Array) -> TensorRecord:
    """Return the record of a tensor: sha256 over dtype, shape and little-endian bytes.

    Args:
        name: of the tensor.
        array: its values.
    """
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"{array.dtype.name}{list(array.shape)}".encode())
    digest.update(little.reshape(-1).view(np.uint8).data)
    return TensorRecord(tensor=name, dtype=array.dtype.name, shape=list(array.shape), sha256=digest.hexdigest())


def machine_of(arch: Arch) -> dict[str, dict[str, Any]]:
    """Return every parameter under its section and key; those that follow from others are left out."""
    values = arch.model_dump()
    sections = {s: {key: values[name] for key, name in keys.items()} for s, keys in SECTIONS.items()}
    return {
        section: {
            key: int(value) if isinstance(value, int) and not isinstance(value, bool) else value
            for key, value in entries.items()
            if value is not None
        }
        for section, entries in sections.items()
    }


def observe(
    result: Result, layer_outputs: Sequence[Sequence[TensorRecord]], inputs: Mapping[str, Array]
) -> Observation:
    """Collect what a run showed.

    Args:
        result: of the run, checked against the reference.
        layer_outputs: records of the outputs of each layer, in order.
        inputs: by name.
    """
    check = result.check
    return Observation(
        layers=[_layer(layer, outputs) for layer, outputs in zip(result.layers, layer_outputs, strict=True)],
        outputs=[describe(name, array) for name, array in result.outputs.items()],
        inputs=[describe(name, array) for name, array in inputs.items()],
        cycles=result.cycles,
        energy_pj=result.energy_pj,
        check=VerdictRecord(
            verdict=check.verdict,
            tensors=check.tensors,
            elements=check.elements,
            mismatched_elements=check.mismatched_elements,
            drifted_elements=check.drifted_elements,
            output_mismatched=check.output_mismatched,
            subject=check.subject,
            output_lsb=_finite(check.output_lsb),
            output_ulp=_finite(check.output_ulp),
            behind=check.behind,
        ),
        versions={**result.versions, "reference": check.reference},
    )


def _finite(distance: float | None) -> float | None:
    """Return a distance, None where there is none or no number says how far it is."""
    return None if distance is None or not math.isfinite(distance) else distance


def _layer(layer: LayerResult, outputs: Sequence[TensorRecord]) -> LayerRecord:
    """Return the record of one layer."""
    acc = layer.acc
    return LayerRecord(
        name=layer.name,
        op=layer.op,
        placement=layer.placement,
        outputs=list(outputs),
        cycles=layer.cycles,
        cycle_classes=dict(layer.cycle_classes),
        energy_pj={name: float(value) for name, value in layer.energy_pj.items()},
        acc=None if acc is None else AccumulatorRecord(**vars(acc)),
    )
