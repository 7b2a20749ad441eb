"""Reads what `accel-sim quantize --report FILE.json` wrote back as a QuantisationReport, trusting nothing in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelsim.errors import InvalidFileError, printable
from accelsim.files.json_reading import read_object
from accelsim.results.quantisation import (
    KIND,
    SCHEMA_VERSION,
    Distribution,
    ErrorAnalysis,
    Execution,
    LayerError,
    OutputDistance,
    QuantisationReport,
    Sensitivity,
    TensorError,
    ThreeWay,
)

if TYPE_CHECKING:
    from accelsim.results import quantisation_schema as schema

LARGEST_FILE_BYTES = 128 << 20
_WHAT = "a report on quantisation"


def read_quantisation(path: str | Path) -> QuantisationReport:
    """Read a report on quantisation.

    Args:
        path: the JSON file.

    Raises:
        UsageError: there is no such file, or it cannot be read.
        InvalidFileError: no such report, of another schema version, damaged or altered; says where.
        ResourceLimitError: larger than any such report.
    """
    from pydantic import ValidationError

    from accelsim.results.quantisation_schema import QuantisationPart

    data = read_object(Path(path), LARGEST_FILE_BYTES, _WHAT)
    label = printable(str(path))
    _check_version(data, label)
    try:
        part = QuantisationPart.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = printable(".".join(str(step) for step in first["loc"]) or "the file", 100)
        raise InvalidFileError(
            f"{label} is not a valid report on quantisation: {place}: {printable(first['msg'], 120)}: it is damaged or "
            f"was altered"
        ) from None
    return _report(part)


def _check_version(data: dict[str, Any], label: str) -> None:
    """Refuse files of another kind or schema."""
    if data.get("kind") != KIND:
        raise InvalidFileError(
            f"{label} is not a report on quantisation: give what accel-sim quantize --report FILE.json wrote"
        )
    version = data.get("schema_version")
    if type(version) is not int or version != SCHEMA_VERSION:
        raise InvalidFileError(
            f"{label} has schema version {printable(repr(version), 20)}, this accel-sim reads version "
            f"{SCHEMA_VERSION}: quantise the model again"
        )


def _report(part: schema.QuantisationPart) -> QuantisationReport:
    """Build the report."""
    errors, comparison = part.errors, part.comparison
    plain = {name: value for name, value in part if name not in ("errors", "sensitivity", "comparison", "remarks")}
    return QuantisationReport(
        **plain,
        remarks=tuple(part.remarks),
        errors=ErrorAnalysis(
            tuple(map(_tensor, errors.weights)),
            tuple(map(_tensor, errors.activations)),
            tuple(LayerError(**dict(layer)) for layer in errors.layers),
            errors.output_sqnr_db,
            errors.reason,
        ),
        sensitivity=tuple(Sensitivity(**dict(row)) for row in part.sensitivity),
        comparison=ThreeWay(
            comparison.samples,
            Execution(**dict(comparison.original)),
            Execution(**dict(comparison.literal)),
            Execution(**dict(comparison.machine)),
            tuple(OutputDistance(**dict(row)) for row in comparison.distances),
            comparison.acc_bits,
            comparison.acc_bits_needed,
        ),
    )


def _tensor(part: schema.TensorPart) -> TensorError:
    """Build the errors of one tensor."""
    shape = part.distribution
    ends = shape.grid_low, shape.grid_high
    distribution = Distribution(tuple(shape.edges), tuple(shape.counts), *ends, shape.step, shape.lowest)
    return TensorError(**(dict(part) | {"distribution": distribution}))
