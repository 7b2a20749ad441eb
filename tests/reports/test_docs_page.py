"""docs/report.md does what it says: its commands run in their order, and its Python runs after them."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.cli.command import command
from tests.reports.results import ROOT
from tests.tiers import deep

PAGE = (ROOT / "docs" / "report.md").read_text("utf-8")


@deep
def test_all_commands_of_the_page_and_its_python_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All commands of the page, one after the other in one folder, succeed; then the Python example does."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "models" / "digits_int8.onnx", "model.onnx")
    lines = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    assert len(lines) == 9
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "accel-sim"
        outcome = command(*arguments)
        assert outcome.code == 0, (line, outcome)
    assert {"report.html", "three.html", "changes.svg", "figures"} <= {path.name for path in tmp_path.iterdir()}
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(code, "report.md", "exec"), names)
    assert str(names["page"]).startswith("<!DOCTYPE html>")
    assert "Layer 6, depthwise2" in str(names["page"])


@deep
def test_the_pages_size_is_the_one_it_says(shared_models: Path) -> None:
    """0.8 MB for MobileNetV2, within a tenth."""
    from accelsim.reports.page.page import report_html
    from tests.reports.results import model_result

    path = shared_models / "mobilenetv2_100_224_int8.onnx"
    if not path.is_file():
        pytest.skip("mobilenetv2_100_224_int8 is not among the real models here")
    assert 0.6e6 < len(report_html([model_result(path)]).encode()) < 0.9e6


def test_the_picture_is_small() -> None:
    """The picture of the report is a PNG below 300 kB."""
    data = (ROOT / "docs" / "images" / "report.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) < 300_000
