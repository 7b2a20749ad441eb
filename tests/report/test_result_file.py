"""result.json read back: the same result, or one sentence about what is wrong with the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accelsim.errors import AccelSimError, InvalidFileError
from accelsim.reports.page import report_html
from accelsim.result_file import read_result, result_from_dict
from tests.cli.command import assert_refused, command
from tests.report.results import digits_result, model_result

Path_ = tuple[str | int, ...]


def plain() -> dict[str, Any]:
    """Return a fresh copy of what a result file holds."""
    data: dict[str, Any] = json.loads(digits_result("ws", 12).to_json())
    return data


def changed(place: Path_, value: object) -> dict[str, Any]:
    """Return the data with one value replaced."""
    return altered(plain(), place, value)


def altered(data: dict[str, Any], place: Path_, value: object) -> dict[str, Any]:
    """Replace one value of the data of a file."""
    part: Any = data
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    return data


@pytest.mark.parametrize(("dataflow", "bits"), [("ws", 32), ("os", 32), ("is", 32), ("ws", 12)])
def test_what_is_written_is_read(dataflow: str, bits: int) -> None:
    """Every key comes back: writing the result again gives the same bytes, mismatch and diagnosis included."""
    text = digits_result(dataflow, bits).to_json()
    assert result_from_dict(json.loads(text), "result.json").to_json() == text


@pytest.mark.parametrize(
    "name", ["resnet8_cifar10_int8", "yamnet256_int8", "textgen_transformer_int8", "tfc_2w2a_qonnx"]
)
def test_results_of_real_networks_are_read(shared_models: Path, name: str) -> None:
    """The same for real networks, and they give a report."""
    path = shared_models / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"{name} is not among the real models here")
    text = model_result(path).to_json()
    result = result_from_dict(json.loads(text), "result.json")
    assert result.to_json() == text
    assert "<svg" in report_html([result])


def test_a_folder_or_a_file(digits: Path, tmp_path: Path) -> None:
    """Both the folder that `run -o` wrote and its result.json are read."""
    assert command("run", digits, "-o", tmp_path / "run", "-q").code == 0
    assert read_result(tmp_path / "run").to_json() == read_result(tmp_path / "run" / "result.json").to_json()


WRONG: dict[str, tuple[Path_, object, str]] = {
    "another version": (("schema_version",), 2, "schema version 2"),
    "a version that is no number": (("schema_version",), "1", "schema version '1'"),
    "true is not 1": (("schema_version",), True, "schema version True"),
    "a golden manifest": (("kind",), "accel-sim golden", "not a result"),
    "text for a number": (("layers", 0, "cycles"), "300", "layers.0.cycles"),
    "a fraction of a cycle": (("layers", 0, "cycles"), 300.5, "layers.0.cycles"),
    "negative cycles": (("layers", 0, "cycles"), -300, "layers.0.cycles"),
    "negative energy": (("layers", 1, "energy_pj", "dram"), -1.0, "layers.1.energy_pj.dram"),
    "a null energy, which is what NaN becomes": (("layers", 1, "energy_pj", "dram"), None, "layers.1.energy_pj.dram"),
    "huge energy": (("layers", 1, "energy_pj", "dram"), 1e300, "layers.1.energy_pj.dram"),
    "huge cycles": (("layers", 0, "cycles"), 1 << 80, "layers.0.cycles"),
    "a number for a name": (("layers", 0, "name"), 7, "layers.0.name"),
    "a very long name": (("layers", 0, "name"), "x" * 70_000, "layers.0.name"),
    "layers that are none": (("layers",), {"0": {}}, "layers"),
    "a layer that is none": (("layers", 3), [], "layers.3"),
    "totals that are none": (("totals",), None, "totals"),
    "other total cycles": (("totals", "cycles"), 1, "totals.cycles is 1, its layers take 14,986"),
    "other total energy": (("totals", "energy_pj"), 1.0, "totals.energy_pj is 1"),
    "classes that do not add up": (("layers", 0, "cycle_classes"), {"vector": 1}, "layers.0.cycles is 184"),
    "no array": (("arch", "array"), {}, "array.rows"),
    "no clock": (("arch", "clock"), {"ghz": 0.0}, "clock.ghz"),
    "a clock that is text": (("arch", "clock"), {"ghz": "1"}, "clock.ghz"),
    "an unknown verdict": (("check", "verdict"), "fine", "check.verdict"),
    "rows that are none": (("energy", "sources"), [1, 2], "energy.sources.0"),
    "an interval of three": (("timeline", "intervals", 0), ["array", "tile", 3], "timeline.intervals.0"),
    "an interval of text": (("timeline", "intervals", 0), ["array", "tile", "0", "3"], "timeline.intervals.0"),
    "too many intervals": (("timeline", "intervals"), [["array", "tile", 0, 3]] * 20_001, "timeline.intervals"),
    "terminal codes in a key": (("layers", 0, "energy_pj"), {"\x1b[31m": -1}, "layers.0.energy_pj"),
}


@pytest.mark.parametrize(("place", "value", "words"), WRONG.values(), ids=WRONG)
def test_wrong_files_are_refused(tmp_path: Path, place: Path_, value: object, words: str) -> None:
    """One sentence with the place, exit code 5; the page is not written."""
    path = tmp_path / "result.json"
    path.write_text(json.dumps(changed(place, value)), "utf-8")
    assert_refused(command("report", path, "-o", tmp_path / "page.html"), 5, words)
    assert not (tmp_path / "page.html").exists()


DAMAGED = {
    "empty": b"",
    "truncated": json.dumps(plain()).encode()[:-500],
    "not JSON": b"<html>",
    "a list": b"[]",
    "NaN": json.dumps(plain()).replace("14986", "NaN").encode(),
    "infinity": json.dumps(plain()).replace("14986", "1e999").encode(),
    "a number of 5,000 digits": json.dumps(plain()).replace("14986", "9" * 5000).encode(),
    "not UTF-8": b'{"schema_version": 1, "model": "\xff"}',
    "deep": b"[" * 200_000,
    "a key twice": b'{"schema_version": 1, "schema_version": 1}',
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_damaged_files_are_refused(tmp_path: Path, data: bytes) -> None:
    """The same for what is no JSON, or JSON that no result would be."""
    path = tmp_path / "result.json"
    path.write_bytes(data)
    assert_refused(command("compare", path, path), 5, "result.json")


def test_files_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing files, folders without a result, pipes, and files larger than any result."""
    assert_refused(command("report", tmp_path / "no", "-o", tmp_path / "p.html"), 2, "cannot read a result")
    assert_refused(command("report", tmp_path, "-o", tmp_path / "p.html"), 2, "result.json")
    assert_refused(command("report", "/dev/zero", "-o", tmp_path / "p.html"), 5, "not a regular file")
    assert_refused(command("report", "a\0b", "-o", tmp_path / "p.html"), 2, "cannot read a result")
    assert_refused(command("report", "x" * 5000, "-o", tmp_path / "p.html"), 2, "cannot read a result")
    monkeypatch.setattr("accelsim.result_file.LARGEST_FILE_BYTES", 100)
    (tmp_path / "result.json").write_text(json.dumps(plain()))
    assert_refused(command("report", tmp_path, "-o", tmp_path / "p.html"), 6, "limit of 100 bytes")


def test_keys_of_later_versions_are_passed_over() -> None:
    """Later versions add keys everywhere; they change nothing."""
    data = plain()
    data["baselines"] = [1]
    for part in (data["model"], data["layers"][0], data["check"], data["energy"], data["totals"], data["timeline"]):
        part["later"] = {"anything": [1, 2]}
    data["energy"]["sources"][0] |= {"node_nm": 45, "rows": ["one", "two"], "deep": {"a": [[1]]}}
    result = result_from_dict(data, "later.json")
    assert result.energy.units[0]["rows"] == ["one", "two"]
    text = report_html([result])
    assert "node nm" in text
    assert "one, two" in text


def places(part: object, here: Path_ = ()) -> list[Path_]:
    """Return where every value of the data is, intervals aside."""
    if isinstance(part, dict):
        inner = [(*here, key) for key in part if key != "intervals"]
        return [*inner, *(place for key in inner for place in places(part[key[-1]], key))]
    if isinstance(part, list):
        inner = [(*here, index) for index in range(len(part))]
        return [*inner, *(place for key in inner for place in places(part[key[-1]], key))]
    return []


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(-(1 << 70), 1 << 70), st.floats(), st.text(max_size=8),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(places(plain())), ANYTHING)
def test_whatever_a_value_becomes(place: Path_, value: object) -> None:
    """Any value in any place gives a result that can be written again, or an error that names the file."""
    try:
        text = result_from_dict(changed(place, value), "some.json").to_json()
    except InvalidFileError as error:
        text = json.dumps({"schema_version": 1, "error": str(error)})
        named = str(error).startswith("some.json ") and str(error).isprintable()
    else:
        named = True
    assert named, text
    assert json.loads(text)["schema_version"] == 1


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(places(plain())), ANYTHING)
def test_whatever_is_read_is_drawn(place: Path_, value: object) -> None:
    """What the reader lets pass, a report shows."""
    try:
        result = result_from_dict(changed(place, value), "some.json")
    except AccelSimError:
        return
    assert report_html([result]).startswith("<!DOCTYPE html>")
