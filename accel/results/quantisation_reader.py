"""Reads what `accel-sim quantize --report FILE.json` wrote back as a QuantisationReport, trusting nothing in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accelsim.errors import InvalidFileError, printable
from accelsim.files.json_reading import read_object
from accelsim.results.plain import from_plain
from accelsim.results.quantisation import KIND, SCHEMA_VERSION, QuantisationReport

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
    data = read_object(Path(path), LARGEST_FILE_BYTES, _WHAT)
    label = printable(str(path))
    _check_version(data, label)
    try:
        return from_plain(QuantisationReport, data)
    except ValueError as error:
        raise InvalidFileError(
            f"{label} is not a valid report on quantisation: {error}: it is damaged or was altered"
        ) from None


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
