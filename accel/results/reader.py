"""Reads a result.json back as a Result, trusting nothing in it; its outputs stay in outputs.npz."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelsim.errors import InvalidFileError, printable
from accelsim.files.json_reading import read_object
from accelsim.operators.dimensions import Dimension
from accelsim.results.check import (
    AccumulatorEvidence,
    CheckResult,
    Diagnosis,
    FirstMismatch,
    FloatReference,
    LayerCheck,
    LiteralDistance,
)
from accelsim.results.consistency import problems
from accelsim.results.energy import Baseline, ChargeLine, EnergyDetail
from accelsim.results.model_info import InputInfo, ModelInfo
from accelsim.results.result import SCHEMA_VERSION, AccumulatorResult, EnergyInfo, LayerResult, Result
from accelsim.results.timeline import Bar, Timeline

if TYPE_CHECKING:
    from pydantic import ValidationError

    from accelsim.results import schema

LARGEST_FILE_BYTES = 128 << 20
_WHAT = "a result"
_LONGEST_LIST = 100


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
    from pydantic import ValidationError

    from accelsim.results.schema import ResultPart

    _check_version(data, label)
    try:
        part = ResultPart.model_validate(data)
    except ValidationError as error:
        raise InvalidFileError(_sentence(error, label)) from None
    array, clock = _machine(part, label)
    result = Result(
        _model(part.model),
        part.arch,
        clock,
        array,
        _layers(part.layers),
        _energy(part.energy),
        _check(part.check),
        part.versions,
        {},
        None if part.timeline is None else _timeline(part.timeline),
    )
    _check_sums(part, result, label)
    return result


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


def _sentence(error: ValidationError, label: str) -> str:
    """Say what is wrong first, and where."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = printable(".".join(str(part) for part in first["loc"]) or "the file", 100)
    return f"{label} is not a valid result: {place}: {printable(first['msg'], 120)}: it is damaged or was altered"


def _machine(part: schema.ResultPart, label: str) -> tuple[int, float]:
    """Return the number of PEs and the clock, which every result has."""
    from accelsim.machine.arch import CLOCK_LIMITS_GHZ, MAX_SIDE

    array = part.arch.get("array", {})
    rows, cols, clock = array.get("rows"), array.get("cols"), part.arch.get("clock", {}).get("ghz")
    whole = [value for value in (rows, cols) if type(value) is int and 0 < value <= MAX_SIDE]
    if len(whole) != 2 or type(clock) not in (int, float) or not isinstance(clock, int | float):
        raise InvalidFileError(
            f"{label} is not a valid result: arch lacks array.rows, array.cols or clock.ghz: it is damaged or altered"
        )
    slowest, fastest = CLOCK_LIMITS_GHZ
    if not slowest <= clock <= fastest:
        raise InvalidFileError(
            f"{label} is not a valid result: arch.clock.ghz is {clock:g}, no machine is outside of "
            f"{slowest:g} to {fastest:g}: it is damaged or altered"
        )
    return whole[0] * whole[1], float(clock)


def _model(part: schema.ModelPart) -> ModelInfo:
    """Build what was run."""
    inputs = part.inputs
    known = None if inputs is None else tuple(InputInfo(one.name, one.dtype, tuple(one.shape)) for one in inputs)
    dimensions = None if part.dimensions is None else tuple(Dimension(**dict(one)) for one in part.dimensions)
    return ModelInfo(**{**dict(part), "inputs": known, "dimensions": dimensions})


def _energy(part: schema.EnergyPart) -> EnergyInfo:
    """Build what the result says about its energy."""
    detail = EnergyDetail(
        _rows(part.rows),
        _rows(part.laws),
        None if part.scaling is None else _rows([part.scaling])[0],
        tuple(part.notes),
        tuple(_baseline(baseline) for baseline in part.baselines),
        part.baseline_assumptions,
    )
    return EnergyInfo(part.table, part.source, _rows(part.sources), part.scaling_pj, detail)


def _baseline(part: schema.BaselinePart) -> Baseline:
    """Build another number format."""
    charges = tuple(ChargeLine(**dict(line)) for line in part.charges)
    return Baseline(
        part.format, part.energy_pj, part.ratio, part.components, charges, _rows(part.units), tuple(part.bases)
    )


def _rows(sources: list[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Keep the values and plain lists of the table's rows, whatever columns it has."""
    return tuple({key: value for key, value in row.items() if _is_plain(value)} for row in sources)


def _is_plain(value: object) -> bool:
    """Tell whether a value is none, a number or a text of bounded size, or a list of such."""
    if isinstance(value, list):
        return len(value) <= _LONGEST_LIST and not any(isinstance(part, list) or not _is_plain(part) for part in value)
    if value is None:
        return True
    return isinstance(value, int | float | str) and (not isinstance(value, int | str) or len(str(value)) < 1 << 14)


def _layers(parts: Sequence[schema.LayerPart]) -> tuple[LayerResult, ...]:
    """Build the layers; in files without the key, sums behind the first overflow are not those of the network."""
    rows, overflowed = [], False
    for part in parts:
        rows.append(_layer(part, overflowed))
        overflowed = overflowed or (part.acc is not None and part.acc.overflows > 0)
    return tuple(rows)


def _layer(part: schema.LayerPart, overflowed: bool) -> LayerResult:
    """Build one layer; overflowed: one before it did."""
    fields = dict(part)
    fields["sums_unknown"] = overflowed if part.sums_unknown is None else part.sums_unknown
    fields["acc"] = None if part.acc is None else AccumulatorResult(**dict(part.acc))
    fields["check"] = None if part.check is None else LayerCheck(**part.check.model_dump(exclude={"verdict"}))
    fields["charges"] = tuple(ChargeLine(**dict(line)) for line in part.charges)
    for name in ("inputs", "outputs"):
        fields[name] = None if fields[name] is None else tuple(fields[name])
    return LayerResult(**fields)


def _check(part: schema.CheckPart) -> CheckResult:
    """Build the verdict."""
    fields = dict(part)
    fields["first_mismatch"] = None if part.first_mismatch is None else _first(part.first_mismatch)
    fields["literal_qdq"] = _literal(part.literal_qdq)
    fields["output_distance"] = _literal(part.output_distance)
    for name in ("float_reference", "q31"):
        fields[name] = tuple(FloatReference(**dict(distance)) for distance in fields[name])
    if _of_older_words(part):
        fields["verdict"] = "near"
    return CheckResult(**{**fields, "notes": tuple(part.notes), "ignored": tuple(part.ignored)})


def _of_older_words(part: schema.CheckPart) -> bool:
    """Tell whether an earlier version called a run exact whose outputs differ behind layers that are float."""
    wrong = part.mismatched_elements or part.drifted_elements or part.first_mismatch is not None
    return (
        part.verdict == "exact" and "subject" not in part.model_fields_set and part.output_mismatched > 0 and not wrong
    )


def _literal(part: schema.LiteralPart | None) -> LiteralDistance | None:
    """Build a distance; null is what JSON has in place of NaN."""
    if part is None:
        return None
    absolute, share = (math.nan if value is None else value for value in (part.max_abs, part.share))
    return LiteralDistance(part.max_lsb, absolute, share)


def _first(part: schema.FirstMismatchPart) -> FirstMismatch:
    """Build the place of the first difference."""
    found = part.diagnosis
    diagnosis = None
    if found is not None:
        seen = found.accumulator
        evidence = None if seen is None else AccumulatorEvidence(**dict(seen))
        diagnosis = Diagnosis(found.cause, found.explanation, evidence)
    got, expected = (math.nan if value is None else value for value in (part.got, part.expected))
    return FirstMismatch(
        part.tensor, part.layer, tuple(part.index), got, expected, part.forced, part.operator, diagnosis
    )


def _timeline(part: schema.TimelinePart) -> Timeline:
    """Build the timeline; bars that end before they start are left out."""
    bars = tuple(Bar(*bar) for bar in part.intervals if bar[2] < bar[3])
    return Timeline(part.layer, part.number, part.cycles, part.until, bars, part.note)


def _check_sums(part: schema.ResultPart, result: Result, label: str) -> None:
    """Refuse a file whose parts contradict each other: nothing shown may depend on which part is read."""
    problem = next(problems(part, result), None)
    if problem is not None:
        raise InvalidFileError(
            f"{label} is not a valid result: {printable(problem, 300)}: it is damaged or was altered"
        )
