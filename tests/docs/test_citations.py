"""What code and pages cite exists: sections of the contract and of the ONNX Runtime semantics, decisions, pages."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SUFFIXES = (".py", ".sv", ".svh", ".cpp", ".toml", ".md", ".run")
NUMBERS = r"(\d+(?:\.\d+)*(?:(?:, | and | to |-)\d+(?:\.\d+)*)*)"
SECTION = re.compile(r"[Ss]ections? " + NUMBERS)
CONTRACT = re.compile(r"\b[Cc]ontract\]?(?:\([^)]*\))?,? " + NUMBERS)
DECISION = re.compile(r"\b(?:ADR|[Dd]ecision) " + NUMBERS)
# What is cited beside our own pages: a paper or a book, named in front of the section.
WORKS = ("(2019), ", "(2021), ", "2021, ", "Numerical Algorithms*, ", "Numerical Algorithms, ")


def headings(page: str) -> set[str]:
    """Return the numbers of the sections of a page."""
    return set(re.findall(r"^#{2,3} (\d+(?:\.\d+)*)\.? ", (DOCS / page).read_text("utf-8"), re.MULTILINE))


SECTIONS = {page: headings(page) for page in ("timing_contract.md", "onnxruntime_semantics.md")}
DECISIONS = {str(int(path.name[:4])) for path in (DOCS / "adr").glob("0*.md")}


def files() -> list[str]:
    """Return the files whose citations are checked."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [
        name for name in listed.stdout.split() if name.endswith(SUFFIXES) and name != "tests/docs/test_citations.py"
    ]


def numbers(text: str) -> list[str]:
    """Return the numbers of a list such as "4.1, 4.2 and 5"."""
    return re.findall(r"\d+(?:\.\d+)*", text)


def missing(text: str, own: str = "") -> list[str]:
    """Return the citations of a text that lead nowhere.

    Args:
        text: of a file.
        own: the numbered page that this is, whose plain "section N" is its own.
    """
    text = re.sub(r"\s*\n[ \t]*(?:#|//)?[ \t]*", " ", text)
    found = []
    for match in SECTION.finditer(text):
        before = text[max(match.start() - 60, 0) : match.start()]
        if before.endswith(WORKS):
            continue
        page = own or "timing_contract.md"
        page = "onnxruntime_semantics.md" if "semantics" in before.lower() else page
        page = "timing_contract.md" if re.search(r"contract\S*,? $", before) else page
        found += [f"{page}, {number}" for number in numbers(match[1]) if number not in SECTIONS[page]]
    for match in CONTRACT.finditer(text):
        found += [f"contract, {number}" for number in numbers(match[1]) if number not in SECTIONS["timing_contract.md"]]
    for match in DECISION.finditer(text):
        found += [f"ADR {number}" for number in numbers(match[1]) if number not in DECISIONS]
    found += [word for word in ("(design, ", "(peers, ") if word in text]
    found += [
        path
        for path in re.findall(r"(?<![\w/])docs/[a-z_A-Z0-9/]+\.(?:md|toml|py)\b", text)
        if not (ROOT / path).is_file()
    ]
    return found


@pytest.mark.parametrize("folder", ["accel", "graph", "models", "reports", "tests", "docs", ""])
def test_every_citation_leads_somewhere(folder: str) -> None:
    """Each section, decision and page that a docstring, a comment or a page names exists."""
    lost = {}
    for name in files():
        if (name.split("/")[0] if "/" in name else "") == folder:
            own = Path(name).name if Path(name).name in SECTIONS else ""
            if unknown := missing((ROOT / name).read_text("utf-8"), own):
                lost[name] = unknown
    assert lost == {}


def test_citations_are_found() -> None:
    """What is cited in the ways of this code is read, over ends of lines, and a number that does not exist is told."""
    assert missing("(contract, sections 4.4 and 5.7)") == []
    assert missing("(timing contract,\n    section 5.12)") == ["timing_contract.md, 5.12"]
    assert missing("(contract 9.9)") == ["contract, 9.9"]
    assert missing("ONNX Runtime\n# semantics, section 3.10") == ["onnxruntime_semantics.md, 3.10"]
    assert missing("(ONNX Runtime semantics, section 3.9)") == []
    assert missing("(ADR 2) and ADR 99") == ["ADR 99"]
    assert missing("(design, decision 4)") == ["(design, "]
    assert missing("see docs/nowhere.md") == ["docs/nowhere.md"]


def test_semantics_are_cited_by_one_name() -> None:
    """A section of the semantics is cited as one of ONNX Runtime, so that a reader finds the page."""
    for name in files():
        if name.endswith(".py"):
            text = re.sub(r"\s*\n[ \t]*#?[ \t]*", " ", (ROOT / name).read_text("utf-8"))
            assert not re.search(r"(?<!ONNX Runtime )semantics,? (section )?\d", text), name


@pytest.mark.parametrize("page", sorted((DOCS / "adr").glob("0*.md")), ids=lambda path: path.name)
def test_decisions_have_a_number_a_status_and_a_date(page: Path) -> None:
    """The title starts with the file's number; status and date follow; the index lists the page."""
    title, blank, status, date, *_ = page.read_text("utf-8").splitlines()
    assert title.startswith(f"# {int(page.name[:4])}. ")
    assert blank == ""
    assert re.match(r"Status: (accepted|superseded|proposed)\.", status)
    assert re.fullmatch(r"Date: \d{4}-\d\d-\d\d", date)
    assert f"]({page.name})" in (DOCS / "adr" / "README.md").read_text("utf-8")
