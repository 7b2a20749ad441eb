"""The page in a real browser: nothing is asked for, nothing goes wrong, and the buttons do what they say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from accelsim.reports.page.page import report_html
from accelsim.results.result import Result
from tests.reports.browser import Browser, cut, overlaps
from tests.reports.results import digits_result, model_result, named_badly
from tests.tiers import deep

MODEL = "mobilenetv2_100_224_int8"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("chromium")) as started:
        yield started


def opened(browser: Browser, folder: Path, results: list[Result], **size: int) -> None:
    """Write a report and open it."""
    path = folder / "report.html"
    path.write_text(report_html(results), "utf-8")
    browser.open(path, **size)
    assert browser.seen.requests == [path.as_uri()]
    assert browser.seen.messages == []


def test_the_report_of_our_network(browser: Browser, tmp_path: Path) -> None:
    """No request but the page's own, no word on the console, all charts have a size, policy and buttons are there."""
    opened(browser, tmp_path, [digits_result()])
    charts = browser.evaluate(
        "Array.from(document.querySelectorAll('.chart svg'), (chart) => chart.getBoundingClientRect().width)"
    )
    assert len(charts) == 10
    assert all(width > 300 for width in charts)
    assert browser.evaluate("document.querySelector('.tools').hidden") is False
    assert browser.evaluate("document.querySelectorAll('[style]').length") == 0
    assert (overlaps(browser), cut(browser)) == ([], [])


@deep
def test_the_report_of_a_real_network(browser: Browser, tmp_path: Path, shared_models: Path) -> None:
    """The same for a hundred layers, names readable inside of frames that scroll."""
    path = shared_models / f"{MODEL}.onnx"
    if not path.is_file():
        pytest.skip(f"{MODEL} is not among the real models here")
    opened(browser, tmp_path, [model_result(path)])
    sizes = browser.evaluate(
        "Array.from(document.querySelectorAll('#cycles svg text'), (text) => text.getBoundingClientRect().height)"
    )
    assert len(sizes) > 140
    assert min(sizes) >= 9
    assert browser.evaluate("document.querySelector('#cycles .chart').getBoundingClientRect().height") <= 640
    assert (overlaps(browser), cut(browser)) == ([], [])


@deep
def test_a_comparison_of_three(browser: Browser, tmp_path: Path) -> None:
    """Three results lie beside each other, and the page itself does not scroll sideways."""
    opened(browser, tmp_path, [digits_result(), digits_result("os"), digits_result("ws", 12)], width=1500)
    places = browser.evaluate(
        "Array.from(document.querySelectorAll('#energy figure'), (part) => part.getBoundingClientRect().top)"
    )
    assert len(places) == 3
    assert len(set(places)) == 1
    assert (overlaps(browser), cut(browser)) == ([], [])
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("width", [360, 700, 1200])
def test_only_frames_scroll_sideways_in_narrow_windows(browser: Browser, tmp_path: Path, width: int) -> None:
    """Only frames scroll sideways, never the page."""
    opened(browser, tmp_path, [digits_result()], width=width)
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_tables_are_sorted(browser: Browser, tmp_path: Path) -> None:
    """A click sorts numbers as numbers, a second one turns the order, names are sorted as names."""
    opened(browser, tmp_path, [digits_result()])
    column = """(index) => Array.from(
      document.querySelectorAll('#layers tbody tr'), (row) => row.cells[index].textContent)"""
    click = "(index) => document.querySelectorAll('#layers th button')[index].click()"
    cycles = [f"{layer.cycles:,}" for layer in digits_result().layers]
    assert browser.evaluate(f"({column})(2)") == cycles
    by_size = sorted(cycles, key=lambda text: int(text.replace(",", "")))
    for expected, order in ((by_size[::-1], "descending"), (by_size, "ascending")):
        browser.evaluate(f"({click})(2)")
        assert browser.evaluate(f"({column})(2)") == expected
        assert browser.evaluate("document.querySelectorAll('#layers th')[2].getAttribute('aria-sort')") == order
    browser.evaluate(f"({click})(1)")
    names = browser.evaluate(f"({column})(1)")
    assert names == sorted(names, key=str.lower)
    browser.evaluate(f"({click})(4)")
    used = browser.evaluate(f"({column})(4)")
    numbers = [float(text) for text in used if text]
    assert used == [*(f"{number:.1f}" for number in sorted(numbers, reverse=True)), *[""] * (len(used) - len(numbers))]
    assert browser.evaluate("document.querySelector('#layers tfoot td:nth-child(2)').textContent") == "total"
    assert browser.seen.messages == []


def test_buttons_change_theme_charts_and_tables_and_back(browser: Browser, tmp_path: Path) -> None:
    """Theme, charts and tables change and change back."""
    opened(browser, tmp_path, [digits_result()])
    background = "getComputedStyle(document.body).backgroundColor"
    light = browser.evaluate(background)
    browser.evaluate("document.getElementById('theme').click()")
    dark = browser.evaluate(background)
    assert light != dark
    browser.evaluate("document.getElementById('theme').click()")
    assert browser.evaluate(background) == light
    shown = "Array.from(document.querySelectorAll('.chart')).filter((part) => part.offsetHeight).length"
    tables = "document.querySelectorAll('details[open]').length"
    assert (browser.evaluate(shown), browser.evaluate(tables)) == (10, 0)
    for name in ("charts", "tables"):
        browser.evaluate(f"document.getElementById('{name}').click()")
    assert browser.evaluate(shown) == 0
    assert browser.evaluate(tables) == browser.evaluate("document.querySelectorAll('details').length") > 5
    for name in ("charts", "tables"):
        browser.evaluate(f"document.getElementById('{name}').click()")
    assert (browser.evaluate(shown), browser.evaluate(tables)) == (10, 0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_ink_follows_the_theme(browser: Browser, tmp_path: Path, scheme: str) -> None:
    """Text of charts has the colour of the page's text, whatever the system prefers."""
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    opened(browser, tmp_path, [digits_result()])
    ink = browser.evaluate("getComputedStyle(document.body).color")
    labels = browser.evaluate("getComputedStyle(document.querySelector('#cycles svg text')).fill")
    assert ink == labels
    level = sum(int(part) for part in ink[4:-1].split(","))
    assert (level > 384) == (scheme == "dark")
    browser.call("Emulation.setEmulatedMedia", features=[])


def test_on_paper_it_is_light_short_and_without_tools(browser: Browser, tmp_path: Path) -> None:
    """On paper it is light, nothing scrolls, and the tools are gone; it takes a few sheets."""
    opened(browser, tmp_path, [digits_result()])
    browser.call("Emulation.setEmulatedMedia", media="print", features=[])
    frames = browser.evaluate(
        "Array.from(document.querySelectorAll('.chart, .rows'), (part) => getComputedStyle(part).overflowY)"
    )
    assert set(frames) <= {"visible"}
    assert browser.evaluate("getComputedStyle(document.querySelector('.tools')).display") == "none"
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    browser.call("Emulation.setEmulatedMedia", media="", features=[])
    assert len(browser.call("Page.printToPDF")["data"]) > 10_000


def test_hostile_names_are_text(browser: Browser, tmp_path: Path) -> None:
    """Markup in names of models, layers, tensors, versions and tables neither runs nor becomes elements."""
    opened(browser, tmp_path, [named_badly(digits_result("ws", 12))])
    assert browser.evaluate("document.querySelectorAll('script').length") == 1
    assert browser.evaluate("document.querySelectorAll('.chart svg').length") == 10
    assert "<script>alert(1)</script>" in browser.evaluate("document.querySelector('h1').textContent")


def test_the_policy_stops_what_is_not_ours(browser: Browser, tmp_path: Path) -> None:
    """A page into which somebody puts a script or an image does not run it and does not ask for it: the check sees."""
    html = report_html([digits_result()])
    spoilt = html.replace("<footer>", "<script>document.title = 'run'</script><img src='https://example.com/x.png'>", 1)
    path = tmp_path / "spoilt.html"
    path.write_text(spoilt, "utf-8")
    browser.open(path)
    assert browser.evaluate("document.title") != "run"
    assert len(browser.seen.messages) == 2
    assert all("Content Security Policy" in message for message in browser.seen.messages)
