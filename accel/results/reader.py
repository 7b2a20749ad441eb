"""Reads a result.json back as a Result, trusting nothing in it; its outputs stay in outputs.npz."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelsim.errors import InvalidFileError, printable
from accelsim.files.json_reading import read_object
from accelsim.results.consistency import Written, problems
from accelsim.results.plain import from_plain
from accelsim.results.result import SCHEMA_VERSION, Result

LARGEST_FILE_BYTES = 128 << 20
_WHAT = "a result"


def read_result(path: str | Path) -> Result:
    """Read what `accel-sim run -o DIR` or `--json` wrote.

    Args:
        path: a result.json under any name, or the folder that holds it.

    Raises:
        UsageError: there is no such file, or it cannot be read.
        InvalidFileError: not a result of this schema version, damaged or altered; says where.
        ResourceLimitError: larger than any result.
    """
    file = Path(path)
    try:
        if file.is_dir():
            file = file / "result.json"
    except (OSError, ValueError):  # a name that no file can have: reading it says so
        pass
    data = read_object(file, LARGEST_FILE_BYTES, _WHAT)
    return result_from_dict(data, printable(str(file)))


def result_from_dict(data: dict[str, Any], label: str) -> Result:
    """Build a Result from the plain data of a file.

    Args:
        data: what Result.to_dict gives, of this version or an earlier one of the same schema.
        label: name of the file, for messages.

    Raises:
        InvalidFileError: see read_result.
    """
    _check_version(data, label)
    try:
        result = from_plain(Result, _upgraded(data))
        written = from_plain(Written, data)
    except ValueError as error:
        raise _refusal(label, _as_in_the_file(str(error))) from None
    _check_machine(result.arch, label)
    result = _of_this_version(result, data["check"])
    problem = next(problems(written, result, data["totals"]), None)
    if problem is not None:
        raise _refusal(label, printable(problem, 300))
    return result


def _refusal(label: str, problem: str) -> InvalidFileError:
    """Return the error that names a problem of a file."""
    return InvalidFileError(f"{label} is not a valid result: {problem}: it is damaged or was altered")


def _check_version(data: dict[str, Any], label: str) -> None:
    """Refuse files of another kind or schema."""
    version = data.get("schema_version")
    if data.get("kind") is not None or "schema_version" not in data:
        raise InvalidFileError(f"{label} is not a result: give a result.json that accel-sim run -o DIR wrote")
    if type(version) is not int or version != SCHEMA_VERSION:
        shown = printable(repr(version), 20)
        raise InvalidFileError(
            f"{label} has schema version {shown}, this accel-sim reads version {SCHEMA_VERSION}: run the model again"
        )


def _as_in_the_file(problem: str) -> str:
    """Return a problem without the part in its place that a file does not have, see `_upgraded`."""
    inner = "energy.detail."
    return f"energy.{problem.removeprefix(inner)}" if problem.startswith(inner) else problem


def _upgraded(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data of a file as a Result is described; what is of another kind stays, to be refused."""
    energy, layers = data.get("energy"), data.get("layers")
    changed: dict[str, Any] = {"outputs": {}}
    if isinstance(energy, dict):
        changed["energy"] = energy | {"detail": energy}
    if isinstance(layers, list):
        changed["layers"] = _layers(layers)
    return {**data, **changed}


def _layers(layers: list[Any]) -> list[Any]:
    """Return the layers; in files without the key, sums behind the first overflow are not those of the network."""
    rows, overflowed = [], False
    for layer in layers:
        if not isinstance(layer, dict):
            return layers
        unsaid = layer.get("sums_unknown") is None
        rows.append(layer | {"sums_unknown": overflowed} if unsaid else layer)
        acc = layer.get("acc")
        overflowed = overflowed or (isinstance(acc, dict) and acc.get("overflows") not in (None, 0))
    return rows


def _check_machine(arch: Mapping[str, Mapping[str, Any]], label: str) -> None:
    """Refuse a result without the array and the clock, which every result has."""
    from accelsim.machine.arch import CLOCK_LIMITS_GHZ, MAX_SIDE

    array = arch.get("array", {})
    clock: Any = arch.get("clock", {}).get("ghz")
    sides = array.get("rows"), array.get("cols")
    if any(type(side) is not int or not 0 < side <= MAX_SIDE for side in sides) or type(clock) not in (int, float):
        raise _refusal(label, "arch lacks array.rows, array.cols or clock.ghz")
    slowest, fastest = CLOCK_LIMITS_GHZ
    if not slowest <= clock <= fastest:
        outside = f"arch.clock.ghz is {clock:g}, no machine is outside of {slowest:g} to {fastest:g}"
        raise _refusal(label, outside)


def _of_this_version(result: Result, check: Mapping[str, Any]) -> Result:
    """Return a result without bars that end before they start, its verdict in the words of this version.

    Args:
        result: what was read.
        check: as it stands in the file.
    """
    verdict, line = result.check, result.timeline
    if line is not None:
        line = replace(line, bars=tuple(bar for bar in line.bars if bar.start < bar.end))
    # Earlier versions called a run exact whose outputs differ behind layers that are float.
    wrong = verdict.mismatched_elements or verdict.drifted_elements or verdict.first_mismatch is not None
    if verdict.verdict == "exact" and "subject" not in check and verdict.output_mismatched and not wrong:
        verdict = replace(verdict, verdict="near")
    return replace(result, check=verdict, timeline=line)
