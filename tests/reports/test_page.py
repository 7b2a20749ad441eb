"""The page and the figures without a browser: equal bytes, size, policy, inert names, charts equal to their tables."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

import accelsim
from accelsim.errors import UsageError
from accelsim.reports.charts.graph import edges_of, lay_out
from accelsim.reports.charts.roofline import points
from accelsim.reports.page.layer_tables import cycles_table, energy_table, traffic_table
from accelsim.reports.page.page import environment, report_figures, report_html, views_of
from accelsim.reports.page.parts import QUESTIONS
from accelsim.reports.page.tables import Table, energy_unit
from accelsim.reports.view import view_of
from accelsim.results.reader import result_from_dict
from accelsim.results.result import Result
from tests.cli.command import process_environment
from tests.reports.results import DIGITS, HOSTILE, ROOT, digits_result, model_result, named_badly
from tests.tiers import deep


class Elements(HTMLParser):
    """Collects the tags, their attributes and the text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


def numbers(table: Table, column: int) -> list[float]:
    """Return a column of a table."""
    return [float(row[column].text.replace(",", "")) for row in table.rows]


@deep
def test_equal_results_give_equal_bytes(tmp_path: Path) -> None:
    """Two pages in this process, and one in another process with another hash seed, are the same bytes; figures too."""
    first = report_html([digits_result()])
    assert report_html([digits_result()]) == first
    source = tmp_path / "result.json"
    source.write_text(digits_result().to_json(), "utf-8")
    for seed in ("1", "77"):
        target = tmp_path / f"{seed}.html"
        figures = tmp_path / seed
        subprocess.run(
            [sys.executable, "-m", "accelsim", "report", source, "-o", target, "--figures", figures, "-q"],
            check=True, env=process_environment({"PYTHONHASHSEED": seed, "MPLBACKEND": "TkAgg", "DISPLAY": ""}),
        )  # fmt: skip
        assert target.read_text("utf-8") == first
    names = sorted(path.name for path in (tmp_path / "1").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "77").iterdir())
    for name in names:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "77" / name).read_bytes(), name


def test_the_policy_names_what_is_in_the_page() -> None:
    """Nothing may be loaded; the one style and the one script are named by their hashes; no style attributes."""
    html = report_html([digits_result()])
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    policy = policy.replace("&#39;", "'")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    elements = Elements(html)
    assert not {name for name, _ in elements.attributes} & {"style", "src", "onclick", "onload", "srcset", "action"}
    links = {value for name, value in elements.attributes if name in ("href", "xlink:href")}
    assert all(link.startswith("#") or link == "data:," for link in links)
    assert len(re.findall("\n", html[html.index("<script>") :])) < 300


def test_ids_are_unique_and_references_lead_somewhere() -> None:
    """Charts beside each other do not borrow each other's parts."""
    html = report_html([digits_result(), digits_result("os")])
    elements = Elements(html)
    ids = [value for name, value in elements.attributes if name == "id"]
    assert len(set(ids)) == len(ids)
    used = {value[1:] for name, value in elements.attributes if name in ("href", "xlink:href") and value[0] == "#"}
    used |= set(re.findall(r"url\(#([^)]+)\)", html))
    assert used <= set(ids)


@deep
def test_a_report_of_a_hundred_layers_is_below_2_mb(shared_models: Path) -> None:
    """The report of a real network of a hundred layers is below 2 MB."""
    path = shared_models / "mobilenetv2_100_224_int8.onnx"
    if not path.is_file():
        pytest.skip("mobilenetv2_100_224_int8 is not among the real models here")
    html = report_html([model_result(path)])
    assert len(html.encode()) < 2_000_000
    assert html.count("<svg") == 9  # accumulators were not computed
    assert "no layer&#39;s sums were watched" in html


@pytest.mark.parametrize("count", [1, 2])
def test_hostile_names_are_inert(count: int) -> None:
    """Markup, formulas, templates and terminal codes in every text from a model end up as text, without controls."""
    html = report_html([named_badly(digits_result("ws", 12))] * count)
    body = re.sub(r"<script>\n?// Sorts.*?</script>", "", html, flags=re.DOTALL)
    assert not re.search(r"<script|\x1b|\u202e", body)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in body
    assert "{{ 7*7 }}" in body
    assert ">49<" not in body
    assert Elements(html).tags.count("script") == 1
    for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        ElementTree.fromstring(svg)


@deep
def test_hostile_names_in_figures() -> None:
    """Figures are drawn with such names: dollars are no formulas, control characters are gone."""
    files = report_figures([named_badly(digits_result())])
    assert {name.rpartition(".")[2] for name in files} == {"svg", "pdf", "png"}
    for name, data in files.items():
        magic = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}[name.rpartition(".")[2]]
        assert data.startswith(magic), name
        if name.endswith(".svg"):
            ElementTree.fromstring(data)
            assert b"<script" not in data


def test_templates_escape_and_miss_nothing() -> None:
    """Autoescape is on for every template, and a name that does not exist is an error."""
    from jinja2 import StrictUndefined

    found = environment()
    assert found.autoescape is True
    assert found.undefined is StrictUndefined
    assert found.from_string("{{ name }}").render(name="<b>") == "&lt;b&gt;"


def test_charts_and_tables_show_the_result() -> None:
    """Tables that equal the charts add up to the totals of the result."""
    result = digits_result()
    view = view_of(result)
    assert sum(numbers(cycles_table(view), 2)) == result.cycles
    for index, key in enumerate(view.classes):
        assert sum(numbers(cycles_table(view), 4 + index)) == sum(
            row.cycle_classes.get(key, 0) for row in result.layers
        )
    factor = energy_unit([view.peak.energy_pj]).factor
    assert sum(numbers(energy_table(view), 2)) == pytest.approx(result.energy_pj / factor, rel=1e-4)
    assert sum(numbers(traffic_table(view), 4)) == result.dram_bytes
    html = report_html([result])
    for layer in result.layers:
        assert f"{layer.cycles:,}" in html


def test_bars_are_as_long_as_their_numbers() -> None:
    """Each class of each layer is one bar, named once; widths are proportional to the cycles of the classes."""
    html = report_html([digits_result()])
    section = html[html.index('id="cycles"') : html.index('id="energy"')]
    bars = re.findall(r'<path d="M ([\d.]+) [\d.]+ L ([\d.]+) [^"]*"[^>]*><title>[^<]*: ([\d,]+) cycles, ', section)
    assert len(bars) == sum(len(layer.cycle_classes) for layer in digits_result().layers)
    assert section.count(" cycles, ") == len(bars)
    scales = []
    for left, right, value in bars:
        width, cycles = abs(float(right) - float(left)), int(value.replace(",", ""))
        if cycles > 500:
            scales.append(width / cycles)
    assert max(scales) / min(scales) < 1.01
    total = sum(int(value.replace(",", "")) for _, _, value in bars)
    assert total == digits_result().cycles


def test_nothing_is_above_the_roof() -> None:
    """No layer does more operations per cycle than the roof above it allows, on every dataflow."""
    for dataflow in ("ws", "os", "is"):
        view = view_of(digits_result(dataflow))
        found = points(view)
        assert len(found) == 13
        for point in found:
            assert point.rate <= point.limit, point.row.label
            assert point.roof in ("array", "vector unit", "DRAM reads", "DRAM writes", "DRAM")


def test_the_graph_has_the_edges_of_the_program() -> None:
    """Layers read what others write; every edge goes down, and no box lies on another one."""
    rows = view_of(digits_result()).layers
    boxes, edges = lay_out(rows)
    names = [row.layer.name for row in rows]
    pairs = {(names[edge.source], names[edge.target]) for edge in edges}
    assert ("stem", "reduce") in pairs
    assert {source for source, target in pairs if target == "residual_add"} == {"pointwise1", "pointwise2"}
    assert all(boxes[edge.source].rank < boxes[edge.target].rank for edge in edges)
    assert len({(box.rank, box.lane) for box in boxes}) == len(rows)


def test_a_file_may_claim_any_edges() -> None:
    """Cycles, layers that read themselves and tensors nobody writes draw a graph, too."""
    layers = digits_result().layers
    odd = [replace(layer, inputs=("x", "nobody"), outputs=("x",)) for layer in layers]
    assert edges_of(view_of(replace(digits_result(), layers=tuple(odd))).layers) == []
    assert report_html([replace(digits_result(), layers=tuple(odd))]).count("<svg") == 10


def many(count: int) -> Result:
    """Return a result of many layers."""
    result = digits_result()
    layers = tuple(replace(result.layers[number % 14], name=f"layer{number}") for number in range(count))
    return replace(result, layers=layers)


@deep
def test_large_models_are_folded() -> None:
    """The layers with most cycles have rows of their own, the others one together; nothing is lost."""
    result = many(1000)
    view = view_of(result)
    assert (len(view.layers), view.folded) == (300, 701)
    assert sum(row.layer.cycles for row in view.layers) == result.cycles
    assert sum(row.energy_pj for row in view.layers) == pytest.approx(result.energy_pj)
    assert sum(row.layer.dram_bytes for row in view.layers) == result.dram_bytes
    html = report_html([result])
    assert len(html.encode()) < 4_000_000
    assert "the other 701 are added up" in html
    assert "the graph is drawn for models of up to 300 layers" in html


def test_older_results_say_what_they_lack() -> None:
    """Without the keys that were added later, there is a report, and the charts that lack data say so."""
    data = json.loads(digits_result().to_json())
    del data["timeline"]
    for key in ("rows", "laws", "scaling", "notes", "baselines", "baseline_assumptions"):
        del data["energy"][key]
    for layer in data["layers"]:
        for key in ("inputs", "outputs", "dram_read_bytes", "dram_write_bytes", "compulsory_dram_bytes"):
            del layer[key]
        del layer["lane_operations"], layer["charges"], layer["gated_macs"]
    html = report_html([result_from_dict(data, "old.json")])
    assert html.count("<svg") == 5
    assert html.count("this result lacks the data") == 4
    assert "this result has no timeline" in html


def test_a_run_without_layers() -> None:
    """An empty result gives a page."""
    assert "takes no time" in report_html([replace(digits_result(), layers=(), timeline=None)])


def test_titles_tell_results_apart() -> None:
    """Results of one model on one machine are told apart by what differs, and at most eight are shown."""
    titles = [view.title for view in views_of([digits_result(), digits_result("os"), digits_result("ws", 12)])]
    assert titles == [
        "A: digits_int8.onnx, 16x16 ws, accumulator.bits 32",
        "B: digits_int8.onnx, 16x16 os",
        "C: digits_int8.onnx, 16x16 ws, accumulator.bits 12",
    ]
    assert len({view.title for view in views_of([digits_result()] * 8)}) == 8
    with pytest.raises(UsageError, match="at most 8"):
        views_of([digits_result()] * 9)
    with pytest.raises(UsageError, match="at least one"):
        views_of([])


def test_charts_beside_each_other_have_one_scale() -> None:
    """The longest layer of all results is as long as the axis in each."""
    views = views_of([digits_result(), accelsim.run(DIGITS, accelsim.Arch(array=(4, 4)), values=False)])
    assert views[0].peak == views[1].peak
    assert views[0].peak.cycles == max(layer.cycles for view in views for layer in view.result.layers)


def test_overflows_are_red_and_counted() -> None:
    """A run with narrow accumulators shows its overflow events in the chart and in the table."""
    html = report_html([digits_result("ws", 12)])
    section = html[html.index('id="accumulators"') : html.index('id="traffic"')]
    events = [layer.acc.overflows for layer in digits_result("ws", 12).layers if layer.acc is not None]
    assert f"{sum(events):,} overflow events in 8 of 8 layers" in section
    assert section.count("bits missing (overflow)</title>") == 8
    for number in events:
        assert f'<td class="n bad">{number:,}</td>' in section


def test_notebooks_show_facts_and_layers() -> None:
    """A notebook shows the report's own partials, escaped, without scripts and styles."""
    html = digits_result()._repr_html_()
    assert "81% of it DRAM" in html
    assert html.count("<tr>") == 16
    bad = named_badly(digits_result())._repr_html_()
    assert set(Elements(bad).tags) <= {
        "div",
        "strong",
        "dl",
        "dt",
        "dd",
        "span",
        "table",
        "caption",
        "thead",
        "tbody",
        "tfoot",
        "tr",
        "th",
        "td",
        "p",
    }
    assert HOSTILE not in bad


def test_templates_are_packaged() -> None:
    """What the page is made of is listed in package-data."""
    settings = (ROOT / "pyproject.toml").read_text("utf-8")
    kinds = {path.suffix for path in (ROOT / "reports" / "templates").iterdir()}
    assert all(f'"templates/*{kind}"' in settings for kind in kinds)


def test_memory_bound_layers_are_those_with_its_colour() -> None:
    """The roofline's sentence counts the marks that the legend calls memory bound, and the table's last column."""
    view = view_of(digits_result())
    figure = next(one for one in QUESTIONS if one.key == "roofline").answer(view, 900.0)
    (bound,) = re.findall(r"Of \d+ layers, (\d+) (?:is|are) memory bound", figure.notes[0])
    assert figure.table is not None
    placed = {str(point.row.number) for point in points(view)}
    named = [row for row in figure.table.rows if row[0].text in placed and row[-1].text == "DRAM"]
    assert int(bound) == len(named) == sum(point.row.bound.key == "DRAM" for point in points(view))
    (sloped,) = re.findall(r"(\d+) lies? under the slope of DRAM", figure.notes[0])
    assert int(sloped) == sum(row[-2].text.startswith("DRAM") for row in figure.table.rows)
    assert sloped != bound


def test_the_bound_of_traffic_is_what_its_sentences_say() -> None:
    """What stays on chip is left out of the figure, and the intro, the legend and the note say so."""
    result = digits_result()
    alone = accelsim.run(DIGITS, accelsim.Arch(keep_activations=False), values=False)
    least, more = (sum(layer.compulsory_dram_bytes or 0 for layer in one.layers) for one in (result, alone))
    assert least < more
    html = report_html([result])
    section = html[html.index('id="traffic"') : html.index('id="timeline"')]
    assert f"{least:,} of the bound" in section
    assert "keeps on chip between layers, which are left out" in section
    assert "least possible beside what stays on chip" in section
    assert "for the layer alone" not in section
