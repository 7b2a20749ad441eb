"""The table of docs/memory.md is what the program says."""

from __future__ import annotations

import re
from pathlib import Path

import accelsim
from accelsim import Arch
from tests.tiers import deep

PAGE = Path(__file__).resolve().parents[2] / "docs" / "memory.md"


@deep
def test_the_table_of_mobilenet() -> None:
    """Cycles and DRAM bytes of each row, on the model and the machines that the page names."""
    model = accelsim.load("models:mobilenetv2")
    machines = (
        Arch(keep_activations=False),
        Arch(),
        Arch(prefetch_weights=True),
        Arch(prefetch_weights=True, dataflow="best"),
    )
    results = [accelsim.run(model, machine, values=False) for machine in machines]
    table = PAGE.read_text("utf-8").split("`models:mobilenetv2`")[1]
    rows = re.findall(r"^\| [A-Za-z ,]+ \| ([0-9,]+) \| ([0-9,]+) \|$", table, re.MULTILINE)
    assert rows == [(f"{result.cycles:,}", f"{result.dram_bytes:,}") for result in results]
