"""Relative area: gates of one processing element against the width of its accumulator, synthesised from our RTL."""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources

from accelsim.results.energy import GateCount

AREA_SOURCE = (
    "relative only: generic gates of yosys 0.23 (synth -noalumacc -flatten) for tests/rtl/pe.sv with 9-bit activations "
    "and 8-bit weights, without cell library, placement or timing; written by docs/build_area_table.py"
)
_REFERENCE_BITS, _REFERENCE_OVERFLOW = 32, "wrap"


@cache
def gate_counts() -> tuple[GateCount, ...]:
    """Read the packaged table; sizes are relative to a wrapping accumulator of 32 bits."""
    text = (resources.files("accelsim") / "data" / "area" / "pe.csv").read_text("utf-8")
    rows = [
        (int(row["accumulator_bits"]), row["overflow"], int(row["cells"]), int(row["flip_flops"]))
        for row in csv.DictReader(text.splitlines())
    ]
    reference = next(row[2] for row in rows if row[:2] == (_REFERENCE_BITS, _REFERENCE_OVERFLOW))
    return tuple(GateCount(*row, row[2] / reference) for row in rows)
