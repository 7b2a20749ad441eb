"""Writes the table of docs/quantisation.md between its markers: the digits network under many schemes."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from accelsim.quantise.calibrate.calibration import load_calibration
from accelsim.quantise.measure.schemes import SchemeCost, compare_schemes, read_for
from accelsim.quantise.scheme import parse_scheme

PAGE = Path(__file__).resolve().parent / "quantisation.md"
MODELS = PAGE.parent.parent / "models"
NAMES = (
    "fp32", "fp16", "int16", "w8a16", "w4a16", "int8-symmetric", "int8-affine", "int8-affine-weights",
    "int8-per-channel", "int8-symmetric-per-channel", "int8-per-channel+bias_correction", "w4a8",
    "w4a8+bias_correction", "w4a8+granularity=tensor", "w4a8+granularity=tensor+equalise", "w4a8-g32", "w2a8",
    "w2a8+bias_correction",
)  # fmt: skip
HEAD = (
    "| scheme | accuracy | SQNR | most sensitive | model bytes | bits | cycles | energy | DRAM bytes | acc. needed |",
    "|---|---|---|---|---|---|---|---|---|---|",
)
_MICROJOULE = 1e6  # in pJ


def rows(names: Sequence[str] = NAMES) -> list[str]:
    """Return the lines of the table for some schemes."""
    schemes = [parse_scheme(name) for name in names]
    model = read_for([parse_scheme(name) for name in NAMES], str(MODELS / "digits_float.onnx"))
    calibration = load_calibration(str(MODELS / "digits_calibration.npz"), model)
    test = load_calibration(str(MODELS / "digits_test.npz"), model)
    return [line(row) for row in compare_schemes(model, schemes, calibration, test).rows]


def line(row: SchemeCost) -> str:
    """Return one row as Markdown."""
    unknown = "n/a"
    cells = (
        f"`{row.scheme}`",
        unknown if row.accuracy is None else f"{row.accuracy:.2%}",
        "-" if row.sqnr_db is None else f"{row.sqnr_db:.1f} dB",
        row.worst_layer or "-",
        unknown if row.model_bytes is None else f"{row.model_bytes:,}",
        unknown if row.effective_bits is None else f"{row.effective_bits:.2f}",
        unknown if row.cycles is None else f"{row.cycles:,}",
        unknown if row.energy_pj is None else f"{row.energy_pj / _MICROJOULE:.2f} uJ",
        unknown if row.dram_bytes is None else f"{row.dram_bytes:,}",
        unknown if row.safe_acc_bits is None else f"{row.safe_acc_bits} bits",
    )
    return f"| {' | '.join(cells)} |"


def page(text: str) -> str:
    """Return the page with a fresh table."""
    table = "\n".join((*HEAD, *rows()))
    marked = f"<!-- ci:schemes -->\n{table}\n<!-- end -->"
    return re.sub(r"<!-- ci:schemes -->\n.*?<!-- end -->", lambda _: marked, text, flags=re.DOTALL)


if __name__ == "__main__":
    fresh = page(PAGE.read_text("utf-8"))
    PAGE.write_text(fresh, "utf-8")
    sys.stdout.write(f"wrote {PAGE.name}\n")
