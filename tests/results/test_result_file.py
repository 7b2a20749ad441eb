"""result.json read back: the same result, or one sentence about what is wrong with the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

import accelsim
from accelsim import Arch
from accelsim.energy.options import EnergyOptions
from accelsim.errors import AccelSimError, InvalidFileError
from accelsim.reports.page.page import report_html
from accelsim.results.reader import read_result, result_from_dict
from tests.cli.command import assert_refused, command
from tests.reports.harness import ANYTHING, DAMAGED, Path_, altered, places, plain
from tests.reports.results import digits_result, model_result
from tests.tiers import drawn, few, few_rows


def changed(place: Path_, value: object) -> dict[str, Any]:
    """Return the data with one value replaced."""
    return altered(plain(), place, value)


@pytest.mark.parametrize(("dataflow", "bits"), few_rows([("ws", 32), ("ws", 12), ("os", 32), ("is", 32)], 2))
def test_what_is_written_is_read(dataflow: str, bits: int) -> None:
    """Every key comes back: writing the result again gives the same bytes, mismatch and diagnosis included."""
    text = digits_result(dataflow, bits).to_json()
    assert result_from_dict(json.loads(text), "result.json").to_json() == text


@pytest.mark.parametrize(
    "name",
    few(["resnet8_cifar10_int8", "yamnet256_int8", "textgen_transformer_int8", "tfc_2w2a_qonnx"], ["tfc_2w2a_qonnx"]),
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
    "a clock slower than any machine": (("arch", "clock"), {"ghz": 1e-7}, "clock.ghz is 1e-07"),
    "a clock faster than any machine": (("arch", "clock"), {"ghz": 1e4}, "clock.ghz is 10000"),
    "a negative clock": (("arch", "clock"), {"ghz": -1.0}, "clock.ghz is -1"),
    "a clock that is true": (("arch", "clock"), {"ghz": True}, "clock.ghz"),
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


# What only a comparison of parts shows; the first entry says how wide the accumulators of the run were.
CONTRADICTIONS: dict[str, tuple[int, Path_, object, str]] = {
    "other total products": (32, ("totals", "macs"), 7, "totals.macs is 7"),
    "other products of the model": (32, ("model", "macs"), 7, "model.macs is 7"),
    "other total traffic": (32, ("totals", "dram_bytes"), 64, "totals.dram_bytes is 64"),
    "other traffic of a layer": (32, ("layers", 1, "dram_bytes"), 64, "totals.dram_bytes is"),
    "other reads of a layer": (32, ("layers", 1, "dram_read_bytes"), 64, "layers.1.dram_bytes is"),
    "other writes of a layer": (32, ("layers", 1, "dram_write_bytes"), 1 << 40, "layers.1.dram_bytes is"),
    "more than all of it is compulsory": (32, ("layers", 1, "compulsory_dram_bytes"), 1 << 40, "compulsory_dram_bytes"),
    "other total utilisation": (32, ("totals", "utilisation"), 0.99, "totals.utilisation is 0.99"),
    "no total utilisation": (32, ("totals", "utilisation"), None, "totals.utilisation is null"),
    "other utilisation of a layer": (32, ("layers", 1, "utilisation"), 0.99, "layers.1.utilisation is 0.99"),
    "no utilisation of a layer": (32, ("layers", 1, "utilisation"), None, "layers.1.utilisation is null"),
    "other time": (32, ("totals", "time_s"), 1e-9, "totals.time_s is 1e-09"),
    "another clock": (32, ("arch", "clock", "ghz"), 2.0, "totals.time_s"),
    "another array": (32, ("arch", "array", "rows"), 8, "totals.utilisation"),
    "other share of the array": (32, ("totals", "macs_on_array_share"), 0.5, "totals.macs_on_array_share is 0.5"),
    "products of the host": (32, ("layers", 1, "off_array_macs"), 1 << 20, "totals.macs_on_array_share"),
    "a layer that is not on the array": (32, ("layers", 1, "placement"), "vector", "layers.1.utilisation"),
    "other component": (32, ("energy", "components", "dram"), 1.0, "energy.components: dram is 1 pJ"),
    "a component too many": (32, ("energy", "components", "rumour"), 1.0, "energy.components: rumour is 1 pJ"),
    "other count of a charge": (32, ("layers", 1, "charges", 0, "count"), 3, "layers.1.charges: "),
    "other component of a charge": (32, ("layers", 1, "charges", 0, "component"), "mac", "layers.1.charges: "),
    "other unit of a charge": (32, ("layers", 1, "charges", 0, "unit"), "free", "names the unit free"),
    "other unit energy": (32, ("energy", "sources", 0, "value_pj"), 99.0, "charges: "),
    "a unit energy of text": (32, ("energy", "sources", 0, "value_pj"), "99", "names the unit"),
    "other energy of a format": (32, ("energy", "baselines", 0, "energy_pj"), 1.0, "baselines.0.energy_pj is 1"),
    "other ratio of a format": (32, ("energy", "baselines", 0, "ratio"), 100.0, "baselines.0.ratio is 100"),
    "other component of a format": (32, ("energy", "baselines", 0, "components", "mac"), 1.0, "baselines.0.energy_pj"),
    "other charge of a format": (32, ("energy", "baselines", 0, "charges", 0, "count"), 1, "baselines.0.charges"),
    "exact in spite of mismatches": (32, ("check", "mismatched_elements"), 5, "check.mismatched_elements is 5"),
    "exact in spite of drift": (32, ("check", "drifted_elements"), 5, "check.drifted_elements is 5"),
    "a layer with mismatches": (32, ("layers", 1, "check", "mismatched"), 5, "layers.1.check.verdict"),
    "a layer with wrong sums": (32, ("layers", 1, "check", "sums_mismatched"), 5, "layers.1.check.verdict"),
    "more mismatches than elements": (32, ("layers", 1, "check", "mismatched"), 1 << 40, "layers.1.check"),
    "other count of elements": (32, ("layers", 1, "check", "elements"), 1 << 20, "check.elements is"),
    "other total of elements": (32, ("check", "elements"), 1, "check.elements is 1"),
    "other verdict of a layer": (32, ("layers", 1, "check", "verdict"), "mismatch", "layers.1.check.verdict"),
    "a layer that is not judged": (32, ("layers", 1, "check", "exactness"), "q31", "layers.1.check.verdict"),
    "more wrong outputs than outputs": (32, ("check", "output_mismatched"), 1 << 40, "check.output_mismatched"),
    "more from the host than compared": (32, ("check", "host_elements"), 1 << 40, "check.host_elements"),
    "mismatch without any": (32, ("check", "verdict"), "mismatch", "nothing differs"),
    "skipped though compared": (32, ("check", "verdict"), "skipped", "check.verdict is skipped"),
    "q31 without a tensor of it": (32, ("check", "verdict"), "q31", "check.q31 lists 0"),
    "another cause of time": (32, ("timeline", "cycles"), 3, "timeline.cycles is 3"),
    "a timeline of no layer": (32, ("timeline", "number"), 4000, "timeline.cycles is"),
    "a mismatch called exact": (12, ("check", "verdict"), "exact", "check.verdict is exact, but"),
    "a mismatch called q31": (12, ("check", "verdict"), "q31", "check.verdict is q31, but"),
    "a mismatch without a place": (12, ("check", "first_mismatch"), None, "check.first_mismatch is missing"),
    "fewer mismatches": (12, ("check", "mismatched_elements"), 0, "check.mismatched_elements is 0"),
    "less drift": (12, ("check", "drifted_elements"), 0, "check.drifted_elements is 0"),
}


@pytest.mark.parametrize(("bits", "place", "value", "words"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_parts_that_contradict_each_other_are_refused(bits: int, place: Path_, value: object, words: str) -> None:
    """Whatever one of them a report would show, the other one tells that it was altered."""
    data = json.loads(digits_result("ws", bits).to_json())
    with pytest.raises(InvalidFileError, match="damaged or") as caught:
        result_from_dict(altered(data, place, value), "some.json")
    assert words in str(caught.value)


def test_mismatches_that_are_taken_out_everywhere() -> None:
    """A verdict, its totals and a layer changed together still leave the place of the first difference."""
    data = json.loads(digits_result("ws", 12).to_json())
    data["check"] |= {"verdict": "exact", "mismatched_elements": 0, "drifted_elements": 0}
    for layer in data["layers"]:
        layer["check"] |= {"mismatched": 0, "drifted": 0, "verdict": "exact"}
    with pytest.raises(InvalidFileError, match="first_mismatch names a difference"):
        result_from_dict(data, "some.json")


@pytest.mark.parametrize("mode", ["f32", "q31"])
@pytest.mark.parametrize("overflow", few(["wrap", "saturate"], ["saturate"]))
def test_results_of_other_machines_are_read(digits: Path, mode: str, overflow: str) -> None:
    """Every kind of verdict passes the comparison of the parts: exact, q31 and mismatch."""
    for bits in (32, 13):
        arch = Arch(requant_mode=mode, overflow=overflow, acc_bits=bits, array=(3, 5), clock_ghz=0.37)
        result = accelsim.run(digits, arch, energy=EnergyOptions(zero_gating=True))
        text = result.to_json()
        assert result_from_dict(json.loads(text), "result.json").to_json() == text


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_damaged_files_are_refused(tmp_path: Path, damage: Callable[[str], bytes]) -> None:
    """The same for what is no JSON, or JSON that no result would be."""
    path = tmp_path / "result.json"
    path.write_bytes(damage(json.dumps(plain())))
    assert_refused(command("compare", path, path), 5, "result.json")


def test_files_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing files, folders without a result, pipes, and files larger than any result."""
    assert_refused(command("report", tmp_path / "no", "-o", tmp_path / "p.html"), 2, "cannot read a result")
    assert_refused(command("report", tmp_path, "-o", tmp_path / "p.html"), 2, "result.json")
    assert_refused(command("report", "/dev/zero", "-o", tmp_path / "p.html"), 5, "not a regular file")
    assert_refused(command("report", "a\0b", "-o", tmp_path / "p.html"), 2, "cannot read a result")
    assert_refused(command("report", "x" * 5000, "-o", tmp_path / "p.html"), 2, "cannot read a result")
    monkeypatch.setattr("accelsim.results.reader.LARGEST_FILE_BYTES", 100)
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


PLACES = st.deferred(lambda: st.sampled_from(places(plain())))


@drawn(60, 400, PLACES, ANYTHING, derandomize=False)
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


@drawn(5, 25, PLACES, ANYTHING, derandomize=False)
def test_whatever_is_read_is_drawn(place: Path_, value: object) -> None:
    """What the reader lets pass, a report shows."""
    try:
        result = result_from_dict(changed(place, value), "some.json")
    except AccelSimError:
        return
    assert report_html([result]).startswith("<!DOCTYPE html>")
