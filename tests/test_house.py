"""Rules of the house that a tool can hold: packages, names, kernels, sizes, generated pages."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from accelsim.graph.importers.groups import GROUPED
from accelsim.graph.importers.importer import IMPORTERS
from accelsim.graph.importers.operators_page import operators_markdown
from accelsim.graph.importers.parts import IN_PARTS, PART_OPERATORS
from accelsim.graph.load.constraints import OPERATORS, QONNX_OPERATORS
from accelsim.graph.qonnx.importer import SUMMED
from accelsim.graph.qonnx.quantisers import QUANTISERS

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("accel", "graph", "models", "reports")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
TEST_MODULE = re.compile(r"[./]test_\w+(\.py)?(\.\w+)?$")


def test_the_package_list_is_complete() -> None:
    """Every folder with an __init__.py is listed in pyproject.toml and mapped to the right name."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    found = set()
    for folder in FOLDERS:
        for marker in (ROOT / folder).rglob("__init__.py"):
            parts = marker.parent.relative_to(ROOT).parts
            found.add(".".join(("accelsim", *(parts[1:] if parts[0] == "accel" else parts))))
    assert set(settings["packages"]) == found
    mapping = settings["package-dir"]
    for name in found:
        assert (ROOT / mapping[name] / "__init__.py").is_file()


@pytest.mark.parametrize("folder", FOLDERS)
def test_folders_cannot_be_imported_under_a_second_name(folder: str) -> None:
    """`import graph` from the repository's root fails with a sentence instead of loading a second copy."""
    answer = subprocess.run(
        [sys.executable, "-c", f"import {folder}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 1
    assert "ImportError: import accelsim" in answer.stderr


def test_modules_are_short() -> None:
    """No module is longer than 400 lines."""
    long = {
        str(path.relative_to(ROOT)): count for path in SOURCES if (count := len(path.read_text().splitlines())) > 400
    }
    assert long == {}


def module_name(path: Path) -> str:
    """Return what a source is imported as."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    names = ["accelsim", *(parts[1:] if parts[0] == "accel" else parts)]
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


def imported(path: Path, known: set[str]) -> set[str]:
    """Return the modules of the package that a source imports, at its top or inside of a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            members = {f"{node.module}.{alias.name}" for alias in node.names} & known
            found |= members or ({node.module} & known)
    return found - {module_name(path)}


def test_no_import_leads_back() -> None:
    """No circle of imports, those inside of functions and for types included, but the notebook's representation."""
    modules = {module_name(path): path for path in SOURCES}
    doors = {"accelsim", "accelsim.energy", "accelsim.quantise"}  # their names are imported when they are used
    graph = {name: imported(path, set(modules)) for name, path in modules.items() if name not in doors}
    graph["accelsim.results.result"].remove("accelsim.reports.page.html")
    assert list(TopologicalSorter(graph).static_order())


def test_rooms_say_what_lives_there() -> None:
    """Few modules stand outside of rooms, and each room begins with a sentence about itself."""
    assert len(list((ROOT / "accel").glob("*.py"))) <= 12
    for folder in FOLDERS:
        for marker in (ROOT / folder).rglob("__init__.py"):
            assert ast.get_docstring(ast.parse(marker.read_text("utf-8"))), marker


def test_kernels_are_compiled_in_one_way() -> None:
    """Every function in accel/kernels is compiled by `kernel`, and nothing else in the package calls Numba's jit."""
    for path in SOURCES:
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in ("jit", "njit", "vectorize", "guvectorize"):
                assert path.name == "jit.py", path
        if "kernels" in path.parts and path.name not in ("jit.py", "__init__.py"):
            for function in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
                names = {ast.unparse(decorator) for decorator in function.decorator_list}
                assert names in ({"kernel"}, {"intrinsic"}), f"{path.name}: {function.name}"


def test_operator_table_and_importers_agree() -> None:
    """Each operator of the table has an importer and the other way round (aliases of Reshape aside)."""
    listed = {name for row in OPERATORS for name in row.kernel.split(", ")} - {"(any other)"}
    known = set(IMPORTERS) | GROUPED
    assert listed <= known
    assert known - listed == {"Flatten", "Squeeze", "Unsqueeze", "Identity"}


def test_table_of_nodes_in_parts_and_their_importers_agree() -> None:
    """The rows name every operator that is imported in parts."""
    listed = {name for row in PART_OPERATORS for name in row.kernel.split(", ")}
    assert listed == {name for _, name in IN_PARTS}


def test_table_of_qonnx_and_its_importers_agree() -> None:
    """The rows of QONNX name its quantisers and what is summed in integers between them."""
    listed = [name for row in QONNX_OPERATORS for name in row.kernel.split(", ")]
    assert sorted(listed) == sorted([*QUANTISERS, *SUMMED])


def test_supported_operators_page_is_current() -> None:
    """docs/supported-ops.md is what `accel-sim ops --markdown` prints."""
    assert (ROOT / "docs" / "supported-ops.md").read_text("utf-8") == operators_markdown() + "\n"


def test_no_machine_paths_are_committed() -> None:
    """No file of the project names a path of one machine."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    marks = ("/" + "work/", "/" + "root/", "/home" + "/")
    for name in listed:
        path = ROOT / name
        if path.suffix in (".py", ".md", ".toml", ".svg", "") and path.is_file():
            text = path.read_text("utf-8", "replace")
            assert not any(mark in text for mark in marks), name


def test_helpers_live_in_harness_modules() -> None:
    """No file imports from a test_ file, for types neither: what tests share stands in a module of its own."""
    for path in TESTS:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom):
                names = [node.module or "", *(f"{node.module}.{name.name}" for name in node.names)]
            else:
                names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            wrong = [name for name in names if name.startswith("tests.") and TEST_MODULE.search(name)]
            assert not wrong, f"{path.relative_to(ROOT)}: {wrong}"


def test_test_files_are_short() -> None:
    """No test file is longer than 500 lines."""
    counts = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in TESTS}
    assert {name: count for name, count in counts.items() if count > 500 and TEST_MODULE.search(name)} == {}
