"""What quantising did to a model, in the page of its run: the same numbers, from a file that nobody vouches for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from onnx import helper

import accelsim
from accelsim.errors import AccelSimError, InvalidFileError, UsageError
from accelsim.quantise.measure.report import report_on
from accelsim.quantise.pipeline import Quantised, quantize
from accelsim.reports.charts.histograms import draw_histogram, grid_lines
from accelsim.reports.page.page import quantisation_html, report_figures, report_html
from accelsim.results.quantisation import QuantisationReport
from accelsim.results.quantisation_reader import read_quantisation
from accelsim.results.result import Result
from tests.cli.command import assert_refused, command
from tests.quantise.helpers import DIGITS, build, samples
from tests.reports.browser import Browser, cut, overlaps
from tests.reports.harness import ANYTHING, DAMAGED, Path_, altered, places, plain as result_file
from tests.reports.results import HOSTILE
from tests.tiers import deep, few


@cache
def quantised(scheme: str = "w4a8") -> Quantised:
    return quantize(DIGITS, scheme, samples(count=40))


@cache
def found(scheme: str = "w4a8") -> QuantisationReport:
    return report_on(quantised(scheme))


@cache
def run(scheme: str = "w4a8") -> Result:
    return accelsim.run(quantised(scheme).onnx, values=False)


def plain() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(found().to_json())
    return data


def write(folder: Path, data: object) -> Path:
    path = folder / "q.json"
    path.write_text(json.dumps(data))
    return path


@pytest.mark.parametrize("scheme", few(["w4a8", "int16", "int8-per-channel+layer_activation_bits.reduce=16"], 1))
def test_what_is_written_is_read(tmp_path: Path, scheme: str) -> None:
    """Writing what was read gives the same bytes."""
    text = found(scheme).to_json()
    (tmp_path / "q.json").write_text(text)
    assert read_quantisation(tmp_path / "q.json").to_json() == text


def without_error() -> QuantisationReport:
    """Return a network of one layer whose weights lie on their grid."""
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["h"], name="exact"),
        helper.make_node("Relu", ["h"], ["y"], name="r"),
    ]
    weights = np.eye(4, dtype=np.float32)
    one = quantize(build(nodes, {"w": weights}, ("N", 4)), "int8-affine+activation_range=abs-max",
                   {"x": np.arange(-128, 128, dtype=np.float32).reshape(64, 4)})  # fmt: skip
    return report_on(one)


def test_no_error_at_all_is_not_no_figure(tmp_path: Path) -> None:
    """Infinite ratios are words in JSON, and read back as what they were; null is left to ratios that do not exist."""
    report = without_error()
    (layer,) = report.errors.layers
    assert layer.weight_sqnr_db == np.inf
    data = json.loads(report.to_json())
    assert data["errors"]["layers"][0]["weight_sqnr_db"] == "exact"
    assert data["comparison"]["original"]["sqnr_db"] is None
    silent = replace(layer, weight_sqnr_db=-np.inf, output_sqnr_db=None)
    report = replace(report, errors=replace(report.errors, layers=(layer, silent), output_sqnr_db=np.inf))
    (tmp_path / "q.json").write_text(report.to_json())
    back = read_quantisation(tmp_path / "q.json")
    assert (back.errors.layers, back.errors.output_sqnr_db) == ((layer, silent), np.inf)
    assert quantisation_html(back) == quantisation_html(report)


@pytest.mark.parametrize("word", ["Exact", "inf", "", "1"])
def test_other_words_are_no_ratios(tmp_path: Path, word: str) -> None:
    data = plain()
    data["errors"]["layers"][0]["weight_sqnr_db"] = word
    with pytest.raises(InvalidFileError, match="weight_sqnr_db"):
        read_quantisation(write(tmp_path, data))


@deep
def test_three_commands_to_one_page(tmp_path: Path) -> None:
    """quantize, run, report: the section stands in the page of the run, with a histogram of every tensor."""
    q, data = tmp_path / "q.onnx", tmp_path / "q.json"
    samples_file = DIGITS.parent / "digits_calibration.npz"
    assert command("quantize", DIGITS, "-o", q, "--calib", samples_file, "-q", "--report", data).code == 0
    assert command("run", q, "-o", tmp_path / "run", "-q").code == 0
    page = tmp_path / "page.html"
    done = command("report", tmp_path / "run", "--quantisation", data, "-o", page)
    assert done.code == 0, done.stderr
    text, report = page.read_text(), read_quantisation(data)
    tensors = len(report.errors.weights) + len(report.errors.activations)
    assert len(re.findall(r"Values of [^\"]* with the grid of its codes", text)) == tensors
    for section in ("executions", "layers", "tensors", "grids"):
        assert text.count(f'<section id="quantisation-{section}"') == 1


def test_the_page_shows_the_figures() -> None:
    """Numbers of the tables are those of the report, to the digits shown."""
    text = quantisation_html(found())
    for error in (*found().errors.weights, *found().errors.activations):
        assert f">{error.tensor}</td>" in text
        assert f">{error.sqnr_db:.1f}</td>" in text
        assert f">{error.effective_bits:.2f}</td>" in text
    machine = found().comparison.machine
    assert machine.accuracy is not None
    assert f"{machine.accuracy:.1%}" in text
    assert f"{found().quantised_bytes:,} B" in text


@deep
def test_lines_of_the_grid_are_its_codes() -> None:
    """With one scale and few codes, every line is what one code stands for, and every code has a line."""
    one = quantised("w4a8+granularity=tensor")
    for error in report_on(one).errors.weights:
        weights = next(w for w in one.weights.values() if w.layer.weight == error.tensor)
        codes = np.arange(weights.grid.spec.lowest, weights.grid.spec.highest + 1)
        values = (codes - int(weights.grid.zero_points)) * float(weights.grid.scales)
        assert np.allclose(grid_lines(error), values, rtol=1e-6, atol=1e-12)
    assert grid_lines(found("int8-per-channel").errors.weights[0]) == []


def test_lines_of_several_grids_are_those_of_the_coarsest() -> None:
    """As many lines as codes, at the values of the channel with the largest step, affine or not."""
    one = quantised("w4a8+weight_mapping=affine+weight_narrow=false")
    for error in report_on(one).errors.weights:
        grid = next(w for w in one.weights.values() if w.layer.weight == error.tensor).grid
        place = int(grid.scales.argmax())
        values = (np.arange(-8, 8) - int(grid.zero_points[place])) * float(grid.scales[place])
        assert np.allclose(grid_lines(error), values, rtol=1e-6, atol=1e-12)


def test_bars_are_the_counts() -> None:
    """The outline that is drawn has the counts of the histogram, and they are all values of the tensor."""
    for error in found().errors.weights:
        assert sum(error.distribution.counts) == error.elements
        (axes,) = draw_histogram(error, 300).figure.axes
        heights = np.asarray(axes.patches[-1].get_data().values)  # type: ignore[attr-defined] # a StepPatch
        counts = np.where(heights < 0, 0, np.rint(10.0**heights))
        assert counts.tolist() == list(error.distribution.counts)


@deep
def test_equal_reports_give_equal_bytes() -> None:
    """Drawing twice gives the same page."""
    assert report_html([run()], [found()]) == report_html([run()], [found()])


@deep
def test_histograms_are_figures_as_well() -> None:
    """--figures draws them with the charts of the run, whatever tensors are called."""
    report = named_badly(found())
    few = replace(report, errors=replace(report.errors, weights=report.errors.weights[:1], activations=()))
    files = report_figures([run()], [few])
    assert {f"quantisation-0.{kind}" for kind in ("svg", "pdf", "png")} <= set(files)
    assert b"<script" not in files["quantisation-0.svg"]


@deep
def test_a_report_on_another_model_is_refused(tmp_path: Path) -> None:
    """Figures of one file do not stand beside the run of another one."""
    with pytest.raises(UsageError, match="gave another file than the one that was run"):
        report_html([run()], [found("int16")])
    assert command("run", DIGITS.parent / "digits_int8.onnx", "-o", tmp_path / "run", "-q").code == 0
    path = write(tmp_path, plain())
    assert_refused(command("report", tmp_path / "run", "--quantisation", path, "-o", tmp_path / "p.html"), 2, "w4a8")
    assert not (tmp_path / "p.html").exists()


@deep
def test_two_models_beside_each_other() -> None:
    """Each report has its sections, whose keys differ and whose titles name the scheme."""
    text = report_html([run(), run("int16")], [found(), found("int16")])
    ids = re.findall(r'id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert "What each layer loses (digits_float.onnx, w4a8)" in text
    assert "What each layer loses (digits_float.onnx, int16)" in text


@deep
def test_figures_say_what_they_are_measured_on() -> None:
    """Calibration or other samples, how many, and from where; layers are ranked on the first few."""
    report = found()
    page = quantisation_html(report)
    assert "on the 40 calibration samples; " in page
    assert "on the first 32 of them" in page
    other = replace(report, measured_on="held back.npz", comparison=replace(report.comparison, samples=360))
    page = quantisation_html(other)
    assert "on the 360 test samples; " in page
    assert "measured on the 360 test samples (held back.npz)" in page
    assert "Activations are those of the 40 calibration samples." in page


def named_badly(report: QuantisationReport) -> QuantisationReport:
    errors = report.errors
    return replace(
        report,
        model=HOSTILE,
        calibration=HOSTILE,
        measured_on=HOSTILE,
        scheme={"name": HOSTILE},
        remarks=(HOSTILE,),
        errors=replace(
            errors,
            weights=tuple(replace(one, tensor=HOSTILE, kind=HOSTILE) for one in errors.weights),
            activations=tuple(replace(one, tensor=HOSTILE) for one in errors.activations),
            layers=tuple(replace(one, layer=HOSTILE, kind=HOSTILE) for one in errors.layers),
        ),
        comparison=replace(
            report.comparison,
            machine=replace(report.comparison.machine, name=HOSTILE),
            distances=tuple(replace(one, output=HOSTILE) for one in report.comparison.distances),
        ),
    )


def test_hostile_names_are_inert() -> None:
    """Markup, formulas, templates and terminal codes in every text end up as text, without controls."""
    body = re.sub(r"<script>\n?// Sorts.*?</script>", "", quantisation_html(named_badly(found())), flags=re.DOTALL)
    assert not re.search(r"<script|\x1b|\u202e", body)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in body
    assert ">49<" not in body


WRONG: dict[str, tuple[Path_, object, str]] = {
    "a result": (("kind",), None, "not a report on quantisation"),
    "another version": (("schema_version",), 2, "schema version 2"),
    "true is not 1": (("schema_version",), True, "schema version True"),
    "text for a number": (("errors", "weights", 0, "bits"), "4", "errors.weights.0.bits"),
    "a share above 1": (("errors", "weights", 0, "clipped_share"), 1.5, "errors.weights.0.clipped_share"),
    "bins that do not fit": (("errors", "weights", 0, "distribution", "counts"), [1], "edges do not fit"),
    "edges that fall": (("errors", "weights", 0, "distribution", "edges", 3), -1e9, "edges do not fit"),
    "an error below 0": (("errors", "activations", 0, "rounding"), -1.0, "errors.activations.0.rounding"),
    "layers that are none": (("errors", "layers"), 3, "errors.layers"),
}


@pytest.mark.parametrize(("place", "value", "words"), WRONG.values(), ids=WRONG)
def test_wrong_files_are_refused(tmp_path: Path, place: Path_, value: object, words: str) -> None:
    """One sentence with the place."""
    with pytest.raises(InvalidFileError, match=r".+") as caught:
        read_quantisation(write(tmp_path, altered(plain(), place, value)))
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_damaged_files_are_refused(tmp_path: Path, damage: Callable[[str], bytes]) -> None:
    """The same for what is no JSON, or another file of ours."""
    (tmp_path / "q.json").write_bytes(damage(json.dumps(result_file())))
    with pytest.raises(InvalidFileError, match=r"q\.json"):
        read_quantisation(tmp_path / "q.json")


SMALL = {"edges", "counts"}


def drawable_places() -> list[Path_]:
    """Return where a value of the report is, long lists of numbers aside."""
    return [place for place in places(plain()) if not (SMALL & set(map(str, place)) and place[-1] not in SMALL)]


@deep
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.deferred(lambda: st.sampled_from(drawable_places())), ANYTHING)
def test_whatever_is_read_is_drawn(tmp_path_factory: pytest.TempPathFactory, place: Path_, value: object) -> None:
    """Any value in any place is shown, or refused with a sentence."""
    try:
        data = json.dumps(altered(plain(), place, value), allow_nan=False)
    except ValueError:
        return
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(data)
    try:
        report = read_quantisation(path)
    except AccelSimError as error:
        named = str(error).isprintable()
    else:
        named = quantisation_html(report).startswith("<!DOCTYPE html>")
    assert named


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.mark.parametrize("width", few([360, 700, 1200], 1))
def test_the_page_asks_for_nothing_and_no_text_overlaps_in_a_browser(
    browser: Browser, tmp_path: Path, width: int
) -> None:
    """Nothing is asked for, nothing goes wrong, no text lies on another one, and the page does not scroll sideways."""
    path = tmp_path / "page.html"
    path.write_text(quantisation_html(found()), "utf-8")
    browser.open(path, width=width)
    assert browser.seen.requests == [path.as_uri()]
    assert browser.seen.messages == []
    assert (overlaps(browser), cut(browser)) == ([], [])
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
